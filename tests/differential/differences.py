"""Where Wherry means to answer otherwise than RabbitMQ 3.10, each with its reason.

`GOLDEN` maps a case to the reason and a judge of all its answers. Anything that is not listed must
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


_CRASH = "RabbitMQ's reader crashes and drops the socket; we say what was wrong"
_OCTETS = "RabbitMQ prints the octets as an Erlang term; the code is the same"

GOLDEN: dict[str, tuple[str, Callable[[Answers], bool]]] = {
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
