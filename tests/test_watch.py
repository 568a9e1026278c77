"""Watching how many consumers queues have; deduplication by keyword."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import wherry
from helpers import Background, settle, tasks
from wherry import blocking

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_watch_tells_what_is_and_then_what_changes() -> None:
    async with wherry.open() as broker, tasks() as running:
        ada = await broker.declare_queue("ada")
        await broker.declare_queue("bob")
        seen: list[tuple[str, int]] = []

        async def watch() -> None:
            async with broker.watch_consumers() as counts:
                async for queue, consumers in counts:
                    seen.append((queue, consumers))

        async with ada.consume():
            running.start(watch)
            await settle()
            assert seen == [("ada", 1)]
            async with ada.consume():
                await settle()
            await settle()
        await settle()
        assert seen == [("ada", 1), ("ada", 2), ("ada", 1), ("ada", 0)]
        await broker.delete_queue("bob")
        await settle()
        assert len(seen) == 4


async def test_who_is_slow_hears_the_last_word() -> None:
    async with wherry.open() as broker, broker.watch_consumers() as counts:
        queue = await broker.declare_queue("q")
        for _ in range(3):
            async with queue.consume():
                pass
        async with queue.consume():
            [count] = await counts.take()
            assert count == wherry.ConsumerCount("q", 1)
            assert await counts.take(0) == []


async def test_waiting_can_be_cancelled_and_nothing_is_lost() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        async with broker.watch_consumers() as counts:
            task = running.start(counts.take)
            await settle()
            task.cancel()
            await settle()
            assert task.cancelled
            async with queue.consume():
                assert await counts.take() == [("q", 1)]
        with pytest.raises(wherry.InvalidArgument, match="watch_consumers"):
            await counts.take()


async def test_a_watch_ends_with_its_broker() -> None:
    async with wherry.open() as broker, tasks() as running, broker.watch_consumers() as counts:
        task = running.start(counts.take)
        await settle()
        await broker.aclose()
        with pytest.raises(wherry.BrokerClosed):
            await task.wait()
        with pytest.raises(wherry.BrokerClosed):
            await counts.take()


async def test_a_watch_ends_with_its_virtual_host() -> None:
    async with wherry.open() as broker, tasks() as running:
        host = await broker.add_virtual_host("other")
        async with host.watch_consumers() as counts:
            task = running.start(counts.take)
            await settle()
            await broker.delete_virtual_host("other")
            with pytest.raises(wherry.UnknownVirtualHost):
                await task.wait()


def test_watching_in_a_plain_thread() -> None:
    with blocking.open() as broker, broker.watch_consumers() as counts:
        queue = broker.declare_queue("q")
        assert counts.take(timeout=0.01) == []
        waiting = Background(lambda: next(counts))
        with queue.consume():
            assert waiting.result() == ("q", 1)
        assert next(iter(counts)) == ("q", 0)
        waiting = Background(lambda: counts.take())
        broker.close()
        with pytest.raises(wherry.BrokerClosed):
            waiting.result()


def test_a_watch_of_a_thread_that_was_left() -> None:
    with blocking.open() as broker:
        with broker.watch_consumers() as counts:
            pass
        with pytest.raises(wherry.InvalidArgument, match="was left"):
            counts.take()


async def test_an_exchange_takes_an_id_once_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with wherry.open(tmp_path / "j") as broker:
            once = await broker.declare_exchange("once", dedup=wherry.Dedup(size=10))
            queue = await broker.declare_queue("q")
            await queue.bind(once)
            for _ in range(2):
                await once.publish(b"", headers={"x-dedup-id": "7"})
            assert queue.statistics().ready == 1


async def test_a_queue_takes_an_id_once_by_any_header() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", dedup=wherry.Dedup(window=60, header="message-id"))
        for name in ("a", "b", "a"):
            await broker.default_exchange.publish(b"", "q", message_id=name)
        await broker.default_exchange.publish(b"", "q")
        await broker.default_exchange.publish(b"", "q")
        assert queue.statistics().ready == 4


async def test_a_window_without_an_end_is_refused() -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.InvalidArgument, match="give a time, a number of ids"):
            await broker.declare_queue("q", dedup=wherry.Dedup())
        with pytest.raises(wherry.InvalidArgument, match="size of 0"):
            await broker.declare_exchange("x", dedup=wherry.Dedup(size=0))
