"""Watching how many consumers queues have, for async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from wherry import _core

if TYPE_CHECKING:
    from types import TracebackType

    from wherry._types import ConsumerCount
    from wherry._virtual_host import VirtualHost
    from wherry._waits import Waits


@final
class ConsumerWatch:
    """An async iterator of `ConsumerCount`. Made by `async with broker.watch_consumers() as
    counts:`.
    """

    __slots__ = ("_waits", "_watch")

    def __init__(self, host: VirtualHost) -> None:
        self._waits: Waits = host._waits
        self._watch = _core.ConsumerWatch(host._core, host._waits.port)

    async def take(self, max: int = 100) -> list[ConsumerCount]:
        """Take what has changed, at least one queue and at most `max`; wait for the first one.

        If it is cancelled, nothing was taken.

        Raises:
            UnknownVirtualHost: the virtual host was deleted, and all was taken.
            BrokerClosed: the broker was closed.
            WrongLoop: called on another event loop than the broker's.
        """
        from wherry._types import ConsumerCount

        await self._waits.turn()
        while True:
            taken = self._watch.take_nowait(max)
            if taken or max <= 0:
                return [ConsumerCount(queue, consumers) for queue, consumers in taken]
            await self._waits.ready(self._watch)

    def __aiter__(self) -> ConsumerWatch:
        return self

    async def __anext__(self) -> ConsumerCount:
        """The next queue whose number of consumers has changed; wait for one."""
        return (await self.take(1))[0]


@final
class Watching:
    """What `watch_consumers` returns: enter it to watch, leave it to stop."""

    __slots__ = ("_host", "_watch")

    def __init__(self, host: VirtualHost) -> None:
        self._host = host
        self._watch: ConsumerWatch | None = None

    async def __aenter__(self) -> ConsumerWatch:
        await self._host._waits.turn()
        self._watch = ConsumerWatch(self._host)
        return self._watch

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._watch is not None
        self._watch._watch._cancel()
