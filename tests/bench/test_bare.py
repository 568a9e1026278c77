"""The bare structures beside the standard library's: 1,000 objects a round."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import wherry

COUNT = 1000


@pytest.mark.parametrize("make", [wherry.Fifo, lambda: wherry.PriorityFifo(10)])
def test_one_at_a_time(make: Callable[[], Any], benchmark: BenchmarkFixture) -> None:
    fifo = make()
    put, get = fifo.put, fifo.get_nowait

    def run() -> None:
        for _ in range(COUNT):
            put(None)
            get()

    benchmark(run)


@pytest.mark.parametrize("make", [wherry.Fifo, lambda: wherry.PriorityFifo(10)])
def test_batches_of_100(make: Callable[[], Any], benchmark: BenchmarkFixture) -> None:
    fifo = make()
    items = [None] * 100

    def run() -> None:
        for _ in range(COUNT // 100):
            fifo.put_many(items)
            fifo.get_many(100)

    benchmark(run)


def test_simple_queue(benchmark: BenchmarkFixture) -> None:
    simple: queue.SimpleQueue[None] = queue.SimpleQueue()
    put, get = simple.put, simple.get_nowait

    def run() -> None:
        for _ in range(COUNT):
            put(None)
            get()

    benchmark(run)
