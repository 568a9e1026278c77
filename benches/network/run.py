"""Wherry and others under the same load, in one run, over one protocol.

`make bench-amqp`, `make bench-stomp`, or see --help.

Prints Markdown: a table for each case, and at the end one of them all. What the words mean, and the
figures: ../README.md.

The rounds of a case go from server to server in turn, so what disturbs the machine disturbs all.
Every message is checked: a run in which one was lost, doubled, reordered or damaged fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import amqp_cases
import stomp_cases
from cases import Case, PerfTest, Variant
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
from servers import AMQP, STOMP, CoilMQ, Protocol, RabbitMQ, Relay, Running, Server, Wherry
from tables import Summary, put_between, show

# The page that shows the figures.
FIGURES = ROOT / "benches" / "README.md"
PROTOCOLS: dict[str, tuple[Protocol, list[Case]]] = {
    "amqp": (AMQP, amqp_cases.CASES),
    "stomp": (STOMP, stomp_cases.CASES),
}
Load = Callable[[Variant, Running], Figures]
SERVERS = "rabbitmq,coilmq,wherry,relay"
# The servers themselves need a little when nothing is asked of them.
QUIET_SHARE = 0.85
# Of waiting for others to leave the processors alone, before one run.
QUIET_SECONDS_MAX = 5.0


def main() -> int:
    # Ended from outside, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    arguments = parse_arguments()
    protocol, cases = PROTOCOLS[arguments.protocol]
    cases = chosen(cases, arguments)
    program = build_loadgen()
    servers: dict[str, Server] = {}
    available: list[Server] = [RabbitMQ(protocol)]
    available += [CoilMQ()] if protocol is STOMP else []
    available += [Wherry(protocol, arguments.wherry)]
    available += [Relay(program)] if protocol is AMQP else []
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
    with_perf_test = protocol is AMQP and not arguments.no_perf_test
    if with_perf_test and (reason := missing_perf_test()):
        print(f"PerfTest is left out: {reason}.", flush=True)
        with_perf_test = False
    about = conditions(servers, with_perf_test, arguments)
    print(about, flush=True)
    with ExitStack() as stack:
        bench = Bench(program, Shared(servers, stack), arguments, with_perf_test)
        for case in cases:
            bench.measure(case)
        told = bench.told_summary()
    print(f"\n### All\n\n{told}", flush=True)
    if bench.failures:
        print(f"\n{len(bench.failures)} runs failed, see above.", flush=True)
        return 1
    if arguments.write:
        put_between(FIGURES, f"bench-{arguments.protocol}", f"{about}\n{told}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=sorted(PROTOCOLS))
    parser.add_argument("--only", help="names of cases, separated by commas")
    parser.add_argument("--servers", default=SERVERS, help="default: %(default)s")
    parser.add_argument(
        "--wherry",
        metavar="COMMAND",
        help="run this instead of `wherry serve`, with {directory} and {port} filled in",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of a round; default: amqp 5, stomp 2")
    parser.add_argument(
        "--perf-test-seconds",
        type=float,
        default=15,
        help="of one of PerfTest, which is slow in the first five, until it is compiled;"
        " default: %(default)s",
    )
    parser.add_argument("--perf-test-rounds", type=int, help="default: as --rounds")
    parser.add_argument("--no-perf-test", action="store_true")
    parser.add_argument(
        "--minutes",
        type=float,
        help="after this, a case gets one round only; default: amqp 16, stomp 5",
    )
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s, small counts")
    parser.add_argument(
        "--quiet-wait",
        type=float,
        default=60,
        help="seconds to wait at most, in all, for others to leave the processors alone",
    )
    parser.add_argument(
        "--write", action="store_true", help=f"put the last table into {FIGURES.relative_to(ROOT)}"
    )
    parser.add_argument("--json", type=Path, help="append every run's figures to this file")
    arguments = parser.parse_args()
    if arguments.seconds is None:
        arguments.seconds = 5.0 if arguments.protocol == "amqp" else 2.0
    if arguments.minutes is None:
        arguments.minutes = 16.0 if arguments.protocol == "amqp" else 5.0
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.perf_test_seconds = 1, 1.0, 3.0
        arguments.quiet_wait = 0.0
    if arguments.perf_test_rounds is None:
        arguments.perf_test_rounds = arguments.rounds
    return arguments


def chosen(cases: list[Case], arguments: argparse.Namespace) -> list[Case]:
    if arguments.quick:
        cases = [case for case in cases if case.quick is not None]
    if arguments.only is None:
        return cases
    names, wanted = [case.name for case in cases], arguments.only.split(",")
    if unknown := set(wanted) - set(names):
        sys.exit(f"no case {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return [case for case in cases if case.name in wanted]


class Shared:
    """Servers that stay up over the cases, each started when it is first needed."""

    def __init__(self, servers: dict[str, Server], stack: ExitStack) -> None:
        self.servers = servers
        self.ready_seconds: dict[str, list[float]] = {name: [] for name in servers}
        self._stack = stack
        self._running: dict[str, tuple[Running, ExitStack]] = {}

    def start(self, stack: ExitStack, name: str) -> Running:
        """A new one, which ends with `stack`."""
        running = stack.enter_context(self.servers[name].start())
        self.ready_seconds[name].append(running.ready_seconds)
        return running

    def get(self, name: str) -> Running:
        if name in self._running and not self._running[name][0].alive:
            self.discard(name)
        if name not in self._running:
            own = self._stack.enter_context(ExitStack())
            self._running[name] = self.start(own, name), own
        return self._running[name][0]

    def discard(self, name: str) -> None:
        """Ends it: after a failure nobody knows what is left in it."""
        if name in self._running:
            self._running.pop(name)[1].close()


class Bench:
    """Measures case after case, and remembers what went wrong."""

    def __init__(
        self, program: Path, shared: Shared, arguments: argparse.Namespace, with_perf_test: bool
    ) -> None:
        self.program = program
        self.shared = shared
        self.arguments = arguments
        self.with_perf_test = with_perf_test
        self.failures: list[str] = []
        self.summary = Summary(list(shared.servers))
        self.begun = time.monotonic()
        self.quiet_left = float(arguments.quiet_wait)

    def measure(self, case: Case) -> None:
        print(f"\n### {case.title}\n", flush=True)
        line = " ".join(case.arguments)
        print(f"`loadgen {line}`; load average before: {load_average()}.\n", flush=True)
        variants = [variant for variant in case.variants if variant.server in self.shared.servers]
        found = self.rounds(case, variants)
        show(case.columns, found)
        self.summary.add(case.headline, case.summary, variants, found)
        if case.perf_test is not None and self.with_perf_test:
            load = case.perf_test
            print(f"\nPerfTest: `{' '.join(load.arguments)}`\n", flush=True)
            found = self.perf_test_rounds(case, load, variants)
            show(load.columns, found)
            self.summary.add("the same with PerfTest", load.summary, variants, found)

    def rounds(self, case: Case, variants: list[Variant]) -> dict[str, list[Figures]]:
        def load(variant: Variant, running: Running) -> Figures:
            command = [*case.arguments, *variant.extra]
            if case.seconds:
                command += ["--seconds", str(self.arguments.seconds)]
            if self.arguments.quick:
                command += case.quick or []
            return loadgen(self.program, running, command)

        count = 1 if case.fresh else self.arguments.rounds
        return self.in_turn(case, "loadgen", variants, count, load)

    def perf_test_rounds(
        self, case: Case, asked: PerfTest, variants: list[Variant]
    ) -> dict[str, list[Figures]]:
        def load(variant: Variant, running: Running) -> Figures:
            command = [*asked.arguments, *variant.perf_test_extra]
            seconds = self.arguments.perf_test_seconds if asked.seconds else None
            return perf_test(running, command, seconds)

        count = 1 if case.fresh else self.arguments.perf_test_rounds
        return self.in_turn(case, "PerfTest", variants, count, load)

    def in_turn(
        self,
        case: Case,
        name: str,
        variants: list[Variant],
        count: int,
        load: Load,
    ) -> dict[str, list[Figures]]:
        """Each variant once a round. A run that fails is told, and the others go on."""
        found: dict[str, list[Figures]] = {variant.label: [] for variant in variants}
        for number in range(count):
            if number > 0 and time.monotonic() - self.begun > 60 * self.arguments.minutes:
                break
            for variant in variants:
                try:
                    with ExitStack() as stack:
                        if case.fresh:
                            running = self.shared.start(stack, variant.server)
                        else:
                            running = self.shared.get(variant.server)
                        self.await_quiet()
                        figures = load(variant, running)
                except (LoadFailed, RuntimeError, subprocess.TimeoutExpired) as error:
                    self.failures.append(str(error))
                    print(f"**failed**: {error}\n", flush=True)
                    self.shared.discard(variant.server)
                    continue
                self.keep(case.name, name, variant, figures)
                found[variant.label].append(figures)
        return found

    def keep(self, case: str, load: str, variant: Variant, figures: Figures) -> None:
        if self.arguments.json is not None:
            entry = {"case": case, "load": load, "server": variant.label, **figures}
            with self.arguments.json.open("a") as lines:
                lines.write(json.dumps(entry) + "\n")

    def told_summary(self) -> str:
        self.summary.add_ready(self.shared.ready_seconds)
        minutes = (time.monotonic() - self.begun) / 60
        return (
            f"Medians, memory from one round; {minutes:.1f} minutes, load average at the end "
            f"{load_average()}.\n\n{self.summary.table()}"
        )

    def await_quiet(self) -> None:
        """Waits for a quarter of a second without work, while there is patience left."""
        begun = time.monotonic()
        deadline = begun + min(QUIET_SECONDS_MAX, self.quiet_left)
        before = processor_ticks()
        while time.monotonic() < deadline:
            time.sleep(0.25)
            now = processor_ticks()
            idle, every = now[0] - before[0], now[1] - before[1]
            if idle >= QUIET_SHARE * every:
                break
            before = now
        self.quiet_left -= time.monotonic() - begun


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
