"""Which queues a message reaches: headers, topics, alternates, exchanges bound to exchanges."""

from __future__ import annotations

from typing import Any

from differential.cases.delivery import get
from differential.cases.language import Step, case, declare, do, open_, publish, typed


def exchange(name: str, kind: str = "fanout", **fields: Any) -> Step:
    return do("exchange.declare", exchange=name, type=kind, **fields)


def bind(queue: str, name: str, key: str = "", **fields: Any) -> Step:
    return do("queue.bind", queue=queue, exchange=name, routing_key=key, **fields)


def bind_exchange(destination: str, source: str, key: str = "") -> Step:
    return do("exchange.bind", destination=destination, source=source, routing_key=key)


# Headers.

HEADERS: list[dict[str, Any]] = [
    {"a": 1},
    {"a": 1, "x-b": 2},
    {"x-b": 2},
    {"a": 2},
    {"x-b": 3},
    {},
    {"a": 1, "x-b": 3},
    {"a": "1"},
    {"a": typed("l", 1)},
    {"a": None},
    {"x-b": None},
]
ASKED: dict[str, dict[str, Any]] = {
    "both": {"a": 1, "x-b": 2},
    "reserved": {"x-b": 2},
    "none": {},
    "void": {"a": None},
    "text": {"a": "1"},
}
for match in ("all", "any", "all-with-x", "any-with-x", ""):
    for asked, arguments in ASKED.items():
        case(
            f"headers {match or 'unsaid'} of {asked}",
            declare(),
            bind("@q", "amq.headers", arguments=arguments | ({"x-match": match} if match else {})),
            *[
                publish("amq.headers", "k", str(number), {"headers": headers})
                for number, headers in enumerate(HEADERS)
            ],
            publish("amq.headers", "", "without"),
            *[get(no_ack=True)] * (len(HEADERS) + 2),
        )

# Topics.

KEYS = ("", "a", "a.b", "a.b.c", ".", "a.", ".a", "a..b", "..", "#", "*", "a.#", "b")
for pattern in (
    *("#", "*", "", "a.#", "#.a", "*.#", "#.*", "#.#", "a.*", "*.*", ".", "a..b", "*."),
    *("#.b.#", "a.#.c", "a#", "*a", "**"),
):
    case(
        f"topic {pattern!r}",
        declare(),
        bind("@q", "amq.topic", pattern),
        *[publish("amq.topic", key, key or "empty") for key in KEYS],
        *[get(no_ack=True)] * (len(KEYS) + 1),
    )

# Alternate exchanges.


def with_alternate(alternate: str = "@ae") -> Step:
    return exchange("@x", "direct", arguments={"alternate-exchange": alternate})


case(
    "alternate exchange takes a mandatory message",
    declare(),
    exchange("@ae"),
    with_alternate(),
    bind("@q", "@ae"),
    do("confirm.select"),
    publish("@x", "k", mandatory=True),
    get(),
)
case(
    "alternate exchange without a queue",
    exchange("@ae"),
    with_alternate(),
    do("confirm.select"),
    publish("@x", "k", mandatory=True),
)
case(
    "alternate exchange that is not there",
    with_alternate("@absent"),
    do("confirm.select"),
    publish("@x", "k", "1", mandatory=True),
    publish("@x", "k", "2"),
)
case(
    "alternate exchanges in a circle",
    exchange("@ae", "direct", arguments={"alternate-exchange": "@x"}),
    with_alternate(),
    do("confirm.select"),
    publish("@x", "k", mandatory=True),
)
case(
    "alternate exchange beside a binding to an exchange",
    declare(),
    exchange("@ae"),
    with_alternate(),
    exchange("@e2", "direct"),
    bind_exchange("@e2", "@x", "k"),
    bind("@q", "@ae"),
    publish("@x", "k", "1", mandatory=True),
    publish("@x", "z", "2", mandatory=True),
    *[get()] * 2,
)
case(
    "alternate exchange of an exchange behind another",
    declare(),
    exchange("@ae"),
    with_alternate(),
    exchange("@outer"),
    bind_exchange("@x", "@outer"),
    bind("@q", "@ae"),
    publish("@outer", "k", mandatory=True),
    get(),
)
case(
    "alternate exchange and carbon copies",
    declare(),
    exchange("@ae"),
    with_alternate(),
    bind("@q", "@ae"),
    publish("@x", "k", "m", {"headers": {"CC": ["c"], "BCC": ["b"], "y": 1}}),
    get(),
)
case(
    "tx mandatory to an alternate exchange",
    exchange("@ae"),
    with_alternate(),
    do("tx.select"),
    publish("@x", "k", mandatory=True),
    do("tx.commit"),
)

# Exchanges bound to exchanges.

case(
    "two ways to one queue deliver once",
    declare(),
    *[exchange(name) for name in ("@a1", "@b1", "@c1", "@d1")],
    bind_exchange("@b1", "@a1"),
    bind_exchange("@c1", "@a1"),
    bind_exchange("@d1", "@b1"),
    bind_exchange("@d1", "@c1"),
    bind("@q", "@d1"),
    publish("@a1", "k"),
    *[get()] * 2,
)
case(
    "carbon copies to several queues",
    *[declare(name) for name in ("@q", "@q2", "@q3")],
    exchange("@x", "direct"),
    exchange("@y", "direct"),
    bind_exchange("@y", "@x", "b"),
    bind("@q", "@x", "k"),
    bind("@q2", "@x", "c"),
    bind("@q3", "@y", "b"),
    publish("@x", "k", "m", {"headers": {"CC": ["c"], "BCC": ["b"]}}),
    *[get(name) for name in ("@q", "@q2", "@q3")],
)
case(
    "carbon copies by the default exchange",
    *[declare(name) for name in ("@q", "@q2", "@q3")],
    publish("", "@q", "m", {"headers": {"CC": ["@q2", "@q"], "BCC": ["@q3", "@absent"]}}),
    *[get(name) for name in ("@q", "@q", "@q2", "@q3")],
)
case(
    "exchange delete if unused as a source",
    exchange("@x"),
    bind_exchange("amq.fanout", "@x"),
    do("exchange.delete", exchange="@x", if_unused=True),
)
case(
    "exchange delete if unused as a destination",
    exchange("@x"),
    bind_exchange("@x", "amq.fanout"),
    do("exchange.delete", exchange="@x", if_unused=True),
)
case(
    "exchange auto delete by unbinding an exchange",
    exchange("@x", auto_delete=True),
    bind_exchange("amq.fanout", "@x"),
    do("exchange.unbind", destination="amq.fanout", source="@x"),
    exchange("@x", passive=True),
)
case(
    "exchange auto delete along a chain",
    open_("a", 2),
    declare(),
    exchange("@x", auto_delete=True),
    exchange("@y", auto_delete=True),
    bind_exchange("@y", "@x"),
    bind("@q", "@y"),
    do("queue.delete", queue="@q"),
    exchange("@y", passive=True),
    exchange("@x", passive=True, channel=2),
)
case(
    "exchange auto delete as a destination only",
    exchange("@y", auto_delete=True),
    bind_exchange("@y", "amq.fanout"),
    do("exchange.unbind", destination="@y", source="amq.fanout"),
    exchange("@y", passive=True),
)
