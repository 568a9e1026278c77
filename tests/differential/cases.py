"""Single cases: every way to be refused that we know, and the neighbours that must not be.

`golden.json` holds what RabbitMQ 3.10 answers to each; `python -m differential.record` in tests/
writes it anew. Each case begins with peer `a` connected and its channel 1 open. Names with `@` are
the case's own.
"""

from __future__ import annotations

import struct
from typing import Any

from wire import codec

Step = list[Any]
CASES: dict[str, list[Step]] = {}


def case(name: str, *steps: Step) -> None:
    assert name not in CASES, name
    CASES[name] = [["a", 0, "connect", {}], ["a", 1, "open", {}], *steps]


def bare(name: str, *steps: Step) -> None:
    """A case that does its own connecting."""
    assert name not in CASES, name
    CASES[name] = list(steps)


def do(method: str, /, peer: str = "a", channel: int = 1, **fields: Any) -> Step:
    return [peer, channel, method, fields]


def publish(
    exchange: str,
    routing_key: str,
    body: str = "m",
    properties: dict[str, Any] | None = None,
    **fields: Any,
) -> Step:
    peer, channel = fields.pop("peer", "a"), fields.pop("channel", 1)
    return [
        peer,
        channel,
        "basic.publish",
        {"exchange": exchange, "routing_key": routing_key, **fields},
        properties or {},
        body,
    ]


def raw(*parts: bytes, wait: bool = True, peer: str = "a", channel: int = 1) -> Step:
    fields: dict[str, Any] = {"hex": b"".join(parts).hex()}
    if not wait:
        fields["wait"] = False
    return [peer, channel, "raw", fields]


def connect(peer: str = "b", **fields: Any) -> Step:
    return [peer, 0, "connect", fields]


def open_(peer: str = "b", channel: int = 1) -> Step:
    return [peer, channel, "open", {}]


def declare(queue: str = "@q", **fields: Any) -> Step:
    return do("queue.declare", queue=queue, **fields)


def typed(letter: str, item: Any) -> dict[str, Any]:
    return {"$" + letter: item}


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

# Publishing.

case("publish exchange absent", publish("@absent", "k"))
case("publish exchange absent confirmed", do("confirm.select"), publish("@absent", "k"))
case(
    "publish internal exchange",
    do("exchange.declare", exchange="@e", type="direct", internal=True),
    publish("@e", "k"),
)
case("publish unroutable", do("confirm.select"), publish("", "@nobody"))
case("publish unroutable mandatory", do("confirm.select"), publish("", "@nobody", mandatory=True))
case(
    "publish unroutable mandatory unconfirmed",
    publish("", "@nobody", "back", {"headers": {"a": 1}}, mandatory=True),
)
case("publish immediate", declare(), publish("", "@q", immediate=True))
for text in (
    "abc",
    "-1",
    "",
    "1.5",
    " 5",
    "5 ",
    "+5",
    "0",
    "00060000",
    "4294967296",
    "99999999999999999999",
):
    case(
        f"publish expiration {text!r}",
        declare(),
        do("confirm.select"),
        publish("", "@q", "m", {"expiration": text}),
    )
case("publish foreign user id", declare(), publish("", "@q", "m", {"user_id": "other"}))
case(
    "publish own user id",
    declare(),
    do("confirm.select"),
    publish("", "@q", "m", {"user_id": "guest"}),
)
case(
    "publish priority 255",
    declare(arguments={"x-max-priority": 5}),
    do("confirm.select"),
    publish("", "@q", "m", {"priority": 255}),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "publish delivery mode 0",
    declare(),
    do("confirm.select"),
    publish("", "@q", "m", {"delivery_mode": 0}),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "publish cc",
    declare(),
    do("confirm.select"),
    publish("", "@nobody", "m", {"headers": {"CC": ["@q"]}}),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "publish bcc",
    declare(),
    do("confirm.select"),
    publish("", "@nobody", "m", {"headers": {"BCC": ["@q"], "a": 1}}),
    do("basic.get", queue="@q", no_ack=True),
)
case("publish cc not an array", declare(), publish("", "@q", "m", {"headers": {"CC": "@q"}}))
case(
    "publish cc of numbers",
    declare(),
    do("confirm.select"),
    publish("", "@q", "m", {"headers": {"CC": [1]}}),
    do("queue.purge", queue="@q"),
)
case(
    "publish refused by length",
    declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"}),
    do("confirm.select"),
    publish("", "@q"),
    publish("", "@q"),
    do("queue.purge", queue="@q"),
)
case(
    "publish drops head by length",
    declare(arguments={"x-max-length": 1}),
    do("confirm.select"),
    publish("", "@q", "old"),
    publish("", "@q", "new"),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
)

