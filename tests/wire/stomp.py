"""A peer that says in STOMP exactly what a test tells it to, and shows every frame that comes back.

As `wire.peer` is for AMQP: no client's manners, one thread.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.line import ANSWER_SECONDS_MAX, Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Headers = Mapping[str, object] | Iterable[tuple[str, object]]

_ESCAPES = {
    "1.1": {"\\": "\\\\", "\n": "\\n", ":": "\\c"},
    "1.2": {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"},
}


@dataclass
class Frame:
    """One frame, or the end of the connection: then the command is `eof`."""

    command: str
    pairs: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The first of repeated headers counts."""
        return dict(reversed(self.pairs))

    @property
    def text(self) -> str:
        return self.body.decode()


def encode(
    command: str, headers: Headers = (), body: bytes = b"", *, version: str = "1.0"
) -> bytes:
    """A frame. A body with NUL gets a content-length, if `headers` has none."""
    pairs = list(headers.items() if hasattr(headers, "items") else headers)
    if b"\0" in body and not any(name == "content-length" for name, _ in pairs):
        pairs.append(("content-length", len(body)))
    table = str.maketrans({} if command in ("CONNECT", "STOMP") else _ESCAPES.get(version, {}))
    lines = [command]
    lines += [f"{name.translate(table)}:{str(value).translate(table)}" for name, value in pairs]
    return "\n".join([*lines, "", ""]).encode() + body + b"\0"


class StompPeer(Line[Frame]):
    """A socket to a broker. Close it, or use it as a context manager."""

    def __init__(self, host: str, port: int, *, timeout: float = ANSWER_SECONDS_MAX) -> None:
        super().__init__(host, port, timeout=timeout)
        self.version = "1.0"
        self.beats = 0
        """Line ends that came between frames."""
        self._receipts = itertools.count(1)

    # What goes out.

    def send(self, command: str, headers: Headers = (), body: bytes = b"") -> None:
        self.raw(encode(command, headers, body, version=self.version))

    def call(self, command: str, headers: Headers = (), body: bytes = b"") -> Frame:
        """Send with a receipt, and return it, or the error. Messages on the way are dropped."""
        pairs = list(headers.items() if hasattr(headers, "items") else headers)
        receipt = f"call-{next(self._receipts)}"
        self.send(command, [*pairs, ("receipt", receipt)], body)
        while True:
            frame = self.read()
            if frame.command in ("ERROR", "eof") or frame.headers.get("receipt-id") == receipt:
                return frame

    def connect(
        self, version: str = "1.2", *, login: str = "guest", passcode: str = "guest", **more: object
    ) -> Frame:
        """CONNECT; returns CONNECTED, or what came instead."""
        headers = {"accept-version": version, "login": login, "passcode": passcode, **more}
        self.send("CONNECT", {name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.read()
        if answer.command == "CONNECTED":
            self.version = answer.headers.get("version", "1.0")
        return answer

    # What comes in.

    def until(self, *commands: str) -> Frame:
        """Drop frames up to the first of these; the end of the connection fails unless it is
        named.
        """
        while True:
            frame = self.read()
            if frame.command in commands:
                return frame
            assert frame.command != "eof", f"the connection ended while waiting for {commands}"

    def _eof(self) -> Frame:
        return Frame("eof", [], bytes(self._input))

    def _parse(self) -> Frame | None:
        data = self._input
        while data[:1] == b"\n":
            del data[:1]
            self.beats += 1
        head_end = data.find(b"\n\n")
        if head_end < 0:
            return None
        command, *lines = bytes(data[:head_end]).decode().split("\n")
        pairs = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"no header: {line!r}"
            pairs.append((self._unescape(name, command), self._unescape(value, command)))
        length = dict(reversed(pairs)).get("content-length")
        start = head_end + 2
        end = data.find(b"\0", start) if length is None else start + int(length)
        if end < 0 or len(data) <= end:
            return None
        assert data[end] == 0, "no NUL at the end of a frame"
        body = bytes(data[start:end])
        del data[: end + 1]
        return Frame(command, pairs, body)

    def _unescape(self, text: str, command: str) -> str:
        meanings = {code: plain for plain, code in _ESCAPES.get(self.version, {}).items()}
        if command == "CONNECTED" or not meanings:
            return text
        plain, at = "", 0
        while at < len(text):
            code = text[at : at + 2]
            if text[at] == "\\":
                assert code in meanings, f"undefined escape {code!r} in {text!r}"
                plain, at = plain + meanings[code], at + 2
            else:
                plain, at = plain + text[at], at + 1
        return plain


def connect(host: str, port: int, version: str = "1.2", **options: object) -> StompPeer:
    """A peer that is logged in."""
    peer = StompPeer(host, port)
    answer = peer.connect(version, **options)  # type: ignore[arg-type]
    assert answer.command == "CONNECTED", answer
    return peer
