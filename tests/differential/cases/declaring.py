"""Declaring, deleting and binding queues and exchanges; queues that are another connection's."""

from __future__ import annotations

from typing import Any

from differential.cases.language import case, connect, declare, do, open_, publish, typed

# Declaring and deleting.

case("queue declare passive absent", declare(passive=True))
case("queue declare passive present", declare(), declare(passive=True))
case(
    "queue declare passive ignores arguments",
    declare(durable=True),
    declare(passive=True, arguments={"x-max-length": 1}),
)
case("queue declare twice equal", declare(auto_delete=True), declare(auto_delete=True))
case("queue declare reserved name", declare("amq.mine"))
case("queue declare reserved name passive", declare("amq.mine", passive=True))
case("queue declare no wait", declare(no_wait=True), declare(passive=True))
case("queue declare no wait refused", declare(), declare(no_wait=True, durable=True))
case(
    "queue declare generated",
    declare(""),
    do("queue.bind", exchange="amq.direct", routing_key="k"),
    do("queue.delete"),
)
case("queue declare line feed in name", declare("@a\nb"), declare("@a\r\nb", passive=True))
case("queue declare space and unicode", declare("@ ü€"), declare("@ ü€", passive=True))
for name in ("durable", "auto_delete", "exclusive"):
    case(f"queue redeclare {name} added", declare(), declare(**{name: True}))
    case(f"queue redeclare {name} removed", declare(**{name: True}), declare())

ARGUMENTS: dict[str, tuple[Any, Any]] = {
    "x-message-ttl": (60000, 30000),
    "x-expires": (60000, 30000),
    "x-max-length": (10, 20),
    "x-max-length-bytes": (1000, 2000),
    "x-max-priority": (10, 5),
    "x-overflow": ("reject-publish", "drop-head"),
    "x-dead-letter-exchange": ("amq.fanout", "amq.direct"),
    "x-single-active-consumer": (True, False),
    "x-queue-mode": ("lazy", "default"),
    "x-queue-type": ("classic", "quorum"),
}
for name, (one, other) in ARGUMENTS.items():
    case(f"queue redeclare {name} added", declare(), declare(arguments={name: one}))
    case(f"queue redeclare {name} removed", declare(arguments={name: one}), declare())
    case(
        f"queue redeclare {name} changed",
        declare(arguments={name: one}),
        declare(arguments={name: other}),
    )
    case(
        f"queue redeclare {name} equal",
        declare(arguments={name: one}),
        declare(arguments={name: one}),
    )
