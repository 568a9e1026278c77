"""Random sequences of frames of STOMP (`random_pair`)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from differential import random_pair
from differential.steps import prefix
from differential.stomp.differences import only_turns, same
from differential.stomp.random_run import RandomRun
from differential.stomp.random_steps import QUEUES, Generator
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 60

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def pair() -> Iterator[random_pair.Pair]:
    yield from random_pair.pair(stomp=brokers.Stomp())


def observe(broker: brokers.Broker, steps: list[Any]) -> list[Any]:
    with RandomRun(broker, prefix()) as run:
        return [(run.step(step), run.counts(QUEUES)) for step in steps]


def differ(steps: list[Any], first: list[Any], second: list[Any]) -> random_pair.Difference | None:
    for at, (wanted, got) in enumerate(zip(first, second, strict=True)):
        if same(*copy.deepcopy((wanted, got))):
            continue
        return None if only_turns(*copy.deepcopy((wanted, got))) else (at, wanted, got)
    return None


@pytest.mark.parametrize("seed", random_pair.seeds(10))
def test_same_answers(seed: int, pair: random_pair.Pair) -> None:
    random_pair.check(
        pair,
        seed,
        Generator(seed).sequence(STEPS),
        observe=observe,
        differ=differ,
        needed=lambda step: step[0] == "amqp",
    )
