"""A TLS client that does what Python's `ssl` does not let it do, with OpenSSL by ctypes.

It is the library that Python itself has loaded, so there is one wherever the tests run.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_TLS_1_2, _TLS_1_3 = 0x0303, 0x0304
_SET_MIN, _SET_MAX = 123, 124  # of SSL_CTX_ctrl
UPDATE_AND_ASK = 1


def library() -> ctypes.CDLL:
    """The libssl of this process; skips where it cannot be found."""
    name = ctypes.util.find_library("ssl")
    if name is None:
        pytest.skip(f"no shared library of {ssl.OPENSSL_VERSION}")
    found = ctypes.CDLL(name)
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(found, function).restype = ctypes.c_void_p
    return found


class Client:
    """One connection, through the TLS handshake. Close it, or use it as a context manager."""

    def __init__(self, host: str, port: int, *, version: int = _TLS_1_3) -> None:
        self._library = library()
        self.socket = socket.create_connection((host, port), 10)
        self.socket.settimeout(None)  # OpenSSL waits by itself
        self._context = ctypes.c_void_p(
            self._library.SSL_CTX_new(ctypes.c_void_p(self._library.TLS_client_method()))
        )
        for command in (_SET_MIN, _SET_MAX):
            self._library.SSL_CTX_ctrl(self._context, command, ctypes.c_long(version), None)
        self._ssl = ctypes.c_void_p(self._library.SSL_new(self._context))
        self._library.SSL_set_fd(self._ssl, self.socket.fileno())
        assert self._library.SSL_connect(self._ssl) == 1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.SSL_free(self._ssl)
        self._library.SSL_CTX_free(self._context)
        with contextlib.suppress(OSError):
            self.socket.close()

    def write(self, data: bytes) -> bool:
        """False when the connection has ended."""
        return int(self._library.SSL_write(self._ssl, data, len(data))) == len(data)

    def read(self) -> bytes:
        """What is there, at least a byte; nothing at the end."""
        buffer = ctypes.create_string_buffer(1 << 14)
        count = self._library.SSL_read(self._ssl, buffer, len(buffer))
        return buffer.raw[: max(count, 0)]

    def update_key(self) -> bool:
        """New keys for both directions. False when the connection has ended."""
        return (
            self._library.SSL_key_update(self._ssl, UPDATE_AND_ASK) == 1
            and self._library.SSL_do_handshake(self._ssl) == 1
        )

    def renegotiate(self) -> bool:
        """A second handshake on the same connection, as TLS 1.2 had it."""
        return (
            self._library.SSL_renegotiate(self._ssl) == 1
            and self._library.SSL_do_handshake(self._ssl) == 1
        )


@contextlib.contextmanager
def client_of_tls_1_2(host: str, port: int) -> Iterator[Client]:
    with Client(host, port, version=_TLS_1_2) as client:
        yield client
