"""Random sequences of methods of AMQP (`random_pair`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from differential import differences, random_pair
from differential.random_steps import QUEUES, Generator
from differential.steps import Run, prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wire import brokers

STEPS = 60

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def pair() -> Iterator[random_pair.Pair]:
    yield from random_pair.pair()


def observe(broker: brokers.Broker, steps: list[Any]) -> list[Any]:
    with Run(broker.host, broker.port, prefix()) as run:
        run.skip_closed = True
        return [(run.step(step), run.counts(QUEUES)) for step in steps]


def differ(steps: list[Any], first: list[Any], second: list[Any]) -> random_pair.Difference | None:
    for at, (wanted, got) in enumerate(zip(first, second, strict=True)):
        if not differences.same(steps[: at + 1], wanted, got):
            return at, wanted, got
    return None


@pytest.mark.parametrize("seed", random_pair.seeds(20))
def test_same_answers(seed: int, pair: random_pair.Pair) -> None:
    random_pair.check(
        pair,
        seed,
        Generator(seed).sequence(STEPS),
        observe=observe,
        differ=differ,
        needed=lambda step: step[2] in ("connect", "open"),
    )
