"""The one file that knows trio and asyncio.

Everything else speaks to a `Loop`: it parks the calling task in a `Waiter`, gives other tasks a
turn, runs something long in a thread, and watches a descriptor. Neither library is imported before
it is in use.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sniffio

from wherry._errors import WrongLoop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import trio

T = TypeVar("T")

_WRONG_LOOP = (
    "this broker was opened on another event loop, or there is none here: use it from the loop "
    "that opened it; the *_nowait methods work in any thread, and broker.blocking waits in plain "
    "threads"
)

# A task that never really waits gives others a turn after this many calls ...
_TURN_CALLS = 100
# ... or after this time, whichever comes first.
_TURN_NS = 1_000_000


class Waiter(Protocol):
    """One task that waits. Made, awaited and woken on one loop's thread."""

    def wake(self) -> None:
        """Let the task go on. May be repeated, and may come before `wait`."""

    async def wait(self, seconds: float | None = None) -> bool:
        """Park until woken: true; false when `seconds` passed first.

        A cancellation that comes after `wake` is not delivered here under trio; under asyncio it
        may be. So whoever is cancelled hands on what the wake-up was about.
        """


class Loop(Protocol):
    """What the rest of the package needs of an event loop."""

    def check(self) -> None:
        """Raise WrongLoop unless the caller is on this loop."""

    def waiter(self) -> Waiter:
        """A place for the calling task to wait."""

    def time(self) -> float:
        """The loop's clock, in seconds."""

    async def checkpoint(self) -> None:
        """Give other tasks a turn, and notice a cancellation."""

    async def turn(self) -> None:
        """The checkpoint at the start of every call that might not wait: `check`, notice a
        cancellation, and give other tasks a turn if this task had enough.
        """

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run it in a worker thread and see it through, cancelled or not."""

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call `readable`, which does not raise, whenever the descriptor can be read."""

    async def unwatch(self) -> None:
        """Stop that. The descriptor may be closed afterwards."""

    def protect(self, function: Callable[..., None]) -> None:
        """From now on the function is not interrupted by Ctrl-C in the middle."""


class _Turns:
    """Counts calls of tasks that never really wait."""

    __slots__ = ("_calls", "_since")

    def __init__(self) -> None:
        self._calls = 0
        self._since = time.perf_counter_ns()

    def over(self) -> bool:
        """Count one call; true when it is time for others."""
        self._calls += 1
        if self._calls < _TURN_CALLS and time.perf_counter_ns() - self._since < _TURN_NS:
            return False
        self._calls = 0
        self._since = time.perf_counter_ns()
        return True


class _TrioWaiter:
    __slots__ = ("_task", "_trio", "_woken")

    def __init__(self, lowlevel: Any) -> None:
        self._trio = lowlevel
        self._task: trio.lowlevel.Task | None = None
        self._woken = False

    def wake(self) -> None:
        self._woken = True
        task, self._task = self._task, None
        if task is not None:
            self._trio.reschedule(task)

    async def wait(self, seconds: float | None = None) -> bool:
        if self._woken:
            await self._trio.checkpoint()
        elif seconds is None:
            await self._park()
        else:
            import trio

            with trio.move_on_after(seconds):
                await self._park()
        return self._woken

    async def _park(self) -> None:
        self._task = self._trio.current_task()
        await self._trio.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        return self._trio.Abort.SUCCEEDED


