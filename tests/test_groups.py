"""Message groups: in order and one at a time for each key, all keys in parallel."""

from __future__ import annotations

import random

import pytest

import wherry
from helpers import Background, pause, tasks
from test_queue import Oops


async def test_a_group_is_handed_out_one_at_a_time() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", group_by="key")
        for body, key in [(b"a1", "a"), (b"a2", "a"), (b"b1", "b"), (b"-1", None), (b"-2", None)]:
            headers = {} if key is None else {"key": key}
            await broker.default_exchange.publish(body, "q", headers=headers)
        first = queue.get_many_nowait(9)
        assert [d.body for d in first] == [b"a1", b"b1", b"-1", b"-2"]
        assert queue.statistics().groups == 2
        first[0].nack()
        again = queue.get_nowait()
        assert (again.body, again.delivery_count) == (b"a1", 1)
        again.ack()
        assert queue.get_nowait().body == b"a2"


async def test_a_group_waits_for_its_retry() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        queue = await broker.declare_queue(
            "q", group_by="key", retry=wherry.Retry(attempts=2, first=10)
        )
        for body, key in [(b"a1", "a"), (b"a2", "a"), (b"b1", "b")]:
            await broker.default_exchange.publish(body, "q", headers={"key": key})
        with pytest.raises(Oops):
            async with queue.get_nowait():
                raise Oops
        assert [d.body for d in queue.get_many_nowait(9, no_ack=True)] == [b"b1"]
        broker.clock.advance(11)
        [a1] = queue.get_many_nowait(9)
        assert a1.body == b"a1"
        a1.ack()
        assert queue.get_nowait().body == b"a2"


async def test_order_holds_with_many_workers_that_fail_at_times() -> None:
    keys, updates = 20, 25
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q", group_by="key")
        chance = random.Random(7)
        applied: dict[int, list[int]] = {key: [] for key in range(keys)}
        in_flight: set[int] = set()

        async def work() -> None:
            async with queue.consume(prefetch=3) as consumer:
                while True:
                    for delivery in await consumer.take(3):
                        key = delivery.headers["key"]
                        assert key not in in_flight
                        in_flight.add(key)
                        await pause()
                        in_flight.remove(key)
                        if chance.random() < 0.2:
                            delivery.nack()
                        else:
                            applied[key].append(int(delivery.body))
                            delivery.ack()

        for _ in range(6):
            running.start(work)
        for update in range(updates):
            await broker.default_exchange.publish_many(
                [wherry.Message(b"%d" % update, "q", headers={"key": key}) for key in range(keys)]
            )
        while sum(map(len, applied.values())) < keys * updates:
            await pause()
        assert all(done == list(range(updates)) for done in applied.values())


def test_order_holds_with_many_threads() -> None:
    keys, updates = 50, 100
    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q", group_by="key")
        applied: dict[int, list[int]] = {key: [] for key in range(keys)}

        def work() -> None:
            with queue.consume(prefetch=10) as consumer:
                while taken := consumer.take(10, timeout=5):
                    for delivery in taken:
                        key, number = map(int, delivery.body.split())
                        if key < 0:
                            delivery.ack()
                            return
                        applied[key].append(number)
                        delivery.ack()

        threads = [Background(work) for _ in range(4)]
        messages = [
            wherry.Message(b"%d %d" % (key, number), "q", headers={"key": key})
            for number in range(updates)
            for key in range(keys)
        ]
        broker.default_exchange.publish_many(messages)
        while sum(map(len, applied.values())) < keys * updates:
            assert all(thread.running for thread in threads)
        for _ in threads:
            broker.default_exchange.publish(b"-1 0", "q")
        for thread in threads:
            thread.result()
        assert all(done == list(range(updates)) for done in applied.values())
