"""Consuming and settling; direct replies."""

from __future__ import annotations

from differential.cases.language import case, connect, declare, do, open_, publish

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
