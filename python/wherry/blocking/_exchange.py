"""Exchanges in plain threads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from wherry import _core
from wherry._errors import WherryError
from wherry._exchange import CHUNK, ExchangeViews, name_of
from wherry.blocking._waits import durable, with_space

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry._types import PublishOptions, Unpack
    from wherry.blocking._broker import VirtualHost


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
        durable(engine, with_space(engine, publish, timeout), timeout)

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
                part, count = with_space(engine, publish, timeout)
            except WherryError as error:
                error.published = start
                raise
            receipt = max(receipt, part)
            start += count
        durable(engine, receipt, timeout)

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
