"""Clients for the server's tests: pika for what applications do, plain sockets for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import pika
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER = b"AMQP\x00\x00\x09\x01"


def connect(url: str, **options: Any) -> pika.BlockingConnection:
    """A pika connection that gives up soon."""
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = 5
    parameters.blocked_connection_timeout = 10
    parameters.stack_timeout = 10
    for name, value in options.items():
        setattr(parameters, name, value)
    return pika.BlockingConnection(parameters)


@contextlib.contextmanager
def channel(url: str, **options: Any) -> Iterator[Any]:
    """A channel on a connection of its own."""
    connection = connect(url, **options)
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


@contextlib.contextmanager
def asyncio_streams_closed() -> Iterator[None]:
    """Closes what asyncio's streams have opened meanwhile. aiormq 6, the last for Python 3.10,
    leaves its socket when the server closes the connection, and the test that the collector happens
    to run in would have to answer for that.
    """
    opened: list[asyncio.StreamWriter] = []

    class Noted(asyncio.StreamWriter):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            opened.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.streams, "StreamWriter", Noted)
        try:
            yield
        finally:
            for writer in opened:
                writer.close()


class Raw:
    """A socket that speaks AMQP frames: what no client library would send, or how fast."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self._received = b""

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def read(self, count: int) -> bytes:
        while len(self._received) < count:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"closed after {self._received!r}")
            self._received += data
        data, self._received = self._received[:count], self._received[count:]
        return data

    def frame(self) -> tuple[int, int, bytes]:
        """Type, channel and payload of the next frame."""
        kind, channel, size = struct.unpack(">BHI", self.read(7))
        payload = self.read(size)
        assert self.read(1) == b"\xce"
        return kind, channel, payload

    def method(self) -> tuple[int, int]:
        """Class and number of the next frame, a method."""
        kind, _, payload = self.frame()
        assert kind == 1
        return struct.unpack(">HH", payload[:4])

    def handshake(
        self, vhost: str = "/", user: str = "guest", password: str = "guest", heartbeat: int = 0
    ) -> None:
        """Up to connection.open-ok."""
        self.start()
        self.start_ok(user, password)
        assert self.method() == (10, 30)  # tune
        tune_ok = struct.pack(">HIH", 2047, 131072, heartbeat)
        self.send(method(0, 10, 31, tune_ok), method(0, 10, 40, short(vhost) + b"\x00\x00"))
        assert self.method() == (10, 41)

    def start(self) -> None:
        self.send(HEADER)
        assert self.method() == (10, 10)

    def start_ok(self, user: str, password: str, mechanism: str = "PLAIN") -> None:
        properties = b"\x00\x00\x00\x00"
        response = long(f"\x00{user}\x00{password}".encode())
        self.send(method(0, 10, 11, properties + short(mechanism) + response + short("en_US")))

    def is_closed(self) -> bool:
        """Whether the server closes; waits for it."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for what the server does by itself. `condition` asks the server, which gives it a
    turn.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"


def short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, class_id: int, number: int, arguments: bytes = b"") -> bytes:
    return frame(1, channel, struct.pack(">HH", class_id, number) + arguments)
