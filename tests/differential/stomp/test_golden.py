"""Each single case of STOMP against what RabbitMQ answered (`golden.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from differential.steps import prefix
from differential.stomp.cases import CASES
from differential.stomp.differences import GOLDEN, comparable
from differential.stomp.steps import run_all
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())


@pytest.fixture(scope="module")
def broker() -> Iterator[brokers.Broker]:
    try:
        started = brokers.start(stomp=brokers.Stomp())
    except brokers.Unavailable as reason:
        pytest.skip(str(reason))
    with started:
        yield started


def test_every_case_is_recorded_as_it_is() -> None:
    assert RECORDED.keys() == CASES.keys()
    for name, steps in CASES.items():
        assert RECORDED[name]["steps"] == json.loads(json.dumps(steps)), name


def test_every_difference_is_of_a_case() -> None:
    assert GOLDEN.keys() <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_answers_as_recorded(name: str, broker: brokers.Broker) -> None:
    answers = json.loads(json.dumps(run_all(broker, prefix(), CASES[name])))
    if broker.kind != "rabbitmq":
        for step, seen in zip(CASES[name], answers, strict=True):
            for peer in seen.values():
                assert peer.get("closed") or "errors" not in peer, f"goes on after {step}"
        if name in GOLDEN:
            reason, allowed = GOLDEN[name]
            if allowed(answers):
                return
            pytest.fail(f"differs otherwise than meant ({reason}): {answers[-1]}")
    for step, got, wanted in zip(CASES[name], answers, RECORDED[name]["answers"], strict=True):
        assert comparable(got) == comparable(wanted), f"after {step}"
