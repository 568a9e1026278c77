"""Which transports a connection has, one inside the other, by where it was accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.server._listener import Endpoint
    from wherry.server._origins import Origins
    from wherry.server._transport import Transport

_NOTHING = memoryview(b"")


class Layered:
    """One transport inside another."""

    __slots__ = ("_inner", "_outer", "unfinished")

    def __init__(self, outer: Transport, inner: Transport) -> None:
        self._outer = outer
        self._inner = inner
        self.unfinished = False

    @property
    def read_bytes_max(self) -> int:
        return min(self._outer.read_bytes_max, self._inner.read_bytes_max)

    @property
    def established(self) -> bool:
        return self._inner.established

    def turn(self) -> None:
        self._outer.turn()
        self._inner.turn()

    def receive(self, data: memoryview, buffer: memoryview) -> Iterator[int]:
        assert not (data and self._inner.unfinished), "it wants another turn first"
        # Until both are through: what the outer one has decrypted by then waits inside it.
        self.unfinished = False
        if self._inner.unfinished:
            yield from self._inner.receive(_NOTHING, buffer)
        if not self._inner.unfinished:
            for count in self._outer.receive(data, buffer):
                if not count:
                    yield 0
                    return
                yield from self._inner.receive(buffer[:count], buffer)
                if self._inner.unfinished:
                    break
        self.unfinished = self._inner.unfinished

    def encode(self, data: bytes) -> bytes:
        return self._outer.encode(self._inner.encode(data))

    def pending(self, *, busy: bool = False) -> bytes:
        inner = self._inner.pending(busy=busy)
        return self._outer.encode(inner) if inner else self._outer.pending(busy=busy)

    def goodbye(self, *, going_away: bool) -> bytes:
        last = self._outer.encode(self._inner.goodbye(going_away=going_away))
        return last + self._outer.goodbye(going_away=going_away)

    def certificate_name(self, login_from: str) -> str | None:
        return self._outer.certificate_name(login_from)


def transport(
    endpoint: Endpoint, origins: Origins | None, websocket_bytes_max: int
) -> Transport | None:
    """For a connection that was accepted there; None if its bytes are the session's.

    Args:
        origins: which web pages may connect; None if the server has no WebSocket address.
        websocket_bytes_max: the longest message of a WebSocket.
    """
    secure = None
    if endpoint.context is not None:
        from wherry.server._tls import Secure

        secure = Secure(endpoint.context)
    if endpoint.path is None:
        return secure
    # Loaded with the first client, as few servers need it.
    from wherry.server._websocket import WebSocket

    assert origins is not None
    web = WebSocket(endpoint.path, origins, websocket_bytes_max)
    return web if secure is None else Layered(secure, web)
