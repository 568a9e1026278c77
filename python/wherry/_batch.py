"""Several deliveries that are settled together."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, final

from wherry._errors import BrokerClosed, InvalidArgument, UnknownDelivery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from wherry import _core


# Twice as many, the prefetch of batches, is still one.
_MESSAGES_MAX = 2**31 - 1


def check(max_messages: int, max_seconds: float) -> None:
    """What `batches` was given.

    Raises:
        InvalidArgument: no batch could be like that.
    """
    if not 1 <= index(max_messages) <= _MESSAGES_MAX:
        raise InvalidArgument(
            f"max_messages={max_messages}: give a whole number from 1 to {_MESSAGES_MAX}"
        )
    if not 0 <= max_seconds < math.inf:
        raise InvalidArgument(
            f"max_seconds={max_seconds}: give a number of seconds that is not negative and is "
            "finite"
        )


@final
class Batch:
    """Deliveries that are acknowledged together: one crossing into the engine, one record of the
    journal.

    Use `async with batch:` (`with` in blocking code): it acks all on success; on an exception the
    queue's retry policy decides for each, and the exception goes on; when the block is cancelled
    all return to their places.
    """

    __slots__ = ("_consumer", "_settled", "deliveries")

    def __init__(self, consumer: _core.Consumer, deliveries: list[_core.Delivery]) -> None:
        self._consumer = consumer
        self._settled = False
        self.deliveries = deliveries
        """The deliveries, in order."""

    def __iter__(self) -> Iterator[_core.Delivery]:
        return iter(self.deliveries)

    def __len__(self) -> int:
        return len(self.deliveries)

    def __repr__(self) -> str:
        return f"<wherry.Batch of {len(self.deliveries)} deliveries>"

    def ack(self) -> None:
        """Acknowledge all of them, or none. Does not wait for the disk; `broker.sync()` does.

        Raises:
            UnknownDelivery: one is settled already; nothing changed.
        """
        self._consumer.ack_many(self.deliveries)
        self._settled = True

    def nack(self, requeue: bool = True) -> None:
        """Return all of them to their places, or with `requeue=False` dead-letter or drop them.

        Raises:
            UnknownDelivery: one is settled already; nothing changed.
        """
        self._consumer.nack_many(self.deliveries, requeue)
        self._settled = True

    def _leave(self, raised: type[BaseException] | None) -> None:
        if self._settled:
            return
        if raised is None:
            self.ack()
            return
        try:
            if issubclass(raised, Exception):
                self._consumer._fail_many(self.deliveries)
            else:
                # Cancelled or interrupted: no fault of the messages.
                self._consumer._release_many(self.deliveries)
        except (UnknownDelivery, BrokerClosed):
            # They are back already. The exception that ends the block says more.
            pass

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc_type)

    async def __aenter__(self) -> Batch:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc_type)
