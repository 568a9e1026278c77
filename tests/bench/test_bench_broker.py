"""The Python API under pytest-benchmark: `make bench-python`. In a normal run each runs once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from wherry import blocking

BODY = bytes(100)
BODIES = [BODY] * 100


@pytest.fixture
def bound() -> Iterator[tuple[blocking.Exchange, blocking.Queue]]:
    with blocking.open() as broker:
        exchange = broker.declare_exchange("bench", "topic")
        queue = broker.declare_queue("bench")
        queue.bind(exchange, "flight.*.*.departed")
        yield exchange, queue


def test_publish_get_ack(
    benchmark: BenchmarkFixture, bound: tuple[blocking.Exchange, blocking.Queue]
) -> None:
    exchange, queue = bound

    def one() -> None:
        exchange.publish_nowait(BODY, "flight.JFK.B6.departed")
        queue.get_nowait().ack()

    benchmark(one)
    assert queue.statistics().ready == 0


def test_publish_take_ack_in_batches(
    benchmark: BenchmarkFixture, bound: tuple[blocking.Exchange, blocking.Queue]
) -> None:
    exchange, queue = bound
    with queue.consume(prefetch=100) as consumer:

        def hundred() -> None:
            exchange.publish_many_nowait(BODIES, routing_key="flight.JFK.B6.departed")
            deliveries = consumer.take_nowait(100)
            assert len(deliveries) == 100
            consumer.ack_many(deliveries)

        benchmark(hundred)
    assert queue.statistics().ready == 0
