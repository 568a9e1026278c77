"""The server's loop in a trio program: one task among others.

On Linux all sockets hang on one epoll descriptor, and a task watches only that. Elsewhere each
socket has a task, and a server with a thread of its own runs on trio there, too.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from wherry.server._poll import NOT_AT_ALL, READ, WRITE, Epoll, number_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from wherry.server._loop import Loop, Poller, Source

T = TypeVar("T")

# Other tasks of the loop wait at most about this long while sockets keep being ready. Well above
# what one turn of trio's scheduler costs (some 10 us), well below what a user of the loop notices.
_TURN_NS = 2_000_000


class EpollPoller(Epoll):
    """All sockets on one epoll descriptor, which a task watches."""

    def __init__(self) -> None:
        super().__init__()
        # Between two rounds of `run`: only a readable descriptor gets it going.
        self._parked = False

    def again(self, source: Source) -> None:
        super().again(source)
        if self._parked:
            self.wake()

    async def run(self) -> None:
        clock = time.perf_counter_ns
        while True:
            if self._again:
                await checkpoint()
            else:
                self._parked = True
                await wait_readable(self._epoll.fileno())
                self._parked = False
            # As long as there is something to do, no turn of the scheduler is spent.
            turn_ends = clock() + _TURN_NS
            while self.serve(NOT_AT_ALL) and clock() < turn_ends:
                pass


class _Watched:
    """A socket that has tasks: one for each condition that somebody waits for."""

    __slots__ = ("reader", "source", "what", "writer")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.what = 0
        self.reader: trio.CancelScope | None = None
        self.writer: trio.CancelScope | None = None


class TaskPoller:
    """A task for each socket and condition: for systems without epoll."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._watched: dict[int, _Watched] = {}
        self._again: deque[Source] = deque()
        self._more = trio.Event()

    def add(self, descriptor: socket.socket | int, source: Source, what: int) -> None:
        number = number_of(descriptor)
        self._watched[number] = _Watched(source)
        self.change(number, what)

    def change(self, descriptor: socket.socket | int, what: int) -> None:
        number = number_of(descriptor)
        watched = self._watched[number]
        watched.what = what
        if self._nursery is None:
            return  # `run` starts them
        if what & READ and watched.reader is None:
            watched.reader = trio.CancelScope()
            self._nursery.start_soon(self._read, number, watched, watched.reader)
        elif not what & READ and watched.reader is not None:
            watched.reader.cancel()
            watched.reader = None
        if what & WRITE and watched.writer is None:
            watched.writer = trio.CancelScope()
            self._nursery.start_soon(self._write, number, watched, watched.writer)
        elif not what & WRITE and watched.writer is not None:
            watched.writer.cancel()
            watched.writer = None

    def remove(self, descriptor: socket.socket | int) -> None:
        number = number_of(descriptor)
        watched = self._watched.get(number)
        if watched is not None:
            if self._nursery is not None:
                self.change(number, 0)
                notify_closing(number)
            del self._watched[number]

    def count_with(self, traffic: Callable[[], tuple[int, int]]) -> None:
        """It does not matter here: trio waits."""

    def again(self, source: Source) -> None:
        self._again.append(source)
        self._more.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for number, watched in list(self._watched.items()):
                    self.change(number, watched.what)
                while True:
                    await self._more.wait()
                    await checkpoint()
                    self._more = trio.Event()
                    for _ in range(len(self._again)):
                        self._again.popleft().on_again()
            finally:
                self._nursery = None

    async def _read(self, number: int, watched: _Watched, scope: trio.CancelScope) -> None:
        with scope:
            while not scope.cancel_called:
                try:
                    await wait_readable(number)
                except trio.ClosedResourceError:
                    return
                watched.source.on_ready(READ)

    async def _write(self, number: int, watched: _Watched, scope: trio.CancelScope) -> None:
        with scope:
            while not scope.cancel_called:
                try:
                    await wait_writable(number)
                except trio.ClosedResourceError:
                    return
                watched.source.on_ready(WRITE)

    def close(self) -> None:
        """Nothing is held."""


class _Event:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, seconds: float | None = None) -> bool:
        with trio.move_on_after(float("inf") if seconds is None else seconds):
            await self._event.wait()
        return self._event.is_set()


class TrioLoop:
    """The trio run of whoever makes it. Tasks are system tasks, not those of a nursery around its
    maker's block: the maker's exceptions come out as they went in, and the server serves until it
    was closed in order.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def now(self) -> float:
        return trio.current_time()

    def poller(self) -> Poller:
        return EpollPoller() if sys.platform == "linux" else TaskPoller()

    def event(self) -> _Event:
        return _Event()

    def limiter(self, count: int) -> trio.CapacityLimiter:
        return trio.CapacityLimiter(count)

    def spawn(self, function: Callable[..., Awaitable[None]], *args: object) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function(*args)

        trio.lowlevel.spawn_system_task(run, name="wherry server")
        return scope

    def soon(self, function: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return False
        return True

    def protect(self, function: Callable[..., None]) -> None:
        # Marks the function itself.
        trio.lowlevel.enable_ki_protection(function)

    def on_signals(self, numbers: Iterable[int], callback: Callable[[int], None]) -> None:
        self.spawn(self._signals, numbers, callback)

    async def _signals(self, numbers: Iterable[int], callback: Callable[[int], None]) -> None:
        with trio.open_signal_receiver(*numbers) as signals:
            async for number in signals:
                callback(number)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def checkpoint(self) -> None:
        await checkpoint()

    async def in_thread(
        self,
        function: Callable[..., T],
        *args: object,
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        return await trio.to_thread.run_sync(
            function, *args, limiter=limiter, abandon_on_cancel=True
        )


def run(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """`function(loop, *args)` on a trio of its own."""

    async def main() -> T:
        loop: Loop = TrioLoop()
        return await function(loop, *args)

    return trio.run(main)
