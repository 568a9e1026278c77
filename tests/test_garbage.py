"""Nothing leaks: objects go when their last reference goes, without waiting for the collector."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import wherry
from helpers import settle, tasks
from wherry.server import UserStore


@pytest.fixture(autouse=True)
def _collected() -> None:
    gc.collect()


@pytest.mark.only("trio")
async def test_bodies_and_deliveries_go() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        body = b"a body of its own"
        before = sys.getrefcount(body)
        for _ in range(100):
            broker.default_exchange.publish_nowait(body, "q")
            broker.default_exchange.publish_many_nowait([body, (body, "q")], "q")
            wherry.Message(body, "q")
        assert sys.getrefcount(body) == before
        delivery = queue.get_nowait()
        own = delivery.body
        assert sys.getrefcount(own) == 3
        del delivery
        assert sys.getrefcount(own) == 2


def test_the_collector_does_not_look_at_deliveries() -> None:
    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish_many([b"x"] * 4, "q")
        with queue.consume() as consumer:
            some = [queue.get(), next(consumer), *consumer.take(2)]
            assert [gc.is_tracked(delivery) for delivery in some] == [False] * 4
            consumer.ack_many(some[1:])


def test_a_blocking_broker_leaves_no_cycles_behind(no_garbage: None) -> None:
    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish(b"", "q")
        with queue.consume() as consumer, next(consumer):
            pass
        with broker.transaction() as tx:
            tx.publish(broker.default_exchange, b"", "q")


@pytest.mark.only("asyncio", "trio")
async def test_an_awaiting_broker_leaves_no_cycles_behind() -> None:
    await use()
    gc.collect()
    gc.disable()
    try:
        waits = await use()
        await settle()
        assert waits() is None
    finally:
        gc.enable()


async def use() -> weakref.ref[Any]:
    """All that makes objects; a reference to the bookkeeping in their middle."""
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        task = running.start(queue.get)
        await settle()
        await broker.default_exchange.publish_many([b""] * 10, "q")
        (await task.wait()).ack()
        async with queue.consume() as consumer:
            async for delivery in consumer:
                async with delivery:
                    break
        async with broker.transaction() as tx:
            tx.publish(broker.default_exchange, b"", "q")
        return weakref.ref(broker._waits)


def test_a_million_messages_leave_the_memory_as_it_was() -> None:
    import resource

    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q")
        exchange = broker.default_exchange
        batch = [b"0123456789"] * 1000

        def cycle(count: int) -> int:
            for _ in range(count):
                exchange.publish_many_nowait(batch, "q")
                for delivery in queue.get_many_nowait(1000):
                    delivery.ack()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        cycle(20)
        before = cycle(100)
        after = cycle(500)
        assert after - before < 20_000  # KiB


def test_a_server_in_a_thread_goes_with_its_block() -> None:
    with wherry.serve(port=0) as server:
        hub = weakref.ref(server._hub)
    del server
    assert hub() is None


@pytest.mark.only("asyncio", "trio")
async def test_a_server_on_an_event_loop_goes_with_its_block(tmp_path: Path) -> None:
    users = UserStore(tmp_path / "users.json")  # it lives on
    async with wherry.serve(port=0, users=users) as server:
        hub = weakref.ref(server._hub)
    del server
    await settle()
    assert hub() is None
    users.add("another", "x")  # nobody hears of it


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_a_closed_directory_is_let_go_of(tmp_path: Path) -> None:
    """Its descriptor with it, though routes are collected by and by."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use() -> None:
        with wherry.blocking.open(tmp_path) as broker:
            queue = broker.declare_queue("q")
            exchange = broker.declare_exchange("x", "topic")
            queue.bind(exchange, "#")
            exchange.publish(b"x", "k")
            queue.unbind(exchange, "#")
            broker.default_exchange.publish(b"x", "q")
            assert len(queue.get_many_nowait(2, no_ack=True)) == 2

    use()
    before = descriptors()
    for _ in range(20):
        use()
    assert descriptors() == before
