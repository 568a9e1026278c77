"""How much resident memory one waiting message, or one idle queue, adds: `memory.py KIND COUNT`.

Each kind is measured in a process of its own, because memory that was given back stays resident.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

import wherry
from harness import resident_bytes

BODY_BYTES = 100
PUBLISH_COUNT = 10_000


def growth(fill: Callable[[], object]) -> int:
    """How much `fill` adds; what it returns is alive while measuring."""
    gc.collect()
    before = resident_bytes()
    kept = fill()
    gc.collect()
    after = resident_bytes()
    del kept
    return after - before


def simple_queue(count: int) -> int:
    def fill() -> object:
        items: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for _ in range(count):
            items.put(os.urandom(BODY_BYTES))
        return items

    return growth(fill)


def kombu_memory(count: int) -> int:
    import kombu

    connection = kombu.Connection("memory://")
    channel = connection.channel()
    exchange = kombu.Exchange("bench", "direct")
    kombu.Queue("bench", exchange, "key")(channel).declare()
    producer = kombu.Producer(channel, exchange, "key")

    def fill() -> None:
        for _ in range(count):
            producer.publish(
                os.urandom(BODY_BYTES),
                content_type="application/octet-stream",
                content_encoding="binary",
            )

    return growth(fill)


def leanqueue_memory(count: int) -> int:
    import leanqueue

    core = leanqueue.LeanQueueCore(":memory:")

    def fill() -> None:
        for _ in range(count):
            core.enqueue(os.urandom(BODY_BYTES))

    return growth(fill)


@asynccontextmanager
async def a_broker(*, durable: bool) -> AsyncIterator[wherry.Broker]:
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as directory:
        async with wherry.open(f"{directory}/bench.wherry" if durable else None) as broker:
            yield broker


def wherry_messages(count: int, *, durable: bool) -> int:
    async def main() -> int:
        async with a_broker(durable=durable) as broker:
            exchange = broker.exchange("amq.fanout")
            waiting = await broker.declare_queue("bench")
            await waiting.bind(exchange)
            gc.collect()
            before = resident_bytes()
            for _ in range(0, count, PUBLISH_COUNT):
                bodies = [os.urandom(BODY_BYTES) for _ in range(PUBLISH_COUNT)]
                await exchange.publish_many(bodies, routing_key="")
            del bodies
            gc.collect()
            return resident_bytes() - before

    return trio.run(main)


def wherry_queues(count: int) -> int:
    async def main() -> int:
        async with a_broker(durable=False) as broker:
            gc.collect()
            before = resident_bytes()
            for number in range(count):
                await broker.declare_queue(f"queue-{number}")
            gc.collect()
            return resident_bytes() - before

    return trio.run(main)


KINDS: dict[str, Callable[[int], int]] = {
    "bytes in queue.SimpleQueue": simple_queue,
    "kombu memory transport": kombu_memory,
    "leanqueue :memory:": leanqueue_memory,
    "wherry, in memory": lambda count: wherry_messages(count, durable=False),
    "wherry, durable": lambda count: wherry_messages(count, durable=True),
    "wherry, idle queue": wherry_queues,
}

if __name__ == "__main__":
    kind, size = sys.argv[1], int(sys.argv[2])
    print(json.dumps({"bytes_each": KINDS[kind](size) / size}))
