"""What policies do. `golden.json` holds what RabbitMQ 3.10 answers to each case; `python -m
differential.policies.record` in tests/ writes it anew.
"""

from __future__ import annotations

from typing import Any

from differential.cases.language import declare, do, publish
from differential.policies.steps import CLEAR, SET

Step = list[Any]
CASES: dict[str, list[Step]] = {}

QUORUM = {"x-queue-type": "quorum"}


def case(name: str, *steps: Step) -> None:
    assert name not in CASES, name
    CASES[name] = [["a", 0, "connect", {}], ["a", 1, "open", {}], *steps]


def policy(definition: dict[str, Any], name: str = "@p", pattern: str = "^@", **more: Any) -> Step:
    return [SET, {"name": name, "pattern": pattern, "definition": definition, **more}]


def operator(definition: dict[str, Any], name: str = "@o", **more: Any) -> Step:
    return policy(definition, name, operator=True, **more)


def clear(name: str = "@p", **more: Any) -> Step:
    return [CLEAR, {"name": name, **more}]


def publishes(*bodies: str, queue: str = "@q") -> list[Step]:
    return [publish("", queue, body) for body in bodies]


def count(queue: str = "@q") -> Step:
    return declare(queue, passive=True)


def get(queue: str = "@q") -> Step:
    return do("basic.get", queue=queue, no_ack=True)


FIVE = publishes("1", "2", "3", "4", "5")
CONFIRMS = do("confirm.select")

# Which one acts.

case("later declared", policy({"max-length": 2}), declare(), *FIVE, count(), get())
case("declared before", declare(), *FIVE, policy({"max-length": 2}), count(), get())
case("of another name", policy({"max-length": 2}, pattern="^other"), declare(), *FIVE, count())
case("searched for", policy({"max-length": 2}, pattern="q"), declare(), *FIVE, count())
case("empty pattern", policy({"max-length": 2}, pattern=""), declare(), *FIVE, count())
case("anchored at the end", policy({"max-length": 2}, pattern="q$"), declare("@qq"), count("@qq"))
case("of exchanges", policy({"max-length": 2}, apply_to="exchanges"), declare(), *FIVE, count())
case("of queues", policy({"max-length": 2}, apply_to="queues"), declare(), *FIVE, count())
case(
    "the highest priority acts alone",
    declare(arguments={"x-overflow": "reject-publish"}),
    CONFIRMS,
    policy({"max-length": 3}, "@low", priority=1),
    policy({"max-length-bytes": 1000}, "@high", priority=2),
    *FIVE,
    count(),
    clear("@high"),
    *publishes("6"),
    do("queue.purge", queue="@q"),
    *FIVE,
    count(),
)
case(
    "set anew",
    declare(),
    policy({"max-length": 4}),
    *FIVE,
    policy({"max-length": 1}),
    count(),
    get(),
    *FIVE,
    policy({"max-length-bytes": 1000}),
    *FIVE,
    count(),
)
case("cleared", declare(), policy({"max-length": 1}), clear(), *FIVE, count(), clear())
case("exclusive queue", declare(exclusive=True), policy({"max-length": 2}), *FIVE, count())
case(
    "quorum queue",
    declare(durable=True, arguments=QUORUM),
    policy({"max-length": 2}, apply_to="queues"),
    *FIVE,
    do("basic.get", queue="@q"),
)

# What a declaration says.

for own, other in ((2, 4), (4, 2)):
    case(
        f"max-length declared {own}, policy {other}",
        declare(arguments={"x-max-length": own}),
        policy({"max-length": other}),
        *FIVE,
        count(),
    )
    case(
        f"max-length policy {own}, operator {other}",
        declare(),
        policy({"max-length": own}),
        operator({"max-length": other}),
        *FIVE,
        count(),
        clear("@o", operator=True),
        *FIVE,
        count(),
    )
