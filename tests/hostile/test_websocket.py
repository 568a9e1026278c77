"""Bytes that are no WebSocket, or are too much of it, where browsers connect.

Beside all of them a client of STOMP goes on with its round trips.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from hostile.bystander import StompBystander
from hostile.conftest import HANDSHAKE_SECONDS, MESSAGE_BYTES_MAX
from hostile.test_resources import GROWTH_BYTES_MAX, resident_bytes
from wire.stomp import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostile.bystander import Bystander
    from wire.brokers import Broker

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

LOGIN = encode("CONNECT", {"accept-version": "1.2", "login": "guest", "passcode": "guest"})


def frame(kind: int, payload: bytes = b"", *, last: bool = True, mask: bool = True) -> bytes:
    first = kind | (0x80 if last else 0)
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack(">BB", first, masked | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack(">BBH", first, masked | 126, len(payload))
    else:
        head = struct.pack(">BBQ", first, masked | 127, len(payload))
    # Masked with nothing: what a peer chooses is its own affair.
    return head + (bytes(4) if mask else b"") + payload


def announced(size: int) -> bytes:
    return struct.pack(">BBQ", 0x80 | TEXT, 0xFF, size) + bytes(4) + b"x" * 100


class WebPeer:
    """A socket that is told what to say."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.socket = socket.create_connection((broker.host, broker.web_port), 10)
        self.input = b""

    def __enter__(self) -> WebPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self.input += data
        return bool(data)

    def request(self, **changed: str | None) -> bytes:
        headers: dict[str, str | None] = {
            "Host": f"{self.broker.host}:{self.broker.web_port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **{name.replace("_", "-"): item for name, item in changed.items()},
        }
        line = headers.pop("request", None) or "GET /ws HTTP/1.1"
        lines = [line, *(f"{name}: {item}" for name, item in headers.items() if item is not None)]
        return "\r\n".join([*lines, "", ""]).encode()

    def upgrade(self) -> None:
        self.raw(self.request())
        while b"\r\n\r\n" not in self.input:
            assert self.more(), "closed"
        head, _, self.input = self.input.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    def next(self) -> tuple[int, bytes]:
        """Kind and payload of the next frame; kind -1 is the end."""
        while True:
            if len(self.input) >= 2:
                size, at = self.input[1] & 127, 2
                if size >= 126:
                    width = 2 if size == 126 else 8
                    size, at = int.from_bytes(self.input[2 : 2 + width], "big"), 2 + width
                if len(self.input) >= at + size:
                    kind, payload = self.input[0] & 15, self.input[at : at + size]
                    self.input = self.input[at + size :]
                    return kind, payload
            if not self.more():
                return -1, b""

    def log_in(self) -> None:
        self.upgrade()
        self.raw(frame(TEXT, LOGIN))
        assert self.next()[1].startswith(b"CONNECTED")

    def goodbye(self) -> tuple[int, bytes]:
        """The code of the close (0: there was none), and what STOMP said before it."""
        said = b""
        while True:
            kind, payload = self.next()
            if kind in (TEXT, BINARY):
                said += payload
            if kind == CLOSE:
                return int.from_bytes(payload[:2], "big"), said
            if kind == -1:
                return 0, said


@pytest.fixture(autouse=True)
def bystander(
    broker: Broker, record_property: pytest.RecordProperty
) -> Iterator[Bystander]:  # in the place of AMQP's
    with StompBystander(broker) as beside:
        yield beside
    record_property("bystander_p99_ms", round(beside.p99 * 1000, 2))
    record_property("bystander_median_ms", round(beside.median * 1000, 2))


PARTS = frame(TEXT, b"SEND\n\n", last=False) + frame(CONTINUATION, b"x" * 60_000, last=False) * 20

