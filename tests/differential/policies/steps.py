"""The steps of `differential.steps`, and between them policies that come and go:
`["set", {...}]` and `["clear", {...}]`, with the names of `wherry.server.operations`. In them `@`
stands for the run's prefix wherever it is.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from differential.steps import Run
from wherry import InvalidArgument
from wherry.server.control import ControlClient

if TYPE_CHECKING:
    from wire.brokers import Broker

RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"

SET = "set"
CLEAR = "clear"

Rule = dict[str, Any]


def _rabbitmq(broker: Broker, action: str, rule: Rule) -> bool:
    operator = "operator_" if rule.get("operator") else ""
    command = [RABBITMQCTL, "-n", broker.environment["RABBITMQ_NODENAME"]]
    if action == CLEAR:
        command += [f"clear_{operator}policy", rule["name"]]
    else:
        command += [f"set_{operator}policy", "--priority", str(rule.get("priority", 0))]
        command += ["--apply-to", rule.get("apply_to", "all"), rule["name"], rule["pattern"]]
        command += [json.dumps(rule["definition"])]
    done = subprocess.run(command, env=broker.environment, capture_output=True, check=False)
    return done.returncode == 0


def _wherry(broker: Broker, action: str, rule: Rule) -> bool:
    with ControlClient(broker.control) as client:
        try:
            if action == SET:
                client.do("set_policy", rule)
                return True
            return bool(client.do("delete_policy", rule)["deleted"])
        except InvalidArgument:
            return False


def run_all(broker: Broker, prefix: str, steps: list[list[Any]]) -> list[dict[str, Any]]:
    """Observations, one a step; of a policy whether it was set or cleared."""
    change = _rabbitmq if broker.kind == "rabbitmq" else _wherry
    made: list[Rule] = []

    def one(run: Run, step: list[Any]) -> dict[str, Any]:
        if step[0] not in (SET, CLEAR):
            return run.step(step)
        rule = json.loads(json.dumps(step[1]).replace("@", prefix))
        if step[0] == SET:
            made.append(rule)
        done = change(broker, step[0], rule)
        # The queues hear of it, and what they do has come to its end.
        run.counts(run.names())
        return {step[0]: done}

    with Run(broker.host, broker.port, prefix) as run:
        try:
            return [one(run, step) for step in steps]
        finally:
            for rule in made:
                named = {"name": rule["name"], "operator": rule.get("operator", False)}
                change(broker, CLEAR, named)
