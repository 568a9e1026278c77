"""Where Wherry means to answer otherwise than RabbitMQ 3.10, each with its reason.

`MEANT` maps a case to the reason and a judge of all its answers. Anything that is not listed must
be equal, but for what `comparable` takes away.

The server calls itself RabbitMQ 3.13.7. The sources of that plugin were read beside those of
3.10.8: the ERRORs are the same, but for the line end that 3.13 no longer puts behind "Access
refused for user", and for names that are not ASCII, which it shows as they are. In both Wherry does
as 3.13. (An unknown exchange is "NOT_FOUND - no exchange ..." up to 4.0 at least; a rewrite of
the plugin that is newer leaves the first word out.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Answers = list[dict[str, dict[str, Any]]]


def error(message: str, part: str = "", peer: str = "a") -> Callable[[Answers], bool]:
    """An ERROR with this header, and this in its text, is the last that the peer gets."""

    def judge(answers: Answers) -> bool:
        last = [one[peer] for one in answers if one.get(peer)][-1]
        ((headers, text),) = last.get("errors", [({}, "")])
        return headers.get("message") == message and part in text

    return judge


def header(name: str, value: str | None) -> Callable[[Answers], bool]:
    """The last message that `a` got has this header; None: has none of that name."""

    def judge(answers: Answers) -> bool:
        messages = [one for seen in answers for one in seen.get("a", {}).get("messages", [])]
        return bool(messages) and messages[-1][0].get(name) == value

    return judge


def starts(name: str, value: str) -> Callable[[Answers], bool]:
    """The header of the last message begins like this."""

    def judge(answers: Answers) -> bool:
        messages = [one for seen in answers for one in seen.get("a", {}).get("messages", [])]
        return bool(messages) and messages[-1][0].get(name, "").startswith(value)

    return judge


def no_headers(answers: Answers) -> bool:
    """What a client of AMQP got has no headers."""
    (event,) = answers[-1]["amqp"]["events"]
    return event[0] == "basic.get-ok" and not event[2].get("headers")


_CRASH = "RabbitMQ's parser crashes and drops the socket; we say what was wrong"
_SAYS_NOTHING = "RabbitMQ says 'Processing error'; we say which header"
_CHANNEL = "RabbitMQ asks its channel, whose error this is"
_ESCAPES_1_0 = "1.0 escapes nothing; RabbitMQ reads and writes escapes in every version"
_SPECIFICATION = "the specification demands it"
_NO_DEFAULT_LOGIN = "there is no default login"
_ARGUMENTS = "an argument of the queue is no header of the message"

MEANT: dict[str, tuple[str, Callable[[Answers], bool]]] = {
    "connect without login": (_NO_DEFAULT_LOGIN, error("Bad CONNECT", "Missing login")),
    "connect without passcode": (_NO_DEFAULT_LOGIN, error("Bad CONNECT", "Missing login")),
    "connect with an escaped passcode": (
        "frames of the handshake are not escaped, and a passcode may have a backslash",
        error("Bad CONNECT", "Access refused"),
    ),
    "connect heart-beat bad '-1,0'": ("a number is none", error("Invalid header", "heart-beat")),
    "connect twice": (_CRASH, error("Bad command", "Already connected")),
    "subscribe without id 1.1": (_SPECIFICATION, error("Missing header", "id")),
    "subscribe without id 1.2": (_SPECIFICATION, error("Missing header", "id")),
    "ack of what never was": (_CHANNEL, error("Subscription not found")),
    "nack requeue bad": ("RabbitMQ takes it for true", error("Invalid header", "requeue")),
    "nack to dead letters": (
        "RabbitMQ leaves arrays out; we write them as JSON",
        starts("x-death", '[{"count":1,"reason":"rejected"'),
    ),
    "BEGIN twice": ("the open one would be lost", error("Bad transaction", "open already")),
    "16 transactions": (
        "newer RabbitMQs have that limit as well",
        error("Too many transactions", "16"),
    ),
    "delivery mode 1": ("RabbitMQ says 'persistent:1' of it", header("persistent", None)),
    "float in AMQP headers": ("RabbitMQ leaves it out", header("f", "0.5")),
    "priority 256": ("no octet has that value", error("Invalid header", "priority")),
    "expiration bad": ("RabbitMQ says no_integer", error("precondition_failed", "expiration")),
    "headers with escapes 1.0": (_ESCAPES_1_0, header("b", "back\\slash")),
    "header with colons 1.0": (_ESCAPES_1_0, header("a", "b:c")),
    "backslash 1.0": (_ESCAPES_1_0, header("a", "b\\tc")),
    "undefined escape 1.1": (_SPECIFICATION, error("Malformed frame", "undefined escape")),
    "undefined escape 1.2": (_CRASH, error("Malformed frame", "undefined escape")),
    "header without colon": (_CRASH, error("Malformed frame", "a colon")),
    "content-length too small": (_CRASH, error("Malformed frame", "content-length")),
    "content-length '99999999999999999999'": (
        "RabbitMQ waits for them",
        error("Malformed frame", "body of more than"),
    ),
    "queue arguments in SEND": (_ARGUMENTS, no_headers),
    "queue arguments change within a connection": (
        "RabbitMQ ignores what is asked for after the first time",
        error("precondition_failed", "x-max-length"),
    ),
    "subscription dies with its queue": (
        "it says why",
        error("Server cancelled subscription", "queue is gone"),
    ),
    "x-priority": ("RabbitMQ 3.10 takes no numbers from headers", header("subscription", "2")),
    **{
        f"connect heart-beat bad '{pair}'": (_SAYS_NOTHING, error("Invalid header", "heart-beat"))
        for pair in ("", "1", "a,b")
    },
    **{
        f"{case} bad": (_SAYS_NOTHING, error("Invalid header", name))
        for case, name in (
            ("subscribe prefetch-count", "prefetch-count"),
            ("priority", "priority"),
            ("timestamp", "timestamp"),
        )
    },
    "subscribe ack mode unknown": (_SAYS_NOTHING, error("Invalid header", "client-individual")),
    **{
        f"{command.lower()} bad id 'a@@b@@c'": (_SAYS_NOTHING, error("Invalid header", command))
        for command in ("ACK", "NACK")
    },
    **{
        name: (_CHANNEL, error("Message not found", "is not outstanding"))
        for name in ("ack in mode auto", "ack twice", "nack after ack")
    },
    **{
        f"properties from AMQP {version}": ("RabbitMQ leaves flags out", header("true", "true"))
        for version in ("1.0", "1.1", "1.2")
    },
    **{
        f"content-length '{length}'": (_CRASH, error("Malformed frame", "content-length"))
        for length in ("-1", "x", "", "1.0")
    },
}

_OWN = ("receipt", "transaction")


def comparable(seen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without what is everywhere otherwise, and means nothing.

    - An ERROR always ends the connection; RabbitMQ goes on behind some. It names the receipt that
      was asked for.
    - RabbitMQ hands `receipt` and `transaction` on with the message, and gives an empty body no
      content-length, and a message from STOMP without headers an empty table of them.
    """
    plain = {name: _comparable(one) for name, one in seen.items()}
    return {name: one for name, one in plain.items() if one}


