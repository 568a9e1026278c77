"""Message groups: many keys, many updates, N workers, and a proof of order in the same run.

Each update's body is its key's number and its place in that key's history. Before it acknowledges,
a worker writes down the bodies that it took, in the order in which all workers took theirs. When
the clock has stopped, each must be the next one of its key: as a key has at most one message in
flight, any other order would show. Keys are drawn at random with a hot end, so that updates of one
key also stand close together. Making the keys and bodies, and reading what was written down, are
not timed; everything else is.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import struct
import time
from array import array

import trio

import wherry

PUBLISH_COUNT = 1_000
BACKLOG_MAX = 200_000
"""The publisher stays at most this far ahead of the workers."""

UPDATE = struct.Struct("<II")


def draw(keys: int, updates: int) -> list[tuple[bytes, str]]:
    """The body and the group key, which is the routing key, of each update."""
    generator = random.Random(2013)
    counts = array("I", bytes(4 * keys))
    drawn = []
    names = [str(key) for key in range(keys)]
    for _ in range(updates):
        key = int(keys * generator.random() ** 2)
        drawn.append((UPDATE.pack(key, counts[key]), names[key]))
        counts[key] += 1
    return drawn


async def run(keys: int, updates: int, workers: int, take: int) -> dict[str, float]:
    drawn = draw(keys, updates)
    gc.freeze()  # ten million tuples of ours are no business of the collections in the run
    taken: list[bytes] = []
    done = published = 0
    room = trio.Event()
    finished = trio.Event()

    async with wherry.open() as broker:
        exchange = await broker.declare_exchange("updates", "fanout")
        queue = await broker.declare_queue("entities", group_by="routing-key")
        await queue.bind(exchange)

        async def publish() -> None:
            nonlocal published, room
            for start in range(0, updates, PUBLISH_COUNT):
                while published - done > BACKLOG_MAX:
                    room = trio.Event()
                    await room.wait()
                exchange.publish_many_nowait(drawn[start : start + PUBLISH_COUNT])
                published += PUBLISH_COUNT
                await trio.lowlevel.checkpoint()

        async def work() -> None:
            nonlocal done
            async with queue.consume(prefetch=take) as consumer:
                while True:
                    deliveries = await consumer.take(take)
                    taken.append(b"".join([delivery.body for delivery in deliveries]))
                    consumer.ack_many(deliveries)
                    done += len(deliveries)
                    if published - done <= BACKLOG_MAX:
                        room.set()
                    if done >= updates:
                        finished.set()

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            for _ in range(workers):
                nursery.start_soon(work)
            await finished.wait()
            seconds = time.perf_counter() - start
            nursery.cancel_scope.cancel()
    return {"updates_per_second": updates / seconds, **checked(taken, keys, updates)}


def checked(taken: list[bytes], keys: int, updates: int) -> dict[str, int]:
    """Whether each key's updates were taken in order, and all of them."""
    following = array("I", bytes(4 * keys))
    out_of_order = 0
    for bodies in taken:
        for key, place in UPDATE.iter_unpack(bodies):
            out_of_order += following[key] != place
            following[key] = place + 1
    return {"out_of_order": out_of_order, "lost": updates - sum(map(len, taken)) // UPDATE.size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--updates", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--take", type=int, default=500)
    arguments = parser.parse_args()
    print(
        json.dumps(
            trio.run(run, arguments.keys, arguments.updates, arguments.workers, arguments.take)
        )
    )


if __name__ == "__main__":
    main()
