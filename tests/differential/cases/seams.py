"""What one feature does to another: dead letters that go round, copies that nobody may see, limits
beside limits, messages that were sent on.
"""

from __future__ import annotations

from typing import Any

from differential.cases.delivery import ONE, ack, consume, get, nack, put
from differential.cases.language import Step, case, declare, do, open_, publish, typed
from differential.cases.outcomes import DEAD, LISTEN, REJECT, answer, ask, bounded
from differential.cases.routing import bind, exchange


def quorum(**arguments: Any) -> Step:
    return declare(durable=True, arguments={"x-queue-type": "quorum", **arguments})


def dead_to(queue: str, **arguments: Any) -> dict[str, Any]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, **arguments}


# Dead letters that go round, and those that were sent on.

case(
    "dead letter rejected and expired twice, round and round",
    declare(arguments=dead_to("@q2")),
    declare("@q2", arguments=dead_to("@q3", **{"x-message-ttl": 0})),
    declare("@q3", arguments=dead_to("@q", **{"x-message-ttl": 0})),
    put("m"),
    get(),
    REJECT,
    get(),
    do("basic.reject", delivery_tag=2),
    get(),
)
case(
    "dead letters by length, from one queue to another and back",
    declare(arguments=dead_to("@q2", **{"x-max-length": 1})),
    declare("@q2", arguments=dead_to("@q", **{"x-max-length": 1})),
    *[put(body) for body in "1234"],
    *[get(no_ack=True)] * 2,
    *[get("@q2", no_ack=True)] * 2,
)
case(
    "dead letter of a message sent on with a first death only",
    declare("@dead"),
    declare(arguments=DEAD),
    publish(
        *("", "@q", "m"),
        {
            "headers": {
                "x-first-death-queue": "other",
                "x-first-death-reason": "expired",
                "x-first-death-exchange": "amq.direct",
            }
        },
    ),
    get(),
    REJECT,
    get("@dead"),
)
DEATH = {
    "count": typed("l", 3),
    "reason": "rejected",
    "queue": "@q",
    "time": typed("T", 1),
    "exchange": "amq.topic",
    "routing-keys": ["k"],
}
case(
    "dead letter of a message sent on with its history",
    declare("@dead"),
    declare(arguments=DEAD),
    publish(
        *("", "@q", "m"),
        {
            "headers": {
                "z": 1,
                "x-death": [{**DEATH, "queue": "other"}, DEATH],
                "a": 2,
                "x-first-death-queue": "@q",
                "x-first-death-reason": "rejected",
                "x-first-death-exchange": "amq.topic",
            }
        },
    ),
    get(),
    REJECT,
    get("@dead"),
)
case(
    "dead letters into a queue that refuses",
    declare("@dead", arguments=bounded()),
    declare(arguments=DEAD),
    put("1"),
    put("2"),
    *[get()] * 2,
    nack(0, multiple=True, requeue=False),
    *[get("@dead", no_ack=True)] * 2,
)
case(
    "dead letters of two queues by one nack",
    declare("@dead"),
    declare("@q2", arguments=DEAD),
    declare(arguments=DEAD),
    *[step for body in "12" for step in (put(body), publish("", "@q2", f"{body} of 2"))],
    *[get(), get("@q2")] * 2,
    nack(0, multiple=True, requeue=False),
    *[get("@dead", no_ack=True)] * 4,
)
case(
    "dead letter by headers of its death",
    declare("@expired"),
    declare("@rejected"),
    exchange("@h", "headers"),
    bind(
        *("@expired", "@h"),
        arguments={
            "x-match": "all-with-x",
            "x-first-death-reason": "expired",
            "x-first-death-queue": "@q",
        },
    ),
    bind(
        *("@rejected", "@h"),
        arguments={"x-match": "any-with-x", "x-first-death-reason": "rejected"},
    ),
    declare(arguments={"x-dead-letter-exchange": "@h"}),
    publish("", "@q", "1", {"expiration": "0"}),
    put("2"),
    get(),
    REJECT,
    get("@expired", no_ack=True),
    get("@rejected", no_ack=True),
)

# Blind copies are seen by nobody.

BLIND = {"headers": {"BCC": ["@nobody"], "CC": ["@nobody too"], "mine": 1}}
case("return without blind copies", publish("amq.direct", "@k", "m", BLIND, mandatory=True))
case(
    "tx return without blind copies",
    do("tx.select"),
    publish("amq.direct", "@k", "m", BLIND, mandatory=True),
    do("tx.commit"),
)
case(
    "reply without blind copies",
    declare(),
    LISTEN,
    ask(),
    get(no_ack=True),
    publish("", "@reply-to", "m", BLIND),
)

# What a message brings, and how it comes out.

