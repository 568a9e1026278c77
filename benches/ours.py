"""Wherry's half: the same work as in `peers.py`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

import wherry
from harness import Case, Work
from peers import BATCH, BODY, temporary_directory

# Structures.


@contextmanager
def fifo() -> Iterator[Work]:
    items: wherry.Fifo[bytes] = wherry.Fifo()
    put, get = items.put, items.get_nowait

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            put(BODY)
            get()
        return time.perf_counter() - start

    yield work


@contextmanager
def fifo_batches() -> Iterator[Work]:
    items: wherry.Fifo[bytes] = wherry.Fifo()
    put_many, get_many = items.put_many, items.get_many
    bodies = [BODY] * BATCH

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            put_many(bodies)
            get_many(BATCH)
        return time.perf_counter() - start

    yield work


@contextmanager
def priority_fifo() -> Iterator[Work]:
    items: wherry.PriorityFifo[bytes] = wherry.PriorityFifo(8)
    put, get = items.put, items.get_nowait

    def work(count: int) -> float:
        start = time.perf_counter()
        for number in range(count):
            put(BODY, number & 7)
            get()
        return time.perf_counter() - start

    yield work


# Broker.


class Bench(NamedTuple):
    broker: wherry.Broker
    exchange: wherry.Exchange
    queue: wherry.Queue


def _broker(
    work: Callable[[Bench, int], Awaitable[float]], *, durable: bool
) -> Callable[[], AbstractContextManager[Work]]:
    """A case inside `trio.run`: a broker, one direct exchange and one bound queue per round."""

    @contextmanager
    def make() -> Iterator[Work]:
        with temporary_directory() as directory:

            async def main(count: int) -> float:
                path: Path | None = directory / "bench.wherry" if durable else None
                async with wherry.open(path) as broker:
                    exchange = await broker.declare_exchange("bench", "direct")
                    queue = await broker.declare_queue("bench")
                    await queue.bind(exchange, "key")
                    seconds = await work(Bench(broker, exchange, queue), count)
                    await queue.purge()
                    return seconds

            yield lambda count: trio.run(main, count)

    return make


async def _nowait(bench: Bench, count: int) -> float:
    exchange, queue = bench.exchange, bench.queue
    publish, get = exchange.publish_nowait, queue.get_nowait
    start = time.perf_counter()
    for _ in range(count):
        publish(BODY, "key")
        get().ack()
    return time.perf_counter() - start


async def _awaited(bench: Bench, count: int) -> float:
    exchange, queue = bench.exchange, bench.queue
    start = time.perf_counter()
    for _ in range(count):
        await exchange.publish(BODY, "key")
        delivery = await queue.get()
        delivery.ack()
    return time.perf_counter() - start


async def _iterated(bench: Bench, count: int) -> float:
    """A publisher task and a consumer task, as most programs are written."""

    exchange, queue = bench.exchange, bench.queue

    async def publish() -> None:
        for _ in range(count):
            await exchange.publish(BODY, "key")

    start = time.perf_counter()
    async with trio.open_nursery() as nursery, queue.consume(prefetch=1000) as deliveries:
        nursery.start_soon(publish)
        left = count
        async for delivery in deliveries:
            delivery.ack()
            left -= 1
            if not left:
                break
    return time.perf_counter() - start


async def _batches(bench: Bench, count: int) -> float:
    exchange, queue = bench.exchange, bench.queue
    bodies = [BODY] * BATCH
    async with queue.consume(prefetch=BATCH) as consumer:
        start = time.perf_counter()
        for _ in range(count):
            exchange.publish_many_nowait(bodies, routing_key="key")
            consumer.ack_many(consumer.take_nowait(BATCH))
        return time.perf_counter() - start


async def _batches_and_bodies(bench: Bench, count: int) -> float:
    """The same, and each body is looked at."""
    exchange, queue = bench.exchange, bench.queue
    bodies = [BODY] * BATCH
    seen = 0
    async with queue.consume(prefetch=BATCH) as consumer:
        start = time.perf_counter()
        for _ in range(count):
            exchange.publish_many_nowait(bodies, routing_key="key")
            deliveries = consumer.take_nowait(BATCH)
            for delivery in deliveries:
                seen += len(delivery.body)
            consumer.ack_many(deliveries)
        seconds = time.perf_counter() - start
    assert seen == count * BATCH * len(BODY)
    return seconds


def publish_window(outstanding: int) -> Case:
    """Confirmed publishes from one task that has up to `outstanding` of them on the way.

    A receipt stands for all before it, so the task waits once for each half of the window.
    """

    async def work(bench: Bench, count: int) -> float:
        broker, publish = bench.broker, bench.exchange.publish_nowait
        half = outstanding // 2
        earlier = receipt = 0
        start = time.perf_counter()
        for first in range(0, count, half):
            for _ in range(min(half, count - first)):
                receipt = publish(BODY, "key")
            await broker.confirmed(earlier)
            earlier = receipt
        await broker.confirmed(receipt)
        return time.perf_counter() - start

    return Case(f"wherry, publish_nowait, {outstanding:,} outstanding", _broker(work, durable=True))


def publish_tasks(tasks: int) -> Case:
    """Confirmed publishes from `tasks` tasks, each waiting for its own."""

    async def work(bench: Bench, count: int) -> float:
        exchange = bench.exchange

        async def publish(number: int) -> None:
            for _ in range(count // tasks + (number < count % tasks)):
                await exchange.publish(BODY, "key")

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(publish, number)
        return time.perf_counter() - start

    return Case(f"wherry, {tasks:,} tasks awaiting publish", _broker(work, durable=True))


def publish_batches(outstanding: int) -> Case:
    """Confirmed publishes in batches of `outstanding`, one after the other."""

    async def work(bench: Bench, count: int) -> float:
        exchange = bench.exchange
        bodies = [BODY] * outstanding
        start = time.perf_counter()
        for _ in range(count):
            await exchange.publish_many(bodies, routing_key="key")
        return time.perf_counter() - start

    name = f"wherry, await publish_many of {outstanding:,}"
    return Case(name, _broker(work, durable=True), outstanding)


STRUCTURES = [
    Case("wherry.Fifo", fifo),
    Case("wherry.PriorityFifo(8)", priority_fifo),
]
STRUCTURES_BATCHES = [Case("wherry.Fifo, put_many and get_many of 100", fifo_batches, BATCH)]
BROKERS = [
    Case("wherry, nowait", _broker(_nowait, durable=False)),
    Case("wherry, awaited", _broker(_awaited, durable=False)),
    Case("wherry, a publisher and a consumer task", _broker(_iterated, durable=False)),
]
BROKERS_BATCHES = [
    Case("wherry, batches of 100", _broker(_batches, durable=False), BATCH),
    Case("wherry, batches of 100, bodies read", _broker(_batches_and_bodies, durable=False), BATCH),
]
DURABLE = [Case("wherry, awaited", _broker(_awaited, durable=True))]