# Consuming and settling.

case("get absent", do("basic.get", queue="@absent"))
case("get empty", declare(), do("basic.get", queue="@q"))
case("consume absent", do("basic.consume", queue="@absent", consumer_tag="c"))
case(
    "consume tag reused",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("basic.consume", queue="@q", consumer_tag="c"),
)
case(
    "consume tag reused on another channel",
    declare(),
    open_("a", 2),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("basic.consume", channel=2, queue="@q", consumer_tag="c"),
)
case("consume tag generated", declare(), do("basic.consume", queue="@q"))
case(
    "consume no wait",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", no_wait=True),
    do("confirm.select"),
    publish("", "@q"),
)
case(
    "consume exclusive when used",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("basic.consume", queue="@q", consumer_tag="d", exclusive=True),
)
case(
    "consume when exclusively used",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", exclusive=True),
    do("basic.consume", queue="@q", consumer_tag="d"),
)
case(
    "consume exclusive on single active",
    declare(arguments={"x-single-active-consumer": True}),
    do("basic.consume", queue="@q", consumer_tag="c", exclusive=True),
)
case(
    "consume priority of wrong type",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", arguments={"x-priority": "high"}),
)
case(
    "consume priority negative",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", arguments={"x-priority": -5}),
)
case(
    "consume no local ignored",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", no_local=True),
    do("confirm.select"),
    publish("", "@q"),
)
case(
    "consume queue deleted",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("queue.delete", queue="@q"),
    do("basic.cancel", consumer_tag="c"),
)
case(
    "consume queue deleted without capability",
    connect(capabilities={}),
    open_(),
    declare(),
    do("basic.consume", "b", queue="@q", consumer_tag="c"),
    do("queue.delete", queue="@q"),
)
case("cancel unknown", do("basic.cancel", consumer_tag="never"))
case(
    "cancel no wait",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("basic.cancel", consumer_tag="c", no_wait=True),
)
case(
    "cancel last consumer of auto delete",
    declare(auto_delete=True),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("basic.cancel", consumer_tag="c"),
    declare(passive=True),
)
case(
    "cancel keeps unacked",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.cancel", consumer_tag="c"),
    do("basic.ack", delivery_tag=1),
    do("queue.purge", queue="@q"),
)
for method, extra in (("basic.ack", {}), ("basic.nack", {}), ("basic.reject", {})):
    case(f"{method} unknown tag", do(method, delivery_tag=7, **extra))
    case(f"{method} tag zero", do(method, delivery_tag=0, **extra))
    case(
        f"{method} twice",
        declare(),
        do("confirm.select"),
        publish("", "@q"),
        do("basic.get", queue="@q"),
        do(method, delivery_tag=1),
        do(method, delivery_tag=1),
    )
    case(
        f"{method} of no ack",
        declare(),
        do("confirm.select"),
        publish("", "@q"),
        do("basic.get", queue="@q", no_ack=True),
        do(method, delivery_tag=1),
    )
for method in ("basic.ack", "basic.nack"):
    case(f"{method} multiple unknown", do(method, delivery_tag=7, multiple=True))
    case(f"{method} multiple zero nothing", do(method, delivery_tag=0, multiple=True))
    case(
        f"{method} multiple beyond",
        declare(),
        do("confirm.select"),
        publish("", "@q"),
        do("basic.get", queue="@q"),
        do(method, delivery_tag=7, multiple=True),
    )
    case(
        f"{method} multiple zero",
        declare(),
        do("confirm.select"),
        publish("", "@q"),
        publish("", "@q"),
        do("basic.get", queue="@q"),
        do("basic.get", queue="@q"),
        do(method, delivery_tag=0, multiple=True),
        do("basic.ack", delivery_tag=1),
    )
