"""Each single case of STOMP against what RabbitMQ answered (`golden.json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from differential.stomp.cases import CASES
from differential.stomp.differences import MEANT, comparable
from differential.stomp.record import GOLDEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wire import brokers


@pytest.fixture(scope="module")
def broker() -> Iterator[brokers.Broker]:
    yield from GOLDEN.broker()


def test_every_case_is_recorded_as_it_is() -> None:
    GOLDEN.check_whole()


def test_every_difference_is_of_a_case() -> None:
    assert MEANT.keys() <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_answers_as_recorded(name: str, broker: brokers.Broker) -> None:
    answers = GOLDEN.answers(broker, name)
    if broker.kind != "rabbitmq":
        for step, seen in zip(CASES[name], answers, strict=True):
            for peer in seen.values():
                assert peer.get("closed") or "errors" not in peer, f"goes on after {step}"
    if broker.kind != "rabbitmq" and name in MEANT:
        reason, allowed = MEANT[name]
        assert allowed(answers), f"differs otherwise than meant ({reason}): {answers[-1]}"
    else:
        GOLDEN.check(name, answers, comparable)
