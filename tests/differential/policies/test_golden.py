"""Each case of policies against what RabbitMQ answered (`golden.json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from differential.differences import comparable
from differential.policies.cases import CASES
from differential.policies.record import GOLDEN
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def broker() -> Iterator[brokers.Broker]:
    if brokers.CHOICE not in ("wherry", "rabbitmq"):
        pytest.skip("policies are set beside the broker, which has to be started here")
    yield from GOLDEN.broker()


def test_every_case_is_recorded_as_it_is() -> None:
    GOLDEN.check_whole()


@pytest.mark.parametrize("name", CASES)
def test_answers_as_recorded(name: str, broker: brokers.Broker) -> None:
    GOLDEN.check(name, GOLDEN.answers(broker, name), comparable)
