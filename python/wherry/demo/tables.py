"""What the subscribers build: three SQLite tables, each in a database of its own.

- `Aircraft`, fed by workers on a queue grouped by aircraft: the state and totals of each aircraft;
- `Late`, fed by a subscriber to late departures only: one row per late departure;
- `Hours`, fed by a consumer of batches: the totals of every hour of the year.

`apply` writes a batch and the numbers of its events in ONE transaction, and leaves out events
whose number is already there. A message that is delivered again after a crash is therefore not
applied again: at-least-once delivery plus an idempotent apply is exactly one effect.

`Aircraft.trail` makes order part of the state: each event multiplies it by 31 and adds its own
number, so two aircraft rows are only equal if the same events were applied in the same order.

`expected` computes the same tables from the events directly, with dictionaries and no broker.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from wherry.demo.flights import ARRIVED, DEPARTED, SCHEDULED, Event

__all__ = [
    "STORES",
    "Aircraft",
    "Hours",
    "Late",
    "Ledger",
    "Rows",
    "Store",
    "differences",
    "expected",
]

Rows = dict[Any, tuple[Any, ...]]
"""A table: the row's key (its first column) to the whole row."""

TRAIL_MODULUS = 2_147_483_647
"""The largest 31-bit prime: 31 times anything below it stays well inside SQLite's 64 bits."""

LOOKUP_COUNT_MAX = 500
"""Numbers looked up in one statement; SQLite's oldest limit for parameters is 999."""


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    # Used by one thread at a time, though not always by the same one.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


