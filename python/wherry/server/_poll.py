"""Which sockets can be read or written: the epoll that a server's sockets hang on.

The server's own loop waits for it (`_host`); in a trio program one task does (`_trio`): a busy
server handles many events in one turn of the scheduler, and an idle connection costs no task.
Everything here runs on the loop's thread.
"""

from __future__ import annotations

import os
import select
from collections import deque
from typing import TYPE_CHECKING

from wherry.server._pace import Pace

if TYPE_CHECKING:
    import socket

    from wherry.server._loop import Source

READ = 1
WRITE = 2
# The connection is gone in both directions. Told even to those who want neither of the others.
HANGUP = 4

# Events fetched by one system call. More only makes the list longer.
_EVENTS_MAX = 256

# Timeouts of `serve`, in seconds.
FOREVER = -1.0
NOT_AT_ALL = 0.0


def number_of(descriptor: socket.socket | int) -> int:
    """The system's number of a descriptor."""
    return descriptor if isinstance(descriptor, int) else descriptor.fileno()


class Epoll:
    """Sockets on one epoll descriptor, and sources that asked for another turn."""

    def __init__(self, *, busy_wait_ns: int = 0) -> None:
        self._pace = Pace(busy_wait_ns)
        self.count_with = self._pace.count_with
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
            events = self._pace.wait(self._epoll.poll, timeout, _EVENTS_MAX)
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

    def close(self) -> None:
        self._pace.close()
        self._epoll.close()
        os.close(self._wake)