LONG = "x" * 255
case(
    "every property at its extreme",
    declare(),
    publish(
        *("", "@q", "m"),
        {
            "content_type": LONG,
            "content_encoding": "",
            "headers": {},
            "delivery_mode": 1,
            "priority": 255,
            "correlation_id": LONG,
            "reply_to": LONG,
            "expiration": "315360000000",
            "message_id": LONG,
            "timestamp": 2**64 - 1,
            "type": LONG,
            "app_id": LONG,
            "cluster_id": LONG,
        },
    ),
    get(),
    nack(1),
    get(),
)
EVERY_TYPE = {
    **{
        f"{letter} lowest": typed(letter, -(2**bits))
        for letter, bits in zip("bsIl", (7, 15, 31, 63), strict=True)
    },
    **{
        f"{letter} highest": typed(letter, 2**bits - 1)
        for letter, bits in zip("BuiT", (8, 16, 32, 64), strict=True)
    },
    "t": [True, False],
    "f": typed("f", 1.5),
    "d": [typed("d", -0.0), 1e308],
    "D": [typed("D", [255, -1]), typed("D", [0, 0])],
    "S": ["", "ü" * 300],
    "x": typed("x", "bytes"),
    "V": None,
    "A": [[], [[], {"k": []}]],
    "F": {"": {"a": {"b": {}}}},
    "k" * 255: 0,
    "": 0,
}
case(
    "every type of header there and back",
    declare("@dead"),
    declare(arguments=DEAD),
    publish("", "@q", "m", {"headers": EVERY_TYPE}),
    get(),
    REJECT,
    get("@dead"),
)
PAIRS: list[tuple[Any, Any]] = [
    (1, typed("l", 1)),
    (1, 1.0),
    (1, True),
    ("a", typed("x", "a")),
    (typed("T", 5), typed("l", 5)),
    ({"a": 1}, {"a": 1}),
    ({"a": 1}, {"a": typed("l", 1)}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ([1, 2], [1, 2]),
    ([1], [typed("s", 1)]),
    (typed("D", [1, 10]), typed("D", [1, 10])),
    (typed("D", [1, 10]), typed("D", [2, 100])),
    ("", None),
    (None, 5),
    (typed("f", 1.5), 1.5),
    (0, False),
    (0.0, -0.0),
    ("A", "a"),
    (typed("u", 65535), typed("i", 65535)),
]
case(
    "headers of other types",
    declare(),
    *[
        bind("@q", "amq.headers", arguments={f"h{at}": asked})
        for at, (asked, _) in enumerate(PAIRS)
    ],
    *[
        publish("amq.headers", "", str(at), {"headers": {f"h{at}": sent}})
        for at, (_, sent) in enumerate(PAIRS)
    ],
    *[get(no_ack=True)] * len(PAIRS),
)
for label, match in {"void": None, "true": True, "unknown": "some"}.items():
    case(
        f"exchange bind headers match {label}",
        exchange("@x"),
        do("exchange.bind", destination="@x", source="amq.headers", arguments={"x-match": match}),
    )
case(
    "delivery count of the publisher's own",
    quorum(),
    publish("", "@q", "m", {"headers": {"x-delivery-count": 7, "mine": 1}}),
    get(),
    nack(1),
    get(),
)
case(
    "delivery count of the publisher's own where nobody counts",
    declare(),
    publish("", "@q", "m", {"headers": {"x-delivery-count": 7}}),
    get(),
    nack(1),
    get(),
)
case(
    "fast reply and a wrong user id",
    publish("", "@q", "m", {"user_id": "x", "reply_to": "amq.rabbitmq.reply-to"}),
)
case(
    "reply to a request that died",
    declare("@dead"),
    declare(arguments=DEAD),
    LISTEN,
    ask(),
    get(),
    do("basic.reject", delivery_tag=2),
    get("@dead"),
    answer(),
)

# Limits beside limits.

TWO = [declare("@a"), declare("@b")]
for label, limits in {
    "one for each consumer": [
        do("basic.qos", prefetch_count=3, global_=True),
        do("basic.qos", prefetch_count=2),
    ],
    "one for the channel": [
        do("basic.qos", prefetch_count=2),
        do("basic.qos", prefetch_count=3, global_=True),
    ],
}.items():
    case(
        f"qos of both kinds, the last {label}",
        *TWO,
        *limits,
        do("basic.consume", queue="@a", consumer_tag="a"),
        do("basic.consume", queue="@b", consumer_tag="b"),
        *[publish("", queue, body) for queue in ("@a", "@b") for body in "123"],
        ack(1),
    )
case(
    "qos of the channel and then one for each consumer that runs",
    *TWO,
    do("basic.qos", prefetch_count=1, global_=True),
    do("basic.consume", queue="@a", consumer_tag="a"),
    *[publish("", "@a", body) for body in "123"],
    do("basic.qos", prefetch_count=5),
    ack(1),
)
case(
    "delivery limit counts what is recovered",
    quorum(**{"x-delivery-limit": 1}),
    put("m"),
    get(),
    do("basic.recover", requeue=True),
    get(),
    do("basic.recover", requeue=True),
    get(),
)
case(
    "queue declare quorum generated",
    declare("", durable=True, arguments={"x-queue-type": "quorum"}),
)
case(
    "single active consumer is cancelled while messages wait",
    declare(**ONE),
    do("basic.qos", prefetch_count=1),
    consume("one"),
    consume("two"),
    *[put(body) for body in "123"],
    do("basic.cancel", consumer_tag="one"),
)
case(
    "requeue over three channels",
    open_("a", 2),
    open_("a", 3),
    declare(),
    *[put(body) for body in "123456"],
    *[get(channel=channel) for channel in (1, 2, 3)] * 2,
    nack(2, multiple=True, channel=2),
    nack(1),
    *[get(no_ack=True)] * 2,
    nack(0, multiple=True, channel=3),
    nack(2),
    *[get(no_ack=True)] * 5,
)
case(
    "tx publish routed before a binding comes",
    declare(),
    exchange("@x"),
    do("tx.select"),
    publish("@x", "k"),
    bind("@q", "@x"),
    do("tx.commit"),
    get(),
)
