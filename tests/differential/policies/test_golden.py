"""Each case of policies against what RabbitMQ answered (`golden.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from differential.differences import comparable
from differential.policies.cases import CASES
from differential.policies.steps import run_all
from differential.steps import prefix
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())


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
    try:
        started = brokers.start()
    except brokers.Unavailable as reason:
        pytest.skip(str(reason))
    with started:
        yield started


def test_every_case_is_recorded_as_it_is() -> None:
    assert RECORDED.keys() == CASES.keys()
    for name, steps in CASES.items():
        assert RECORDED[name]["steps"] == json.loads(json.dumps(steps)), name


@pytest.mark.parametrize("name", CASES)
def test_answers_as_recorded(name: str, broker: brokers.Broker) -> None:
    answers = json.loads(json.dumps(run_all(broker, prefix(), CASES[name])))
    for step, got, wanted in zip(CASES[name], answers, RECORDED[name]["answers"], strict=True):
        assert plain(got) == plain(wanted), f"after {step}"