case(
    "queue redeclare x-dead-letter-routing-key changed",
    declare(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"}),
    declare(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"}),
)
case(
    "queue redeclare number of another type",
    declare(arguments={"x-max-length": typed("l", 10)}),
    declare(arguments={"x-max-length": typed("s", 10)}),
)
case(
    "queue redeclare unknown argument",
    declare(arguments={"x-mine": 1}),
    declare(arguments={"x-mine": 2}),
)

BAD_ARGUMENTS: list[tuple[str, Any]] = [
    ("x-message-ttl", -1),
    ("x-message-ttl", "60"),
    ("x-message-ttl", True),
    ("x-message-ttl", 1.5),
    ("x-message-ttl", 0),
    ("x-message-ttl", 2**32),
    ("x-message-ttl", 2**62),
    ("x-expires", 0),
    ("x-expires", -1),
    ("x-expires", "60"),
    ("x-expires", 2**62),
    ("x-max-length", -1),
    ("x-max-length", "1"),
    ("x-max-length", 0),
    ("x-max-length-bytes", -1),
    ("x-max-priority", -1),
    ("x-max-priority", 256),
    ("x-max-priority", 255),
    ("x-max-priority", 0),
    ("x-max-priority", "5"),
    ("x-overflow", "bounce"),
    ("x-overflow", 1),
    ("x-dead-letter-exchange", 1),
    ("x-dead-letter-routing-key", "k"),
    ("x-single-active-consumer", 1),
    ("x-single-active-consumer", "true"),
    ("x-queue-type", "strange"),
    ("x-queue-type", 1),
    ("x-queue-mode", "strange"),
    ("x-delivery-limit", -1),
    ("x-consumer-timeout", -1),
]
for name, item in BAD_ARGUMENTS:
    case(f"queue declare {name} {item!r}", declare(arguments={name: item}))
case("queue declare quorum transient", declare(arguments={"x-queue-type": "quorum"}))
case(
    "queue declare quorum exclusive",
    declare(durable=True, exclusive=True, arguments={"x-queue-type": "quorum"}),
)
case(
    "queue declare dead letter exchange absent",
    declare(arguments={"x-dead-letter-exchange": "@absent"}),
)

case("queue delete absent", do("queue.delete", queue="@absent"))
case(
    "queue delete if unused used",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("queue.delete", queue="@q", if_unused=True),
)
case("queue delete if unused unused", declare(), do("queue.delete", queue="@q", if_unused=True))
case(
    "queue delete if empty full",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    do("queue.delete", queue="@q", if_empty=True),
)
case("queue delete if empty empty", declare(), do("queue.delete", queue="@q", if_empty=True))
case(
    "queue delete count",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    publish("", "@q"),
    do("queue.delete", queue="@q"),
)
case("queue purge absent", do("queue.purge", queue="@absent"))
case(
    "queue purge count",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    publish("", "@q"),
    do("queue.purge", queue="@q"),
)
case(
    "queue purge keeps unacked",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
    do("queue.purge", queue="@q"),
    do("basic.reject", delivery_tag=1, requeue=True),
    do("queue.purge", queue="@q"),
)
for method in ("queue.bind", "queue.purge", "queue.delete", "basic.get", "basic.consume"):
    extra = {"exchange": "amq.direct"} if method == "queue.bind" else {}
    case(f"{method} empty name none declared", do(method, **extra))
case("queue declare passive empty name none declared", declare("", passive=True))
case(
    "empty name is the last declared",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get"),
    do("queue.purge"),
    do("queue.delete"),
)

case("exchange declare passive absent", do("exchange.declare", exchange="@e", passive=True))
case(
    "exchange declare passive ignores type",
    do("exchange.declare", exchange="amq.topic", type="direct", passive=True),
)
case("exchange declare reserved", do("exchange.declare", exchange="amq.mine", type="direct"))
case(
    "exchange declare reserved passive",
    do("exchange.declare", exchange="amq.mine", type="direct", passive=True),
)
case(
    "exchange declare predeclared equal",
    do("exchange.declare", exchange="amq.direct", type="direct", durable=True),
)
case(
    "exchange declare predeclared other type",
    do("exchange.declare", exchange="amq.direct", type="topic", durable=True),
)
case("exchange declare default", do("exchange.declare", exchange="", type="direct", durable=True))
case(
    "exchange declare default passive",
    do("exchange.declare", exchange="", type="direct", passive=True),
)
case("exchange declare type unknown", do("exchange.declare", exchange="@e", type="strange"))
case("exchange declare type empty", do("exchange.declare", exchange="@e", type=""))
case(
    "exchange declare twice equal",
    do("exchange.declare", exchange="@e", type="topic"),
    do("exchange.declare", exchange="@e", type="topic"),
)
for name, change in {
    "type": {"type": "topic"},
    "durable": {"durable": True},
    "auto_delete": {"auto_delete": True},
    "internal": {"internal": True},
    "alternate-exchange": {"arguments": {"alternate-exchange": "amq.fanout"}},
    "unknown argument": {"arguments": {"x-mine": 1}},
}.items():
    base = {"exchange": "@e", "type": "direct"}
    case(
        f"exchange redeclare {name} added",
        do("exchange.declare", **base),
        do("exchange.declare", **base | change),
    )
    case(
        f"exchange redeclare {name} removed",
        do("exchange.declare", **base | change),
        do("exchange.declare", **base),
    )
case(
    "exchange declare alternate of wrong type",
    do("exchange.declare", exchange="@e", type="direct", arguments={"alternate-exchange": 1}),
)
case(
    "exchange declare alternate absent",
    do(
        "exchange.declare",
        exchange="@e",
        type="direct",
        arguments={"alternate-exchange": "@absent"},
    ),
    publish("@e", "k", mandatory=True),
)
case("exchange delete absent", do("exchange.delete", exchange="@absent"))
case("exchange delete predeclared", do("exchange.delete", exchange="amq.direct"))
case("exchange delete default", do("exchange.delete", exchange=""))
case(
    "exchange delete if unused used",
    do("exchange.declare", exchange="@e", type="direct"),
    declare(),
    do("queue.bind", queue="@q", exchange="@e", routing_key="k"),
    do("exchange.delete", exchange="@e", if_unused=True),
)
case(
    "exchange delete if unused unused",
    do("exchange.declare", exchange="@e", type="direct"),
    do("exchange.delete", exchange="@e", if_unused=True),
)
case(
    "exchange auto delete",
    do("exchange.declare", exchange="@e", type="direct", auto_delete=True),
    declare(),
    do("queue.bind", queue="@q", exchange="@e"),
    do("queue.unbind", queue="@q", exchange="@e"),
    do("exchange.declare", exchange="@e", passive=True),
)

# Binding.

case("bind queue absent", do("queue.bind", queue="@absent", exchange="amq.direct"))
case("bind exchange absent", declare(), do("queue.bind", queue="@q", exchange="@absent"))
case("bind both absent", do("queue.bind", queue="@absent", exchange="@absent2"))
case("bind default exchange", declare(), do("queue.bind", queue="@q", exchange="", routing_key="k"))
case(
    "unbind default exchange",
    declare(),
    do("queue.unbind", queue="@q", exchange="", routing_key="@q"),
)
case("unbind queue absent", do("queue.unbind", queue="@absent", exchange="amq.direct"))
case("unbind exchange absent", declare(), do("queue.unbind", queue="@q", exchange="@absent"))
case(
    "unbind binding absent",
    declare(),
    do("queue.unbind", queue="@q", exchange="amq.direct", routing_key="never"),
)
case(
    "bind twice delivers once",
    declare(),
    *[do("queue.bind", queue="@q", exchange="amq.direct", routing_key="@k")] * 2,
    do("confirm.select"),
    publish("amq.direct", "@k"),
    do("queue.purge", queue="@q"),
)
case(
    "bind headers match unknown",
    declare(),
    do("queue.bind", queue="@q", exchange="amq.headers", arguments={"x-match": "some", "a": 1}),
)
case(
    "bind headers match of wrong type",
    declare(),
    do("queue.bind", queue="@q", exchange="amq.headers", arguments={"x-match": 1}),
)
case(
    "bind headers any",
    declare(),
    do("queue.bind", queue="@q", exchange="amq.headers", arguments={"x-match": "any", "a": 1}),
)
case("exchange bind source absent", do("exchange.bind", destination="amq.direct", source="@absent"))
case(
    "exchange bind destination absent",
    do("exchange.bind", destination="@absent", source="amq.direct"),
)
case("exchange bind default destination", do("exchange.bind", destination="", source="amq.direct"))
case("exchange bind default source", do("exchange.bind", destination="amq.direct", source=""))
case("exchange unbind absent", do("exchange.unbind", destination="@absent", source="amq.direct"))
case(
    "exchange bind cycle",
    do("exchange.declare", exchange="@e", type="fanout"),
    do("exchange.declare", exchange="@f", type="fanout"),
    do("exchange.bind", destination="@e", source="@f"),
    do("exchange.bind", destination="@f", source="@e"),
    declare(),
    do("queue.bind", queue="@q", exchange="@e"),
    do("confirm.select"),
    publish("@f", "k"),
    do("queue.purge", queue="@q"),
)
case(
    "bind exclusive queue of another",
    declare(exclusive=True),
    connect(),
    open_(),
    do("queue.bind", "b", queue="@q", exchange="amq.direct"),
)
case("bind reply queue", do("queue.bind", queue="amq.rabbitmq.reply-to", exchange="amq.direct"))

# Other connections' exclusive queues.

for method in ("queue.unbind", "queue.purge", "queue.delete", "basic.get", "basic.consume"):
    extra = {"exchange": "amq.direct"} if method == "queue.unbind" else {}
    case(
        f"{method} exclusive queue of another",
        declare(exclusive=True),
        connect(),
        open_(),
        do(method, "b", queue="@q", **extra),
    )
case(
    "queue declare exclusive of another",
    declare(exclusive=True),
    connect(),
    open_(),
    declare(peer="b", exclusive=True),
)
case(
    "queue declare passive exclusive of another",
    declare(exclusive=True),
    connect(),
    open_(),
    declare(peer="b", passive=True),
)
case(
    "publish to exclusive queue of another",
    declare(exclusive=True),
    connect(),
    open_(),
    do("confirm.select", "b"),
    publish("", "@q", peer="b"),
    do("basic.get", queue="@q", no_ack=True),
)
