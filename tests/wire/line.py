"""A socket to a broker that says exactly what a test tells it to, whatever the protocol. No
client's manners, one thread.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

ANSWER_SECONDS_MAX = 10.0
"""How long an answer may take before a test fails."""

T = TypeVar("T")


class Silence(Exception):
    """Nothing came in the time allowed."""


class Line(Generic[T]):
    """Bytes out, and what the other side says, one at a time. Close it, or use it as a context
    manager.
    """

    def __init__(self, host: str, port: int, *, timeout: float = ANSWER_SECONDS_MAX) -> None:
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.ended = False
        self._input = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close so that the other side sees a reset, as when a process is killed with data
        unread.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def raw(self, data: bytes) -> None:
        """Send bytes as they are; a peer that has gone is found out when its answer is read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.settimeout(self.timeout)
            self.socket.sendall(data)

    def read(self, timeout: float | None = None) -> T:
        """The next one; `Silence` if there is none in `timeout` seconds."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            one = self._parse()
            if one is not None:
                return one
            if self.ended:
                return self._eof()
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 18)
            except TimeoutError:
                raise Silence from None
            except ConnectionResetError:
                data = b""
            if data:
                self._input += data
            else:
                self.ended = True

    def _parse(self) -> T | None:
        """The next one in `_input`, cut off there; None if it is not whole."""
        raise NotImplementedError

    def _eof(self) -> T:
        """What stands for the end of the connection."""
        raise NotImplementedError
