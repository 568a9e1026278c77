"""What loads the servers: our own generator (`loadgen/`) and RabbitMQ's PerfTest."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from servers import Running

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PERF_TEST = ROOT / "target" / "perf-test"
# Every load ends by itself before this.
SECONDS_MAX = 900

Figures = dict[str, Any]


class LoadFailed(Exception):
    """The load could not be brought, or something came back wrong."""


def build_loadgen() -> Path:
    """Builds the generator and says where it is."""
    command = ["cargo", "build", "--release", "-p", "wherry-loadgen"]
    done = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "wherry-loadgen":
            return Path(message["executable"])
    raise LoadFailed("cargo did not say where wherry-loadgen is")


def loadgen(program: Path, running: Running, arguments: list[str]) -> Figures:
    """One run of the generator. Fails if a message was lost, doubled, reordered or damaged."""
    where = ["--port", str(running.port), "--pid", str(running.pid)]
    done = subprocess.run(
        [program, *arguments, *where],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        line = " ".join(arguments)
        raise LoadFailed(f"{running.name}: loadgen {line}: {done.stdout}{done.stderr}".strip())
    figures: Figures = json.loads(done.stdout)
    return figures


def missing_perf_test() -> str | None:
    """Why PerfTest cannot be used, or None; fetches it once."""
    if not shutil.which("java"):
        return "java is not installed"
    if (PERF_TEST / ".complete").exists():
        return None
    if not shutil.which("mvn"):
        return "mvn is not installed"
    command = ["mvn", "--quiet", "--batch-mode", "--file", str(HERE / "pom.xml")]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={PERF_TEST}"]
    done = subprocess.run(
        [*command, "-DincludeScope=runtime"],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        return f"mvn could not fetch it: {done.stdout.strip()[-300:]}"
    (PERF_TEST / ".complete").touch()
    return None


def perf_test_version() -> str:
    jar = next(PERF_TEST.glob("perf-test-*.jar"), None)
    return f"PerfTest {jar.stem.removeprefix('perf-test-')}" if jar else "PerfTest"


def perf_test(running: Running, arguments: list[str], seconds: float) -> Figures:
    """One run of PerfTest, of `seconds`: average rates and percentiles of the latency it saw."""
    command = ["java", "-cp", f"{PERF_TEST}/*", "com.rabbitmq.perf.PerfTest"]
    command += ["-h", running.uri, "-z", str(round(seconds)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    return parse_perf_test(done.stdout, f"{running.name}: PerfTest {' '.join(arguments)}")


def parse_perf_test(output: str, what: str) -> Figures:
    """The summary that PerfTest prints at its end."""
    figures: Figures = {}
    for name, key in (("sending", "published_per_second"), ("receiving", "received_per_second")):
        found = re.findall(rf"{name} rate avg: (\d+)", output)
        if not found:
            raise LoadFailed(f"{what}: no {name} rate:\n{output[-1000:]}")
        figures[key] = float(found[-1])
    latency = re.findall(r"latency min/median/75th/95th/99th (\d+)/(\d+)/(\d+)/(\d+)/(\d+)", output)
    if latency:
        _, median, _, p95, p99 = (float(number) for number in latency[-1])
        figures["latency_us"] = {"p50": median, "p95": p95, "p99": p99}
    return figures
