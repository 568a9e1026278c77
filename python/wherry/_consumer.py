"""Consumers and batches for async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from wherry import _core
from wherry._batch import Batch, check

if TYPE_CHECKING:
    from types import TracebackType

    from wherry._queue import Queue
    from wherry._waits import Waits


@final
class Consumer(_core.Consumer):
    """Takes messages from a queue. Made by `async with queue.consume() as consumer:`; leaving
    returns to their places all messages that were not acknowledged.

    Iterate over it, or call `take` for several at once. Nothing is fetched ahead: a message is
    taken when you ask for it, so that none is lost when you stop. `take_nowait`, acknowledging and
    `prefetch` work from any thread.
    """

    __slots__ = ("_waits",)

    _waits: Waits

    def __new__(
        cls,
        queue: Queue,
        waits: Waits,
        *,
        prefetch: int,
        no_ack: bool,
        priority: int,
        exclusive: bool,
        tag: str | None,
    ) -> Consumer:
        self = super().__new__(
            cls,
            queue,
            waits.port,
            prefetch=prefetch,
            no_ack=no_ack,
            priority=priority,
            exclusive=exclusive,
            tag=tag,
        )
        self._waits = waits
        return self

    async def take(self, max: int = 100) -> list[_core.Delivery]:
        """Take what is ready, at least one message and at most `max`; wait for the first one.

        If it is cancelled, no message was taken.

        Raises:
            UnknownQueue: the queue was deleted.
            BrokerClosed: the broker was closed.
            WrongLoop: called on another event loop than the broker's.
        """
        await self._waits.turn()
        while True:
            taken = self.take_nowait(max)
            if taken or max <= 0:
                return taken
            await self._waits.ready(self)

    async def _next(self) -> _core.Delivery:
        """`__anext__` when nothing was ready, or when other tasks must have a turn."""
        self._waits.check()
        await self._waits.loop.checkpoint()
        while True:
            self._turned()
            taken = self.take_nowait(1)
            if taken:
                return taken[0]
            await self._waits.ready(self)


@final
class Consuming:
    """What `Queue.consume` returns: enter it to consume."""

    __slots__ = ("_consumer", "_exclusive", "_no_ack", "_prefetch", "_priority", "_queue", "_tag")

    def __init__(
        self,
        queue: Queue,
        *,
        prefetch: int,
        no_ack: bool = False,
        priority: int = 0,
        exclusive: bool = False,
        tag: str | None = None,
    ) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._no_ack = no_ack
        self._priority = priority
        self._exclusive = exclusive
        self._tag = tag
        self._consumer: Consumer | None = None

    async def __aenter__(self) -> Consumer:
        waits = self._queue._waits
        await waits.turn()
        self._consumer = Consumer(
            self._queue,
            waits,
            prefetch=self._prefetch,
            no_ack=self._no_ack,
            priority=self._priority,
            exclusive=self._exclusive,
            tag=self._tag,
        )
        return self._consumer

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._consumer is not None
        self._consumer._cancel()


@final
class Batches:
    """An async iterator of `Batch`. Made by `async with queue.batches() as batches:`."""

    __slots__ = ("_consumer", "_max_messages", "_max_seconds")

    def __init__(self, consumer: Consumer, max_messages: int, max_seconds: float) -> None:
        self._consumer = consumer
        self._max_messages = max_messages
        self._max_seconds = max_seconds

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> Batch:
        """Wait for a message, then for more: until the batch is full, or `max_seconds` after the
        first.

        If it is cancelled, what it had taken returns to its place.
        """
        consumer = self._consumer
        waits = consumer._waits
        deliveries = await consumer.take(self._max_messages)
        deadline = waits.loop.time() + self._max_seconds
        try:
            while len(deliveries) < self._max_messages:
                left = deadline - waits.loop.time()
                if left <= 0:
                    break
                await waits.ready(consumer, left)
                deliveries += consumer.take_nowait(self._max_messages - len(deliveries))
        except BaseException:
            Batch(consumer, deliveries)._leave(BaseException)
            raise
        return Batch(consumer, deliveries)


@final
class Batching:
    """What `Queue.batches` returns: enter it to consume."""

    __slots__ = ("_consuming", "_max_messages", "_max_seconds")

    def __init__(self, queue: Queue, max_messages: int, max_seconds: float) -> None:
        check(max_messages, max_seconds)
        self._max_messages = max_messages
        self._max_seconds = max_seconds
        # One batch in the making while another is worked on.
        self._consuming = Consuming(queue, prefetch=2 * max_messages)

    async def __aenter__(self) -> Batches:
        consumer = await self._consuming.__aenter__()
        return Batches(consumer, self._max_messages, self._max_seconds)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._consuming.__aexit__(exc_type, exc, traceback)
