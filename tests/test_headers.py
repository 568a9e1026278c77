"""Headers: what goes in comes out, and what could not is refused."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wherry

names = st.text(max_size=60).filter(lambda name: len(name.encode()) <= 255)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
moments = st.datetimes(
    min_value=datetime(1970, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.just(timezone.utc),
).map(lambda moment: moment.replace(microsecond=0))
decimals = st.builds(
    lambda number, places: Decimal((int(number < 0), _digits(number), -places)),
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.integers(0, 255),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=50)
    | moments
    | decimals
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def _digits(number: int) -> tuple[int, ...]:
    return tuple(map(int, str(abs(number))))


def round_trip(headers: dict[str, Any]) -> dict[str, Any]:
    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish_nowait(b"", "q", headers=headers)
        delivery = queue.get_nowait()
        assert str(delivery.headers) == str(delivery.properties.headers)
        return delivery.headers


def same(left: object, right: object) -> bool:
    """Equal, and of equal type all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, float) and isinstance(right, float):
        return math.copysign(1, left) == math.copysign(1, right) and left == right
    return left == right


@given(st.dictionaries(names, values, max_size=6))
def test_headers_come_back_the_same(headers: dict[str, Any]) -> None:
    assert same(round_trip(headers), headers)


def test_near_equals_come_back_as_their_own_kind() -> None:
    assert round_trip({"t": (1, (2,)), "b": bytearray(b"x")}) == {"t": [1, [2]], "b": b"x"}
    zone = timezone(timedelta(hours=5, minutes=30))
    there = datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)
    back = round_trip({"when": there})["when"]
    assert back == there
    assert back.tzinfo is timezone.utc
    assert math.isnan(round_trip({"nan": float("nan")})["nan"])


def deep(levels: int) -> Any:
    inner: Any = 1
    for level in range(levels):
        inner = [inner] if level % 2 else {"k": inner}
    return inner


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "object has no place"),
        ({1, 2}, "set has no place"),
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (datetime(2026, 1, 1), "time zone"),
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc), "whole seconds"),
        (datetime(1960, 1, 1, tzinfo=timezone.utc), "1970"),
        (Decimal("NaN"), "decimal"),
        (Decimal("Infinity"), "decimal"),
        (Decimal("-0.0"), "decimal"),
        (Decimal(2**31), "decimal"),
        (Decimal("1E+5"), "decimal"),
        (Decimal("1E-256"), "decimal"),
        ([1, [object()]], "object has no place"),
        ({"x" * 256: 1}, "255"),
        ({2: 1}, "not int"),
        (deep(40), "inside each other"),
        (CYCLE, "inside each other"),
    ],
)
def test_what_would_not_come_back_is_refused_by_name(value: object, says: str) -> None:
    with pytest.raises(wherry.InvalidArgument, match=says) as caught:
        round_trip({"fine": 1, "culprit": value})
    assert "culprit" in str(caught.value)


def test_headers_are_a_dict() -> None:
    with pytest.raises(TypeError):
        round_trip([("a", 1)])  # type: ignore[arg-type]


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        round_trip({"a": "\ud800"})


def test_as_many_values_as_there_is_room_for_come_back(tmp_path: Path) -> None:
    """And as a dead letter, with its history among them."""
    many = {"n": [None] * 100_000}
    with wherry.blocking.open(tmp_path) as broker:
        queue = broker.declare_queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
        broker.declare_queue("dead")
        broker.default_exchange.publish(b"x", "q", headers=many)
        delivery = queue.get_nowait()
        assert delivery.headers == many
        delivery.reject()
    with wherry.blocking.open(tmp_path) as broker:
        dead = broker.queue("dead").get_nowait()
        assert dead.headers["n"] == many["n"]
        assert [death.reason for death in dead.deaths] == ["rejected"]


def test_headers_are_made_anew_each_time() -> None:
    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish_nowait(b"body", "q", headers={"a": 1})
        delivery = queue.get_nowait()
        delivery.headers["a"] = 2
        assert delivery.headers == {"a": 1}
        assert delivery.body is delivery.body


@pytest.mark.parametrize("seconds", [0, 0.001, 0.0001, 1, 1.5, 86400.0])
def test_an_expiration_comes_back_in_seconds(seconds: float) -> None:
    with wherry.blocking.open(clock=wherry.VirtualClock()) as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish(b"", "q", expiration=seconds)
        if seconds == 0:  # expired before anybody could take it
            assert queue.statistics().ready == 0
            return
        expiration = queue.get_nowait().expiration
        assert expiration == math.ceil(seconds * 1000) / 1000


@pytest.mark.parametrize("moment", [0, 1_700_000_000, 1_700_000_000.9])
def test_a_timestamp_has_whole_seconds(moment: float) -> None:
    with wherry.blocking.open() as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish(b"", "q", timestamp=moment)
        timestamp = queue.get_nowait().timestamp
        assert timestamp == datetime.fromtimestamp(int(moment), timezone.utc)
