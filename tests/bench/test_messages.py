"""Publishing, taking and acknowledging through Python, in memory: 1,000 messages a round.

Off in normal runs; `make bench-python` switches it on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from wherry import Message, blocking

COUNT = 1000
BODY = b"0123456789abcdef"


@pytest.fixture
def broker() -> Iterator[blocking.Broker]:
    with blocking.open() as broker:
        yield broker


def test_one_at_a_time(broker: blocking.Broker, benchmark: BenchmarkFixture) -> None:
    get = broker.declare_queue("q").get_nowait
    publish = broker.default_exchange.publish_nowait

    def run() -> None:
        for _ in range(COUNT):
            publish(BODY, "q")
            get().ack()

    benchmark(run)


def test_one_at_a_time_over_a_topic(broker: blocking.Broker, benchmark: BenchmarkFixture) -> None:
    queue = broker.declare_queue("q")
    queue.bind("amq.topic", "order.*.placed")
    get = queue.get_nowait
    publish = broker.exchange("amq.topic").publish_nowait

    def run() -> None:
        for _ in range(COUNT):
            publish(BODY, "order.eu.placed")
            get().ack()

    benchmark(run)


def test_one_at_a_time_with_headers(broker: blocking.Broker, benchmark: BenchmarkFixture) -> None:
    get = broker.declare_queue("q").get_nowait
    publish = broker.default_exchange.publish_nowait

    def run() -> None:
        for number in range(COUNT):
            publish(BODY, "q", headers={"order-id": "A17", "number": number})
            with get() as delivery:
                assert delivery.headers

    benchmark(run)


def test_batches_of_100(broker: blocking.Broker, benchmark: BenchmarkFixture) -> None:
    queue = broker.declare_queue("q")
    publish = broker.default_exchange.publish_many_nowait
    bodies = [BODY] * 100

    def run() -> None:
        for _ in range(COUNT // 100):
            publish(bodies, "q")
            consumer.ack_many(consumer.take_nowait(100))

    with queue.consume(0) as consumer:
        benchmark(run)


def test_batches_of_100_in_groups(broker: blocking.Broker, benchmark: BenchmarkFixture) -> None:
    queue = broker.declare_queue("q", group_by="key")
    publish = broker.default_exchange.publish_many_nowait
    messages = [Message(BODY, "q", headers={"key": key}) for key in range(100)]

    def run() -> None:
        for _ in range(COUNT // 100):
            publish(messages)
            consumer.ack_many(consumer.take_nowait(100))

    with queue.consume(0) as consumer:
        benchmark(run)
