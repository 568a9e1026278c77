"""The peers' half: the same work through what people use today.

Every peer is used as its own documentation shows, with a body of `BODY_BYTES` bytes. Durable means:
when the call returns, the message survives a loss of power. Who does not promise that says so in
its name.
"""

from __future__ import annotations

import collections
import os
import queue
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Case, Work, timed

BODY_BYTES = 100
BODY = bytes(range(BODY_BYTES))
BATCH = 100


@contextmanager
def temporary_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as directory:
        yield Path(directory)


# Structures: any Python object, put and get.


@contextmanager
def simple_queue() -> Iterator[Work]:
    put, get = (lambda q: (q.put, q.get))(queue.SimpleQueue())

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            put(BODY)
            get()
        return time.perf_counter() - start

    yield work


@contextmanager
def simple_queue_batches() -> Iterator[Work]:
    put, get = (lambda q: (q.put, q.get))(queue.SimpleQueue())
    bodies = [BODY] * BATCH

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            for body in bodies:
                put(body)
            [get() for _ in bodies]
        return time.perf_counter() - start

    yield work


@contextmanager
def deque() -> Iterator[Work]:
    items: collections.deque[bytes] = collections.deque()
    put, get = items.append, items.popleft

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            put(BODY)
            get()
        return time.perf_counter() - start

    yield work


@contextmanager
def locked_queue() -> Iterator[Work]:
    items: queue.Queue[bytes] = queue.Queue()

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            items.put(BODY)
            items.get()
        return time.perf_counter() - start

    yield work


@contextmanager
def priority_queue() -> Iterator[Work]:
    items: queue.PriorityQueue[tuple[int, int]] = queue.PriorityQueue()

    def work(count: int) -> float:
        start = time.perf_counter()
        for number in range(count):
            items.put((number & 7, number))
            items.get()
        return time.perf_counter() - start

    yield work


@contextmanager
def trio_channel() -> Iterator[Work]:
    import trio

    async def main(count: int) -> float:
        send, receive = trio.open_memory_channel[bytes](1)
        start = time.perf_counter()
        for _ in range(count):
            send.send_nowait(BODY)
            receive.receive_nowait()
        return time.perf_counter() - start

    yield lambda count: trio.run(main, count)


@contextmanager
def trio_channel_awaited() -> Iterator[Work]:
    import trio

    async def main(count: int) -> float:
        send, receive = trio.open_memory_channel[bytes](1)
        start = time.perf_counter()
        for _ in range(count):
            await send.send(BODY)
            await receive.receive()
        return time.perf_counter() - start

    yield lambda count: trio.run(main, count)


# Brokers in memory: publish, route, take, acknowledge.