def _comparable(one: dict[str, Any]) -> dict[str, Any]:
    plain = dict(one)
    if "errors" in one:
        plain.pop("closed", None)
        plain["errors"] = [
            [{"message": headers["message"]}, text.rstrip("\n")] for headers, text in one["errors"]
        ]
    if "messages" in one:
        plain["messages"] = [
            [
                {
                    key: item
                    for key, item in headers.items()
                    if key not in _OWN and (key, item) != ("content-length", "0")
                },
                text,
            ]
            for headers, text in one["messages"]
        ]
    if "events" in one:
        plain["events"] = [
            [name, fields, _without_own(properties), body]
            for name, fields, properties, body in (
                [*event, None, None][:4] for event in one["events"]
            )
        ]
    return plain


def _without_own(properties: dict[str, Any] | None) -> dict[str, Any]:
    plain = dict(properties or {})
    headers = {key: item for key, item in plain.pop("headers", {}).items() if key not in _OWN}
    return {**plain, **({"headers": headers} if headers else {})}


RANDOM = """What random sequences leave out, because it is meant to differ:

- Acknowledging subscriptions of both modes, or several in mode `client`, in one connection: there
  RabbitMQ takes an ACK to be for all of the connection.
- Acknowledging subscriptions without `prefetch-count`: RabbitMQ gives them that of the one before.
- Settling what an ended subscription had: RabbitMQ has forgotten it.
- BEGIN of a transaction that is open.
- Receipts of acknowledgements in transactions: RabbitMQ sends them at once.
- Other arguments than a connection gave a queue before, which RabbitMQ ignores.
- Colons and backslashes in headers, which 1.0 does not escape.
- Queues that refuse what is too much: RabbitMQ never answers then.
- Frames that are refused and would declare a queue: RabbitMQ may have declared it before.
- Whose turn it is among consumers of a queue that joined, left or were full: `only_turns`.
- Going on behind an error, and the receipt of a frame that was one.
"""

