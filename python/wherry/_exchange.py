"""Exchanges for async code, and what both kinds of exchange share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from wherry import _core
from wherry._errors import Busy, WherryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry._types import Binding, ExchangeStatistics, PublishOptions, Unpack
    from wherry._virtual_host import VirtualHost
    from wherry._waits import Waits

# What `publish_many` hands to the engine at once: enough that the crossing costs nothing, little
# enough that other tasks do not wait for milliseconds and that it fits the journal's buffer.
CHUNK = 1000


def name_of(exchange: _core.Exchange | str) -> str:
    """The name of an exchange given as object or by name."""
    return exchange if isinstance(exchange, str) else exchange.name


class ExchangeViews(_core.Exchange):
    """What can be looked at without waiting."""

    __slots__ = ()

    def bindings(self) -> list[Binding]:
        """The bindings that lead out of this exchange, in no particular order."""
        from wherry._types import Binding

        return [
            Binding(destination, kind, routing_key, arguments)
            for kind, destination, routing_key, arguments in self._bindings()
        ]

    def policy(self) -> str | None:
        """Name of the policy that acts on this exchange; None if none matches. See
        `Broker.set_policy`.
        """
        name: str | None = self._policy()["policy"]
        return name

    def statistics(self) -> ExchangeStatistics:
        """Numbers of this exchange since the broker was opened."""
        from wherry._types import ExchangeStatistics

        return ExchangeStatistics(**self._statistics())

    def __repr__(self) -> str:
        return f"<wherry.{type(self).__name__} '{self.name}', {self.type}>"


@final
class Exchange(ExchangeViews):
    """Takes messages and routes them to queues. Made by `declare_exchange` and `exchange` of a
    broker.

    `publish_nowait`, `publish_many_nowait`, `bindings`, `policy` and `statistics` work from any
    thread; what is awaited only on the broker's event loop.
    """

    __slots__ = ("_host", "_waits")

    _host: VirtualHost
    _waits: Waits

    def __new__(cls, host: VirtualHost, name: str) -> Exchange:
        self = super().__new__(cls, host._core, name)
        self._host = host
        self._waits = host._waits
        return self

    async def publish(
        self, body: bytes, routing_key: str = "", **options: Unpack[PublishOptions]
    ) -> None:
        """Publish a message, and wait until it is confirmed: routed, and on stable storage if it is
        persistent and went to a durable queue (see `durability` of `wherry.open`).

        If it is cancelled while it waits, the message is published but not known to be on stable
        storage.

        Args:
            body: bytes, bytearray or memoryview.
            routing_key: what the exchange routes by; at most 255 bytes.
            headers: the application's own fields: a dict of str to None, bool, int, float, str,
                bytes, datetime (with time zone, whole seconds), Decimal, list or dict.
            persistent: survive a restart, in durable queues. True unless given.
            priority: 0 to 255, higher first, in queues declared with `max_priority`.
            expiration: seconds to live in a queue.
            delay: seconds until it becomes ready.
            deliver_at: Unix seconds or datetime when it becomes ready, instead of `delay`.
            message_id, correlation_id, reply_to, content_type, content_encoding, type, app_id,
                user_id: texts of at most 255 bytes, handed to the consumer.
            timestamp: Unix seconds or datetime, handed to the consumer in whole seconds.
            mandatory: raise if no queue takes it.

        Raises:
            Unroutable: `mandatory`, and no queue is bound for the key.
            PublishRejected: a queue at its limit refuses it; other queues have it.
            InvalidArgument: an option that can never be right; the message names it.
            MessageTooLarge, AccessRefused, DiskFull, StorageError, BrokerClosed: it was not
                published.
            JournalFailed: it was not published, or it is not known to be on stable storage.
            WrongLoop: called on another event loop than the broker's.
        """
        waits = self._waits
        await waits.turn()
        try:
            receipt = self.publish_nowait(body, routing_key, **options)
        except Busy:
            receipt = await waits.when_space(
                partial(self.publish_nowait, body, routing_key, **options)
            )
        if receipt:
            await waits.durable(receipt)

    async def publish_many(
        self,
        messages: Iterable[_core.Message | tuple[bytes, str] | bytes],
        routing_key: str = "",
    ) -> None:
        """Publish many messages in order, and wait until all are confirmed.

        It is not a transaction: after an error those before it are published (its `published` says
        how many), and after a cancellation some may be.

        Args:
            messages: each a `Message`, a `(body, routing_key)` tuple, or bytes published with
                `routing_key`.
            routing_key: for messages given as bytes.

        Raises:
            InvalidArgument: a message that can never be right; the text says which.
            As for `publish`.
        """
        items = messages if isinstance(messages, list | tuple) else list(messages)
        waits = self._waits
        receipt = start = 0
        while start < len(items):
            await waits.turn()
            publish = partial(self._publish_part, items[start : start + CHUNK], routing_key)
            try:
                try:
                    part, count = publish()
                except Busy:
                    part, count = await waits.when_space(publish)
            except WherryError as error:
                error.published = start
                raise
            receipt = max(receipt, part)
            start += count
        if receipt:
            await waits.durable(receipt)

    async def bind(
        self,
        source: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Let another exchange give messages to this one. Binding again changes nothing.

        If it is cancelled while it waits, the binding is made but not known to be on stable
        storage.

        Args:
            source: the exchange that messages come from, or its name.
            routing_key: key or pattern, as the source's type has it.
            arguments: for a headers exchange, what to compare, and `x-match`.

        Raises:
            UnknownExchange: there is no such source.
            InvalidArgument: a pattern that can never match.
        """
        await self._host._control(
            self._host._core.bind_exchange, self.name, name_of(source), routing_key, arguments
        )

    async def unbind(
        self,
        source: _core.Exchange | str,
        routing_key: str = "",
        *,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Take such a binding away. That there is none is no error.

        Raises:
            UnknownExchange: there is no such source.
        """
        await self._host._control(
            self._host._core.unbind_exchange, self.name, name_of(source), routing_key, arguments
        )

    async def delete(self, if_unused: bool = False) -> None:
        """Delete this exchange with its bindings.

        Raises:
            PreconditionFailed: `if_unused`, and it has bindings.
            AccessRefused: it is predeclared.
        """
        await self._host.delete_exchange(self.name, if_unused)