@contextmanager
def kombu_memory() -> Iterator[Work]:
    import kombu

    with kombu.Connection("memory://") as connection, connection.channel() as channel:
        exchange = kombu.Exchange("bench", "direct")
        bound = kombu.Queue("bench", exchange, "key")(channel)
        bound.declare()
        producer = kombu.Producer(channel, exchange, "key")

        def work(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                producer.publish(
                    BODY, content_type="application/octet-stream", content_encoding="binary"
                )
                message = bound.get()
                message.ack()
            return time.perf_counter() - start

        yield work


@contextmanager
def leanqueue_memory() -> Iterator[Work]:
    import leanqueue

    core = leanqueue.LeanQueueCore(":memory:")

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            core.enqueue(BODY)
            core.ack(core.dequeue()[0])
        return time.perf_counter() - start

    yield work


@contextmanager
def leanqueue_memory_batches() -> Iterator[Work]:
    import leanqueue

    core = leanqueue.LeanQueueCore(":memory:")
    bodies = [BODY] * BATCH

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            core.enqueue_batch(bodies)
            core.ack_batch([taken[0] for taken in core.dequeue_batch(BATCH)])
        return time.perf_counter() - start

    yield work


# Durable: put, get, acknowledge; every put on stable storage before the next.


def raw_sync(records: int) -> Case:
    """The floor: `records` records written with one pwrite, then one fdatasync."""

    @contextmanager
    def make() -> Iterator[Work]:
        with temporary_directory() as directory:
            # Written once before, as a journal's segment is: appending would sync metadata too.
            size = 64 << 20
            descriptor = os.open(directory / "raw", os.O_RDWR | os.O_CREAT)
            for offset in range(0, size, 4096):
                os.pwrite(descriptor, bytes(4096), offset)
            os.fsync(descriptor)
            written = bytes(records * (BODY_BYTES + 36))

            def work(count: int) -> float:
                offset = 0
                start = time.perf_counter()
                for _ in range(count):
                    if offset + len(written) > size:
                        offset = 0
                    os.pwrite(descriptor, written, offset)
                    os.fdatasync(descriptor)
                    offset += len(written)
                return time.perf_counter() - start

            yield work
            os.close(descriptor)

    return Case(f"floor: {records:,} records, one pwrite and fdatasync", make, records)


@contextmanager
def sqlite_full() -> Iterator[Work]:
    with temporary_directory() as directory:
        connection = sqlite3.connect(directory / "queue.sqlite", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB)")

        def work(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                connection.execute("INSERT INTO queue (body) VALUES (?)", (BODY,))
                connection.execute(
                    "DELETE FROM queue WHERE id = (SELECT min(id) FROM queue) RETURNING body"
                ).fetchall()
            return time.perf_counter() - start

        yield work
        connection.close()


@contextmanager
def persist_queue_file() -> Iterator[Work]:
    import persistqueue

    with temporary_directory() as directory:
        items = persistqueue.Queue(str(directory / "queue"))

        def work(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                items.put(BODY)
                items.get()
                items.task_done()
            return time.perf_counter() - start

        yield work


@contextmanager
def persist_queue_ack() -> Iterator[Work]:
    import persistqueue

    with temporary_directory() as directory:
        items = persistqueue.SQLiteAckQueue(str(directory / "queue"), auto_commit=True)

        def work(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                items.put(BODY)
                items.ack(items.get())
            return time.perf_counter() - start

        yield work
        items.close()


@contextmanager
def simplebroker() -> Iterator[Work]:
    import simplebroker as broker

    text = "x" * BODY_BYTES  # its messages are text
    with (
        temporary_directory() as directory,
        broker.Queue("bench", db_path=str(directory / "broker.db"), persistent=True) as items,
    ):

        def work(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                items.write(text)
                items.read()
            return time.perf_counter() - start

        yield work


@contextmanager
def leanqueue_durable() -> Iterator[Work]:
    import leanqueue

    with temporary_directory() as directory:
        core = leanqueue.LeanQueueCore(str(directory / "queue"), sync_interval_ms=0)

        def work(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                core.enqueue(BODY)
                core.ack(core.dequeue()[0])
            return time.perf_counter() - start

        yield work


def leanqueue_put(outstanding: int) -> Case:
    """Puts alone, `outstanding` of them with one sync: its only way to share one."""

    @contextmanager
    def make() -> Iterator[Work]:
        import leanqueue

        with temporary_directory() as directory:
            core = leanqueue.LeanQueueCore(str(directory / "queue"), sync_interval_ms=0)
            bodies = [BODY] * outstanding

            def work(count: int) -> float:
                def puts() -> None:
                    for _ in range(count):
                        core.enqueue_batch(bodies)

                seconds = timed(puts)
                core.purge()
                return seconds

            yield work

    return Case(f"leanqueue, enqueue_batch of {outstanding:,}", make, outstanding)


STRUCTURES = [
    Case("queue.SimpleQueue", simple_queue),
    Case("collections.deque (no blocking)", deque),
    Case("queue.Queue", locked_queue),
    Case("queue.PriorityQueue", priority_queue),
    Case("trio memory channel, nowait", trio_channel),
    Case("trio memory channel, awaited", trio_channel_awaited),
]
STRUCTURES_BATCHES = [
    Case("queue.SimpleQueue, 100 puts then 100 gets", simple_queue_batches, BATCH)
]
BROKERS = [
    Case("kombu memory transport", kombu_memory),
    Case("leanqueue :memory: (no routing)", leanqueue_memory),
]
BROKERS_BATCHES = [
    Case("kombu memory transport (has no batches)", kombu_memory),
    Case("leanqueue :memory:, batches of 100 (no routing)", leanqueue_memory_batches, BATCH),
]
DURABLE = [
    Case("sqlite3 WAL FULL, one transaction each", sqlite_full),
    Case("persist-queue SQLiteAckQueue", persist_queue_ack),
    Case("persist-queue file (syncs only at chunk ends)", persist_queue_file),
    Case("simplebroker, persistent=True", simplebroker),
    Case("leanqueue, sync each", leanqueue_durable),
]
