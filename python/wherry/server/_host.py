"""A loop of the server's own: the epoll that has the sockets, and beside it tasks, timers, threads
and signals.

A socket that becomes ready ends the one wait that this thread is in, and is served right there.
Were this a trio run, each message of a slow stream would cost a turn of its scheduler, an epoll
inside an epoll, and two changes of what that watches: twice the processor time of serving the
message. And loading trio takes longer than starting the server.

What else there is to do (logins, ticks, the end) is little, and written as coroutines. A coroutine
suspends itself by awaiting a `_Waiter`, and that is woken once. Nothing here is cancelled but by
ending: a task that is no longer wanted is closed where it waits.

Only for threads that belong to the server: `wherry serve`, and `with wherry.serve()`. In a trio
program the server is one task among others (`_trio`).
"""

from __future__ import annotations

import heapq
import os
import sys
import threading
import time
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.server._poll import FOREVER, NOT_AT_ALL, READ, Epoll

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable

    from wherry.server._loop import Loop, Poller, Source

T = TypeVar("T")

# Elsewhere a server's thread runs trio.
HAS_ITS_OWN = sys.platform == "linux"


class _Waiter:
    """One task that waits, once. Made, awaited and woken on the loop's thread."""

    __slots__ = ("_ready", "_task", "_value", "_woken")

    def __init__(self, ready: deque[Callable[[], object]]) -> None:
        self._ready = ready
        self._task: _Task | None = None
        self._value: Any = None
        self._woken = False

    def wake(self, value: Any = None) -> None:
        """Let it go on with this value. Only the first time counts."""
        if not self._woken:
            self._woken = True
            self._value = value
            if self._task is not None:
                self._ready.append(self._task.step)

    def __await__(self) -> Generator[_Waiter, None, Any]:
        if not self._woken:
            yield self
        return self._value

    def parked(self, task: _Task) -> None:
        """This task waits for it."""
        self._task = task


class _Task:
    """A coroutine that runs beside others."""

    __slots__ = ("_cancelled", "_coroutine", "_ended", "_running", "done", "error", "result")

    def __init__(
        self, coroutine: Coroutine[_Waiter, None, Any], ended: Callable[[_Task], None]
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._running = False
        self._cancelled = False
        self.done = False
        self.error: BaseException | None = None
        self.result: Any = None

    def step(self) -> None:
        """Run it until it waits again."""
        if self.done:
            return  # cancelled in the meantime
        self._running = True
        try:
            waiter = self._coroutine.send(None)
        except StopIteration as stop:
            self.result = stop.value
        except BaseException as error:
            self.error = error
        else:
            if not self._cancelled:
                waiter.parked(self)
                return
            self._coroutine.close()
        finally:
            self._running = False
        self.done = True
        self._ended(self)

    def cancel(self) -> None:
        if self._running:
            self._cancelled = True
        elif not self.done:
            self.done = True
            self._coroutine.close()
            self._ended(self)


class _Event:
    __slots__ = ("_host", "_set", "_waiters")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._set = False
        self._waiters: list[_Waiter] = []

    def set(self) -> None:
        self._set = True
        for waiter in self._waiters:
            waiter.wake()
        self._waiters.clear()

    def is_set(self) -> bool:
        return self._set

    async def wait(self, seconds: float | None = None) -> bool:
        if not self._set:
            waiter = self._host.waiter()
            self._waiters.append(waiter)
            if seconds is not None:
                self._host.later(seconds, waiter.wake)
            await waiter
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return self._set


class _Limiter:
    """So many at a time, in the order in which they came."""

    __slots__ = ("_free", "_host", "_waiters")

    def __init__(self, host: Host, free: int) -> None:
        self._host = host
        self._free = free
        self._waiters: deque[_Waiter] = deque()

    async def enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        waiter = self._host.waiter()
        self._waiters.append(waiter)
        await waiter  # who leaves hands the place on

    def leave(self) -> None:
        if self._waiters:
            self._waiters.popleft().wake()
        else:
            self._free += 1


class _Workers:
    """Threads that do what blocks, as many as are needed at a time. They are daemons: a server, and
    the program around it, end without them.
    """

    def __init__(self) -> None:
        # Loaded here, as a server that is not used yet needs none.
        from queue import SimpleQueue

        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
        # Jobs that were given out and not reported as done. As all of that happens on the loop's
        # thread, there is a free thread, or soon will be, whenever this is less than `_threads`.
        self._busy = 0

    def start(self, job: Callable[[], None]) -> None:
        self._busy += 1
        if self._busy > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name="wherry worker", daemon=True).start()
        self._jobs.put(job)

    def done(self) -> None:
        self._busy -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # what it holds is not kept until the next one comes

    def close(self) -> None:
        for _ in range(self._threads):
            self._jobs.put(None)


class _Sockets:
    """The host's epoll, as one server uses it: it has a `run` that has nothing to do."""

    def __init__(self, epoll: Epoll) -> None:
        self.add = epoll.add
        self.change = epoll.change
        self.remove = epoll.remove
        self.count_with = epoll.count_with
        self.again: Callable[[Source], None] = epoll.again

    async def run(self) -> None:
        """The host does it."""

    def close(self) -> None:
        """The host's is kept."""