case(
    "ack tag of another channel",
    declare(),
    open_("a", 2),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
    do("basic.ack", channel=2, delivery_tag=1),
)
case("qos size", do("basic.qos", prefetch_size=1))
case("qos count", do("basic.qos", prefetch_count=65535))
case("qos global", do("basic.qos", prefetch_count=5, global_=True))
case("recover without requeue", do("basic.recover"))
case("recover async without requeue", do("basic.recover-async"))
case(
    "recover",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
    do("basic.recover", requeue=True),
    do("basic.get", queue="@q"),
)
case(
    "recover async",
    declare(),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
    do("basic.recover-async", requeue=True),
    do("basic.get", queue="@q"),
)
case("flow stop", do("channel.flow", active=False))
case("flow go", do("channel.flow", active=True))
case("access request", do("access.request", realm="/data"))

# Direct replies.

case("reply consume with ack", do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="c"))
case(
    "reply consume twice",
    do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="c", no_ack=True),
    do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="d", no_ack=True),
)
case(
    "reply publish without consumer",
    declare(),
    publish("", "@q", "m", {"reply_to": "amq.rabbitmq.reply-to"}),
)
case(
    "reply round trip",
    declare(),
    do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="c", no_ack=True),
    do("confirm.select"),
    publish("", "@q", "ask", {"reply_to": "amq.rabbitmq.reply-to"}),
    connect(),
    open_(),
    do("basic.get", "b", queue="@q", no_ack=True),
    declare("@reply-to", peer="b", passive=True),
    publish("", "@reply-to", "answer", {"correlation_id": "1"}, peer="b"),
)
case(
    "reply gone",
    declare(),
    do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="c", no_ack=True),
    do("confirm.select"),
    publish("", "@q", "ask", {"reply_to": "amq.rabbitmq.reply-to"}),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.cancel", consumer_tag="c"),
    open_("a", 2),
    declare("@reply-to", channel=2, passive=True),
)
case("reply forged", declare("amq.rabbitmq.reply-to.g2dkAAh3aGF0ZXZlcg==.forged==", passive=True))
case("reply get", do("basic.get", queue="amq.rabbitmq.reply-to"))
case("reply declare passive", declare("amq.rabbitmq.reply-to", passive=True))
case("reply declare", declare("amq.rabbitmq.reply-to"))
case("reply delete", do("queue.delete", queue="amq.rabbitmq.reply-to"))

# Transactions and confirms.

case("tx after confirm", do("confirm.select"), do("tx.select"))
case("confirm after tx", do("tx.select"), do("confirm.select"))
case("commit without select", do("tx.commit"))
case("rollback without select", do("tx.rollback"))
case("tx select twice", do("tx.select"), do("tx.select"), do("tx.commit"))
case("confirm select twice", do("confirm.select"), do("confirm.select"), publish("", "@nobody"))
case("confirm select no wait", do("confirm.select", no_wait=True), publish("", "@nobody"))
case(
    "tx returns before commit ok",
    do("tx.select"),
    publish("", "@nobody", mandatory=True),
    do("tx.commit"),
)
case("tx exchange absent", do("tx.select"), publish("@absent", "k"))
case("tx ack unknown", do("tx.select"), do("basic.ack", delivery_tag=7))
case(
    "tx rollback keeps unacked",
    declare(),
    open_("a", 2),
    do("confirm.select", channel=2),
    publish("", "@q", channel=2),
    do("tx.select"),
    do("basic.get", queue="@q"),
    do("basic.ack", delivery_tag=1),
    do("tx.rollback"),
    do("basic.ack", delivery_tag=1),
    do("tx.commit"),
    do("queue.purge", queue="@q"),
)
case(
    "tx nack is held",
    declare(),
    open_("a", 2),
    do("confirm.select", channel=2),
    publish("", "@q", channel=2),
    do("tx.select"),
    do("basic.get", queue="@q"),
    do("basic.nack", delivery_tag=1, requeue=True),
    do("basic.get", channel=2, queue="@q"),
    do("tx.commit"),
    do("basic.get", channel=2, queue="@q"),
)

