"""A loop of the server's own: trio as the guest of the epoll that has the sockets.

A socket that becomes ready ends the one wait that this thread is in, and is served right there. Had
trio the wait, each message of a slow stream would cost a turn of its scheduler, an epoll inside an
epoll, and two changes of what that watches: twice the processor time of serving the message. What
else there is (logins, ticks, signals, the control socket) is trio's as before, by its guest mode: a
thread of trio's waits for those and hands the turn over when there is one.

Only for threads that belong to the server: `wherry serve`, and `with wherry.serve()`. In a trio
program the server is one task among others (`_poll.EpollPoller`).
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from wherry.server._poll import Epoll, poller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outcome import Outcome

    from wherry.server._poll import Poller, Source

T = TypeVar("T")

_current = threading.local()


class _Guest:
    """The host's epoll, as one of its guests uses it: it has a `run` that has nothing to do."""

    def __init__(self, epoll: Epoll) -> None:
        self.add = epoll.add
        self.change = epoll.change
        self.remove = epoll.remove
        self.again: Callable[[Source], None] = epoll.again

    async def run(self) -> None:
        """The host does it."""
        await trio.sleep_forever()

    def close(self) -> None:
        """The host's is kept: others may use it."""


class _Host:
    """One run."""

    def __init__(self, busy_wait_us: int) -> None:
        self.epoll = Epoll(busy_wait_ns=busy_wait_us * 1000)
        self._calls: deque[Callable[[], object]] = deque()
        self._outcome: Outcome[Any] | None = None
        # Held while the loop's descriptor is used from another thread, or closed.
        self._waking = threading.Lock()
        self._closed = False

    def _soon(self, function: Callable[[], object]) -> None:
        """From the thread of trio's that waits."""
        # The call can be over, and the run with it, before this thread comes to wake the loop; the
        # descriptor would be somebody else's then.
        with self._waking:
            self._calls.append(function)
            if not self._closed:
                self.epoll.wake()

    def close(self) -> None:
        with self._waking:
            self._closed = True
            self.epoll.close()

    def _done(self, outcome: Outcome[Any]) -> None:
        self._outcome = outcome

    # An interrupt is delivered to the guest, at a checkpoint: it must not end the loop between two
    # of its messages, with the guest left as it is.
    @trio.lowlevel.enable_ki_protection
    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        trio.lowlevel.start_guest_run(
            function,
            *args,
            run_sync_soon_threadsafe=self._soon,
            run_sync_soon_not_threadsafe=self._calls.append,
            done_callback=self._done,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
        calls, serve = self._calls, self.epoll.serve
        while self._outcome is None:
            for _ in range(len(calls)):
                calls.popleft()()
            # A call that comes now leaves the descriptor readable: the wait ends at once.
            if self._outcome is None:
                serve(wait=not calls)
        result: T = self._outcome.unwrap()
        return result


def run(function: Callable[..., Awaitable[T]], *args: object, busy_wait_us: int = 0) -> T:
    """As `trio.run`, on a thread that is the server's own.

    Args:
        busy_wait_us: while messages come closer together than so many microseconds, stay awake
            between them. Only for a process that has nothing else to do.
    """
    if sys.platform != "linux":
        return trio.run(function, *args)
    host = _Host(busy_wait_us)
    _current.host = host
    try:
        return host.run(function, *args)
    finally:
        _current.host = None
        host.close()


def sockets() -> Poller:
    """What watches the sockets of a server on this loop."""
    host: _Host | None = getattr(_current, "host", None)
    return poller() if host is None else _Guest(host.epoll)
