"""What can go wrong between an application and its broker, on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from wherry.server._server import ThreadServer


@final
class Faults:
    """Makes the broker misbehave in ways that it is allowed to: `broker.faults`. All methods may be
    called from any thread, and take effect before they return.
    """

    def __init__(self, server: ThreadServer) -> None:
        self._server = server

    def refuse_confirms(self, count: int) -> None:
        """Answer the next `count` publishes on confirm channels with nack. They are done all the
        same, as with a broker that died between storing and confirming.
        """
        self._server._hub.front.refuse_confirms(count)

    def deliver_twice(self, count: int) -> None:
        """Follow each of the next `count` deliveries with a duplicate marked as redelivered."""
        self._server._hub.front.deliver_twice(count)

    def drop_connections(self, virtual_host: str | None = None) -> int:
        """Cut connections as a crash does: the clients see a reset. What they had not acknowledged
        is ready again when this returns.

        Args:
            virtual_host: only those to this one.

        Returns:
            how many there were.
        """
        return self._server._call(lambda: self._server._hub.drop_connections(virtual_host))

    def pause_reading(self) -> None:
        """Read nothing any more from the connections there are, as a broker that hangs. Deliveries
        go on; heartbeats are not missed.
        """
        self._server._call(lambda: self._server._hub.hold(True))

    def resume_reading(self) -> None:
        """Go on reading."""
        self._server._call(lambda: self._server._hub.hold(False))

    def clear(self) -> None:
        """No faults any more."""
        self.refuse_confirms(0)
        self.deliver_twice(0)
        self.resume_reading()
