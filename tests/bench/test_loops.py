"""The same under trio and asyncio: 1,000 messages a round; and confirmed publishes on a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from pytest_benchmark.fixture import BenchmarkFixture

import wherry

COUNT = 1000
BODY = b"0123456789abcdef"
RUN: dict[str, Callable[[Callable[[], Awaitable[Any]]], Any]] = {
    "trio": trio.run,
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("library", RUN)
def test_iterating(library: str, benchmark: BenchmarkFixture) -> None:
    """Without opening: what is measured is `async for`, `async with` and what they wait for."""

    async def main() -> None:
        async with wherry.open() as broker:
            queue = await broker.declare_queue("q")
            await broker.default_exchange.publish_many([BODY] * 100 * COUNT, "q")
            async with queue.consume() as consumer:
                seen = 0
                async for delivery in consumer:
                    async with delivery:
                        seen += 1
                    if seen == 100 * COUNT:
                        break

    benchmark.pedantic(RUN[library], (main,), rounds=3)


@pytest.mark.parametrize("library", RUN)
def test_hand_over_between_tasks(library: str, benchmark: BenchmarkFixture) -> None:
    """One task publishes, another waits in `get`: a wake-up for each message."""

    async def main() -> None:
        async with wherry.open() as broker:
            queue = await broker.declare_queue("q")
            back = await broker.declare_queue("back")
            publish = broker.default_exchange.publish

            async def echo() -> None:
                for _ in range(10 * COUNT):
                    (await queue.get()).ack()
                    await publish(BODY, "back")

            async def ask() -> None:
                for _ in range(10 * COUNT):
                    await publish(BODY, "q")
                    (await back.get()).ack()

            if library == "trio":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(echo)
                    nursery.start_soon(ask)
            else:
                await asyncio.gather(echo(), ask())

    benchmark.pedantic(RUN[library], (main,), rounds=3)


@pytest.mark.parametrize("outstanding", [1, 64, 1000])
@pytest.mark.parametrize("library", RUN)
def test_confirmed_publishes(
    library: str, outstanding: int, benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    """128 bytes each, every one confirmed after a sync."""
    count = 10 * outstanding if outstanding < 1000 else 20 * outstanding

    async def main() -> None:
        async with wherry.open(tmp_path / "j") as broker:
            await broker.declare_queue("q")
            publish = broker.default_exchange.publish

            async def publisher() -> None:
                for _ in range(count // outstanding):
                    await publish(bytes(128), "q")

            if library == "trio":
                async with trio.open_nursery() as nursery:
                    for _ in range(outstanding):
                        nursery.start_soon(publisher)
            else:
                await asyncio.gather(*(publisher() for _ in range(outstanding)))

    benchmark.pedantic(RUN[library], (main,), rounds=3)
