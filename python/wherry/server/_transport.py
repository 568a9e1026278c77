"""What stands between a socket and a session: nothing, TLS, WebSocket, or WebSocket over TLS.

A transport is one connection's: bytes off the socket go in, what the session is to parse comes out,
and back. It knows no socket. A plain connection has none, so that its reads go straight into its
session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


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
