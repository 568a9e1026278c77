"""A virtual host: exchanges, queues, policies, transactions, publish-subscribe. For async code."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, final

from wherry import _core
from wherry._consumer import Consumer, Consuming
from wherry._errors import Busy
from wherry._exchange import Exchange
from wherry._queue import Queue
from wherry._waits import Waits
from wherry._watch import Watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from wherry._types import (
        AppliesTo,
        Dedup,
        ExchangeType,
        Policy,
        PublishOptions,
        QueueOptions,
        Receipt,
        Unpack,
    )

P = ParamSpec("P")


class VirtualHost:
    """A namespace of exchanges and queues. `Broker` is the one named "/"; others come from
    `add_virtual_host`.

    What is awaited works on the broker's event loop only, the rest in any thread.
    """

    __slots__ = ("_core", "_engine", "_waits")

    def __init__(self, engine: _core.Engine, waits: Waits, name: str) -> None:
        self._engine = engine
        self._waits = waits
        self._core = _core.VirtualHost(engine, name)

    @property
    def name(self) -> str:
        """Its name."""
        return self._core.name

    def __repr__(self) -> str:
        return f"<wherry.{type(self).__name__} '{self.name}'>"

    async def _control(
        self, operation: Callable[P, Receipt], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Carry out a change of the topology and wait until it is durable."""
        receipt = await self._try(partial(operation, *args, **kwargs), int)
        await self._waits.durable(receipt)

    async def _try(self, operation: Callable[[], Any], kind: type[Any]) -> Any:
        waits = self._waits
        await waits.turn()
        try:
            return operation()
        except Busy:
            return await waits.when_space(operation)

    # Exchanges

    async def declare_exchange(
        self,
        name: str,
        type: ExchangeType = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        alternate_exchange: str | None = None,
        dedup: Dedup | None = None,
        passive: bool = False,
    ) -> Exchange:
        """Make sure that an exchange exists, and return it. Declaring it again the same way changes
        nothing.

        If it is cancelled while it waits, the exchange exists but is not known to be on stable
        storage.

        Args:
            name: at most 255 bytes; names that begin with `amq.` are reserved.
            type: `direct` (key equals binding's), `topic` (patterns), `headers`, or `fanout` (all
                bindings).
            durable: survive a restart.
            auto_delete: delete it when its last binding goes.
            internal: take messages from other exchanges only.
            alternate_exchange: name of the exchange for messages that no binding takes.
            dedup: a `wherry.Dedup`: judge what is published to it before it is routed.
            passive: only look whether it exists; the other arguments are ignored.

        Raises:
            PreconditionFailed: it exists with other properties.
            UnknownExchange: `passive`, and it does not exist.
            AccessRefused: the name is reserved.
            InvalidArgument: an unknown type, a name that is too long.
        """
        if not passive:
            await self._control(
                self._core.declare_exchange,
                name,
                type,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                alternate_exchange=alternate_exchange,
                dedup=dedup,
            )
        return self.exchange(name)

    def exchange(self, name: str) -> Exchange:
        """An exchange that exists.

        Raises:
            UnknownExchange: it does not.
        """
        return Exchange(self, name)

    @property
    def default_exchange(self) -> Exchange:
        """The exchange named "": it routes to the queue whose name is the routing key."""
        return Exchange(self, "")

    def exchanges(self) -> list[str]:
        """The names of the exchanges, in no particular order."""
        return self._core.exchanges()

    async def delete_exchange(self, name: str, if_unused: bool = False) -> None:
        """Delete an exchange with its bindings.

        If it is cancelled while it waits, it is gone but that is not known to be on stable storage.

        Raises:
            UnknownExchange: there is none of this name.
            PreconditionFailed: `if_unused`, and it has bindings.
            AccessRefused: it is predeclared.
        """
        await self._control(self._core.delete_exchange, name, if_unused)

    # Queues

    async def declare_queue(
        self, name: str = "", *, passive: bool = False, **options: Unpack[QueueOptions]
    ) -> Queue:
        """Make sure that a queue exists, and return it. Declaring it again the same way changes
        nothing.

        If it is cancelled while it waits, the queue exists but is not known to be on stable
        storage.

        Args:
            name: at most 255 bytes; names that begin with `amq.` are reserved; "" lets the broker
                choose one.
            passive: only look whether it exists; the other arguments are ignored.
            durable: survive a restart, and with it persistent messages. True unless given.
            exclusive: only for this program; gone when the broker is closed.
            auto_delete: delete it when its last consumer goes.
            group_by: name of the header (or `message-id`, `correlation-id`, `type`, `app-id`,
                `user-id`, `reply-to`, `routing-key`) by which messages form groups: strictly first
                in, first out and one at a time in a group, all groups in parallel.
            retry: a `wherry.Retry`: what to do with a message whose handling failed.
            max_priority: 1 to 255: make it a priority queue with levels 0 to this.
            message_ttl: seconds that a message may wait; then it is dead-lettered or dropped,
                wherever it stands.
            expires: delete the queue after so many seconds without consumer, get or declaration.
            max_length, max_length_bytes: ready messages, or bytes of them, at most.
            overflow: at either limit: `drop-head` (the oldest make room), `reject-publish`,
                `reject-publish-dlx`.
            dead_letter_exchange: name of the exchange for messages that were rejected, expired or
                pushed out; "" is the default exchange.
            dead_letter_routing_key: their routing key; their own unless given.
            delivery_limit: redeliveries before a message is dead-lettered.
            single_active_consumer: one consumer at a time gets messages.
            lease: seconds after which a delivery that was not settled returns to its place.
            dedup: a `wherry.Dedup`: do not store a message again whose id was seen already.

        Raises:
            PreconditionFailed: it exists with other properties.
            UnknownQueue: `passive`, and it does not exist.
            AccessRefused: the name is reserved.
            InvalidArgument: an option that can never be right; the message names it.
        """
        if passive:
            return self.queue(name)
        declare = partial(self._core.declare_queue, name, **options)
        chosen, receipt = await self._try(declare, tuple)
        await self._waits.durable(receipt)
        return self.queue(chosen)

    def queue(self, name: str) -> Queue:
        """A queue that exists.

        Raises:
            UnknownQueue: it does not.
        """
        return Queue(self, name)

    def queues(self) -> list[str]:
        """The names of the queues, in no particular order."""
        return self._core.queues()

    async def delete_queue(self, name: str, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue with its messages and bindings; how many messages were ready.

        If it is cancelled while it waits, it is gone but that is not known to be on stable storage.

        Raises:
            UnknownQueue: there is none of this name.
            PreconditionFailed: `if_unused`, and it has consumers; or `if_empty`, and it has
            messages.
        """
        delete = partial(self._core.delete_queue, name, if_unused, if_empty)
        count, receipt = await self._try(delete, tuple)
        await self._waits.durable(receipt)
        return int(count)

    # Policies

    async def set_policy(
        self,
        name: str,
        pattern: str,
        definition: dict[str, Any],
        *,
        apply_to: AppliesTo = "all",
        priority: int = 0,
        operator: bool = False,
    ) -> list[str]:
        """Give settings to all queues and exchanges whose names match: to those that are there,
        before this returns, and to those that are declared later. How they were declared does not
        change. A policy of this name is replaced.

        The rules are RabbitMQ's. Of the policies that match, the one with the highest priority
        acts, alone, and beside it the operator policy with the highest priority; where both have a
        number, the lower one counts. What comes out meets the declaration: of two numbers the lower
        one counts, of other settings the declared one.

        If it is cancelled while it waits, the policy is in force but not known to be on stable
        storage.

        Args:
            name: at most 255 bytes.
            pattern: a regular expression that is searched for in names: `^log\\.` are those that
                begin with "log.", "" are all.
            definition: the settings, by RabbitMQ's names, times in milliseconds: of queues
                `message-ttl`, `expires`, `max-length`, `max-length-bytes`, `overflow`,
                `dead-letter-exchange`, `dead-letter-routing-key`, `delivery-limit`,
                `retry-attempts` and the like, `lease`; of exchanges `alternate-exchange`.
            apply_to: `queues`, `classic_queues`, `quorum_queues`, `exchanges`, or `all`.
            priority: of the policies that match, the highest one acts; of equal ones the first by
                name.
            operator: set an operator policy, which has names of its own.

        Returns:
            What of the definition has no effect here, or not everywhere; a line each.

        Raises:
            InvalidArgument: a pattern, setting or value that can never be right, or over 1000
            policies.
        """
        change = partial(
            _core.set_policy,
            self._core,
            name,
            pattern,
            definition,
            apply_to=apply_to,
            priority=priority,
            operator=operator,
        )
        notes, receipt = await self._try(change, tuple)
        await self._waits.durable(receipt)
        return list(notes)

    async def delete_policy(self, name: str, *, operator: bool = False) -> bool:
        """Delete a policy, or an operator policy; false when there is none of this name. What it
        acted on is as declared again, or as the next policy that matches has it.

        If it is cancelled while it waits, it is gone but that is not known to be on stable storage.
        """
        change = partial(_core.clear_policy, self._core, name, operator=operator)
        there, receipt = await self._try(change, tuple)
        await self._waits.durable(receipt)
        return bool(there)

    def policies(self, *, operator: bool = False) -> list[Policy]:
        """The policies, or the operator policies; of those that match, the first one acts.

        Which ones act on a queue or an exchange, these say: `Queue.policies`, `Exchange.policy`.
        """
        from wherry._types import Policy

        found = _core.policies(self._core)
        return [Policy(**one) for one in found if one["operator"] is operator]

    # All together

    def transaction(self) -> Transacting:
        """Publish and acknowledge all or nothing: `async with broker.transaction() as tx:`, then
        `tx.publish(...)`, `tx.ack(delivery)`, `tx.nack(delivery)`.

        Leaving the block carries it out as one record of the journal and waits until that is
        durable. An exception in the block rolls back: nothing was published, the deliveries are
        still unacknowledged. If it is cancelled while it waits, it is carried out but not known to
        be on stable storage.

        Raises (when left):
            UnknownDelivery, Unroutable, PublishRejected and the like: one part was refused; nothing
            of it happened.
        """
        return Transacting(self)

    async def publish(self, topic: str, body: bytes, **options: Unpack[PublishOptions]) -> None:
        """Publish to whoever subscribed: to the exchange `amq.topic`, with the topic as routing
        key.

        Args:
            topic: words between dots, such as `orders.eu.placed`.
            body, options: as for `Exchange.publish`, as is all else.
        """
        await self.exchange("amq.topic").publish(body, topic, **options)

    def subscribe(
        self,
        pattern: str,
        *,
        prefetch: int = 1000,
        no_ack: bool = True,
        max_length: int | None = None,
    ) -> Subscribing:
        """Get a copy of every message published from now on whose topic matches:
        `async with broker.subscribe("orders.*.placed") as deliveries:`, then iterate.

        Each subscription has a queue of its own that ends with the block.

        Args:
            pattern: words between dots; `*` is one word, `#` any number.
            prefetch: unacknowledged messages at most. Matters with `no_ack=False` only.
            no_ack: a message counts as acknowledged when it is handed out.
            max_length: keep so many messages for a subscriber that falls behind; the oldest make
                room. No limit unless given.
        """
        return Subscribing(self, pattern, prefetch, no_ack, max_length)

    def watch_consumers(self) -> Watching:
        """Hear how many consumers each queue has, without asking again and again:
        `async with broker.watch_consumers() as counts:`, then `async for queue, consumers in
        counts:`.

        First come the queues that have consumers now, then each queue whose number has changed,
        with what it is when you take it: who is slow misses what lies between, never the last word.
        """
        return Watching(self)


@final
class Transacting:
    """What `transaction` returns: enter it for a `Transaction`, leave it to carry that out."""

    __slots__ = ("_host", "_transaction")

    def __init__(self, host: VirtualHost) -> None:
        self._host = host
        self._transaction: _core.Transaction | None = None

    async def __aenter__(self) -> _core.Transaction:
        await self._host._waits.turn()
        self._transaction = self._host._core.transaction()
        return self._transaction

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._transaction is not None
        if exc_type is not None:
            self._transaction._rollback()
            return
        await self._host._control(self._transaction._commit)


@final
class Subscribing:
    """What `subscribe` returns: enter it for a `Consumer` of the subscription's own queue."""

    __slots__ = ("_consuming", "_host", "_max_length", "_no_ack", "_pattern", "_prefetch")

    def __init__(
        self, host: VirtualHost, pattern: str, prefetch: int, no_ack: bool, max_length: int | None
    ) -> None:
        self._host = host
        self._pattern = pattern
        self._prefetch = prefetch
        self._no_ack = no_ack
        self._max_length = max_length
        self._consuming: Consuming | None = None

    async def __aenter__(self) -> Consumer:
        queue = await self._host.declare_queue(
            durable=False, exclusive=True, auto_delete=True, max_length=self._max_length
        )
        self._consuming = Consuming(queue, prefetch=self._prefetch, no_ack=self._no_ack)
        consumer = await self._consuming.__aenter__()
        try:
            await queue.bind("amq.topic", self._pattern)
        except BaseException:
            # The queue goes with its last consumer.
            consumer._cancel()
            raise
        return consumer

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._consuming is not None
        await self._consuming.__aexit__(exc_type, exc, traceback)
