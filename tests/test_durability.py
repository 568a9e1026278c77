"""What is on disk: reopening, refusing, and a SIGKILL in the middle of publishing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import directories
import wherry
from helpers import tasks
from test_exchange import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator


async def test_what_was_confirmed_is_there_after_reopening(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    async with wherry.open(directory) as broker:
        exchange = await broker.declare_exchange("x", "topic")
        queue = await broker.declare_queue("q", retry=wherry.Retry(first=3, dead_letter="failed"))
        await queue.bind(exchange, "a.#")
        await broker.declare_queue("fleeting", durable=False)
        await exchange.publish(b"1", "a.1", **{**EVERYTHING, "persistent": True})
        await exchange.publish(b"2", "a.2")
        await exchange.publish(b"lost", "a.3", persistent=False)
        await exchange.publish(b"4", "a.4")
        await exchange.publish(b"later", "a.5", delay=3600)
        held, done = queue.get_many_nowait(2)
        done.ack()
        await broker.sync()
        assert held.body == b"1"
    async with wherry.open(directory) as broker:
        queue = broker.queue("q")
        assert sorted(broker.queues()) == ["failed", "q"]
        assert (await broker.declare_exchange("x", "topic")).bindings() == [
            wherry.Binding("q", "queue", "a.#", {})
        ]
        one, four = queue.get_many_nowait(9)
        assert (one.body, four.body) == (b"1", b"4")
        assert one.redelivered  # it was handed out when the broker was closed
        assert one.properties.headers == EVERYTHING["headers"]
        assert [m.body for m in queue.scheduled()] == [b"later"]
        one.ack()
        four.ack()
        await broker.sync()
    async with wherry.open(directory) as broker:
        assert broker.queue("q").statistics().ready == 0


async def test_properties_survive(tmp_path: Path) -> None:
    options: wherry.PublishOptions = {**EVERYTHING, "persistent": True}
    async with wherry.open(tmp_path / "j") as broker:
        await broker.declare_queue("q")
        await broker.default_exchange.publish(b"", "q", **options)
    async with wherry.open(tmp_path / "j") as broker:
        properties = broker.queue("q").get_nowait().properties
        for name, value in options.items():
            assert getattr(properties, name) == value


async def test_a_transaction_survives_whole(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j") as broker:
        queue, done = await broker.declare_queue("q"), await broker.declare_queue("done")
        await broker.default_exchange.publish_many([b"1", b"2"], "q")
        async with broker.transaction() as tx:
            tx.ack(queue.get_nowait())
            tx.publish(broker.default_exchange, b"result", "done")
    async with wherry.open(tmp_path / "j") as broker:
        assert [m.body for m in broker.queue("q").browse()] == [b"2"]
        assert [m.body for m in broker.queue("done").browse()] == [b"result"]
        del done


@pytest.mark.parametrize("durability", ["always", "interval", "never"])
async def test_every_durability_survives_closing(tmp_path: Path, durability: str) -> None:
    options = {"durability": durability, "sync_interval": 0.01}
    async with wherry.open(tmp_path / "j", **options) as broker:  # type: ignore[arg-type]
        await broker.declare_queue("q")
        await broker.default_exchange.publish_many([b"%d" % i for i in range(100)], "q")
        journal = broker.statistics().journal
        assert journal is not None
        assert journal.durability == durability
    async with wherry.open(tmp_path / "j") as broker:
        assert broker.queue("q").statistics().ready == 100


async def test_a_directory_has_one_broker(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j"):
        with pytest.raises(wherry.DirectoryLocked):
            async with wherry.open(tmp_path / "j"):
                pass
        with pytest.raises(wherry.DirectoryLocked):
            wherry.blocking.open(str(tmp_path / "j"))
    with wherry.blocking.open(tmp_path / "j"):
        pass


async def test_a_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(wherry.StorageError):
        async with wherry.open(tmp_path / "file"):
            pass


async def test_damage_is_refused_and_may_be_salvaged(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    async with wherry.open(directory) as broker:
        await broker.declare_queue("q")
        for i in range(100):
            broker.default_exchange.publish_nowait(b"payload %03d" % i, "q")
        await broker.sync()
    [segment] = [
        path
        for path in directory.rglob("*")
        if path.is_file() and b"payload 050" in path.read_bytes()
    ]
    data = bytearray(segment.read_bytes())
    data[data.index(b"payload 050")] ^= 1
    segment.write_bytes(data)
    with pytest.raises(wherry.JournalCorrupt, match=f"wherry journal verify {directory}"):
        async with wherry.open(directory):
            pass
    async with wherry.open(directory, on_corruption="salvage") as broker:
        bodies = [m.body for m in broker.queue("q").browse(limit=1000)]
        assert b"payload 050" not in bodies
        assert len(bodies) >= 90


async def test_progress_is_told_and_may_end_the_opening(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    async with wherry.open(directory) as broker:
        await broker.declare_queue("q")
        await broker.default_exchange.publish_many([bytes(1000)] * 3000, "q")
    told: list[tuple[int, int]] = []
    async with wherry.open(directory, progress=lambda done, total: told.append((done, total))):
        assert told
        assert all(0 <= done <= total for done, total in told)
        assert told == sorted(told)

    class Stop(Exception):
        """Raised by a callback."""

    def stop(_done: int, _total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        async with wherry.open(directory, progress=stop):
            pass
    async with wherry.open(directory) as broker:
        assert broker.queue("q").statistics().ready == 3000


async def test_a_backlog_larger_than_the_journals_buffer(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j") as broker:
        queue = await broker.declare_queue("q")
        bodies = [bytes([i % 256]) * 100_000 for i in range(600)]
        await broker.default_exchange.publish_many(bodies, "q")
        seen = 0
        while taken := queue.get_many_nowait(100):
            for delivery in taken:
                assert delivery.body == bodies[seen]
                seen += 1
                delivery.ack()
        assert seen == 600


def fill(exchange: wherry.Exchange | wherry.blocking.Exchange) -> int:
    """Publish until the journal's buffer is full; how many there were."""
    body = bytes(100_000)
    for count in range(10_000):
        try:
            exchange.publish_nowait(body, "q")
        except wherry.Busy:  # noqa: PERF203
            return count
    raise AssertionError("the journal's buffer has no end")


