"""The history of the in-process broker's speed: `asv run`. Small on purpose."""

from __future__ import annotations

from wherry import blocking

BODY = bytes(100)
BODIES = [BODY] * 100


class InMemory:
    """A direct exchange and one bound queue."""

    def setup(self) -> None:
        self._opened = blocking.open()
        broker = self._opened.__enter__()
        self._exchange = broker.declare_exchange("bench", "direct")
        self._queue = broker.declare_queue("bench")
        self._queue.bind(self._exchange, "key")

    def teardown(self) -> None:
        self._opened.__exit__(None, None, None)

    def time_publish_get_ack(self) -> None:
        self._exchange.publish_nowait(BODY, "key")
        self._queue.get_nowait().ack()

    def time_hundred(self) -> None:
        self._exchange.publish_many_nowait(BODIES, routing_key="key")
        for delivery in self._queue.get_many_nowait(100):
            delivery.ack()
