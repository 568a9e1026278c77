"""Queues for async code, and what both kinds of queue share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from wherry import _core
from wherry._consumer import Batching, Consuming
from wherry._exchange import name_of

if TYPE_CHECKING:
    from wherry._types import BrowsedMessage, QueuePolicies, QueueStatistics, ScheduledMessage
    from wherry._virtual_host import VirtualHost
    from wherry._waits import Waits


class QueueViews(_core.Queue):
    """What can be looked at without waiting."""

    __slots__ = ()

    def browse(self, limit: int = 100, offset: int = 0) -> list[BrowsedMessage]:
        """Look at ready messages in the order of delivery. Nothing is taken, nothing counts as a
        delivery.

        Args:
            limit: messages at most.
            offset: how many to pass over first.
        """
        return self._browse(limit, offset)

    def scheduled(self) -> list[ScheduledMessage]:
        """The messages that are not due yet, the earliest first: delayed ones, and those waiting
        for a retry.
        """
        return self._scheduled()

    def statistics(self) -> QueueStatistics:
        """Numbers of this queue."""
        from wherry._types import QueueStatistics

        return QueueStatistics(**self._statistics())

    def policies(self) -> QueuePolicies:
        """The policies that act on this queue. See `Broker.set_policy`."""
        from wherry._types import QueuePolicies

        found = self._policies()
        definition = found.pop("effective_policy_definition")
        return QueuePolicies(**found, definition=definition)

    def __repr__(self) -> str:
        return f"<wherry.{type(self).__name__} '{self.name}'>"


@final
class Queue(QueueViews):
    """Keeps messages until consumers take them. Made by `declare_queue` and `queue` of a broker.

    `get_nowait`, `get_many_nowait`, `browse`, `scheduled`, `policies` and `statistics` work from
    any thread; what is awaited only on the broker's event loop.
    """

    __slots__ = ("_host", "_waits")

    _host: VirtualHost
    _waits: Waits

    def __new__(cls, host: VirtualHost, name: str) -> Queue:
        self = super().__new__(cls, host._core, name)
        self._host = host
        self._waits = host._waits
        return self

    async def bind(
        self,
        exchange: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Let an exchange give messages to this queue. Binding again changes nothing.

        If it is cancelled while it waits, the binding is made but not known to be on stable
        storage.

        Args:
            exchange: the exchange, or its name.
            routing_key: key or pattern, as the exchange's type has it (topic: words between dots,
                `*` is one word, `#` any number).
            arguments: for a headers exchange, what to compare, and `x-match`.

        Raises:
            UnknownExchange: there is no such exchange.
            InvalidArgument: a pattern that can never match.
        """
        await self._host._control(
            self._host._core.bind_queue, self.name, name_of(exchange), routing_key, arguments
        )

    async def unbind(
        self,
        exchange: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Take such a binding away. That there is none is no error.

        Raises:
            UnknownExchange: there is no such exchange.
        """
        await self._host._control(
            self._host._core.unbind_queue, self.name, name_of(exchange), routing_key, arguments
        )

    def consume(
        self,
        prefetch: int = 100,
        *,
        no_ack: bool = False,
        priority: int = 0,
        exclusive: bool = False,
        tag: str | None = None,
    ) -> Consuming:
        """Consume: `async with queue.consume() as consumer:`, then iterate or call `consumer.take`.

        Leaving the block returns to their places all messages that were not acknowledged.

        Args:
            prefetch: unacknowledged messages at most; 0 is no limit.
            no_ack: a message counts as acknowledged when it is handed out.
            priority: consumers with a higher one are served first while they have room.
            exclusive: refuse, and be refused by, any other consumer.
            tag: a name for it; chosen by the broker unless given.

        Raises (when entered):
            ResourceLocked: the queue, or another consumer of it, is exclusive.
            UnknownQueue: the queue was deleted.
            BrokerClosed: the broker was closed.
        """
        return Consuming(
            self, prefetch=prefetch, no_ack=no_ack, priority=priority, exclusive=exclusive, tag=tag
        )

    async def get(self, no_ack: bool = False) -> _core.Delivery:
        """Take the next message; wait for one if there is none.

        If it is cancelled, no message was taken. Tasks that wait are woken in order.

        Args:
            no_ack: it counts as acknowledged when it is handed out.

        Raises:
            UnknownQueue: the queue was deleted.
            BrokerClosed: the broker was closed.
            WrongLoop: called on another event loop than the broker's.
        """
        waits = self._waits
        await waits.turn()
        taken = self.get_many_nowait(1, no_ack)
        if taken:
            return taken[0]
        consumer = _core.Consumer(self, waits.port, hidden=True, no_ack=no_ack)
        while True:
            taken = consumer.take_nowait(1)
            if taken:
                return taken[0]
            await waits.ready(consumer)

    def batches(self, max_messages: int = 500, max_seconds: float = 1.0) -> Batching:
        """Consume in batches: `async with queue.batches() as batches:`, then `async for batch in
        batches:`.

        Leaving the block returns to their places all messages that were not acknowledged. Up to two
        batches may be unacknowledged at a time.

        Args:
            max_messages: a batch of so many is complete.
            max_seconds: so long after its first message a batch is complete, in seconds of the
                event loop's clock.
        """
        return Batching(self, max_messages, max_seconds)

    async def purge(self) -> int:
        """Drop all ready messages; their number. Unacknowledged and scheduled ones stay.

        If it is cancelled while it waits, they are dropped but that is not known to be on stable
        storage.
        """
        await self._waits.turn()
        count, receipt = self._purge()
        await self._waits.durable(receipt)
        return count

    async def move(self, to: _core.Queue, limit: int | None = None) -> int:
        """Move ready messages, the oldest first, to the end of another queue of this broker; their
        number.

        Each message is in exactly one of the two, whatever happens. If it is cancelled while it
        waits, they are moved but that is not known to be on stable storage.

        Args:
            to: the other queue.
            limit: messages at most; all unless given.
        """
        await self._waits.turn()
        count, receipt = self._move(to, limit)
        await self._waits.durable(receipt)
        return count

    async def cancel_scheduled(self, id: int) -> bool:
        """Drop a scheduled message; false when it is not there any more.

        Args:
            id: the `ScheduledMessage.id`.
        """
        await self._waits.turn()
        found, receipt = self._cancel_scheduled(id)
        await self._waits.durable(receipt)
        return found

    async def delete(self, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete this queue with its messages and bindings; how many messages were ready.

        Whoever waits for a message gets UnknownQueue.

        Raises:
            PreconditionFailed: `if_unused`, and it has consumers; or `if_empty`, and it has
            messages.
        """
        return await self._host.delete_queue(self.name, if_unused, if_empty)