class _Signals:
    """Signals as events of the loop. The interpreter writes the number of each one that has come
    into a pipe, whatever it is doing; a handler in Python would run when a wait is over, which a
    signal that came just before it would not end.
    """

    def __init__(self, numbers: Iterable[int], callback: Callable[[int], None]) -> None:
        import signal

        self._signal = signal
        self._callback = callback
        self.descriptor, self._end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._numbers = frozenset(numbers)
        self._before = {number: signal.signal(number, _do_nothing) for number in self._numbers}
        self._wakeup_before = signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)

    def on_ready(self, what: int) -> None:
        for number in os.read(self.descriptor, 256):
            if number in self._numbers:  # the program may handle others itself
                self._callback(number)

    def on_again(self) -> None:
        """Never asked for."""

    def close(self) -> None:
        self._signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            # None is one that Python did not install, and cannot put back.
            self._signal.signal(number, self._signal.SIG_DFL if handler is None else handler)
        os.close(self.descriptor)
        os.close(self._end)


def _do_nothing(*_: object) -> None:
    pass


class Host:
    """One run. It is the `Loop` of a server."""

    def __init__(self, busy_wait_us: int = 0) -> None:
        self.epoll = Epoll(busy_wait_ns=busy_wait_us * 1000)
        # What is to be called, from this thread and from others.
        self._ready: deque[Callable[[], object]] = deque()
        # Moments and what to call then; the number keeps their order.
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._tasks: set[_Task] = set()
        self._failure: BaseException | None = None
        self._workers = _Workers()
        self._signals: _Signals | None = None
        # Held while the loop's descriptor is used from another thread, or closed.
        self._waking = threading.Lock()
        self._closed = False
        self.now = time.monotonic

    # The run

    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """`function(loop, *args)`, until it returns. What other tasks there are ends then."""
        main = self.spawn(function, self, *args)
        ready, serve = self._ready, self.epoll.serve
        while True:
            for _ in range(len(ready)):
                ready.popleft()()
            if self._failure is not None:
                raise self._failure
            if main.done:
                result: T = main.result
                return result
            # A call that comes now leaves the descriptor readable: the wait ends at once.
            serve(NOT_AT_ALL if ready else self._timeout())

    def _timeout(self) -> float:
        """Until the next timer. Those that are due become ready."""
        timers = self._timers
        if not timers:
            return FOREVER
        now = time.monotonic()
        if timers[0][0] > now:
            return timers[0][0] - now
        while timers and timers[0][0] <= now:
            self._ready.append(heapq.heappop(timers)[2])
        return NOT_AT_ALL

    def close(self) -> None:
        """End what is left."""
        with self._waking:
            self._closed = True
        try:
            while self._tasks:
                self._tasks.pop().cancel()
        finally:
            self._workers.close()
            if self._signals is not None:
                self._signals.close()
            self.epoll.close()

    # As `Loop` has it

    def poller(self) -> Poller:
        return _Sockets(self.epoll)

    def event(self) -> _Event:
        return _Event(self)

    def limiter(self, count: int) -> _Limiter:
        return _Limiter(self, count)

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: object) -> _Task:
        coroutine: Any = function(*args)
        task = _Task(coroutine, self._ended)
        self._tasks.add(task)
        self._ready.append(task.step)
        return task

    def _ended(self, task: _Task) -> None:
        self._tasks.discard(task)
        if task.error is not None:
            self._failure = task.error

    def soon(self, function: Callable[[], object]) -> bool:
        # The call can be over, and the run with it, before this thread comes to wake the loop; the
        # descriptor would be somebody else's then.
        with self._waking:
            if self._closed:
                return False
            self._ready.append(function)
            self.epoll.wake()
        return True

    def protect(self, function: Callable[..., None]) -> None:
        """Nothing to do: Ctrl-C is for the main thread, and there `on_signals` takes it."""

    def on_signals(self, numbers: Iterable[int], callback: Callable[[int], None]) -> None:
        self._signals = _Signals(numbers, callback)
        self.epoll.add(self._signals.descriptor, self._signals, READ)

    async def sleep(self, seconds: float) -> None:
        waiter = self.waiter()
        self.later(seconds, waiter.wake)
        await waiter

    async def checkpoint(self) -> None:
        waiter = self.waiter()
        self._ready.append(waiter.wake)
        await waiter

    async def in_thread(
        self, function: Callable[..., T], *args: object, limiter: _Limiter | None = None
    ) -> T:
        if limiter is not None:
            await limiter.enter()
        try:
            waiter = self.waiter()
            self._workers.start(partial(self._work, waiter, partial(function, *args)))
            result, error = await waiter
        finally:
            if limiter is not None:
                limiter.leave()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        value: T = result
        return value

    def _work(self, waiter: _Waiter, function: Callable[[], Any]) -> None:
        """On a worker's thread."""
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = function(), None
        except BaseException as error:
            outcome = None, error
        self.soon(partial(self._worked, waiter, outcome))

    def _worked(self, waiter: _Waiter, outcome: object) -> None:
        self._workers.done()
        waiter.wake(outcome)

    # For what it is made of

    def waiter(self) -> _Waiter:
        """A place for the calling task to wait."""
        return _Waiter(self._ready)

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call it after so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), function))


def run(function: Callable[..., Awaitable[T]], *args: object, busy_wait_us: int = 0) -> T:
    """`function(loop, *args)` on a loop of this thread, which is the server's own.

    Args:
        busy_wait_us: while messages come closer together than so many microseconds, stay awake
            between them. Only for a process that has nothing else to do.
    """
    if not HAS_ITS_OWN:
        from wherry.server import _trio

        return _trio.run(function, *args)
    host = Host(busy_wait_us)
    try:
        return host.run(function, *args)
    finally:
        host.close()


if TYPE_CHECKING:

    def _is_loop(host: Host) -> Loop:
        return host
