"""Waiting: for the disk, from other threads, on the wrong loop; and being cancelled."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

import wherry
from helpers import Background, pause, settle, tasks
from wherry import _core


async def test_receipts_are_confirmed_in_any_order(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j") as broker, tasks() as running:
        await broker.declare_queue("q")
        receipts = [broker.default_exchange.publish_nowait(b"", "q") for _ in range(20)]
        assert receipts == sorted(receipts)
        assert receipts[0] > 0
        waiting = [running.start(broker.confirmed, receipt) for receipt in reversed(receipts)]
        for task in waiting:
            await task.wait()
        await broker.confirmed(receipts[-1])
        await broker.confirmed(0)
        journal = broker.statistics().journal
        assert journal is not None
        assert journal.syncs < 40
        assert journal.durability == "always"


async def test_a_cancelled_confirm_disturbs_nobody(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j") as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        publish = broker.default_exchange.publish
        waiting = [running.start(publish, b"%d" % i, "q") for i in range(30)]
        await pause()
        for task in waiting[::3]:
            task.cancel()
        for task in waiting[1::3] + waiting[2::3]:
            await task.wait()
        await broker.sync()
        published = {m.body for m in queue.browse()}
        assert published >= {b"%d" % i for i in range(30) if i % 3}


async def test_a_receipt_far_ahead_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with tasks() as running:
        async with wherry.open(tmp_path / "j") as broker:
            await broker.declare_queue("q")
            never = running.start(broker.confirmed, 10**15)
            await settle()
            for _ in range(3):
                await broker.default_exchange.publish(b"", "q")
            assert not never.done
        with pytest.raises(wherry.BrokerClosed):
            await never.wait()


async def test_a_memory_broker_confirms_at_once() -> None:
    async with wherry.open() as broker:
        await broker.declare_queue("q")
        assert broker.default_exchange.publish_nowait(b"", "q") == 0
        await broker.sync()


async def test_nobody_is_told_of_commits_that_nobody_waits_for(tmp_path: Path) -> None:
    async with wherry.open(tmp_path / "j") as broker:
        await broker.declare_queue("q")
        await broker.sync()
        port = broker._waits.port
        port.take_ready()
        receipt = broker.default_exchange.publish_nowait(b"", "q")
        # Blocks this loop, so that nothing can be drained meanwhile.
        broker._engine.wait_durable(receipt)
        assert port.take_ready() == []


async def test_a_publisher_in_another_thread_wakes_a_consumer() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        exchange = broker.default_exchange
        count = 2000
        thread = Background(lambda: [exchange.publish_nowait(b"%d" % i, "q") for i in range(count)])
        seen = []
        async with queue.consume() as consumer:
            async for delivery in consumer:
                delivery.ack()
                seen.append(int(delivery.body))
                if len(seen) == count:
                    break
        thread.result()
        assert seen == list(range(count))


async def test_ping_pong_with_another_thread() -> None:
    async with wherry.open() as broker:
        ping, pong = await broker.declare_queue("ping"), await broker.declare_queue("pong")
        exchange, blocking = broker.default_exchange, broker.blocking

        def answer() -> None:
            for _ in range(200):
                with blocking.queue("ping").get(timeout=20) as delivery:
                    exchange.publish_nowait(delivery.body, "pong")

        thread = Background(answer)
        for i in range(200):
            await exchange.publish(b"%d" % i, "ping")
            async with await pong.get() as delivery:
                assert delivery.body == b"%d" % i
        thread.result()
        assert ping.statistics().ready == 0


async def test_publisher_and_consumer_on_one_loop_use_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wherry.open() as broker, tasks() as running:
        waits = broker._waits
        readable = 0
        original = waits.port.clear

        class Port:
            """Counts what comes in by the descriptor."""

            def clear(self) -> None:
                nonlocal readable
                readable += 1
                original()

            def __getattr__(self, name: str) -> Any:
                return getattr(port, name)

        port = waits.port
        queue = await broker.declare_queue("q")
        task = running.start(queue.get)
        await settle()
        monkeypatch.setattr(waits, "port", Port())
        broker.default_exchange.publish_nowait(b"", "q")
        await task.wait()
        await settle()
        assert readable == 0


async def test_the_wake_up_of_a_cancelled_task_goes_to_the_next() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        for _ in range(20):
            waiting = [running.start(queue.get) for _ in range(3)]
            await settle()
            broker.default_exchange.publish_nowait(b"x", "q")
            waiting[0].cancel()
            waiting[1].cancel()
            await settle()
            done = [task for task in waiting if task.result is not None]
            assert len(done) == 1
            done[0].result.ack()
            waiting[2].cancel()
            await settle()
        stats = queue.statistics()
        assert (stats.ready, stats.unacked, stats.acknowledged) == (0, 0, 20)


async def test_the_wake_up_of_a_cancelled_take_goes_to_another_consumer() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        async with queue.consume() as one, queue.consume() as two:
            cancelled = running.start(one.take)
            await settle()
            other = running.start(two.take)
            await settle()
            broker.default_exchange.publish_nowait(b"x", "q")
            cancelled.cancel()
            await settle()
            taken = cancelled.result or await other.wait()
            assert [d.body for d in taken] == [b"x"]


async def test_many_tasks_share_the_work_and_lose_nothing() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        seen: list[int] = []

        async def work() -> None:
            while True:
                async with await queue.get() as delivery:
                    seen.append(int(delivery.body))

        workers = [running.start(work) for _ in range(10)]
        for i in range(500):
            broker.default_exchange.publish_nowait(b"%d" % i, "q")
            if i % 7 == 0:
                await pause()
            if i % 50 == 0:
                workers.pop().cancel() if len(workers) > 2 else None
        while len(seen) < 500:
            await pause()
        assert sorted(seen) == list(range(500))


# Loops


def test_what_is_awaited_belongs_to_the_loop_that_opened_the_broker() -> None:
    opened = threading.Event()
    finish = threading.Event()
    shared: list[wherry.Broker] = []

    async def owner() -> None:
        async with wherry.open() as broker:
            shared.append(broker)
            await broker.declare_queue("q")
            opened.set()
            await trio.to_thread.run_sync(finish.wait)

    thread = Background(lambda: trio.run(owner))
    try:
        assert opened.wait(20)
        broker = shared[0]
        queue = broker.queue("q")

        async def stranger() -> None:
            calls = [
                lambda: broker.default_exchange.publish(b"", "q"),
                lambda: broker.default_exchange.publish_many([b""], "q"),
                lambda: queue.get(),
                lambda: queue.purge(),
                lambda: broker.declare_queue("r"),
                lambda: broker.confirmed(0),
                lambda: broker.sync(),
                lambda: broker.aclose(),
                lambda: queue.consume().__aenter__(),
                lambda: broker.transaction().__aenter__(),
                lambda: broker.subscribe("#").__aenter__(),
            ]
            for call in calls:
                with pytest.raises(wherry.WrongLoop, match="blocking"):
                    await call()

        trio.run(stranger)
        asyncio.run(stranger())
        broker.default_exchange.publish_nowait(b"any thread", "q")
        assert queue.get_nowait().body == b"any thread"
        assert broker.queues() == ["q"]
    finally:
        finish.set()
        thread.result()


def test_opening_needs_a_loop() -> None:
    opening = wherry.open()
    with pytest.raises(wherry.WrongLoop, match="no event loop"):
        opening.__aenter__().send(None)


def test_a_broker_may_be_opened_again_and_again_in_one_thread(tmp_path: Path) -> None:
    async def once() -> None:
        async with wherry.open(tmp_path / "j") as broker:
            await broker.declare_queue("q")
            await broker.default_exchange.publish(b"", "q")

    for _ in range(3):
        trio.run(once)
        asyncio.run(once())


@pytest.mark.only("trio")
async def test_ready_calls_are_checkpoints() -> None:
    import trio.testing

    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        exchange = broker.default_exchange
        with trio.CancelScope() as scope:
            scope.cancel()
            for call in (
                lambda: exchange.publish(b"", "q"),
                lambda: exchange.publish_many([b""], "q"),
                lambda: broker.declare_queue("r"),
                lambda: queue.purge(),
                lambda: broker.sync(),
            ):
                with pytest.raises(trio.Cancelled):
                    await call()
        assert queue.statistics().ready == 0
        assert broker.queues() == ["q"]
        await exchange.publish(b"", "q")
        with trio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(trio.Cancelled):
                await queue.get()
            async with queue.consume() as consumer:
                for call in (consumer.take, consumer.__anext__):
                    with pytest.raises(trio.Cancelled):
                        await call()  # type: ignore[operator]
        assert queue.statistics().ready == 1


@pytest.mark.only("trio")
async def test_ctrl_c_in_the_middle_of_a_wait() -> None:
    import signal

    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with queue.consume() as consumer:
                signal.raise_signal(signal.SIGINT)
                await consumer.take()
        await broker.default_exchange.publish(b"on", "q")
        assert (await queue.get()).body == b"on"


def test_an_error_while_waking_up_is_reported_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Owner:
        """Its drain fails."""

        def drain(self) -> None:
            raise RuntimeError("broken")

    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with wherry.blocking.open() as broker:
        owner = Owner()
        port = _core.Port(owner)
        broker._engine.attach(port)
        with pytest.raises(wherry.InvalidArgument, match="already"):
            broker._engine.attach(_core.Port(owner))
        queue = broker.declare_queue("q")
        consumer = _core.Consumer(queue, port)
        assert consumer._arm() is False
        broker.default_exchange.publish_nowait(b"", "q")
        assert [str(report.exc_value) for report in reported] == ["broken"]
        assert port.take_ready() == [consumer._token]
        assert len(consumer.take_nowait()) == 1


async def test_publishers_wait_while_memory_is_full() -> None:
    async with wherry.open(memory_bytes_max=4 << 20) as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        body = b"x" * 100_000
        while broker.statistics().memory_bytes <= 4 << 20:
            broker.default_exchange.publish_nowait(body, "q")
        with pytest.raises(wherry.Busy):
            broker.default_exchange.publish_nowait(body, "q")
        full = broker.statistics()
        assert full.memory_bytes > 4 << 20
        assert full.memory_bytes_max == 4 << 20
        waiting = running.start(broker.default_exchange.publish, body, "q")
        await settle()
        assert queue.statistics().published == full.ready
        assert await queue.purge() == full.ready
        await waiting.wait()
        assert queue.statistics().ready == 1


def test_a_memory_limit_too_small_to_keep_is_refused() -> None:
    with pytest.raises(wherry.InvalidArgument, match="memory limit"):
        wherry.blocking.open(memory_bytes_max=1)


def test_a_blocking_publisher_waits_while_memory_is_full() -> None:
    with wherry.blocking.open(memory_bytes_max=4 << 20) as broker:
        queue = broker.declare_queue("q")
        body = b"x" * 100_000
        while broker.statistics().memory_bytes <= 4 << 20:
            broker.default_exchange.publish(body, "q")
        published = threading.Event()

        def publish() -> None:
            broker.default_exchange.publish(body, "q")
            published.set()

        thread = threading.Thread(target=publish)
        thread.start()
        assert not published.is_set()
        queue.purge()
        thread.join()
        assert published.is_set()
