"""Wherry and RabbitMQ under the same AMQP load, in one run: `make bench-amqp`, or see --help.

Prints Markdown tables. What the words mean, and the figures: ../README.md.

The rounds of a case go from server to server in turn, so what disturbs the machine disturbs both.
Every message is checked: a run in which one was lost, doubled, reordered or damaged fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from cases import CASES, RATES, Case, Column, Variant
from loads import (
    ROOT,
    Figures,
    LoadFailed,
    build_loadgen,
    loadgen,
    missing_perf_test,
    perf_test,
    perf_test_version,
)
from servers import RabbitMQ, Running, Server, Wherry

# The servers themselves need a little when nothing is asked of them.
QUIET_SHARE = 0.85

PERF_TEST_COLUMNS = [
    *RATES[:2],
    Column("p50 us", lambda figures: figures.get("latency_us", {}).get("p50")),
    Column("p99 us", lambda figures: figures.get("latency_us", {}).get("p99")),
]


def main() -> int:
    # Ended from outside, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments = parse_arguments()
    cases = chosen(arguments.only)
    servers: dict[str, Server] = {}
    available: list[Server] = [RabbitMQ(), Wherry(arguments.wherry)]
    for server in available:
        if server.name.lower() not in arguments.servers.lower().split(","):
            continue
        if reason := server.missing():
            print(f"{server.name} is left out: {reason}.", flush=True)
        else:
            servers[server.name] = server
    if not servers:
        print("No server to load.", file=sys.stderr)
        return 1
    with_perf_test = not arguments.no_perf_test
    if with_perf_test and (reason := missing_perf_test()):
        print(f"PerfTest is left out: {reason}.", flush=True)
        with_perf_test = False
    bench = Bench(build_loadgen(), servers, arguments, with_perf_test)
    print(conditions(servers, with_perf_test, arguments), flush=True)
    for case in cases:
        bench.measure(case)
    if arguments.only is None or "ready" in arguments.only:
        bench.show_ready()
    return 1 if bench.failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names separated by commas: " + ", ".join(names()))
    parser.add_argument("--servers", default="rabbitmq,wherry", help="default: %(default)s")
    parser.add_argument(
        "--wherry",
        metavar="COMMAND",
        help="run this instead of `wherry serve`, with {directory} and {port} filled in",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of a round of our generator")
    parser.add_argument("--perf-test-seconds", type=float, default=10, help="of one of PerfTest")
    parser.add_argument("--perf-test-rounds", type=int, help="default: as --rounds")
    parser.add_argument("--no-perf-test", action="store_true")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s, small counts")
    parser.add_argument(
        "--quiet-wait",
        type=float,
        default=10,
        help="seconds to wait at most before each run for others to leave the processors alone",
    )
    parser.add_argument("--json", type=Path, help="append every run's figures to this file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.perf_test_seconds = 1, 1.0, 3.0
    if arguments.perf_test_rounds is None:
        arguments.perf_test_rounds = arguments.rounds
    return arguments


def names() -> list[str]:
    return [*(case.name for case in CASES), "ready"]


def chosen(only: str | None) -> list[Case]:
    if only is None:
        return CASES
    wanted = only.split(",")
    if unknown := set(wanted) - set(names()):
        sys.exit(f"no case {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    return [case for case in CASES if case.name in wanted]


class Bench:
    """Servers that stay up over the cases, and what went wrong."""

    def __init__(
        self,
        program: Path,
        servers: dict[str, Server],
        arguments: argparse.Namespace,
        with_perf_test: bool,
    ) -> None:
        self.program = program
        self.servers = servers
        self.arguments = arguments
        self.with_perf_test = with_perf_test
        self.failures: list[str] = []
        self.ready_seconds: dict[str, list[float]] = {name: [] for name in servers}

    def measure(self, case: Case) -> None:
        print(f"\n### {case.title}\n", flush=True)
        line = " ".join(case.arguments)
        print(f"`loadgen {line}`; load average before: {load_average()}.\n", flush=True)
        variants = [variant for variant in case.variants if variant.server in self.servers]
        with ExitStack() as stack:
            running = {}
            if not case.fresh:
                for name in dict.fromkeys(variant.server for variant in variants):
                    running[name] = self.started(stack, name)
            found = self.rounds(case, variants, running)
            show(case.columns, found)
            if case.perf_test is not None and self.with_perf_test:
                found = self.perf_test_rounds(case.perf_test, variants, running)
                print(f"\nPerfTest: `{' '.join(case.perf_test)}`\n")
                show(PERF_TEST_COLUMNS, found)

    def started(self, stack: ExitStack, name: str) -> Running:
        running = stack.enter_context(self.servers[name].start())
        self.ready_seconds[name].append(running.ready_seconds)
        return running

    def rounds(
        self, case: Case, variants: list[Variant], running: dict[str, Running]
    ) -> dict[str, list[Figures]]:
        found: dict[str, list[Figures]] = {variant.label: [] for variant in variants}
        for _ in range(self.arguments.rounds):
            for variant in variants:
                command = [*case.arguments, *variant.extra]
                if case.seconds:
                    command += ["--seconds", str(self.arguments.seconds)]
                if self.arguments.quick:
                    command += case.quick
                with ExitStack() as stack, self.survived():
                    if case.fresh:
                        target = self.started(stack, variant.server)
                    else:
                        target = running[variant.server]
                    await_quiet(self.arguments.quiet_wait)
                    figures = loadgen(self.program, target, command)
                    self.keep(case.name, "loadgen", variant, figures)
                    found[variant.label].append(figures)
        return found

    def perf_test_rounds(
        self, arguments: list[str], variants: list[Variant], running: dict[str, Running]
    ) -> dict[str, list[Figures]]:
        found: dict[str, list[Figures]] = {variant.label: [] for variant in variants}
        for _ in range(self.arguments.perf_test_rounds):
            for variant in variants:
                with self.survived():
                    await_quiet(self.arguments.quiet_wait)
                    figures = perf_test(
                        running[variant.server],
                        [*arguments, *variant.perf_test_extra],
                        self.arguments.perf_test_seconds,
                    )
                    self.keep(" ".join(arguments), "PerfTest", variant, figures)
                    found[variant.label].append(figures)
        return found

    def survived(self) -> Survived:
        return Survived(self.failures)

    def keep(self, case: str, load: str, variant: Variant, figures: Figures) -> None:
        if self.arguments.json is not None:
            entry = {"case": case, "load": load, "server": variant.label, **figures}
            with self.arguments.json.open("a") as lines:
                lines.write(json.dumps(entry) + "\n")

    def show_ready(self) -> None:
        """Seconds until a server answers, over all its starts in this run."""
        for name in self.servers:
            while len(self.ready_seconds[name]) < self.arguments.rounds:
                with ExitStack() as stack:
                    self.started(stack, name)
        print("\n### Ready\n\nFrom the start of the process until it answers a protocol header.\n")
        print("| server | ms, median | lowest - highest |\n|---|---:|---:|")
        for name, seconds in self.ready_seconds.items():
            times = sorted(1000 * second for second in seconds)
            middle = statistics.median(times)
            print(f"| {name} | {middle:.0f} | {times[0]:.0f} - {times[-1]:.0f} |", flush=True)


class Survived:
    """Notes a failed load, says so, and lets the other runs go on."""

    def __init__(self, failures: list[str]) -> None:
        self.failures = failures

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, LoadFailed | RuntimeError | subprocess.TimeoutExpired):
            return False
        self.failures.append(str(error))
        print(f"**failed**: {error}\n", flush=True)
        return True


def show(columns: list[Column], found: dict[str, list[Figures]]) -> None:
    """Medians; of the first column also lowest and highest, and the ratio to the first server."""
    columns = [
        column
        for column in columns
        if any(column.read(figures) is not None for runs in found.values() for figures in runs)
    ]
    if not columns:
        return
    first = columns[0]
    titles = ["server", first.title, "lowest - highest"]
    titles += [column.title for column in columns[1:]]
    titles += ["ratio"] if first.ratio else []
    print("| " + " | ".join(titles) + " |")
    print("|---" + "|---:" * (len(titles) - 1) + "|")
    reference: float | None = None
    for label, runs in found.items():
        values = readings(first, runs)
        if not values:
            continue
        middle = statistics.median(values)
        reference = reference if reference is not None else middle
        row = [label, written(middle, first.unit)]
        row.append(f"{written(min(values), first.unit)} - {written(max(values), first.unit)}")
        for column in columns[1:]:
            more = readings(column, runs)
            row.append(written(statistics.median(more), column.unit) if more else "-")
        if first.ratio:
            row.append(f"{middle / reference:.3g}" if reference else "-")
        print("| " + " | ".join(row) + " |", flush=True)


def readings(column: Column, runs: list[Figures]) -> list[float]:
    return [value for run in runs if (value := column.read(run)) is not None]


def written(figure: float, unit: str) -> str:
    if unit == "MB":
        return f"{figure / 1e6:.0f}"
    if unit == "share":
        return f"{figure:.0%}"
    if unit == "rate":
        return f"{figure:,.0f}"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def await_quiet(seconds: float) -> None:
    """Waits for a quarter of a second in which the processors are idle, but no longer than this."""
    deadline = time.monotonic() + seconds
    before = processor_ticks()
    while time.monotonic() < deadline:
        time.sleep(0.25)
        now = processor_ticks()
        idle, every = now[0] - before[0], now[1] - before[1]
        if idle >= QUIET_SHARE * every:
            return
        before = now


def processor_ticks() -> tuple[int, int]:
    """Idle ticks of all processors, and all ticks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def load_average() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def conditions(
    servers: dict[str, Server], with_perf_test: bool, arguments: argparse.Namespace
) -> str:
    """What a reader needs to know to repeat the run."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":")[1].strip()
            break
    commit = output(["git", "describe", "--always", "--dirty"])
    versions = [server.version() for server in servers.values()]
    versions += [perf_test_version()] if with_perf_test else []
    versions += [f"CPython {platform.python_version()}", output(["rustc", "--version"])]
    return (
        f"{os.cpu_count()} x {processor}; {platform.system()} {platform.release()}; "
        f"{', '.join(versions)}; commit {commit}.\n"
        f"{arguments.rounds} rounds of {arguments.seconds:g} s. Server and load share the cores "
        f"(nothing is pinned) and the disk; load average at the start {load_average()}."
    )


def output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
