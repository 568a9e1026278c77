"""Opening a broker, and the broker that is open. For async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, final

from wherry import _core
from wherry._loop import current_loop
from wherry._virtual_host import VirtualHost
from wherry._waits import Waits

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from wherry import blocking
    from wherry._loop import Loop
    from wherry._types import (
        BrokerStatistics,
        Durability,
        Receipt,
    )


@final
class Broker(VirtualHost):
    """An open broker, and its virtual host "/". Made by `async with wherry.open() as broker:`.

    What is awaited works on the event loop that opened it, the rest in any thread; `blocking` is
    its twin that waits in plain threads.
    """

    __slots__ = ()

    def __init__(self, engine: _core.Engine, waits: Waits) -> None:
        super().__init__(engine, waits, "/")

    def virtual_host(self, name: str) -> VirtualHost:
        """A virtual host that exists.

        Raises:
            UnknownVirtualHost: it does not.
        """
        return VirtualHost(self._engine, self._waits, name)

    def virtual_hosts(self) -> list[str]:
        """The names of the virtual hosts, in no particular order."""
        return self._engine.virtual_hosts()

    async def add_virtual_host(self, name: str) -> VirtualHost:
        """Make sure that a virtual host exists, with its predeclared exchanges, and return it.

        If it is cancelled while it waits, it exists but is not known to be on stable storage.
        """
        await self._control(self._engine.add_virtual_host, name)
        return self.virtual_host(name)

    async def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with everything in it.

        If it is cancelled while it waits, it is gone but that is not known to be on stable storage.

        Raises:
            UnknownVirtualHost: there is none of this name.
            AccessRefused: it is "/".
        """
        await self._control(self._engine.delete_virtual_host, name)

    async def confirmed(self, receipt: Receipt) -> None:
        """Wait until what a `*_nowait` call returned this receipt for is on stable storage.

        Receipts count upwards: the latest one stands for all before it. If it is cancelled, nothing
        changed.

        Raises:
            JournalFailed: that will never be known.
            BrokerClosed: the broker was closed before it was.
        """
        await self._waits.turn()
        await self._waits.durable(receipt)

    async def sync(self) -> None:
        """Wait until everything done so far, acknowledgements included, is on stable storage.

        If it is cancelled, nothing changed.
        """
        receipt = await self._try(self._engine.barrier, int)
        await self._waits.durable(receipt)

    def statistics(self) -> BrokerStatistics:
        """Numbers of the whole broker."""
        from wherry._statistics import broker_statistics

        return broker_statistics(self._engine)

    @property
    def clock(self) -> Any:
        """The broker's clock: `now()` in Unix seconds; of a `VirtualClock` also `advance`."""
        return self._engine.clock

    @property
    def blocking(self) -> blocking.Broker:
        """The same broker for plain threads. It ends with this one."""
        from wherry import blocking

        return blocking.Broker(self._engine)

    async def aclose(self) -> None:
        """Sync what is left and close. Whoever waits gets BrokerClosed. May be repeated.

        It is seen through even if it is cancelled.
        """
        self._waits.check()
        if self._engine.closed:
            return
        try:
            await self._waits.loop.in_thread(self._engine.close)
        finally:
            await self._waits.close()


@final
class Opening:
    """What `wherry.open` returns: enter it to open, leave it to close."""

    __slots__ = ("_arguments", "_broker")

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._broker: Broker | None = None

    async def __aenter__(self) -> Broker:
        loop = current_loop()
        await loop.checkpoint()
        if self._arguments["path"] is None:
            engine = _core.Engine(**self._arguments)
        else:
            engine = await self._open_in_thread(loop)
        self._broker = Broker(engine, Waits(loop, engine))
        return self._broker

    async def _open_in_thread(self, loop: Loop) -> _core.Engine:
        opened: list[_core.Engine] = []
        try:
            await loop.in_thread(lambda: opened.append(_core.Engine(**self._arguments)))
        except BaseException:
            # Cancelled while it was opened: it is open, and nobody has it.
            for engine in opened:
                await loop.in_thread(engine.close)
            raise
        return opened[0]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._broker is not None
        await self._broker.aclose()


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: Durability = "always",
    sync_interval: float = 0.05,
    clock: _core.VirtualClock | None = None,
    segment_bytes: int = 16 << 20,
    memory_bytes_max: int | None = None,
    on_corruption: Literal["refuse", "salvage"] = "refuse",
    progress: Callable[[int, int], object] | None = None,
) -> Opening:
    """Open a broker: `async with wherry.open("orders.wherry") as broker:`. Leaving the block closes
    it.

    It belongs to the event loop, trio's or asyncio's, that opens it. Several may be open at a time.

    Args:
        path: directory of the journal, made if there is none; None is a broker in memory.
        durability: when a message is confirmed. `always`: after it was synced to stable storage.
            `interval`: after it was written, with a sync every `sync_interval` seconds; a crash of
            the machine may lose that much. `never`: after it was written; the operating system
            decides. A crash of the program loses nothing confirmed in any of them.
        sync_interval: seconds between syncs, for `interval`.
        clock: a `VirtualClock`, for tests.
        segment_bytes: size of a journal file, in bytes.
        memory_bytes_max: bytes that messages waiting in memory may take, at least 4 MiB; above it
            `publish` waits and `publish_nowait` raises Busy until consumers have freed some. None:
            60% of the memory of the machine or control group. Backlogs of durable queues are in the
            journal and do not count.
        on_corruption: what to do about damage in the middle of the journal: `refuse` to open, or
            `salvage` what can still be read.
        progress: called as `progress(done_bytes, total_bytes)` while a journal is read, in another
            thread. An exception it raises ends the opening.

    Raises (when entered):
        DirectoryLocked: another broker has the directory.
        JournalCorrupt: the journal is damaged; the message says where.
        InvalidArgument: an option that can never be right.
        StorageError: the directory cannot be used.
        WrongLoop: neither trio nor asyncio is running.
    """
    return Opening(
        {
            "path": path,
            "durability": durability,
            "sync_interval": sync_interval,
            "clock": clock,
            "segment_bytes": segment_bytes,
            "memory_bytes_max": memory_bytes_max,
            "on_corruption": on_corruption,
            "progress": progress,
        }
    )