ATTACKS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "frame of 2^62 bytes announced": (announced(1 << 62), (1000, 1009)),
    "frame of 2^64-1 bytes announced": (announced(2**64 - 1), (1002, 1009)),
    "frame above the limit": (announced(MESSAGE_BYTES_MAX * 9), (1000, 1009)),
    "fragments without end": (PARTS, (1000, 1009)),
    "frame without a mask": (frame(TEXT, b"\n", mask=False), (1002,)),
    "reserved bit": (b"\xc1" + frame(TEXT, b"\n")[1:], (1002,)),
    "unknown kind": (frame(3, b"x"), (1002,)),
    "unknown control kind": (frame(11, b"x"), (1002,)),
    "ping in fragments": (frame(PING, b"x", last=False), (1002,)),
    "ping of 126 bytes": (frame(PING, b"x" * 126), (1002,)),
    "close of one byte": (frame(CLOSE, b"x"), (1002,)),
    "close with a code that is none": (frame(CLOSE, b"\x00\x05"), (1002,)),
    "continuation of nothing": (frame(CONTINUATION, b"x"), (1002,)),
    "message within a message": (frame(TEXT, b"a", last=False) + frame(TEXT, b"b"), (1002,)),
    "text that is not UTF-8": (frame(TEXT, b"\xff\xfe"), (1007,)),
    "header of STOMP without end": (frame(TEXT, b"SEND\na:" + b"x" * 200_000), (1000, 1009)),
    "garbage": (bytes(range(256)) * 16, (1002, 1007, 1009)),
}


@pytest.mark.parametrize("logged_in", [False, True], ids=["before login", "after login"])
@pytest.mark.parametrize("name", ATTACKS)
def test_frames(name: str, logged_in: bool, broker: Broker) -> None:
    data, codes = ATTACKS[name]
    with WebPeer(broker) as peer:
        if logged_in:
            peer.log_in()
        else:
            peer.upgrade()
        peer.raw(data)
        code, said = peer.goodbye()
        # What comes of a frame goes on to STOMP, which may find the first fault: then it says so.
        assert code in codes, said
        assert code != 1000 or said.startswith(b"ERROR"), said


BAD_REQUESTS: dict[str, dict[str, str | None]] = {
    "no key": {"Sec_WebSocket_Key": None},
    "old version": {"Sec_WebSocket_Version": "8"},
    "no upgrade": {"Upgrade": None},
    "another path": {"request": "GET /other HTTP/1.1"},
    "POST": {"request": "POST /ws HTTP/1.1"},
    "foreign page": {"Origin": "https://evil.example"},
    "no host": {"Host": None},
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_requests(name: str, broker: Broker) -> None:
    with WebPeer(broker) as peer:
        peer.raw(peer.request(**BAD_REQUESTS[name]))
        while peer.more():
            pass
        assert peer.input.startswith(b"HTTP/1.1 4"), peer.input


@pytest.mark.parametrize(
    "data",
    [
        b"GET /ws HTTP/1.1\r\n" + b"x: " + b"y" * 200_000,
        b"GET /" + b"x" * 200_000,
        b"GET /ws HTTP/1.1\r\n" + b"x: y\r\n" * 50_000,
        b"\0" * 1000,
        LOGIN * 100,
    ],
)
def test_requests_without_end(data: bytes, broker: Broker) -> None:
    before = resident_bytes(broker)
    with WebPeer(broker) as peer:
        started = time.monotonic()
        peer.raw(data)
        while peer.more():
            pass
        assert time.monotonic() - started < HANDSHAKE_SECONDS + 5
        assert b" 101 " not in peer.input
    assert resident_bytes(broker) - before < 32 << 20


def test_silent_browsers_are_dropped(broker: Broker) -> None:
    peers = [WebPeer(broker) for _ in range(60)]
    for number, peer in enumerate(peers):
        if number % 3 == 1:
            peer.raw(peer.request()[:40])
        elif number % 3 == 2:
            peer.upgrade()
    started = time.monotonic()
    for peer in peers:
        while peer.more():
            pass
        peer.socket.close()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + 10


def test_empty_fragments_for_ever(broker: Broker) -> None:
    """They carry nothing on: the connection lives, or ends with a code."""
    with WebPeer(broker) as peer:
        peer.log_in()
        peer.raw(frame(TEXT, b"", last=False) + frame(CONTINUATION, last=False) * 50_000)
        peer.raw(frame(CONTINUATION, encode("BEGIN", {"transaction": "t", "receipt": "r"})))
        kind, payload = peer.next()
        assert payload.startswith(b"RECEIPT") or kind == CLOSE, payload


def test_pings_whose_answers_nobody_reads(broker: Broker) -> None:
    """They are many more than are answered, and stand in nobody's way."""
    before = resident_bytes(broker)
    with WebPeer(broker) as peer:
        peer.log_in()
        peer.socket.settimeout(2)
        with contextlib.suppress(TimeoutError):
            for _ in range(60):
                peer.raw(frame(PING, b"x" * 125) * 1000)
        assert resident_bytes(broker) - before < GROWTH_BYTES_MAX / 2
