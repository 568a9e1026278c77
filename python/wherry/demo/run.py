"""The parent: the broker lives in a child process, so that it can be killed.

Starts the child, shows how far it is, kills it in the middle if asked to and starts it again on the
same directory. At the end compares the tables that the subscribers built with the same tables
computed from the data.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from rich import progress
from rich.console import Console
from rich.table import Table

from wherry.demo.flights import DataMissing, Events, find_data, read_flights
from wherry.demo.replay import OUTSTANDING_COUNT_MAX, Progress, Settings
from wherry.demo.tables import STORES, Rows, Store, differences, expected

__all__ = ["run"]

KILL_AT = 0.4
"""The child is killed when this share of the events has been applied."""

PUBLISH_UP_TO = 0.6
"""The share that a child to be killed may publish: it cannot end before it is killed."""

DIFFERENCES_SHOWN_MAX = 20
"""Per table; what matters are the first ones."""


class ChildFailed(Exception):
    """The broker's process ended before its work was done."""


def run(
    *,
    data: Path | None = None,
    limit: int | None = None,
    kill: bool = False,
    workers: int = 4,
    directory: Path | None = None,
) -> int:
    """Run the demo and print its report. Returns 0 when every table is equal, else 1."""
    console = Console()
    try:
        path = data or find_data()
        with _workplace(directory) as place, ThreadPoolExecutor(1) as thread:
            computed = thread.submit(lambda: expected(Events(read_flights(path, limit))))
            settings = Settings(str(path), str(place), limit, workers)
            lives = _replay(console, settings, kill)
            wanted = computed.result()
            found = {store.name: _rows(store, place) for store in STORES}
    except (DataMissing, ChildFailed, FileExistsError) as error:
        console.print(f"wherry demo: {error}", style="red", soft_wrap=True, highlight=False)
        return 1
    console.print(_summary(lives))
    in_order = not any(life.out_of_order for life in lives)
    return 0 if _compare(console, wanted, found) and in_order else 1


@contextmanager
def _workplace(directory: Path | None) -> Iterator[Path]:
    if directory is None:
        # On Windows a file that a killed process had open may still be locked for a moment.
        with tempfile.TemporaryDirectory(
            prefix="wherry-demo-", ignore_cleanup_errors=True
        ) as temporary:
            yield Path(temporary)
        return
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; name a new directory")
    yield directory


def _replay(console: Console, settings: Settings, kill: bool) -> list[Progress]:
    """The lives of the child: one, or two with a kill between them."""
    columns = (
        progress.TextColumn("{task.description:>10}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    with progress.Progress(*columns, console=console) as bars:
        published = bars.add_task("published", total=None, note="confirmed: on the disk")
        applied = bars.add_task("applied", total=None, note="in order for each aircraft")
        aggregated = bars.add_task("aggregated", total=None, note="hourly totals, in batches")

        def show(life: Progress) -> None:
            bars.update(published, total=life.total, completed=life.published)
            bars.update(applied, total=life.total, completed=life.applied)
            bars.update(aggregated, total=life.total, completed=life.aggregated)

        if not kill:
            return [_live(settings, show, kill=False)]
        killed = _live(settings, show, kill=True)
        console.print(
            f"Killed with SIGKILL after {killed.applied:,} of {killed.total:,} events were applied"
            f" and {killed.published:,} confirmed. Starting again.",
            highlight=False,
            soft_wrap=True,
        )
        return [killed, _live(settings, show, kill=False)]


def _live(settings: Settings, show: Callable[[Progress], None], *, kill: bool) -> Progress:
    """One life of the child, to its end or to the kill; what it said last."""
    arguments = asdict(settings)
    if kill:
        total = len(Events(read_flights(Path(settings.data), settings.limit)))
        arguments["publish_up_to"] = int(PUBLISH_UP_TO * total)
    command = [sys.executable, "-m", "wherry.demo", json.dumps(arguments)]
    life = Progress()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if not line.endswith("\n"):
                    break  # cut by the kill
                life = Progress(**json.loads(line))
                show(life)
                if kill and life.applied >= KILL_AT * life.total:
                    child.kill()  # SIGKILL: no handler runs, nothing is flushed
                    return life
        finally:
            child.kill()  # does nothing to a child that has ended
    if not life.done:
        raise ChildFailed(
            f"the broker's process ended with status {child.returncode} after "
            f"{life.applied:,} of {life.total:,} events; its own message is above"
        )
    return life


def _rows(kind: type[Store], place: Path) -> Rows:
    store = kind(place)
    try:
        return store.rows()
    finally:
        store.close()


def _summary(lives: list[Progress]) -> Table:
    last = lives[-1]
    first = lives[0].published if len(lives) > 1 else 0
    table = Table(
        title="A year of flights out of New York through the broker",
        caption=f"At most {OUTSTANDING_COUNT_MAX:,} events were published and not yet applied.",
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")

    def row(name: str, figure: str, note: str = "") -> None:
        table.add_row(name, figure, note)

    seconds = sum(life.seconds for life in lives)
    deliveries = last.applied + last.late + last.aggregated
    row("events", f"{last.total:,}", "scheduled, departed, arrived")
    row("published and confirmed", f"{last.total / seconds:,.0f}/s", "persistent, in batches")
    row("delivered and applied", f"{deliveries / seconds:,.0f}/s", "three queues, into SQLite")
    row("in all", f"{seconds:.1f} s", "without reading the data")
    row("late departures", f"{last.late:,}", "flight.*.*.departed.late")
    row("hourly batches", f"{sum(life.batches for life in lives):,}", "acknowledged together")
    if len(lives) > 1:
        row("confirmed before the kill", f"{first:,}", "what the parent knew of")
        row("opened again in", f"{1000 * last.open_seconds:,.0f} ms", "recovery of the journal")
    row(
        "delivered again",
        f"{sum(life.redelivered for life in lives):,}",
        "marked as redelivered",
    )
    row(
        "left out as already applied",
        f"{sum(life.duplicates for life in lives):,}",
        "by their event number",
    )
    row(
        "out of order for an aircraft",
        f"{sum(life.out_of_order for life in lives):,}",
        "must be 0",
    )
    for name, value in last.latency_ms.items():
        row(f"latency {name}", f"{value:,.1f} ms", "publish to SQLite commit")
    return table


def _compare(console: Console, wanted: dict[str, Rows], found: dict[str, Rows]) -> bool:
    """Whether the tables are equal; shows what is not."""
    equal = True
    for name, rows in wanted.items():
        if rows == found[name]:
            console.print(f"{name}: {len(rows):,} rows, equal to the data's", highlight=False)
            continue
        equal = False
        lines = differences(rows, found[name])
        console.print(f"{name}: DIFFERENT from the data's", style="red", highlight=False)
        for line in islice(lines, DIFFERENCES_SHOWN_MAX):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        more = sum(1 for _ in lines)
        if more:
            console.print(f"  ... and {more:,} rows more", highlight=False)
    if equal:
        console.print("Nothing was lost, nothing was applied twice, every aircraft in order.")
    return equal
