"""The bare structures, without a broker."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wherry
from helpers import Background


class Thing:
    """Something that can be referred to weakly."""


def test_first_in_first_out() -> None:
    fifo: wherry.Fifo[object] = wherry.Fifo()
    assert len(fifo) == 0
    assert not fifo
    fifo.put(1)
    fifo.put(None)
    fifo.put_many(["a", "b"])
    fifo.put_many(("c",))
    fifo.put_many(x for x in "de")
    assert len(fifo) == 7
    assert fifo
    assert fifo.get_nowait() == 1
    assert fifo.get_nowait() is None
    assert fifo.get_many(3) == ["a", "b", "c"]
    assert fifo.get_many(99) == ["d", "e"]
    assert fifo.get_many(99) == []
    with pytest.raises(wherry.QueueEmpty):
        fifo.get_nowait()


def test_priorities_leave_first() -> None:
    fifo: wherry.PriorityFifo[str] = wherry.PriorityFifo(256)
    assert fifo.levels == 256
    for item, level in [("a", 0), ("b", 255), ("c", 7), ("d", 255)]:
        fifo.put(item, level)
    fifo.put("e", priority=7)
    fifo.put("f")
    fifo.put_many("gh", priority=9)
    assert len(fifo) == 8
    assert fifo.get_nowait() == "b"
    assert fifo.get_many(4) == ["d", "g", "h", "c"]
    assert fifo.get_many(99) == ["e", "a", "f"]
    assert not fifo
    with pytest.raises(wherry.QueueEmpty):
        fifo.get_nowait()


@pytest.mark.parametrize("levels", [0, 257])
def test_a_priority_fifo_has_1_to_256_levels(levels: int) -> None:
    with pytest.raises(wherry.InvalidArgument, match="1 to 256"):
        wherry.PriorityFifo(levels)


def test_a_level_that_is_not_there() -> None:
    fifo: wherry.PriorityFifo[int] = wherry.PriorityFifo(3)
    with pytest.raises(wherry.InvalidArgument, match="0 to 2"):
        fifo.put(1, 3)
    with pytest.raises(wherry.InvalidArgument, match="0 to 2"):
        fifo.put_many([1], priority=3)
    with pytest.raises(wherry.InvalidArgument, match="priority=-1"):
        fifo.put(1, -1)
    assert len(fifo) == 0


@given(st.lists(st.integers(0, 40)))
def test_it_behaves_as_a_deque(operations: list[int]) -> None:
    fifo: wherry.Fifo[int] = wherry.Fifo()
    model: deque[int] = deque()
    for operation in operations:
        if operation < 12:
            fifo.put(operation)
            model.append(operation)
        elif operation < 20:
            fifo.put_many(range(operation))
            model.extend(range(operation))
        elif operation < 30:
            assert fifo.get_many(operation - 20) == [
                model.popleft() for _ in range(min(operation - 20, len(model)))
            ]
        elif model:
            assert fifo.get_nowait() == model.popleft()
        assert len(fifo) == len(model)


def test_many_threads_lose_and_double_nothing() -> None:
    fifo: wherry.Fifo[tuple[int, int]] = wherry.Fifo()
    count = 20_000

    def produce(who: int) -> None:
        for number in range(0, count, 10):
            fifo.put((who, number))
            fifo.put_many([(who, n) for n in range(number + 1, number + 10)])

    def consume() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        while not seen or seen[-1] != (-1, -1):
            seen += fifo.get_many(7)
        return seen[:-1]

    consumers = [Background(consume) for _ in range(2)]
    producers = [Background(lambda who=who: produce(who)) for who in range(2)]  # type: ignore[misc]
    for producer in producers:
        producer.result()
    while fifo:
        pass
    fifo.put((-1, -1))
    while fifo:
        pass
    fifo.put((-1, -1))
    seen = [consumer.result() for consumer in consumers]
    assert sorted(seen[0] + seen[1]) == sorted((w, n) for w in range(2) for n in range(count))
    for one in seen:
        for who in range(2):
            numbers = [n for w, n in one if w == who]
            assert numbers == sorted(numbers)


def test_references_are_given_back() -> None:
    fifo: wherry.Fifo[object] = wherry.Fifo()
    thing = Thing()
    before = sys.getrefcount(thing)
    for _ in range(100):
        fifo.put(thing)
    fifo.put_many([thing] * 100)
    assert sys.getrefcount(thing) == before + 200
    fifo.get_many(50)
    for _ in range(50):
        fifo.get_nowait()
    assert sys.getrefcount(thing) == before + 100
    del fifo
    assert sys.getrefcount(thing) == before


@pytest.mark.parametrize("make", [wherry.Fifo, lambda: wherry.PriorityFifo(3)])
def test_a_cycle_through_it_is_collected(make: type[wherry.Fifo[object]]) -> None:
    fifo, thing = make(), Thing()
    fifo.put(thing)
    thing.fifo = fifo  # type: ignore[attr-defined]
    gone = weakref.ref(thing)
    del fifo, thing
    gc.collect()
    assert gone() is None


def test_it_is_generic_at_run_time_too() -> None:
    assert wherry.Fifo[int]
    assert wherry.PriorityFifo[int]
