"""Which sockets can be read or written: the epoll that a server's sockets hang on.

The server's own loop waits for it (`_host`); in a trio program one task does (`_trio`): a busy
server handles many events in one turn of the scheduler, and an idle connection costs no task.
Everything here runs on the loop's thread.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wherry.server._loop import Source

READ = 1
WRITE = 2
# The connection is gone in both directions. Told even to those who want neither of the others.
HANGUP = 4

# Events fetched by one system call. More only makes the list longer.
_EVENTS_MAX = 256

# Of the last waits that are remembered (8), so many must have been short for the next one to be a
# busy one. Few, as a stream of messages that come evenly has outliers; more than one or two, which
# any exchange of a few messages has.
_WAITS = 0xFF
_SHORT_WAITS_MIN = 4

# And not more messages than this may have come with each wait, in the mean. Where they come by
# dozens, waking up is shared by all of them, and the processor is better left to those who send and
# receive them: Java clients on two processors lost a third of their rate to a server that stayed
# awake for them.
_MESSAGES_PER_WAIT_MAX = 3.0
# How fast the mean follows, and how much a wait counts at most: a stop of the machine, after which
# there are hundreds at once, is forgotten after a few waits.
_MEAN_OVER_WAITS = 8
_MESSAGES_COUNTED_MAX = 16

# Timeouts of `serve`, in seconds.
FOREVER = -1.0
NOT_AT_ALL = 0.0


def _nothing() -> int:
    return 0


def number_of(descriptor: socket.socket | int) -> int:
    """The system's number of a descriptor."""
    return descriptor if isinstance(descriptor, int) else descriptor.fileno()


class Epoll:
    """Sockets on one epoll descriptor, and sources that asked for another turn."""

    def __init__(self, *, busy_wait_ns: int = 0) -> None:
        self._busy_wait_ns = busy_wait_ns
        # The last waits, a bit each: was it shorter than that?
        self._short_waits = 0
        # How many messages have come so far, when asked last, and with each wait in the mean.
        self._count = _nothing
        self._counted = 0
        self._messages_per_wait = 0.0
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
        number = number_of(descriptor)
        self._epoll.register(number, self._masks[what])
        self._sources[number] = source

    def change(self, descriptor: socket.socket | int, what: int) -> None:
        self._epoll.modify(number_of(descriptor), self._masks[what])

    def remove(self, descriptor: socket.socket | int) -> None:
        number = number_of(descriptor)
        if self._sources.pop(number, None) is not None:
            self._epoll.unregister(number)

    def count_with(self, count: Callable[[], int]) -> None:
        self._count = count
        self._counted = count()

    def again(self, source: Source) -> None:
        self._again.append(source)

    def wake(self) -> None:
        """Let a `serve` that waits come back. From any thread."""
        os.eventfd_write(self._wake, 1)

    def serve(self, timeout: float) -> bool:
        """Serve what is ready now; false when nothing was.

        Args:
            timeout: if nothing is, wait until something is, or until `wake`, or so many seconds:
                NOT_AT_ALL, FOREVER or any number between.
        """
        again = self._again
        if timeout == NOT_AT_ALL or again:
            events = self._epoll.poll(0, _EVENTS_MAX)
        else:
            events = self._wait(timeout)
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

    def _wait(self, timeout: float) -> list[tuple[int, int]]:
        """Wait for events, and stay awake for it where they come fast enough.

        A processor that has gone to sleep takes long to wake (on virtual machines some 50 us there
        and back), as long as all that is done for a message. So while most waits turned out to be
        shorter than `_busy_wait_ns`, and a message or two came with each, the next one begins with
        looking again and again for that time. Others of the process may run meanwhile: each look
        lets go of the interpreter.
        """
        poll = self._epoll.poll
        busy_wait_ns = self._busy_wait_ns
        if busy_wait_ns == 0:
            return poll(timeout, _EVENTS_MAX)
        counted = self._count()
        came = min(counted - self._counted, _MESSAGES_COUNTED_MAX)
        self._counted = counted
        self._messages_per_wait += (came - self._messages_per_wait) / _MEAN_OVER_WAITS
        clock = time.perf_counter_ns
        began = clock()
        events = None
        if (
            self._short_waits.bit_count() >= _SHORT_WAITS_MIN
            and self._messages_per_wait <= _MESSAGES_PER_WAIT_MAX
        ):
            until = began + busy_wait_ns
            while not (events := poll(0, _EVENTS_MAX)) and clock() < until:
                pass
        if not events:
            events = poll(timeout, _EVENTS_MAX)
        short = clock() - began < busy_wait_ns
        self._short_waits = (self._short_waits << 1 | short) & _WAITS
        return events

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wake)