async def test_a_publisher_that_outruns_the_disk_waits(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j") as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        exchange = broker.default_exchange
        count = fill(exchange)
        waiting = [running.start(exchange.publish, b"waited", "q") for _ in range(5)]
        waiting.append(running.start(exchange.publish_many, [b"waited"] * 5, "q"))
        with pytest.raises(wherry.Busy, match="wait for space"):  # noqa: PT012
            for _ in range(1000):
                exchange.publish_many_nowait([bytes(100_000)] * 9, "q")
        for task in waiting:
            await task.wait()
        await broker.sync()
        bodies = [m.body for m in queue.browse(limit=10_000)]
        assert bodies.count(b"waited") == 10
        assert len(bodies) >= count + 10


def test_a_blocking_publisher_that_outruns_the_disk_waits(tmp_path: Path) -> None:
    with wherry.blocking.open(tmp_path / "j") as broker:
        queue = broker.declare_queue("q")
        exchange = broker.default_exchange
        fill(exchange)
        exchange.publish(b"waited", "q")
        fill(exchange)
        exchange.publish_many([b"waited"] * 5, "q")
        assert [m.body for m in queue.browse(limit=10_000)].count(b"waited") == 6


PUBLISHER = """
import os, sys, trio, wherry

async def main():
    async with wherry.open(sys.argv[1]) as broker:
        queue = await broker.declare_queue("q")
        start = int(sys.argv[2])
        numbers = iter(range(start, 10**9))

        async def publish():
            for number in numbers:
                body = b"%d %s" % (number, b"." * (number % 700))
                await broker.default_exchange.publish(body, "q")
                os.write(1, b"published %d\\n" % number)

        async def consume():
            async with queue.consume() as consumer:
                async for delivery in consumer:
                    number = int(delivery.body.split()[0])
                    if number % 3 == 0:
                        delivery.ack()
                        await broker.sync()
                        os.write(1, b"acked %d\\n" % number)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(publish)
            nursery.start_soon(consume)

trio.run(main)
"""


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_sigkill_loses_nothing_confirmed(tmp_path: Path) -> None:
    """A child publishes and acknowledges, and writes down each confirm; it is killed, and the
    journal read. (The page cache survives a kill, so this says nothing of power loss: the journal's
    own tests do.)
    """
    script = tmp_path / "publisher.py"
    script.write_text(PUBLISHER)
    directory = tmp_path / "j"
    chance = random.Random(11)
    published: set[int] = set()
    acked: set[int] = set()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = 0
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, str(script), str(directory), str(start)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert child.stdout is not None
        lines = chance.randrange(20, 400)
        for _ in range(lines):
            line = child.stdout.readline()
            assert line, "the publisher ended by itself"
            note(line, published, acked)
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            if line.endswith(b"\n"):
                note(line, published, acked)
        child.wait()
        child.stdout.close()
        assert child.returncode == -signal.SIGKILL

        with wherry.blocking.open(directory) as broker:
            queue = broker.queue("q")
            there = [int(m.body.split()[0]) for m in queue.browse(limit=10**9)]
            assert len(there) == len(set(there)), "a message came back twice"
            missing = published - acked - set(there)
            # Acknowledged, but killed before it could say so.
            assert all(number % 3 == 0 for number in missing), f"lost: {sorted(missing)}"
            assert not acked & set(there), "an acknowledged message came back"
            for message in queue.browse(limit=10**9):
                number, dots = message.body.split(b" ")
                assert dots == b"." * (int(number) % 700)
            acked |= missing
            start = max([*there, *published, start]) + 1
    assert len(published) > 1000


def note(line: bytes, published: set[int], acked: set[int]) -> None:
    what, number = line.split()
    (published if what == b"published" else acked).add(int(number))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for a few journal segments."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("waits for a machine where this user may mount a small tmpfs")
    yield directory / "j"
    subprocess.run(["umount", str(directory)], check=True)


def fill_disk(broker: wherry.blocking.Broker) -> int:
    """Publish numbered messages until there is no room; how many were confirmed."""
    confirmed = 0
    while True:
        try:
            broker.default_exchange.publish(confirmed.to_bytes(4, "big") + bytes(20_000), "q")
        except wherry.DiskFull:
            return confirmed
        confirmed += 1


def publish_when_there_is_room(broker: wherry.blocking.Broker, body: bytes) -> None:
    for _ in range(1_000_000):  # refused until the journal has let go of its segments
        with contextlib.suppress(wherry.DiskFull):
            broker.default_exchange.publish(body, "q")
            return
    raise AssertionError("there never was room again")


def test_a_full_disk_refuses_publishes_and_lets_consumers_go_on(small_disk: Path) -> None:
    with wherry.blocking.open(small_disk, segment_bytes=4 << 20) as broker:
        queue = broker.declare_queue("q")
        confirmed = fill_disk(broker)
        with pytest.raises(wherry.DiskFull, match="consuming and acknowledging go on"):
            broker.default_exchange.publish(bytes(20_000), "q")
        journal = broker.statistics().journal
        assert journal is not None
        assert journal.disk_full
        with queue.consume(prefetch=0) as consumer:
            taken = consumer.take_nowait(confirmed)
            assert [int.from_bytes(d.body[:4], "big") for d in taken] == list(range(confirmed))
            consumer.ack_many(taken[:-1])
            # What is held of a backlog is a view of its segment, whose room comes back after it.
            del taken
        publish_when_there_is_room(broker, b"again")
    with wherry.blocking.open(small_disk) as broker:
        left = [d.body[-5:] for d in broker.queue("q").get_many_nowait(10)]
        assert left == [bytes(5), b"again"]


NO_DESCRIPTORS = """
import resource, sys, wherry

with wherry.blocking.open(sys.argv[1], segment_bytes=1 << 20) as broker:
    broker.declare_queue("q")
    broker.statistics()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    published = 0
    try:
        while True:
            broker.default_exchange.publish(bytes(20_000), "q")
            published += 1
    except wherry.StorageError as error:
        print(error)
        print(broker.statistics().journal.obstacle)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    while True:
        try:
            broker.default_exchange.publish(bytes(20_000), "q")
            break
        except wherry.StorageError:
            pass
with wherry.blocking.open(sys.argv[1]) as broker:
    assert broker.queue("q").statistics().ready == published + 1
"""


def test_a_journal_without_descriptors_says_so_and_goes_on_later(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS, tmp_path / "j"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    cause = "making a journal segment: Too many open files (os error 24)"
    error, obstacle = run.stdout.splitlines()
    assert error.startswith(f"the journal cannot grow ({cause}): publishing is refused until")
    assert "raise the limit of open files" in error
    assert obstacle == cause


def test_a_journal_whose_directory_was_deleted_confirms_nothing(tmp_path: Path) -> None:
    broker = wherry.blocking.open(tmp_path / "j")
    broker.declare_queue("q")
    directories.delete(tmp_path / "j")
    with pytest.raises(
        wherry.JournalFailed, match=r"deleted while it was in use.*put its directory"
    ):
        broker.default_exchange.publish(b"", "q")
    with pytest.raises(wherry.JournalFailed):
        broker.close()
