"""Which sockets can be read or written: one watcher for all sockets of a server, under trio.

On Linux all sockets hang on one epoll descriptor and trio watches only that: a
busy server handles many events in one turn of the scheduler, and an idle connection costs no task.
Where the thread is the server's own, trio is a guest of that epoll instead (`_host`).
Elsewhere each socket has a task. Everything here runs on the loop's thread.

A source is told again as long as its condition holds (level-triggered): it may do a bounded amount
of work each time. What has more to do without waiting for its socket asks for another turn with
`again`.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

if TYPE_CHECKING:
    import socket

READ = 1
WRITE = 2
# The connection is gone in both directions. Told even to those who want neither of the others.
HANGUP = 4

# Other tasks of the loop wait at most about this long while sockets keep being ready. Well above
# what one turn of trio's scheduler costs (some 10 us), well below what a user of the loop notices.
_TURN_NS = 2_000_000

# Events fetched by one system call. More only makes the list longer.
_EVENTS_MAX = 256

# Of the last waits that are remembered (8), so many must have been short for the next one to be a
# busy one. Few, as a stream of messages that come evenly has outliers; more than one or two, which
# any exchange of a few messages has.
_WAITS = 0xFF
_SHORT_WAITS_MIN = 4


class Source(Protocol):
    """Whoever is told that its socket is ready."""

    def on_ready(self, what: int) -> None:
        """Some of READ, WRITE, HANGUP. Must not raise."""

    def on_again(self) -> None:
        """The turn it asked for. Must not raise."""


class Poller(Protocol):
    """Watches sockets."""

    def add(self, descriptor: socket.socket | int, source: Source, what: int) -> None:
        """Begin to watch. `what` is READ, WRITE, both or 0."""

    def change(self, descriptor: socket.socket | int, what: int) -> None:
        """Watch for something else from now on."""

    def remove(self, descriptor: socket.socket | int) -> None:
        """Watch no more. Call it before the descriptor is closed."""

    def again(self, source: Source) -> None:
        """Call its `on_again` after others had their turn."""

    async def run(self) -> None:
        """Tell sources what is ready, until cancelled."""

    def close(self) -> None:
        """Give the descriptors back. `run` is over."""


def _number(descriptor: socket.socket | int) -> int:
    return descriptor if isinstance(descriptor, int) else descriptor.fileno()


class Epoll:
    """Sockets on one epoll descriptor, and sources that asked for another turn."""

    def __init__(self, *, busy_wait_ns: int = 0) -> None:
        self._busy_wait_ns = busy_wait_ns
        # The last waits, a bit each: was it shorter than that?
        self._short_waits = 0
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._again: deque[Source] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._masks = {
            0: 0,
            READ: select.EPOLLIN,
            WRITE: select.EPOLLOUT,
            READ | WRITE: select.EPOLLIN | select.EPOLLOUT,
        }

    def add(self, descriptor: socket.socket | int, source: Source, what: int) -> None:
        number = _number(descriptor)
        self._epoll.register(number, self._masks[what])
        self._sources[number] = source

    def change(self, descriptor: socket.socket | int, what: int) -> None:
        self._epoll.modify(_number(descriptor), self._masks[what])

    def remove(self, descriptor: socket.socket | int) -> None:
        number = _number(descriptor)
        if self._sources.pop(number, None) is not None:
            self._epoll.unregister(number)

    def again(self, source: Source) -> None:
        self._again.append(source)

    def wake(self) -> None:
        """Let a `serve` that waits come back. From any thread."""
        os.eventfd_write(self._wake, 1)

    def serve(self, *, wait: bool) -> bool:
        """Serve what is ready now; false when nothing was.

        Args:
            wait: if nothing is, wait until something is, or until `wake`.
        """
        again = self._again
        events = self._wait() if wait and not again else self._epoll.poll(0, _EVENTS_MAX)
        sources = self._sources
        for number, mask in events:
            source = sources.get(number)
            if source is None:
                # One that an earlier event of this pass removed; or our own.
                if number == self._wake:
                    os.eventfd_read(self._wake)
                continue
            what = 0
            if mask & select.EPOLLIN:
                what = READ
            if mask & select.EPOLLOUT:
                what |= WRITE
            if mask & (select.EPOLLHUP | select.EPOLLERR):
                what |= HANGUP
            source.on_ready(what)
        for _ in range(len(again)):
            again.popleft().on_again()
        return bool(events or again)

    def _wait(self) -> list[tuple[int, int]]:
        """Wait for events, and stay awake for it where they come fast enough.

        A processor that has gone to sleep takes long to wake (on virtual machines some 50 us there
        and back), as long as all that is done for a message. So while most waits turned out to be
        shorter than `_busy_wait_ns`, the next one begins with looking again and again for that
        time. Others of the process may run meanwhile: each look lets go of the interpreter.
        """
        poll = self._epoll.poll
        busy_wait_ns = self._busy_wait_ns
        if busy_wait_ns == 0:
            return poll(-1, _EVENTS_MAX)
        clock = time.perf_counter_ns
        began = clock()
        events = None
        if self._short_waits.bit_count() >= _SHORT_WAITS_MIN:
            until = began + busy_wait_ns
            while not (events := poll(0, _EVENTS_MAX)) and clock() < until:
                pass
        if not events:
            events = poll(-1, _EVENTS_MAX)
        short = clock() - began < busy_wait_ns
        self._short_waits = (self._short_waits << 1 | short) & _WAITS
        return events

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wake)


class EpollPoller(Epoll):
    """All sockets on one epoll descriptor, which a task of somebody else's trio run watches."""

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
            while self.serve(wait=False) and clock() < turn_ends:
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
        number = _number(descriptor)
        self._watched[number] = _Watched(source)
        self.change(number, what)

    def change(self, descriptor: socket.socket | int, what: int) -> None:
        number = _number(descriptor)
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
        number = _number(descriptor)
        watched = self._watched.get(number)
        if watched is not None:
            if self._nursery is not None:
                self.change(number, 0)
                notify_closing(number)
            del self._watched[number]

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


def poller() -> Poller:
    """The best one of this system, for a loop that others use too."""
    return EpollPoller() if sys.platform == "linux" else TaskPoller()
