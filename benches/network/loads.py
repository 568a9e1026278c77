"""What loads the servers: our own generator (`../loadgen/`) and RabbitMQ's PerfTest."""

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
# Every load ends by itself before this. A backlog takes RabbitMQ most of it where others use the
# processors, too.
SECONDS_MAX = 300

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
    where = ["--protocol", running.protocol, "--port", str(running.port)]
    where += ["--pid", str(running.pid)]
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


def perf_test(running: Running, arguments: list[str], seconds: float | None) -> Figures:
    """One run of PerfTest: average rates, percentiles of latency, and what memory it left taken.

    Args:
        seconds: when it is to end; None if the arguments say how much it is to publish.
    """
    command = ["java", "-cp", f"{PERF_TEST}/*", "com.rabbitmq.perf.PerfTest"]
    command += ["-h", running.uri, *arguments]
    command += [] if seconds is None else ["-z", str(round(seconds))]
    before = running.resident_bytes()
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    what = f"{running.name}: PerfTest {' '.join(arguments)}"
    if done.returncode != 0:
        raise LoadFailed(f"{what}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    figures = parse_perf_test(done.stdout, what)
    if "-C" in arguments:
        count = int(arguments[arguments.index("-C") + 1])
        grown = max(running.resident_bytes() - before, 0)
        figures["resident_bytes_per_message"] = round(grown / count)
    return figures


def parse_perf_test(output: str, what: str) -> Figures:
    """The summary that PerfTest prints at its end."""
    figures: Figures = {}
    for name, key in (("sending", "published_per_second"), ("receiving", "received_per_second")):
        found = re.findall(rf"{name} rate avg: (\d+)", output)
        if not found:
            raise LoadFailed(f"{what}: no {name} rate:\n{output[-1000:]}")
        figures[key] = float(found[-1])
    for name, key in (("consumer", "latency_us"), ("confirm", "confirm_us")):
        title = f"{name} latency min/median/75th/95th/99th"
        found = re.findall(rf"{title} (\d+)/(\d+)/(\d+)/(\d+)/(\d+)", output)
        if found:
            _, median, _, p95, p99 = (float(number) for number in found[-1])
            figures[key] = {"p50": median, "p95": p95, "p99": p99}
    return figures