class TrioLoop:
    """A trio run."""

    def __init__(self) -> None:
        import trio

        self._trio = trio
        self._current_token = trio.lowlevel.current_trio_token
        self._checkpoint = trio.lowlevel.checkpoint
        self._checkpoint_if_cancelled = trio.lowlevel.checkpoint_if_cancelled
        self._token = self._current_token()
        self._turns = _Turns()
        self._scope: trio.CancelScope | None = None
        self._stopped = trio.Event()

    def check(self) -> None:
        try:
            if self._current_token() is self._token:
                return
        except RuntimeError:
            pass
        raise WrongLoop(_WRONG_LOOP)

    def waiter(self) -> Waiter:
        return _TrioWaiter(self._trio.lowlevel)

    def time(self) -> float:
        return self._trio.current_time()

    async def checkpoint(self) -> None:
        await self._trio.lowlevel.checkpoint()

    async def turn(self) -> None:
        self.check()
        if self._turns.over():
            await self._checkpoint()
        else:
            await self._checkpoint_if_cancelled()

    async def in_thread(self, function: Callable[[], T]) -> T:
        with self._trio.CancelScope(shield=True):
            return await self._trio.to_thread.run_sync(function)
        raise AssertionError("a shielded scope does not end early")

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        # A system task, not a nursery around the caller's block: the caller's exceptions come out
        # as they went in, and the wake-ups go on until the broker is closed, however the block
        # ends.
        self._scope = self._trio.CancelScope()
        self._trio.lowlevel.spawn_system_task(
            self._watch, descriptor, readable, self._scope, name="wherry wake-ups"
        )

    async def _watch(
        self, descriptor: int, readable: Callable[[], None], scope: trio.CancelScope
    ) -> None:
        try:
            with scope:
                while True:
                    await self._trio.lowlevel.wait_readable(descriptor)
                    readable()
        finally:
            self._stopped.set()

    async def unwatch(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
            with self._trio.CancelScope(shield=True):
                await self._stopped.wait()

    def protect(self, function: Callable[..., None]) -> None:
        # Marks the function itself.
        self._trio.lowlevel.enable_ki_protection(function)


class _AsyncioWaiter:
    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(True)

    def _expire(self) -> None:
        if not self._future.done():
            self._future.set_result(False)

    async def wait(self, seconds: float | None = None) -> bool:
        if seconds is None:
            return await self._future
        timer = self._loop.call_later(seconds, self._expire)
        try:
            return await self._future
        finally:
            timer.cancel()


class AsyncioLoop:
    """A running asyncio event loop."""

    def __init__(self) -> None:
        import asyncio

        self._asyncio = asyncio
        self._loop = asyncio.get_running_loop()
        self._running_loop = asyncio._get_running_loop
        self._turns = _Turns()
        self._descriptor: int | None = None

    def check(self) -> None:
        # None when there is no loop, or another library's.
        if self._running_loop() is not self._loop:
            raise WrongLoop(_WRONG_LOOP)

    def waiter(self) -> Waiter:
        return _AsyncioWaiter(self._loop)

    def time(self) -> float:
        return self._loop.time()

    async def checkpoint(self) -> None:
        await self._asyncio.sleep(0)

    async def turn(self) -> None:
        self.check()
        # asyncio delivers a cancellation at the next real suspension; there is nothing to look at
        # before.
        if self._turns.over():
            await self._asyncio.sleep(0)

    async def in_thread(self, function: Callable[[], T]) -> T:
        running = self._loop.run_in_executor(None, function)
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await self._asyncio.wait([running])
            except self._asyncio.CancelledError as error:  # noqa: PERF203
                cancelled = error
        if cancelled is not None:
            running.exception()  # seen: no warning about an exception that nobody retrieved
            raise cancelled
        return running.result()

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        try:
            self._loop.add_reader(descriptor, readable)
        except NotImplementedError:
            raise WrongLoop(
                "asyncio's proactor event loop cannot watch a socket: run on an "
                "asyncio.SelectorEventLoop, or on trio"
            ) from None
        self._descriptor = descriptor

    async def unwatch(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)

    def protect(self, function: Callable[..., None]) -> None:
        """Nothing to do: asyncio's runner turns Ctrl-C into a cancellation of the main task."""


def current_loop() -> Loop:
    """The loop that the caller runs on.

    Raises:
        WrongLoop: there is none, or it is neither trio nor asyncio.
    """
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        raise WrongLoop(
            "no event loop is running here: call this from an async function under trio or "
            "asyncio, or use wherry.blocking from plain threads"
        ) from None
    if library == "trio":
        return TrioLoop()
    if library == "asyncio":
        return AsyncioLoop()
    raise WrongLoop(f"the event loop is {library}'s: Wherry runs on trio and asyncio")
