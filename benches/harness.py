"""How the benches here measure: cases of one group in turn, medians, ratios to a reference.

A case is a context manager that yields `work(count) -> seconds`: it does `count` operations and
says how long they took, without what it did before and after. `count` is found once per case, so
that a round lasts about `round_seconds`. The rounds of a group's cases are interleaved: what
disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[int], float]

COUNT_MAX = 50_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured. `items` is what one operation stands for, if not one."""

    name: str
    make: Callable[[], AbstractContextManager[Work]]
    items: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """Items per second of one case, one figure a round."""

    name: str
    rates: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that answer one question. The first one is the reference of the ratios."""

    name: str
    question: str
    cases: list[Case]

    def measure(self, rounds: int, round_seconds: float) -> list[Result]:
        results = [Result(case.name, []) for case in self.cases]
        with ExitStack() as stack:
            ready = []
            for case in self.cases:
                work = stack.enter_context(case.make())
                ready.append((case, work, _calibrate(work, round_seconds)))
            for _ in range(rounds):
                for (case, work, count), result in zip(ready, results, strict=True):
                    gc.collect()
                    result.rates.append(count * case.items / work(count))
        return results


def show(group: Group, results: list[Result]) -> None:
    """The group as a table in Markdown: what stands in README.md is pasted from here."""
    reference = results[0].median
    print(f"\n### {group.name}\n\n{group.question}\n")
    print("| case | per second, median | lowest - highest | ratio |")
    print("|---|---:|---:|---:|")
    for result in results:
        span = f"{_short(min(result.rates))} - {_short(max(result.rates))}"
        ratio = result.median / reference
        print(f"| {result.name} | {_short(result.median)} | {span} | {ratio:.3g} |", flush=True)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run_child(script: Path, *arguments: str) -> dict[str, float]:
    """What `script` prints as JSON on its last line, run in a fresh interpreter."""
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """One line about where the figures come from."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            names = {line.split(":")[1].strip() for line in cpuinfo if "model name" in line}
        processor = ", ".join(sorted(names)) or processor
    except OSError:
        pass
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return (
        f"{os.cpu_count()} x {processor}; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}; commit {commit}"
    )


def _calibrate(work: Work, round_seconds: float) -> int:
    count = 1
    while True:
        seconds = work(count)
        if seconds >= round_seconds / 4 or count >= COUNT_MAX:
            return max(1, min(COUNT_MAX, int(count * round_seconds / max(seconds, 1e-9))))
        # At most tenfold: the first operations of a case are often slower than the rest.
        count = int(count * min(10.0, max(2.0, round_seconds / max(seconds, 1e-9) / 2)))


def _short(figure: float) -> str:
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if figure >= size:
            return f"{figure / size:.3g}{letter}"
    return f"{figure:.3g}"
