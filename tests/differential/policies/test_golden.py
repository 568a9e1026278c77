"""Each case of policies against what RabbitMQ answered (`golden.json`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from differential.differences import comparable
from differential.policies.cases import CASES
from differential.policies.record import GOLDEN
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator


def plain(answer: Any) -> Any:
    """Without the header by which RabbitMQ says of a quorum queue's message that it was not
    delivered before; Wherry says something when it was.
    """
    text = json.dumps(comparable(answer))
    return json.loads(text.replace('{"headers": {"x-delivery-count": ["l", 0]}}', "{}"))


@pytest.fixture(scope="module")
def broker() -> Iterator[brokers.Broker]:
    if brokers.CHOICE not in ("wherry", "rabbitmq"):
        pytest.skip("policies are set beside the broker, which has to be started here")
    yield from GOLDEN.broker()


def test_every_case_is_recorded_as_it_is() -> None:
    GOLDEN.check_whole()


@pytest.mark.parametrize("name", CASES)
def test_answers_as_recorded(name: str, broker: brokers.Broker) -> None:
    GOLDEN.check(name, GOLDEN.answers(broker, name), plain)
