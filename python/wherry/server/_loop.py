"""What the server needs of an event loop, so that it runs on one of its own (`_host`) and in a trio
program (`_trio`) alike. Types alone: at run time nobody imports this.

Everything is for the loop's thread, but `soon`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")


class Source(Protocol):
    """Whoever is told that its socket is ready.

    It is told again as long as its condition holds (level-triggered): it may do a bounded amount of
    work each time. What has more to do without waiting for its socket asks for another turn with
    `again`.
    """

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

    def count_with(self, traffic: Callable[[], tuple[int, int]]) -> None:
        """Ask this how many messages have come and gone so far: a loop may stay awake for single
        ones, and wait for many at a time.
        """

    def again(self, source: Source) -> None:
        """Call its `on_again` after others had their turn."""

    async def run(self) -> None:
        """Tell sources what is ready, until cancelled."""

    def close(self) -> None:
        """Give the descriptors back. `run` is over."""


class Task(Protocol):
    """A function that runs beside others."""

    def cancel(self) -> None:
        """Let it end where it waits. It may be over already, or be the one who calls."""


class Event(Protocol):
    """Something that happens once."""

    def set(self) -> None:
        """It has happened. May be repeated."""

    def is_set(self) -> bool:
        """Whether it has happened."""

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for it, so long at most; whether it has happened."""


class Loop(Protocol):
    """An event loop."""

    def now(self) -> float:
        """Its clock, in seconds."""

    def poller(self) -> Poller:
        """What watches sockets here. Its `run` has to be spawned."""

    def event(self) -> Event:
        """One that has not happened."""

    def limiter(self, count: int) -> Any:
        """For `in_thread`: so many at a time."""

    def spawn(self, function: Callable[..., Awaitable[None]], *args: object) -> Task:
        """Run it as a task, which is cancelled when the loop ends. It must not raise."""

    def soon(self, function: Callable[[], object]) -> bool:
        """Call it on the loop. From any thread; false when the loop has ended."""

    def protect(self, function: Callable[..., None]) -> None:
        """From now on the function is not interrupted by Ctrl-C in the middle."""

    def on_signals(self, numbers: Iterable[int], callback: Callable[[int], None]) -> None:
        """Call it when one of these signals has come, as long as the loop runs. In the main thread
        only, once.
        """

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""

    async def checkpoint(self) -> None:
        """Give others a turn."""

    async def in_thread(self, function: Callable[..., T], *args: object, limiter: Any = None) -> T:
        """Run it in a worker thread. If the task is cancelled, nobody waits for it."""
