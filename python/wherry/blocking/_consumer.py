"""Consumers in plain threads, and what else is iterated over."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from wherry import _core
from wherry._batch import Batch

if TYPE_CHECKING:
    from types import TracebackType

    from wherry._types import ConsumerCount
    from wherry.blocking._broker import VirtualHost


@final
class Consumer(_core.BlockingConsumer):
    """Takes messages from a queue. Made by `with queue.consume() as consumer:`; leaving returns to
    their places all messages that were not acknowledged.

    Iterate over it, or call `take` for several at once. Several threads may share it.
    """

    __slots__ = ()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cancel()


@final
class Batches:
    """An iterator of `Batch`. Made by `with queue.batches() as batches:`."""

    __slots__ = ("_consumer", "_max_messages", "_max_seconds")

    def __init__(self, consumer: Consumer, max_messages: int, max_seconds: float) -> None:
        self._consumer = consumer
        self._max_messages = max_messages
        self._max_seconds = max_seconds

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        """Wait for a message, then for more: until the batch is full, or `max_seconds` after the
        first.
        """
        deliveries = self._consumer.take(self._max_messages)
        try:
            self._consumer._take_more(deliveries, self._max_messages, self._max_seconds)
        except BaseException:
            Batch(self._consumer, deliveries)._leave(BaseException)
            raise
        return Batch(self._consumer, deliveries)

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._consumer._cancel()


@final
class ConsumerWatch:
    """An iterator of `wherry.ConsumerCount`. Made by `with broker.watch_consumers() as counts:`."""

    __slots__ = ("_watch",)

    def __init__(self, host: VirtualHost) -> None:
        self._watch = _core.ConsumerWatch(host._core)

    def take(self, max: int = 100, timeout: float | None = None) -> list[ConsumerCount]:
        """Take what has changed, waiting for the first queue; an empty list when `timeout` seconds
        passed. See `wherry.ConsumerWatch.take`.
        """
        from wherry._types import ConsumerCount

        taken = self._watch.wait_take(max, timeout)
        return [ConsumerCount(queue, consumers) for queue, consumers in taken]

    def __iter__(self) -> ConsumerWatch:
        return self

    def __next__(self) -> ConsumerCount:
        """The next queue whose number of consumers has changed; wait for one."""
        return self.take(1)[0]

    def __enter__(self) -> ConsumerWatch:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch._cancel()
