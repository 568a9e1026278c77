"""The same scenarios through clients in Go, Java and Node: one small program each.

A program prints a line of JSON for each scenario as it ends; it runs once, and each scenario is
reported as a test. `make clients-install` fetches the libraries and compiles.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scenarios import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from wire.brokers import Broker

HERE = Path(__file__).parent

PROGRAM_SECONDS_MAX = 120

pytestmark = pytest.mark.timeout(PROGRAM_SECONDS_MAX + 30)

PROGRAMS: dict[str, tuple[str, Path, list[str]]] = {
    "amqp091-go": ("go", HERE / "go/.built/program", [str(HERE / "go/.built/program")]),
    "java-client": (
        "java",
        HERE / "java/target/classes",
        ["java", "-cp", f"{HERE}/java/target/classes:{HERE}/java/target/dependency/*", "Scenarios"],
    ),
    "amqplib": ("node", HERE / "node/node_modules", ["node", str(HERE / "node/amqplib.js")]),
    "amqp-client.js": (
        "node",
        HERE / "node/node_modules",
        ["node", str(HERE / "node/amqp-client.js")],
    ),
}
"""Client -> what it needs on the machine, what `make clients-install` makes, and how to run it."""


@pytest.fixture(scope="module")
def results(broker: Broker) -> Callable[[str], dict[str, Any]]:
    """Run a client's program once; its lines by scenario."""
    known: dict[str, dict[str, Any]] = {}

    def run(client: str) -> dict[str, Any]:
        if client not in known:
            toolchain, made, command = PROGRAMS[client]
            if shutil.which(toolchain) is None:
                pytest.skip(f"{toolchain} is not installed")
            if not made.exists():
                pytest.skip(f"{made.relative_to(HERE)} is missing: make clients-install")
            known[client] = _run(command, broker)
        return known[client]

    return run


def _run(command: list[str], broker: Broker) -> dict[str, Any]:
    from wire.proxy import Proxy

    prefix = f"{uuid.uuid4().hex[:8]}."
    with Proxy(broker.host, broker.port) as proxy:
        ports = [str(broker.port), str(proxy.port), str(proxy.control_port)]
        try:
            done = subprocess.run(
                [*command, broker.host, *ports, prefix, broker.kind],
                capture_output=True,
                text=True,
                timeout=PROGRAM_SECONDS_MAX,
                check=False,
            )
            output, errors = done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode()
            errors = f"ended after {PROGRAM_SECONDS_MAX} s; " + (late.stderr or b"").decode()
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {"errors": errors, **{line["scenario"]: line for line in lines}}


@pytest.mark.parametrize("scenario", NAMES)
@pytest.mark.parametrize("client", PROGRAMS)
def test_scenario(client: str, scenario: str, results: Callable[[str], dict[str, Any]]) -> None:
    lines = results(client)
    assert scenario in lines, f"the program did not get there: {lines['errors'][-2000:]}"
    if "skip" in lines[scenario]:
        pytest.skip(lines[scenario]["skip"])
    assert lines[scenario]["ok"], lines[scenario]["error"]