_SAME_ERRORS = {
    ("Processing error", "Invalid header"),
    # RabbitMQ asks its channel.
    ("precondition_failed", "Message not found"),
    ("precondition_failed", "Subscription not found"),
}


def same(wanted: Any, got: Any) -> bool:
    """Whether two observations of a random step, with what stands in the queues, are equal but
    for what is meant to differ.
    """
    (wanted_seen, wanted_counts), (got_seen, got_counts) = wanted, got
    for name, one in got_seen.items():
        refused = [headers.get("receipt-id") for headers, _ in one.get("errors", [])]
        _without_receipts(wanted_seen.get(name, {}), refused)
    wanted_seen, got_seen = comparable(wanted_seen), comparable(got_seen)
    for name in set(wanted_seen) & set(got_seen):
        ours, theirs = got_seen[name].get("errors"), wanted_seen[name].get("errors")
        if ours and theirs:
            pair = theirs[0][0]["message"], ours[0][0]["message"]
            if pair in _SAME_ERRORS:
                del got_seen[name]["errors"], wanted_seen[name]["errors"]
        elif ours and ours[0][0]["message"] in _CRASHES and wanted_seen[name].pop("closed", None):
            del got_seen[name]["errors"]
    return bool(wanted_seen == got_seen and wanted_counts == got_counts)


def _without_receipts(one: dict[str, Any], refused: list[str | None]) -> None:
    """RabbitMQ answers a frame with an ERROR and its RECEIPT as well."""
    left = [receipt for receipt in one.pop("receipts", []) if receipt not in refused]
    if left:
        one["receipts"] = left


def only_turns(wanted: Any, got: Any) -> bool:
    """Whether all that differs is which of several consumers got a message of a queue. Among those
    that joined, left or were full in between nobody promises an order of turns: the rest of the
    sequence means nothing then.
    """
    (wanted_seen, wanted_counts), (got_seen, got_counts) = wanted, got
    ours, theirs = _by_queue(got_seen), _by_queue(wanted_seen)
    rest = same((wanted_seen, wanted_counts), (got_seen, got_counts))
    return bool(ours) and ours == theirs and rest


def _by_queue(seen: dict[str, dict[str, Any]]) -> list[Any]:
    """Takes out the messages that came from queues that several may consume."""
    found: list[Any] = []
    for one in seen.values():
        messages = one.pop("messages", [])
        shared = [item for item in messages if item[0]["destination"].startswith("/queue/")]
        found += [[headers["destination"], text] for headers, text in shared]
        other = [item for item in messages if item not in shared]
        if other:
            one["messages"] = other
    return sorted(found)


_CRASHES = ("Malformed frame", "Bad command")
"""Errors of which RabbitMQ says nothing: it drops the socket."""