# Dead letters.

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@dead"}
case(
    "dead letter rejected",
    declare("@dead"),
    declare(arguments=DEAD),
    do("confirm.select"),
    publish("", "@q", "m", {"headers": {"a": 1}}),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=1),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter twice",
    declare("@dead", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@q"}),
    declare(arguments=DEAD),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=1),
    do("basic.get", queue="@dead"),
    do("basic.reject", delivery_tag=2),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=3),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter maxlen",
    declare("@dead"),
    declare(arguments=DEAD | {"x-max-length": 1}),
    do("confirm.select"),
    publish("", "@q", "old"),
    publish("", "@q", "new"),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter cc",
    declare("@dead"),
    declare(arguments={"x-dead-letter-exchange": ""}),
    do("confirm.select"),
    publish("", "@nobody", "m", {"headers": {"CC": ["@q", "@dead"]}}),
    do("basic.get", queue="@dead", no_ack=True),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=2),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter cycle of expiry is dropped",
    declare(arguments={"x-dead-letter-exchange": "", "x-message-ttl": 0}),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
)
case(
    "dead letter expired at once",
    declare("@dead"),
    declare(arguments=DEAD),
    do("confirm.select"),
    publish("", "@q", "m", {"expiration": "0"}),
    do("basic.get", queue="@dead", no_ack=True),
)

# Channels and the connection.

case("channel not open", do("queue.declare", channel=9, queue="@q"))
case("channel open twice", do("channel.open"))
case("channel above the maximum", [*do("channel.open", channel=3000)])
case(
    "channel reopened after its close",
    do("channel.close", code=200, text="bye"),
    open_("a", 1),
    declare(),
)
case("channel reopened after an error", declare(passive=True), open_("a", 1), declare())
case("channel close unknown", do("channel.close", channel=5, code=200))
case("connection close", do("connection.close", channel=0, code=200, text="bye"))
case("connection open twice", do("connection.open", channel=0, virtual_host="/"))
case("connection tune twice", do("connection.tune-ok", channel=0, channel_max=10, frame_max=4096))
case(
    "connection start-ok twice",
    do(
        "connection.start-ok",
        channel=0,
        mechanism="PLAIN",
        response="\0guest\0guest",
        locale="en_US",
    ),
)
case("channel method on channel 0", do("queue.declare", channel=0, queue="@q"))
case("channel open on channel 0", do("channel.open", channel=0))
case("connection method on channel 1", do("connection.close", channel=1, code=200))
case("update secret", do("connection.update-secret", channel=0, new_secret="s", reason="r"))
for method in (
    "queue.declare-ok",
    "basic.consume-ok",
    "basic.get-empty",
    "channel.open-ok",
    "confirm.select-ok",
    "basic.cancel-ok",
    "basic.recover-ok",
):
    case(f"{method} from a client", do(method))
case(
    "basic.deliver from a client",
    raw(codec.method_frame(1, "basic.deliver", consumer_tag="c"), codec.content_frames(1, {}, b"")),
)
case("connection blocked from a client", do("connection.blocked", channel=0, reason="r"))
bare("connect wrong password", connect("a", password="wrong"))
bare("connect wrong password without capability", connect("a", password="wrong", capabilities={}))
bare("connect unknown user", connect("a", user="nobody"))
bare("connect empty password", connect("a", password=""))
bare("connect unknown virtual host", connect("a", virtual_host="absent"))
bare("connect empty virtual host", connect("a", virtual_host=""))
bare("connect frame max too small", connect("a", frame_max=1000))
bare("connect frame max too large", connect("a", frame_max=1 << 20))
bare("connect frame max 4096", connect("a", frame_max=4096), open_("a", 1))
bare("connect channel max too large", connect("a", channel_max=65535))
bare("connect channel max zero", connect("a", channel_max=0))
bare("connect channel max 1", connect("a", channel_max=1), open_("a", 1), open_("a", 2))

