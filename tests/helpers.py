"""What tests need of an event loop, for trio and asyncio alike."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import sniffio
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


def run(library: str, test: Callable[[], Awaitable[None]], *, autojump: bool = False) -> None:
    """Run an async test to its end."""
    if library == "trio":
        clock = trio.testing.MockClock(autojump_threshold=0) if autojump else None
        trio.run(test, clock=clock)
    else:
        asyncio.run(_main(test))


async def _main(test: Callable[[], Awaitable[None]]) -> None:
    await test()


class Task:
    """A task of `Tasks`."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.cancelled = False
        self._cancel: Callable[[], object] = lambda: None
        on_trio = sniffio.current_async_library() == "trio"
        self._ended: Any = trio.Event() if on_trio else asyncio.Event()

    def cancel(self) -> None:
        """Ask it to end."""
        self._cancel()

    async def wait(self) -> Any:
        """Its result, or the exception it ended with."""
        await self._ended.wait()
        if self.error is not None:
            raise self.error
        return self.result


class Tasks:
    """Starts tasks; ends those that are left when the block ends."""

    def __init__(self, start: Callable[[Callable[[], Awaitable[None]]], Callable[[], object]]):
        self._start = start

    def start(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Task:
        """Start a task. Its exception is kept for `Task.wait`."""
        task = Task()

        async def body() -> None:
            try:
                task.result = await function(*args)
            except Exception as error:
                task.error = error
            except BaseException:
                task.cancelled = True
                raise
            finally:
                task.done = True
                task._ended.set()

        task._cancel = self._start(body)
        return task


@contextlib.asynccontextmanager
async def tasks() -> AsyncIterator[Tasks]:
    """`async with tasks() as running: task = running.start(function)`."""
    if sniffio.current_async_library() == "trio":
        async with trio.open_nursery() as nursery:

            def start_trio(body: Callable[[], Awaitable[None]]) -> Callable[[], object]:
                scope = trio.CancelScope()

                async def scoped() -> None:
                    with scope:
                        await body()

                nursery.start_soon(scoped)
                return scope.cancel

            yield Tasks(start_trio)
            nursery.cancel_scope.cancel()
    else:
        running: list[asyncio.Task[None]] = []

        def start_asyncio(body: Callable[[], Awaitable[None]]) -> Callable[[], object]:
            async def scoped() -> None:
                with contextlib.suppress(asyncio.CancelledError):
                    await body()

            task = asyncio.get_running_loop().create_task(scoped())
            running.append(task)
            return task.cancel

        try:
            yield Tasks(start_asyncio)
        finally:
            for task in running:
                task.cancel()
            for task in running:
                await task


async def pause() -> None:
    """Give everything else a turn, the descriptors included."""
    if sniffio.current_async_library() == "trio":
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def settle() -> None:
    """Let every task run until it waits. (Not for what other threads do: wait for that itself.)"""
    if sniffio.current_async_library() == "trio":
        await trio.testing.wait_all_tasks_blocked()
    else:
        for _ in range(20):
            await asyncio.sleep(0)


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run it in another thread, and wait for it."""
    if sniffio.current_async_library() == "trio":
        return await trio.to_thread.run_sync(function)
    return await asyncio.to_thread(function)


class Background:
    """A plain thread whose exception is not lost."""

    def __init__(self, function: Callable[[], Any]):
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = 20) -> Any:
        """What it returned, or the exception it ended with."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the thread did not end"
        if self._error is not None:
            raise self._error
        return self._result

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()
