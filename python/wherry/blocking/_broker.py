"""Virtual hosts and transactions in plain threads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from wherry import _core
from wherry.blocking._consumer import Consumer, ConsumerWatch
from wherry.blocking._exchange import Exchange
from wherry.blocking._queue import Queue
from wherry.blocking._waits import durable, with_space

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from wherry._types import (
        AppliesTo,
        BrokerStatistics,
        Dedup,
        ExchangeType,
        Policy,
        PublishOptions,
        QueueOptions,
        Receipt,
        Unpack,
    )


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
        durable(self._engine, with_space(self._engine, operation, timeout), timeout)

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
        chosen, receipt = with_space(self._engine, declare, timeout)
        durable(self._engine, receipt, timeout)
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
        count, receipt = with_space(self._engine, delete, timeout)
        durable(self._engine, receipt, timeout)
        return count

    def set_policy(
        self,
        name: str,
        pattern: str,
        definition: dict[str, Any],
        *,
        apply_to: AppliesTo = "all",
        priority: int = 0,
        operator: bool = False,
        timeout: float | None = None,
    ) -> list[str]:
        """Give settings to all queues and exchanges whose names match; what of it has no effect, a
        line each. See `wherry.Broker.set_policy`.
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
        notes, receipt = with_space(self._engine, change, timeout)
        durable(self._engine, receipt, timeout)
        return notes

    def delete_policy(
        self, name: str, *, operator: bool = False, timeout: float | None = None
    ) -> bool:
        """Delete a policy; false when there is none of this name. See
        `wherry.Broker.delete_policy`.
        """
        change = partial(_core.clear_policy, self._core, name, operator=operator)
        there, receipt = with_space(self._engine, change, timeout)
        durable(self._engine, receipt, timeout)
        return there

    def policies(self, *, operator: bool = False) -> list[Policy]:
        """The policies, or the operator policies; of those that match, the first one acts. See
        `wherry.Broker.policies`.
        """
        from wherry._types import Policy

        found = _core.policies(self._core)
        return [Policy(**one) for one in found if one["operator"] is operator]

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
        durable(self._engine, receipt, timeout)

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
