"""Where Wherry means to answer otherwise than RabbitMQ 3.10, each with its reason.

`MEANT` maps a case to the reason and a judge of all its answers. Anything that is not listed must
be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Answers = list[dict[str, list[Any]]]


def closes_connection(*codes: int) -> Callable[[Answers], bool]:
    """The last step ends in connection.close with one of these codes, whatever the text."""

    def judge(answers: Answers) -> bool:
        last = answers[-1].get("a/0", [])
        return len(last) == 1 and last[0][0] == "connection.close" and last[0][1]["code"] in codes

    return judge


def closes_channel(code: int, channel: str = "a/1") -> Callable[[Answers], bool]:
    """The last step ends in channel.close with this code."""

    def judge(answers: Answers) -> bool:
        last = answers[-1].get(channel, [])
        return len(last) == 1 and last[0][0] == "channel.close" and last[0][1]["code"] == code

    return judge


def is_declared(answers: Answers) -> bool:
    last = answers[-1].get("a/1", [])
    return len(last) == 1 and last[0][0] == "queue.declare-ok"


def gets(body: str) -> Callable[[Answers], bool]:
    """The last step brings this message."""

    def judge(answers: Answers) -> bool:
        last = answers[-1].get("a/1", [])
        return len(last) == 1 and last[0][0] == "basic.get-ok" and last[0][-1] == body

    return judge


def delivers(body: str) -> Callable[[Answers], bool]:
    """The last step ends in a delivery of this message."""

    def judge(answers: Answers) -> bool:
        last = answers[-1].get("a/1", [[""]])[-1]
        return bool(last[0] == "basic.deliver" and last[-1] == body)

    return judge


_CRASH = "RabbitMQ's reader crashes and drops the socket; we say what was wrong"
_OCTETS = "RabbitMQ prints the octets as an Erlang term; the code is the same"

_NEWER = "as newer RabbitMQs do it"

MEANT: dict[str, tuple[str, Callable[[Answers], bool]]] = {
    "queue redeclare x-queue-type changed": (
        "what a quorum queue must be is looked at before it is compared",
        closes_channel(406),
    ),
    "queue declare x-delivery-limit -1": ("every queue has a delivery limit", is_declared),
    "exchange declare type unknown": (_NEWER, closes_channel(406)),
    "exchange declare type empty": (_NEWER, closes_channel(406)),
    "queue.unbind exclusive queue of another": (
        "every use of another connection's queue is refused",
        closes_channel(405, "b/1"),
    ),
    "publish expiration '+5'": ("a number has digits only", closes_channel(406)),
    "publish expiration '99999999999999999999'": (
        "RabbitMQ breaks the line in the text",
        closes_channel(406),
    ),
    "dead letter rejected and expired twice, round and round": (
        "RabbitMQ 3.10 mixes up the order of the deaths, and takes the second round for a cycle",
        gets("m"),
    ),
    "dead letters into a queue that refuses": (
        "what was accepted is not lost because another queue is full",
        gets("2"),
    ),
    "single active consumer is cancelled while messages wait": (
        "RabbitMQ leaves them there until something else happens to the queue",
        delivers("2"),
    ),
    "tx publish routed before a binding comes": (
        "what a transaction publishes is published when it is committed",
        gets("m"),
    ),
    "reply forged": (_CRASH, closes_channel(404)),
    "body size 2^63": ("refused as soon as its size is known", closes_channel(406)),
    "header with unknown flag": (_CRASH, closes_connection(501)),
    "class unknown": (_CRASH, closes_connection(501, 502, 503, 540)),
    "method unknown": (_CRASH, closes_connection(501, 502, 503, 540)),
    "class unknown channel 0": (_CRASH, closes_connection(501, 502, 503, 504, 540)),
    "table value of unknown type": (_CRASH, closes_connection(501, 502)),
    "table truncated inside": (_CRASH, closes_connection(501, 502)),
    "header truncated": (_CRASH, closes_connection(501, 502)),
    "header with trailing bytes": (_CRASH, closes_connection(501, 502)),
    "header with continuation flag": (_CRASH, closes_connection(501, 502)),
    "connect frame max too small": (_CRASH, closes_connection(530)),
    "connect frame max too large": (_CRASH, closes_connection(530)),
    "connect channel max too large": (_CRASH, closes_connection(530)),
    "connect channel max zero": (_CRASH, closes_connection(530)),
    **{
        name: (_OCTETS, closes_connection(501, 502))
        for name in (
            "frame end wrong",
            "frame end wrong heartbeat",
            "frame too large",
            "frame one byte too large",
            "frame kind unknown",
            "frame kind unknown channel 0",
            "heartbeat with payload",
            "method frame empty",
            "method frame of 3 bytes",
            "method truncated",
            "method with trailing bytes",
            "short string past the end",
            "table past the end",
            "table length 2^32-1",
            "name not utf-8",
            "header too short",
        )
    },
    **{
        name: (_OCTETS, closes_connection(505))
        for name in ("heartbeat on channel 1", "header on channel 0", "body on channel 0")
    },
}


NEVER = ("x-delivery-count", ["l", 0])
"""By which RabbitMQ says of a quorum queue's message that it was not delivered before; Wherry says
something when it was.
"""


def comparable(answers: Any) -> Any:
    """Without the headers that RabbitMQ has added to dead letters since, and that it alone has."""
    if isinstance(answers, dict):
        return {
            key: comparable(item)
            for key, item in answers.items()
            if not key.startswith("x-last-death-")
            and (key, item) not in (NEVER, ("headers", dict([NEVER])))
        }
    if isinstance(answers, list):
        return [comparable(item) for item in answers]
    return answers


def same(steps: list[Any], wanted: Any, got: Any) -> bool:
    """Whether two observations of the last of `steps` are equal, but for what is meant to
    differ.
    """
    del steps
    return bool(comparable(wanted) == comparable(got))
