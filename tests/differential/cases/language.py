"""What cases are written in: steps, as `differential.steps` carries them out, and the list of all
cases.
"""

from __future__ import annotations

from typing import Any

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
