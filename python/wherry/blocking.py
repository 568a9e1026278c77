"""The same broker for plain threads: the same names, no `await`, and `timeout=` where a call waits.

    with wherry.blocking.open("orders.wherry") as broker:
        queue = broker.declare_queue("inventory")
        broker.default_exchange.publish(b"...", "inventory")
        with queue.consume() as deliveries:
            for delivery in deliveries:
                with delivery:
                    ...

Everything here works in any thread, and waits with the interpreter released; Ctrl-C ends a wait in
the main thread. A wait for the disk that takes longer than `timeout` seconds raises TimeoutError:
what was asked for is done, but not known to be on stable storage. `Message`, `Delivery`, `Retry`,
the statistics and all errors are those of `wherry`.

Do not call what waits from an event loop's thread: the loop would stand still.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, final

from wherry import _core
from wherry._batch import Batch
from wherry._errors import Busy, QueueEmpty, WherryError
from wherry._exchange import CHUNK, ExchangeViews, name_of
from wherry._queue import QueueViews

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from wherry._types import (
        BrokerStatistics,
        ConsumerCount,
        Dedup,
        Durability,
        ExchangeType,
        PublishOptions,
        QueueOptions,
        Receipt,
        Unpack,
    )

__all__ = [
    "Batches",
    "Broker",
    "Consumer",
    "ConsumerWatch",
    "Exchange",
    "Queue",
    "VirtualHost",
    "open",
]

P = ParamSpec("P")
T = TypeVar("T")


def _durable(engine: _core.Engine, receipt: int, timeout: float | None) -> None:
    if receipt and not engine.wait_durable(receipt, timeout):
        raise TimeoutError(
            f"done, but not known to be on stable storage after {timeout} s: "
            "call sync() to wait for it"
        )


def _with_space(engine: _core.Engine, operation: Callable[[], T], timeout: float | None) -> T:
    """Do it; when it is refused as Busy, wait until the disk has caught up and do it again."""
    while True:
        try:
            return operation()
        except Busy:  # noqa: PERF203
            if not engine.wait_space(timeout):
                raise


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


@final
class Exchange(ExchangeViews):
    """Takes messages and routes them to queues. See `wherry.Exchange`."""

    __slots__ = ("_host",)

    _host: VirtualHost

    def __new__(cls, host: VirtualHost, name: str) -> Exchange:
        self = super().__new__(cls, host._core, name)
        self._host = host
        return self

    def publish(
        self,
        body: bytes,
        routing_key: str = "",
        *,
        timeout: float | None = None,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Publish a message, and wait until it is confirmed. See `wherry.Exchange.publish`.

        Raises:
            TimeoutError: it is published, but not known to be on stable storage after `timeout`
            seconds. Busy: it is not published: the disk has not caught up for `timeout` seconds.
        """
        engine = self._host._engine
        publish = partial(self.publish_nowait, body, routing_key, **options)
        _durable(engine, _with_space(engine, publish, timeout), timeout)

    def publish_many(
        self,
        messages: Iterable[_core.Message | tuple[bytes, str] | bytes],
        routing_key: str = "",
        *,
        timeout: float | None = None,
    ) -> None:
        """Publish many messages in order, and wait until all are confirmed. See
        `wherry.Exchange.publish_many`.

        Raises:
            TimeoutError: they are published, but not known to be on stable storage after `timeout`
            seconds. Busy: not all are published: the disk has not caught up for `timeout` seconds.
        """
        items = messages if isinstance(messages, list | tuple) else list(messages)
        engine = self._host._engine
        receipt = start = 0
        while start < len(items):
            publish = partial(self._publish_part, items[start : start + CHUNK], routing_key)
            try:
                part, count = _with_space(engine, publish, timeout)
            except WherryError as error:
                error.published = start
                raise
            receipt = max(receipt, part)
            start += count
        _durable(engine, receipt, timeout)

    def bind(
        self,
        source: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Let another exchange give messages to this one. See `wherry.Exchange.bind`."""
        bind = partial(
            self._host._core.bind_exchange, self.name, name_of(source), routing_key, arguments
        )
        self._host._control(bind, timeout)

    def unbind(
        self,
        source: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Take such a binding away. See `wherry.Exchange.unbind`."""
        unbind = partial(
            self._host._core.unbind_exchange, self.name, name_of(source), routing_key, arguments
        )
        self._host._control(unbind, timeout)

    def delete(self, if_unused: bool = False, *, timeout: float | None = None) -> None:
        """Delete this exchange with its bindings. See `wherry.Exchange.delete`."""
        self._host.delete_exchange(self.name, if_unused, timeout=timeout)


@final
class Queue(QueueViews):
    """Keeps messages until consumers take them. See `wherry.Queue`."""

    __slots__ = ("_host",)

    _host: VirtualHost

    def __new__(cls, host: VirtualHost, name: str) -> Queue:
        self = super().__new__(cls, host._core, name)
        self._host = host
        return self

    def bind(
        self,
        exchange: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Let an exchange give messages to this queue. See `wherry.Queue.bind`."""
        bind = partial(
            self._host._core.bind_queue, self.name, name_of(exchange), routing_key, arguments
        )
        self._host._control(bind, timeout)

    def unbind(
        self,
        exchange: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Take such a binding away. See `wherry.Queue.unbind`."""
        unbind = partial(
            self._host._core.unbind_queue, self.name, name_of(exchange), routing_key, arguments
        )
        self._host._control(unbind, timeout)

    def consume(
        self,
        prefetch: int = 100,
        *,
        no_ack: bool = False,
        priority: int = 0,
        exclusive: bool = False,
        tag: str | None = None,
    ) -> Consumer:
        """Consume: `with queue.consume() as consumer:`. See `wherry.Queue.consume`."""
        return Consumer(
            self, prefetch=prefetch, no_ack=no_ack, priority=priority, exclusive=exclusive, tag=tag
        )

    def get(self, no_ack: bool = False, *, timeout: float | None = None) -> _core.Delivery:
        """Take the next message; wait for one if there is none.

        Raises:
            QueueEmpty: none came in `timeout` seconds.
            UnknownQueue: the queue was deleted.
            BrokerClosed: the broker was closed.
        """
        taken = self.get_many_nowait(1, no_ack)
        if not taken:
            consumer = _core.BlockingConsumer(self, hidden=True, no_ack=no_ack)
            taken = consumer.take(1, timeout)
        if not taken:
            raise QueueEmpty(
                f"no message came to queue '{self.name}' in {timeout} s: try again, or wait longer"
            )
        return taken[0]

    def batches(self, max_messages: int = 500, max_seconds: float = 1.0) -> Batches:
        """Consume in batches: `with queue.batches() as batches:`. See `wherry.Queue.batches`."""
        return Batches(self.consume(2 * max_messages), max_messages, max_seconds)

    def purge(self, *, timeout: float | None = None) -> int:
        """Drop all ready messages; their number. See `wherry.Queue.purge`."""
        count, receipt = self._purge()
        _durable(self._host._engine, receipt, timeout)
        return count

    def move(
        self, to: _core.Queue, limit: int | None = None, *, timeout: float | None = None
    ) -> int:
        """Move ready messages to another queue; their number. See `wherry.Queue.move`."""
        count, receipt = self._move(to, limit)
        _durable(self._host._engine, receipt, timeout)
        return count

    def cancel_scheduled(self, id: int, *, timeout: float | None = None) -> bool:
        """Drop a scheduled message. See `wherry.Queue.cancel_scheduled`."""
        found, receipt = self._cancel_scheduled(id)
        _durable(self._host._engine, receipt, timeout)
        return found

    def delete(
        self, if_unused: bool = False, if_empty: bool = False, *, timeout: float | None = None
    ) -> int:
        """Delete this queue. See `wherry.Queue.delete`."""
        return self._host.delete_queue(self.name, if_unused, if_empty, timeout=timeout)


class VirtualHost:
    """A namespace of exchanges and queues. See `wherry.VirtualHost`."""

    __slots__ = ("_core", "_engine")

    def __init__(self, engine: _core.Engine, name: str) -> None:
        self._engine = engine
        self._core = _core.VirtualHost(engine, name)

    @property
    def name(self) -> str:
        """Its name."""
        return self._core.name

    def __repr__(self) -> str:
        return f"<wherry.blocking.{type(self).__name__} '{self.name}'>"

    def _control(self, operation: Callable[[], Receipt], timeout: float | None) -> None:
        """Carry out a change of the topology and wait until it is durable."""
        _durable(self._engine, _with_space(self._engine, operation, timeout), timeout)

    def declare_exchange(
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
        timeout: float | None = None,
    ) -> Exchange:
        """Make sure that an exchange exists; return it. See `wherry.Broker.declare_exchange`."""
        if not passive:
            declare = partial(
                self._core.declare_exchange,
                name,
                type,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                alternate_exchange=alternate_exchange,
                dedup=dedup,
            )
            self._control(declare, timeout)
        return self.exchange(name)

    def exchange(self, name: str) -> Exchange:
        """An exchange that exists. See `wherry.Broker.exchange`."""
        return Exchange(self, name)

    @property
    def default_exchange(self) -> Exchange:
        """The exchange named "": it routes to the queue whose name is the routing key."""
        return Exchange(self, "")

    def exchanges(self) -> list[str]:
        """The names of the exchanges, in no particular order."""
        return self._core.exchanges()

    def delete_exchange(
        self, name: str, if_unused: bool = False, *, timeout: float | None = None
    ) -> None:
        """Delete an exchange with its bindings. See `wherry.Broker.delete_exchange`."""
        self._control(partial(self._core.delete_exchange, name, if_unused), timeout)

    def declare_queue(
        self,
        name: str = "",
        *,
        passive: bool = False,
        timeout: float | None = None,
        **options: Unpack[QueueOptions],
    ) -> Queue:
        """Make sure that a queue exists, and return it. See `wherry.Broker.declare_queue`."""
        if passive:
            return self.queue(name)
        declare = partial(self._core.declare_queue, name, **options)
        chosen, receipt = _with_space(self._engine, declare, timeout)
        _durable(self._engine, receipt, timeout)
        return self.queue(chosen)

    def queue(self, name: str) -> Queue:
        """A queue that exists. See `wherry.Broker.queue`."""
        return Queue(self, name)

    def queues(self) -> list[str]:
        """The names of the queues, in no particular order."""
        return self._core.queues()

    def delete_queue(
        self,
        name: str,
        if_unused: bool = False,
        if_empty: bool = False,
        *,
        timeout: float | None = None,
    ) -> int:
        """Delete a queue; how many messages were ready. See `wherry.Broker.delete_queue`."""
        delete = partial(self._core.delete_queue, name, if_unused, if_empty)
        count, receipt = _with_space(self._engine, delete, timeout)
        _durable(self._engine, receipt, timeout)
        return count

    def transaction(self, *, timeout: float | None = None) -> _Transacting:
        """Publish and acknowledge all or nothing: `with broker.transaction() as tx:`.

        See `wherry.Broker.transaction`.
        """
        return _Transacting(self, timeout)

    def publish(
        self,
        topic: str,
        body: bytes,
        *,
        timeout: float | None = None,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Publish to whoever subscribed. See `wherry.Broker.publish`."""
        self.exchange("amq.topic").publish(body, topic, timeout=timeout, **options)

    def subscribe(
        self,
        pattern: str,
        *,
        prefetch: int = 1000,
        no_ack: bool = True,
        max_length: int | None = None,
    ) -> Consumer:
        """Get a copy of every message whose topic matches: `with broker.subscribe("orders.#") as
        deliveries:`.

        It is subscribed from this call on. See `wherry.Broker.subscribe`.
        """
        queue = self.declare_queue(
            durable=False, exclusive=True, auto_delete=True, max_length=max_length
        )
        consumer = queue.consume(prefetch, no_ack=no_ack)
        try:
            queue.bind("amq.topic", pattern)
        except BaseException:
            # The queue goes with its last consumer.
            consumer._cancel()
            raise
        return consumer

    def watch_consumers(self) -> ConsumerWatch:
        """Hear how many consumers each queue has: `with broker.watch_consumers() as counts:`. See
        `wherry.Broker.watch_consumers`.
        """
        return ConsumerWatch(self)


@final
class Broker(VirtualHost):
    """An open broker, and its virtual host "/": `with wherry.blocking.open() as broker:`."""

    __slots__ = ()

    def __init__(self, engine: _core.Engine) -> None:
        super().__init__(engine, "/")

    def virtual_host(self, name: str) -> VirtualHost:
        """A virtual host that exists. See `wherry.Broker.virtual_host`."""
        return VirtualHost(self._engine, name)

    def virtual_hosts(self) -> list[str]:
        """The names of the virtual hosts, in no particular order."""
        return self._engine.virtual_hosts()

    def add_virtual_host(self, name: str, *, timeout: float | None = None) -> VirtualHost:
        """Make sure that a virtual host exists, and return it. See
        `wherry.Broker.add_virtual_host`.
        """
        self._control(partial(self._engine.add_virtual_host, name), timeout)
        return self.virtual_host(name)

    def delete_virtual_host(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a virtual host with everything in it. See `wherry.Broker.delete_virtual_host`."""
        self._control(partial(self._engine.delete_virtual_host, name), timeout)

    def confirmed(self, receipt: Receipt, *, timeout: float | None = None) -> None:
        """Wait until what a `*_nowait` call returned this receipt for is on stable storage.

        Raises:
            TimeoutError: it is not yet known to be, after `timeout` seconds.
            JournalFailed: that will never be known.
        """
        _durable(self._engine, receipt, timeout)

    def sync(self, *, timeout: float | None = None) -> None:
        """Wait until everything done so far, acknowledgements included, is on stable storage."""
        self._control(self._engine.barrier, timeout)

    def statistics(self) -> BrokerStatistics:
        """Numbers of the whole broker."""
        from wherry._statistics import broker_statistics

        return broker_statistics(self._engine)

    @property
    def clock(self) -> Any:
        """The broker's clock: `now()` in Unix seconds; of a `VirtualClock` also `advance`."""
        return self._engine.clock

    def close(self) -> None:
        """Sync what is left and close. Whoever waits gets BrokerClosed. May be repeated."""
        self._engine.close()

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


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
) -> Broker:
    """Open a broker: `with wherry.blocking.open("orders.wherry") as broker:`. See `wherry.open`."""
    return Broker(
        _core.Engine(
            path,
            durability=durability,
            sync_interval=sync_interval,
            clock=clock,
            segment_bytes=segment_bytes,
            memory_bytes_max=memory_bytes_max,
            on_corruption=on_corruption,
            progress=progress,
        )
    )


@final
class _Transacting:
    __slots__ = ("_host", "_timeout", "_transaction")

    def __init__(self, host: VirtualHost, timeout: float | None) -> None:
        self._host = host
        self._timeout = timeout
        self._transaction = host._core.transaction()

    def __enter__(self) -> _core.Transaction:
        return self._transaction

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self._transaction._rollback()
            return
        self._host._control(self._transaction._commit, self._timeout)
