"""Dead letters, limits of length, confirms before an end, transactions, replies."""

from __future__ import annotations

from typing import Any

from differential.cases.delivery import ack, consume, get, nack, put
from differential.cases.language import case, declare, do, open_, publish, raw
from differential.cases.routing import bind, exchange, with_alternate
from wire import codec

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@dead"}
REJECT = do("basic.reject", delivery_tag=1)
REPLY = "amq.rabbitmq.reply-to"


def bounded(length: int = 1, overflow: str = "reject-publish", **more: Any) -> dict[str, Any]:
    return {"x-max-length": length, "x-overflow": overflow, **more}


# Dead letters.

case(
    "dead letters of one nack in their order",
    declare("@dead"),
    declare(arguments=DEAD),
    *[put(body) for body in "123"],
    *[get()] * 3,
    nack(3, multiple=True, requeue=False),
    *[get("@dead", no_ack=True)] * 3,
)
case(
    "dead letter there and back",
    declare("@dead", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@q"}),
    declare(arguments=DEAD),
    publish("", "@q", "m", {"headers": {"mine": 1}}),
    get(),
    REJECT,
    get("@dead"),
    do("basic.reject", delivery_tag=2),
    get(),
    do("basic.reject", delivery_tag=3),
    get("@dead"),
    do("basic.reject", delivery_tag=4),
    get(),
)
case(
    "dead letter with carbon copies and a key",
    declare("@dead"),
    declare("@cc"),
    declare(arguments=DEAD),
    publish("", "@q", "m", {"headers": {"CC": ["@cc"], "BCC": ["@bb"]}}),
    get(),
    REJECT,
    get("@dead"),
)
case(
    "dead letter with carbon copies and no key",
    declare("@dead"),
    declare(arguments={"x-dead-letter-exchange": "amq.direct"}),
    bind("@dead", "amq.direct", "@cc"),
    publish("", "@q", "m", {"headers": {"CC": ["@cc"]}}),
    get(),
    REJECT,
    get("@dead"),
)
case(
    "dead letter to an exchange that comes later",
    declare("@dead"),
    declare(arguments={"x-dead-letter-exchange": "@late"}),
    put("1"),
    get(),
    REJECT,
    exchange("@late"),
    bind("@dead", "@late"),
    put("2"),
    get(),
    do("basic.reject", delivery_tag=2),
    *[get("@dead")] * 2,
)
case(
    "dead letter to an internal exchange",
    declare("@dead"),
    exchange("@internal", internal=True),
    bind("@dead", "@internal"),
    declare(arguments={"x-dead-letter-exchange": "@internal"}),
    put("1"),
    get(),
    REJECT,
    get("@dead"),
)
case(
    "dead letter to an alternate exchange",
    declare("@dead"),
    exchange("@ae"),
    with_alternate(),
    bind("@dead", "@ae"),
    declare(arguments={"x-dead-letter-exchange": "@x"}),
    put("1"),
    get(),
    REJECT,
    get("@dead"),
)
case(
    "dead letter keeps properties but the expiration",
    declare("@dead"),
    declare(arguments=DEAD),
    publish(
        *("", "@q", "m"),
        {"expiration": "60000", "priority": 3, "delivery_mode": 2, "user_id": "guest"},
    ),
    get(),
    REJECT,
    get("@dead"),
)
case(
    "dead letters of a queue without time",
    declare("@dead"),
    declare(arguments=DEAD | {"x-message-ttl": 0}),
    publish("", "@q", "1", {"expiration": "5000"}),
    put("2"),
    *[get("@dead")] * 2,
)
case(
    "queue without time and a consumer",
    declare("@dead"),
    declare(arguments=DEAD | {"x-message-ttl": 0}),
    do("basic.qos", prefetch_count=1),
    consume("c"),
    put("1"),
    put("2"),
    get("@dead"),
    nack(1),
    get("@dead"),
    put("3"),
)
case(
    "expiration 0 and a consumer",
    declare(),
    consume("c"),
    publish("", "@q", "m", {"expiration": "0"}),
    nack(1),
)
case(
    "dead letters by length in bytes",
    declare("@dead"),
    declare(arguments=DEAD | {"x-max-length-bytes": 5}),
    *[put(body) for body in ("123", "456", "7890123")],
    *[get("@dead")] * 3,
    get(),
)
case(
    "dead letter of a queue of no length",
    declare("@dead"),
    declare(arguments=DEAD | {"x-max-length": 0}),
    do("confirm.select"),
    put("1"),
    get("@dead"),
    get(),
)
case(
    "dead letters of what is refused",
    declare("@dead"),
    declare(arguments=bounded(overflow="reject-publish-dlx", **DEAD)),
    do("confirm.select"),
    *[put(body) for body in "123"],
    *[get("@dead")] * 3,
    get(),
)
case(
    "no dead letters of what is refused",
    declare("@dead"),
    declare(arguments=bounded(**DEAD)),
    do("confirm.select"),
    put("1"),
    put("2"),
    get("@dead"),
)
case(
    "no dead letters of purge and delete",
    declare("@dead"),
    declare(arguments=DEAD),
    put("1"),
    do("queue.purge", queue="@q"),
    put("2"),
    do("queue.delete", queue="@q"),
    get("@dead"),
)
case(
    "dead letter to its own queue",
    declare(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@q"}),
    put("1"),
    get(),
    REJECT,
    get(),
)
case(
    "dead letter by length to its own queue",
    declare(
        arguments={
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "@q",
            "x-max-length": 1,
        }
    ),
    put("1"),
    put("2"),
    declare(passive=True),
    get(),
)

# Limits of length.

case(
    "refused by one queue of two",
    declare(arguments=bounded()),
    declare("@q2"),
    bind("@q", "amq.fanout"),
    bind("@q2", "amq.fanout"),
    do("confirm.select"),
    publish("amq.fanout", "", "1"),
    publish("amq.fanout", "", "2"),
    *[get()] * 2,
    *[get("@q2")] * 2,
)
case(
    "refused and mandatory",
    declare(arguments=bounded()),
    do("confirm.select"),
    put("1", mandatory=True),
    put("2", mandatory=True),
)
case(
    "refused by ready messages only",
    declare(arguments=bounded()),
    do("confirm.select"),
    put("1"),
    get(),
    put("2"),
    put("3"),
    nack(1),
    declare(passive=True),
    put("4"),
)
case(
    "dropped by ready messages only",
    declare(arguments={"x-max-length": 1}),
    put("1"),
    get(),
    put("2"),
    put("3"),
    *[get()] * 2,
)
case(
    "refused beside a consumer",
    declare(arguments=bounded()),
    do("confirm.select"),
    do("basic.qos", prefetch_count=1),
    consume("c"),
    *[put(body) for body in "123"],
    ack(1),
    put("4"),
)
case(
    "refused by bytes",
    declare(arguments={"x-max-length-bytes": 4, "x-overflow": "reject-publish"}),
    do("confirm.select"),
    *[put(body) for body in ("123", "456", "7", "8")],
    declare(passive=True),
)
case(
    "refused by bytes beside a consumer",
    declare(arguments={"x-max-length-bytes": 4, "x-overflow": "reject-publish"}),
    do("confirm.select"),
    do("basic.qos", prefetch_count=1),
    consume("c"),
    *[put(body) for body in ("123456", "123456", "7", "8901")],
)
case(
    "refused by a queue of no length with a consumer",
    declare(arguments=bounded(0)),
    do("confirm.select"),
    do("basic.qos", prefetch_count=1),
    consume("c"),
    put("1"),
    put("2"),
)

# Confirms.

UNROUTABLE = codec.method_frame(
    1, "basic.publish", exchange="", routing_key="nobody has this name"
) + codec.content_frames(1, {}, b"m")
FAILING = codec.method_frame(
    1, "basic.publish", exchange="nobody has this name", routing_key=""
) + codec.content_frames(1, {}, b"m")
case("confirm before an error behind it", do("confirm.select"), raw(UNROUTABLE, FAILING))
case(
    "confirm before the channel's close behind it",
    do("confirm.select"),
    raw(UNROUTABLE, codec.method_frame(1, "channel.close", code=200)),
)
case(
    "confirm before the connection's close behind it",
    do("confirm.select"),
    raw(UNROUTABLE, codec.method_frame(0, "connection.close", code=200)),
)
case(
    "method behind close-ok",
    # What the Java client does over Netty when an error overtakes its next method.
    raw(
        FAILING,
        codec.method_frame(1, "channel.close-ok"),
        codec.method_frame(1, "basic.qos"),
    ),
)

# Transactions.

case(
    "tx of a publish and an ack",
    declare(),
    put("0"),
    do("tx.select"),
    get(),
    put("1"),
    ack(1),
    declare(passive=True),
    do("tx.commit"),
    declare(passive=True),
    do("tx.rollback"),
    get(),
)
case(
    "tx ack rolled back and then a nack",
    declare(),
    put("0"),
    do("tx.select"),
    get(),
    ack(1),
    do("tx.rollback"),
    nack(1),
    declare(passive=True),
    do("tx.commit"),
    declare(passive=True),
    get(),
)
case(
    "tx of several acks and a reject",
    declare(),
    *[put(body) for body in "012"],
    do("tx.select"),
    *[get()] * 3,
    ack(2, multiple=True),
    nack(3, requeue=False),
    do("tx.commit"),
    do("basic.recover", requeue=True),
    get(),
)
case(
    "tx dropped by its channel",
    open_("a", 2),
    declare(),
    do("tx.select", channel=2),
    put("1", channel=2),
    do("channel.close", channel=2, code=200),
    declare(passive=True),
)
case(
    "tx and recover",
    declare(),
    put("0"),
    do("tx.select"),
    get(),
    ack(1),
    do("basic.recover", requeue=True),
    do("tx.commit"),
    declare(passive=True),
)
case(
    "tx with an invalid expiration",
    declare(),
    do("tx.select"),
    put("1"),
    publish("", "@q", "2", {"expiration": "x"}),
)
case(
    "tx and a prefetch limit",
    declare(),
    *[put(body) for body in "123"],
    do("basic.qos", prefetch_count=1),
    do("tx.select"),
    consume("c"),
    ack(1),
    do("tx.commit"),
    ack(2),
    do("tx.rollback"),
)

# Replies.


def ask(**fields: Any) -> list[Any]:
    return publish("", "@q", "question", {"reply_to": REPLY}, **fields)


def answer(name: str = "", **fields: Any) -> list[Any]:
    return publish(name, "@reply-to", "answer", **fields)


LISTEN = do("basic.consume", queue=REPLY, consumer_tag="c", no_ack=True)
case("reply asked for on another channel", open_("a", 2), declare(), LISTEN, ask(channel=2))
case(
    "reply asked for after a cancel",
    declare(),
    LISTEN,
    do("basic.cancel", consumer_tag="c"),
    ask(),
)
case(
    "reply to a consumer that came again",
    declare(),
    LISTEN,
    do("basic.cancel", consumer_tag="c"),
    LISTEN,
    ask(),
    get(no_ack=True),
    answer(),
)
case(
    "reply to an exclusive consumer",
    do("basic.consume", queue=REPLY, consumer_tag="c", no_ack=True, exclusive=True),
)
case(
    "reply by another exchange",
    declare(),
    LISTEN,
    ask(),
    get(no_ack=True),
    answer("amq.direct", mandatory=True),
)
case(
    "reply in transactions",
    declare(),
    LISTEN,
    do("tx.select"),
    ask(),
    do("tx.commit"),
    get(no_ack=True),
    answer(),
    do("tx.commit"),
)
case(
    "reply address of the client's own making",
    declare(),
    publish("", "@q", "m", {"reply_to": f"{REPLY}.x"}),
    get(),
)