# Carbon copies, consumers that have room, lengths of what comes back.

case(
    "publish CC and BCC through two exchanges",
    do("exchange.declare", exchange="@first", type="direct"),
    do("exchange.declare", exchange="@second", type="topic"),
    do("exchange.bind", destination="@second", source="@first", routing_key="one"),
    declare(),
    do("queue.bind", queue="@q", exchange="@second", routing_key="two"),
    publish("@first", "", properties={"headers": {"CC": ["one"], "BCC": ["two"]}}),
    do("basic.get", queue="@q", no_ack=True),
    do("exchange.delete", exchange="@first"),
    do("exchange.delete", exchange="@second"),
)
case(
    "get behind a consumer with room",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q"),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "get behind a consumer without room",
    declare(),
    do("basic.qos", prefetch_count=1),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q", "1"),
    publish("", "@q", "2"),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "get behind a consumer of another connection",
    connect(),
    open_(),
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", peer="b"),
    publish("", "@q"),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "qos global does not count what was got",
    do("basic.qos", prefetch_count=1, global_=True),
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q", "1"),
    publish("", "@q", "2"),
    publish("", "@q", "3"),
    do("basic.get", queue="@q"),
    do("basic.ack", delivery_tag=1),
    do("basic.ack", delivery_tag=2),
)
case(
    "qos global holds up a consumer without acknowledgements",
    do("basic.qos", prefetch_count=1, global_=True),
    declare("@a"),
    declare("@b"),
    do("basic.consume", queue="@a", consumer_tag="a"),
    publish("", "@a", "1"),
    do("basic.consume", queue="@b", consumer_tag="b", no_ack=True),
    publish("", "@b", "2"),
    publish("", "@b", "3"),
    do("basic.ack", delivery_tag=1),
)
case(
    "requeue into a queue that is full",
    declare(arguments={"x-max-length": 2}),
    publish("", "@q", "old 1"),
    publish("", "@q", "old 2"),
    do("basic.get", queue="@q"),
    do("basic.get", queue="@q"),
    publish("", "@q", "new 1"),
    publish("", "@q", "new 2"),
    do("basic.nack", delivery_tag=1, requeue=True),
    do("basic.nack", delivery_tag=2, requeue=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "requeue into a queue that is full, with a dead-letter exchange",
    declare("@dead"),
    declare(
        arguments={
            "x-max-length": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "@dead",
        }
    ),
    publish("", "@q", "old"),
    do("basic.get", queue="@q"),
    publish("", "@q", "new"),
    do("basic.reject", delivery_tag=1, requeue=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "publish to a queue of no length with a consumer",
    declare(arguments={"x-max-length": 0}),
    publish("", "@q", "dropped"),
    do("basic.qos", prefetch_count=1),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q", "1"),
    publish("", "@q", "dropped"),
    do("basic.ack", delivery_tag=1),
    publish("", "@q", "2"),
)

# Broken frames.

frame, method = codec.frame, codec.method_frame
PUBLISH = method(1, "basic.publish", routing_key="nobody")


def payload(class_id: int, method_id: int, data: bytes = b"") -> bytes:
    return struct.pack(">HH", class_id, method_id) + data


case("frame end wrong", raw(method(1, "basic.qos")[:-1] + b"\x00"))
case("frame end wrong heartbeat", raw(b"\x08\x00\x00\x00\x00\x00\x00\xcd"))
case("frame too large", raw(struct.pack(">BHI", 1, 1, 1 << 30)))
case("frame one byte too large", raw(struct.pack(">BHI", 3, 1, 131073)))
case("frame kind unknown", raw(frame(7, 1, b"abc")))
case("frame kind unknown channel 0", raw(frame(7, 0, b"abc")))
case("heartbeat on channel 1", raw(frame(8, 1, b"")))
case("heartbeat with payload", raw(frame(8, 0, b"abc")))
case("method frame empty", raw(frame(1, 1, b"")))
case("method frame of 3 bytes", raw(frame(1, 1, b"\x00\x0a\x00")))
case("class unknown", raw(frame(1, 1, payload(99, 10))))
case("method unknown", raw(frame(1, 1, payload(50, 99))))
case("class unknown channel 0", raw(frame(1, 0, payload(99, 10))))
case(
    "method truncated", raw(frame(1, 1, codec.method_payload("queue.declare", {"queue": "q"})[:-3]))
)
case(
    "method with trailing bytes",
    raw(frame(1, 1, codec.method_payload("basic.qos", {}) + b"\x00\x00")),
)
case("short string past the end", raw(frame(1, 1, payload(50, 30, b"\x00\x00\xff" + b"ab"))))
case(
    "table past the end",
    raw(
        frame(
            1,
            1,
            codec.method_payload(
                "queue.declare", {"queue": "q", "arguments": struct.pack(">I", 999)}
            ),
        )
    ),
)
case(
    "table length 2^32-1",
    raw(
        frame(
            1,
            1,
            codec.method_payload("queue.declare", {"queue": "q", "arguments": b"\xff\xff\xff\xff"}),
        )
    ),
)
case(
    "table value of unknown type",
    raw(
        frame(
            1,
            1,
            codec.method_payload(
                "queue.declare", {"queue": "q", "arguments": codec.long_string(b"\x01aZ\x00")}
            ),
        )
    ),
)
case(
    "table truncated inside",
    raw(
        frame(
            1,
            1,
            codec.method_payload(
                "queue.declare", {"queue": "q", "arguments": codec.long_string(b"\x01aI\x00")}
            ),
        )
    ),
)
case(
    "name not utf-8",
    raw(frame(1, 1, codec.method_payload("queue.declare", {"queue": b"\xff\xfe"}))),
)
case("header without method", raw(frame(2, 1, codec.header_payload({}, 0))))
case("body without method", raw(frame(3, 1, b"abc")))
case("header on channel 0", raw(frame(2, 0, codec.header_payload({}, 0))))
case("body on channel 0", raw(frame(3, 0, b"abc")))
case("header on a closed channel", raw(frame(2, 9, codec.header_payload({}, 0))))
case("body on a closed channel", raw(frame(3, 9, b"abc")))
case("method instead of header", raw(PUBLISH, method(1, "basic.qos")))
case("body instead of header", raw(PUBLISH, frame(3, 1, b"abc")))
case(
    "method instead of body",
    raw(PUBLISH, frame(2, 1, codec.header_payload({}, 5)), method(1, "basic.qos")),
)
case(
    "header twice",
    raw(
        PUBLISH, frame(2, 1, codec.header_payload({}, 5)), frame(2, 1, codec.header_payload({}, 5))
    ),
)
case(
    "body longer than announced",
    raw(PUBLISH, frame(2, 1, codec.header_payload({}, 2)), frame(3, 1, b"abc")),
)
case(
    "body when none was announced",
    raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0)), frame(3, 1, b"abc")),
)
case(
    "body frames empty",
    raw(
        PUBLISH, frame(2, 1, codec.header_payload({}, 2)), frame(3, 1, b"") * 3, frame(3, 1, b"ab")
    ),
)
case("body size 2^63", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 1 << 63))))
case("header of another class", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0, class_id=50))))
case("header weight", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0, weight=1))))
case(
    "header truncated",
    raw(PUBLISH, frame(2, 1, codec.header_payload({"content_type": "text"}, 0)[:-2])),
)
case("header with trailing bytes", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0) + b"abc")))
case("header with unknown flag", raw(PUBLISH, frame(2, 1, codec.header_payload(b"\x00\x02", 0))))
case(
    "header with continuation flag",
    raw(PUBLISH, frame(2, 1, codec.header_payload(b"\x00\x01\x00\x00", 0))),
)
case("header too short", raw(PUBLISH, frame(2, 1, b"\x00\x3c")))
case(
    "heartbeat inside a content", raw(PUBLISH, frame(8, 0, b""), codec.content_frames(1, {}, b"ab"))
)
case(
    "other channel inside a content",
    open_("a", 2),
    raw(PUBLISH, method(2, "basic.qos"), codec.content_frames(1, {}, b"ab")),
)
