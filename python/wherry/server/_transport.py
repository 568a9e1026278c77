"""What stands between a socket and a session: nothing, TLS, WebSocket, or WebSocket over TLS.

A transport is one connection's: bytes off the socket go in, what the session is to parse comes out,
and back. It knows no socket. A plain connection has none, so that its reads go straight into its
session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.server._hub import Hub
    from wherry.server._listener import Endpoint


_NOTHING = memoryview(b"")


class TransportFailed(Exception):
    """The peer did what ends the connection. What there is to tell it is pending."""

    def __init__(self, why: str, *, answered: bool = False, notable: bool = False) -> None:
        """`answered`: the peer is told, and gets time to read it; `notable`: worth a warning."""
        super().__init__(why)
        self.answered = answered
        self.notable = notable


class Transport(Protocol):
    """One connection's. A peer at fault is TransportFailed."""

    @property
    def read_bytes_max(self) -> int:
        """How much it takes off the socket at a time, so that others have their turn."""

    @property
    def established(self) -> bool:
        """Its handshake is over: a session may begin."""

    @property
    def unfinished(self) -> bool:
        """It has taken more than one turn is for: it wants another, with no new bytes."""

    def turn(self) -> None:
        """A turn begins: what it may do in one is counted from here."""

    def receive(self, data: memoryview, buffer: memoryview) -> Iterator[int]:
        """Take bytes off the socket; put what is for the session into the buffer, time and again:
        how many bytes each time. 0 is the peer's goodbye. `data` may lie in `buffer`.
        """

    def encode(self, data: bytes) -> bytes:
        """What to send for these bytes of the session, behind what is pending."""

    def pending(self, *, busy: bool = False) -> bytes:
        """What the transport itself has to send; `busy`: the socket takes nothing now, so what can
        wait shall.
        """

    def goodbye(self, *, going_away: bool) -> bytes:
        """The end of what we send; `going_away` when it is the server that ends."""

    def certificate_name(self, login_from: str) -> str | None:
        """The user that the client's verified certificate names, if there is one."""


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


def transport(hub: Hub, endpoint: Endpoint) -> Transport | None:
    """For a connection that was accepted there; None if its bytes are the session's."""
    secure = None
    if endpoint.context is not None:
        from wherry.server._tls import Secure

        secure = Secure(endpoint.context)
    if endpoint.path is None:
        return secure
    # Loaded with the first client, as few servers need it.
    from wherry.server._websocket import WebSocket

    assert hub.origins is not None
    web = WebSocket(endpoint.path, hub.origins, hub.websocket_bytes_max)
    return web if secure is None else Layered(secure, web)