case("operator alone", declare(), operator({"max-length": 2}), *FIVE, count())
case(
    "operator below what is declared",
    declare(arguments={"x-max-length": 4}),
    operator({"max-length": 2}),
    *FIVE,
    count(),
)
case(
    "overflow",
    declare(),
    CONFIRMS,
    policy({"max-length": 2, "overflow": "reject-publish"}),
    *FIVE,
    count(),
    get(),
)
case(
    "overflow declared",
    declare(arguments={"x-overflow": "drop-head"}),
    CONFIRMS,
    policy({"max-length": 2, "overflow": "reject-publish"}),
    *FIVE,
    get(),
)
case(
    "max-length-bytes",
    declare(),
    *publishes("aaaa", "bbbb", "cccc"),
    policy({"max-length-bytes": 9}),
    count(),
    get(),
)
REJECT: list[Step] = [
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=1, requeue=False),
]
case(
    "dead letters",
    declare(),
    declare("@dead"),
    *publishes("m"),
    policy({"dead-letter-exchange": "", "dead-letter-routing-key": "@dead"}, pattern="^@q$"),
    *REJECT,
    get("@dead"),
)
case(
    "dead letters declared",
    declare(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@mine"}),
    declare("@mine"),
    declare("@dead"),
    *publishes("m"),
    policy({"dead-letter-exchange": "", "dead-letter-routing-key": "@dead"}, pattern="^@q$"),
    *REJECT,
    get("@dead"),
    get("@mine"),
)
case(
    "dead-letter-routing-key beside a declared exchange",
    declare(arguments={"x-dead-letter-exchange": ""}),
    declare("@dead"),
    *publishes("m"),
    policy({"dead-letter-routing-key": "@dead"}, pattern="^@q$"),
    *REJECT,
    get("@dead"),
)
case("declared again", declare(), policy({"max-length": 2}), declare())
case(
    "declared again with what the policy says",
    declare(),
    policy({"max-length": 2}),
    declare(arguments={"x-max-length": 2}),
)
case(
    "exchange declared again",
    do("exchange.declare", exchange="@x", type="direct"),
    policy({"alternate-exchange": "amq.fanout"}),
    do("exchange.declare", exchange="@x", type="direct"),
    do(
        "exchange.declare",
        exchange="@x",
        type="direct",
        arguments={"alternate-exchange": "amq.fanout"},
    ),
)

# Exchanges.

LOST: list[Step] = [
    do("exchange.declare", exchange="@x", type="direct"),
    declare("@lost"),
    do("queue.bind", queue="@lost", exchange="amq.fanout"),
]


def unroutable(body: str) -> Step:
    return publish("@x", "nowhere", body, mandatory=True)


case(
    "alternate exchange",
    *LOST,
    unroutable("1"),
    policy({"alternate-exchange": "amq.fanout"}, apply_to="exchanges"),
    unroutable("2"),
    clear(),
    unroutable("3"),
    count("@lost"),
    get("@lost"),
)
case(
    "alternate exchange declared",
    *LOST,
    do(
        "exchange.declare",
        exchange="@y",
        type="direct",
        arguments={"alternate-exchange": "amq.direct"},
    ),
    policy({"alternate-exchange": "amq.fanout"}),
    publish("@y", "nowhere", mandatory=True),
)

# What only one type of queues knows.

MIXED = {"max-length": 2, "delivery-limit": 5}
case("delivery-limit with a classic queue", declare(), policy(MIXED), *FIVE, count())
case(
    "the next one acts",
    declare(),
    policy(MIXED, priority=2),
    policy({"max-length": 3}, "@next", priority=1),
    *FIVE,
    count(),
)
case("queue-mode with a classic queue", declare(), policy({"queue-mode": "lazy"}), *FIVE, count())
FAIL: list[Step] = [
    step
    for tag in (1, 2, 3)
    for step in (
        do("basic.get", queue="@q"),
        do("basic.reject", delivery_tag=tag, requeue=True),
    )
]
case(
    "delivery-limit",
    declare(durable=True, arguments=QUORUM),
    *publishes("m"),
    policy({"delivery-limit": 1}, apply_to="queues"),
    *FAIL[:4],
    do("basic.get", queue="@q"),
)
case(
    "delivery-limit declared",
    declare(durable=True, arguments={**QUORUM, "x-delivery-limit": 1}),
    *publishes("m"),
    policy({"delivery-limit": 5}, apply_to="queues"),
    *FAIL[:4],
    do("basic.get", queue="@q"),
)

# Times.

case(
    "message-ttl of none for what comes",
    declare(),
    policy({"message-ttl": 0}),
    *publishes("1"),
    count(),
    clear(),
    *publishes("2"),
    count(),
)

# What is refused.

for label, definition in {
    "nothing": {},
    "unknown": {"max-lenght": 5},
    "negative length": {"max-length": -1},
    "length of text": {"max-length": "5"},
    "length of true": {"max-length": True},
    "overflow of another word": {"overflow": "spill"},
    "expires of zero": {"expires": 0},
    "message-ttl of zero": {"message-ttl": 0},
    "negative message-ttl": {"message-ttl": -1},
    "dead-letter-exchange of a number": {"dead-letter-exchange": 5},
    "alternate-exchange of a number": {"alternate-exchange": 5},
    "negative delivery-limit": {"delivery-limit": -1},
    "mirrors": {"ha-mode": "all"},
    "lazy": {"queue-mode": "lazy"},
}.items():
    case(f"definition: {label}", policy(definition))
for label, definition in {
    "length": {"max-length": 5},
    "delivery-limit": {"delivery-limit": 5},
    "dead letters": {"dead-letter-exchange": "x"},
    "alternate exchange": {"alternate-exchange": "x"},
}.items():
    case(f"operator's definition: {label}", operator(definition))
case("pattern that is none", policy({"max-length": 5}, pattern="("))
case("applied to nothing known", policy({"max-length": 5}, apply_to="moons"))