class Store(ABC):
    """One table, and the numbers of the events that are in it."""

    name: ClassVar[str]
    schema: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        # A message is acknowledged when its effect is on the disk, not in a cache.
        self._connection = _connect(directory / f"{self.name}.sqlite", "FULL")
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({self.schema})")
        self._connection.execute("CREATE TABLE IF NOT EXISTS applied (event INTEGER PRIMARY KEY)")

    @abstractmethod
    def _write(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        """Write `events`, none of which was written before, in their order."""

    def apply(self, events: Sequence[Event]) -> list[Event]:
        """Write what is new of `events`, all or nothing; on stable storage when it returns.

        Returns what was new: the rest had been applied before and was left out.
        """
        with self._transaction() as connection:
            seen = self._seen([event.number for event in events])
            fresh = []
            for event in events:
                if event.number not in seen:
                    seen.add(event.number)
                    fresh.append(event)
            self._write(connection, fresh)
            connection.executemany(
                "INSERT INTO applied VALUES (?)", [(event.number,) for event in fresh]
            )
        return fresh

    def applied_count(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM applied").fetchone()
        return int(count)

    def rows(self) -> Rows:
        return {row[0]: row for row in self._connection.execute(f"SELECT * FROM {self.name}")}

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _seen(self, numbers: Sequence[int]) -> set[int]:
        seen: set[int] = set()
        for start in range(0, len(numbers), LOOKUP_COUNT_MAX):
            some = numbers[start : start + LOOKUP_COUNT_MAX]
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT event FROM applied WHERE event IN ({marks})", some
            )
            seen.update(number for (number,) in rows)
        return seen


class Aircraft(Store):
    """Where each aircraft is and what it has done this year."""

    name = "aircraft"
    schema = (
        "tail TEXT PRIMARY KEY, scheduled INTEGER, departed INTEGER, arrived INTEGER, "
        "delay_minutes INTEGER, miles INTEGER, place TEXT, last_event INTEGER, trail INTEGER"
    )

    def _write(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        connection.executemany(
            f"""
            INSERT INTO aircraft VALUES (?, ?, ?, ?, ?, ?, ?, ?8, ?8 % {TRAIL_MODULUS})
            ON CONFLICT (tail) DO UPDATE SET
                scheduled = scheduled + excluded.scheduled,
                departed = departed + excluded.departed,
                arrived = arrived + excluded.arrived,
                delay_minutes = delay_minutes + excluded.delay_minutes,
                miles = miles + excluded.miles,
                place = CASE excluded.scheduled WHEN 1 THEN place ELSE excluded.place END,
                last_event = excluded.last_event,
                trail = (trail * 31 + excluded.last_event) % {TRAIL_MODULUS}
            """,
            [
                (
                    event.tail,
                    event.kind == SCHEDULED,
                    event.kind == DEPARTED,
                    event.kind == ARRIVED,
                    event.delay if event.kind == DEPARTED else 0,
                    event.miles if event.kind == ARRIVED else 0,
                    _place(event),
                    event.number,
                )
                for event in events
            ],
        )

    def last_events(self) -> dict[str, int]:
        """The number of the last event that was applied to each aircraft."""
        return dict(self._connection.execute("SELECT tail, last_event FROM aircraft"))


class Late(Store):
    """The departures that were late."""

    name = "late"
    schema = "event INTEGER PRIMARY KEY, tail TEXT, flight TEXT, origin TEXT, delay_minutes INTEGER"

    def _write(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        connection.executemany(
            "INSERT INTO late VALUES (?, ?, ?, ?, ?)", [_late_row(event) for event in events]
        )


class Hours(Store):
    """The traffic of every hour (hours since 1970, UTC)."""

    name = "hours"
    schema = (
        "hour INTEGER PRIMARY KEY, scheduled INTEGER, departed INTEGER, arrived INTEGER, "
        "delay_minutes INTEGER"
    )

    def _write(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        totals: dict[int, list[int]] = {}
        for event in events:
            _count_hour(totals, event)
        connection.executemany(
            """
            INSERT INTO hours VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (hour) DO UPDATE SET
                scheduled = scheduled + excluded.scheduled,
                departed = departed + excluded.departed,
                arrived = arrived + excluded.arrived,
                delay_minutes = delay_minutes + excluded.delay_minutes
            """,
            [(hour, *total) for hour, total in totals.items()],
        )


STORES: tuple[type[Store], ...] = (Aircraft, Late, Hours)


class Ledger:
    """The publisher's own record: up to which event everything is confirmed."""

    def __init__(self, directory: Path) -> None:
        # If a loss of power takes the last entries, some events are published a second time, and
        # left out by their number: no reason to wait for the disk here.
        self._connection = _connect(directory / "ledger.sqlite", "NORMAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS ledger (confirmed INTEGER)")
        if self._connection.execute("SELECT confirmed FROM ledger").fetchone() is None:
            self._connection.execute("INSERT INTO ledger VALUES (0)")

    @property
    def confirmed(self) -> int:
        (confirmed,) = self._connection.execute("SELECT confirmed FROM ledger").fetchone()
        return int(confirmed)

    def confirm(self, number: int) -> None:
        self._connection.execute("UPDATE ledger SET confirmed = ?", (number,))

    def close(self) -> None:
        self._connection.close()


def expected(events: Iterable[Event]) -> dict[str, Rows]:
    """The three tables as they must be after `events`, computed without broker and database."""
    aircraft: dict[str, list[Any]] = {}
    late: Rows = {}
    hours: dict[int, list[int]] = {}
    for event in events:
        row = aircraft.setdefault(event.tail, [0, 0, 0, 0, 0, None, 0, 0])
        if event.kind == SCHEDULED:
            row[0] += 1
        elif event.kind == DEPARTED:
            row[1] += 1
            row[3] += event.delay
        else:
            row[2] += 1
            row[4] += event.miles
        row[5] = _place(event) or row[5]
        row[6] = event.number
        row[7] = (row[7] * 31 + event.number) % TRAIL_MODULUS
        if event.late:
            late[event.number] = _late_row(event)
        _count_hour(hours, event)
    return {
        "aircraft": {tail: (tail, *row) for tail, row in aircraft.items()},
        "late": late,
        "hours": {hour: (hour, *row) for hour, row in hours.items()},
    }


def differences(wanted: Rows, found: Rows) -> Iterator[str]:
    """One line for each row that is not as it must be."""
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            yield f"{key}: expected {wanted.get(key)}, found {found.get(key)}"


def _place(event: Event) -> str | None:
    """Where the event leaves the aircraft; nowhere new when it is only scheduled."""
    if event.kind == DEPARTED:
        return f"in the air to {event.destination}"
    return event.destination if event.kind == ARRIVED else None


def _late_row(event: Event) -> tuple[int, str, str, str, int]:
    return event.number, event.tail, event.flight, event.origin, event.delay


def _count_hour(hours: dict[int, list[int]], event: Event) -> None:
    total = hours.setdefault(event.minute // 60, [0, 0, 0, 0])
    if event.kind == SCHEDULED:
        total[0] += 1
    elif event.kind == DEPARTED:
        total[1] += 1
        total[3] += event.delay
    else:
        total[2] += 1
