"""Cases, and what RabbitMQ answered to them: recording that, and comparing. The same for AMQP,
STOMP and policies.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from differential.steps import prefix
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Steps = list[Any]


class Golden:
    """The cases of one kind, with `golden.json` beside the module that makes this.

    Args:
        module: that module's `__file__`.
        cases: steps, by name.
        ask: carries out the steps of a case at a broker, with a prefix for its names; the answers.
        options: for `brokers.start`.
    """

    def __init__(
        self,
        module: str,
        cases: dict[str, Steps],
        ask: Callable[[brokers.Broker, str, Steps], list[Any]],
        **options: Any,
    ) -> None:
        self.path = Path(module).with_name("golden.json")
        self.cases = cases
        self._ask = ask
        self._options = options

    @functools.cached_property
    def recorded(self) -> dict[str, Any]:
        """Steps and answers, by the name of the case."""
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def answers(self, broker: brokers.Broker, name: str) -> list[Any]:
        """What a broker says to a case, as JSON has it."""
        found: list[Any] = json.loads(json.dumps(self._ask(broker, prefix(), self.cases[name])))
        return found

    # For tests

    def broker(self) -> Iterator[brokers.Broker]:
        """The broker that is tested, for a fixture."""
        try:
            started = brokers.start(**self._options)
        except brokers.Unavailable as reason:
            pytest.skip(str(reason))
        with started:
            yield started

    def check_whole(self) -> None:
        """Every case is recorded, as it is."""
        assert self.recorded.keys() == self.cases.keys()
        for name, steps in self.cases.items():
            assert self.recorded[name]["steps"] == json.loads(json.dumps(steps)), name

    def check(self, name: str, answers: list[Any], comparable: Callable[[Any], Any]) -> None:
        """These are the answers that were recorded, as far as they can be compared."""
        wanted = self.recorded[name]["answers"]
        for step, got, one in zip(self.cases[name], answers, wanted, strict=True):
            assert comparable(got) == comparable(one), f"after {step}"

    # For `python -m differential.record` and the like

    def record(self, names: list[str]) -> None:
        """Write what RabbitMQ answers, to these cases or to all."""
        known = dict(self.recorded)
        choice = brokers.CHOICE if brokers.CHOICE.startswith("rabbitmq") else "rabbitmq"
        with brokers.start(choice, **self._options) as broker:
            for name in names or self.cases:
                known[name] = {"steps": self.cases[name], "answers": self.answers(broker, name)}
                print(name, file=sys.stderr, flush=True)
        lines = [
            f"{json.dumps(name)}: {json.dumps(known[name], ensure_ascii=False)}"
            for name in self.cases
            if name in known
        ]
        self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
