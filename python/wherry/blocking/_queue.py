"""Queues in plain threads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from wherry import _core
from wherry._batch import check
from wherry._errors import QueueEmpty
from wherry._exchange import name_of
from wherry._queue import QueueViews
from wherry.blocking._consumer import Batches, Consumer
from wherry.blocking._waits import durable

if TYPE_CHECKING:
    from wherry.blocking._broker import VirtualHost


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
        check(max_messages, max_seconds)
        return Batches(self.consume(2 * max_messages), max_messages, max_seconds)

    def purge(self, *, timeout: float | None = None) -> int:
        """Drop all ready messages; their number. See `wherry.Queue.purge`."""
        count, receipt = self._purge()
        durable(self._host._engine, receipt, timeout)
        return count

    def move(
        self, to: _core.Queue, limit: int | None = None, *, timeout: float | None = None
    ) -> int:
        """Move ready messages to another queue; their number. See `wherry.Queue.move`."""
        count, receipt = self._move(to, limit)
        durable(self._host._engine, receipt, timeout)
        return count

    def cancel_scheduled(self, id: int, *, timeout: float | None = None) -> bool:
        """Drop a scheduled message. See `wherry.Queue.cancel_scheduled`."""
        found, receipt = self._cancel_scheduled(id)
        durable(self._host._engine, receipt, timeout)
        return found

    def delete(
        self, if_unused: bool = False, if_empty: bool = False, *, timeout: float | None = None
    ) -> int:
        """Delete this queue. See `wherry.Queue.delete`."""
        return self._host.delete_queue(self.name, if_unused, if_empty, timeout=timeout)
