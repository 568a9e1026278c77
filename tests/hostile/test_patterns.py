"""Regular expressions that were made to take long, and others that were made not to work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import wherry.testing
from hostile.guarded import Guarded
from wherry import InvalidArgument, _core
from wherry.server import UserStore
from wire import brokers
from wire.peer import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "a" * 254 + "!"
"""The longest name there is, which none of them matches."""

# Each takes a backtracking engine longer than the universe has had.
CATASTROPHES = [
    r"^(a+)+$",
    r"^(a|a)*$",
    r"^(a|aa)+$",
    r"^(.*a){20}$",
    r"^([a-zA-Z]+)*$",
    r"^(a*)*b?$",
    "^" + "a?" * 100 + "a" * 100 + "$",
]

# No regular expression, or one that cannot be had in linear time, or in little memory.
REFUSED = ["(", "[a", "a{2,1}", "*", r"\1", "^(?!secret)", "(?<=a)b", "(a{1000}){1000}", "a" * 5000]

SECONDS_MAX = 0.5


@pytest.fixture(scope="module")
def broker() -> Iterator[Any]:
    if brokers.CHOICE != "wherry":
        pytest.skip("it is Wherry that promises linear time")
    with wherry.testing.broker() as started:
        yield Guarded(started)


@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_permissions_stay_fast(pattern: str, broker: Guarded) -> None:
    UserStore().set_permission("guest", "/", pattern, pattern, pattern)
    broker.user("victim", pattern, pattern, pattern)
    broker.topic("victim", "amq.topic", pattern, pattern)
    with connect(broker.host, broker.port, user="victim", password="victim") as peer:
        started = time.monotonic()
        for number in range(20):
            peer.open_channel(1)
            # Another name each time, so that no kept answer helps.
            answer = peer.call(1, "basic.get", queue=NAME[number:])
            assert answer.code == 403, answer
            peer.send(1, "channel.close-ok")
        assert time.monotonic() - started < SECONDS_MAX


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_does_not_compile_is_refused_when_it_is_set(pattern: str) -> None:
    users = UserStore()
    before = users.list()
    for patterns in ((pattern, "", ""), ("", pattern, ""), ("", "", pattern)):
        with pytest.raises(InvalidArgument):
            users.set_permission("guest", "/", *patterns)
    for patterns in ((pattern, ""), ("", pattern)):
        with pytest.raises(InvalidArgument):
            users.set_topic_permission("guest", "/", "amq.topic", *patterns)
    assert users.list() == before


def test_names_of_users_are_no_patterns(broker: Guarded) -> None:
    """A user called `.*` is not everybody."""
    broker.user(".*")
    broker.topic(".*", "amq.topic", "^{username}[.]", "^{username}[.]")
    with connect(broker.host, broker.port, user=".*", password=".*") as peer:
        peer.open_channel(1)
        queue = peer.call(1, "queue.declare", exclusive=True).queue
        bound = {"queue": queue, "exchange": "amq.topic"}
        assert peer.call(1, "queue.bind", routing_key=".*.a", **bound).name == "queue.bind-ok"
        assert peer.call(1, "queue.bind", routing_key="victim.a", **bound).code == 403


@pytest.fixture
def host() -> Iterator[_core.VirtualHost]:
    engine = _core.Engine()
    yield _core.VirtualHost(engine, "/")
    engine.close()


def policy_of(host: _core.VirtualHost, name: str) -> Any:
    queue, _ = host.declare_queue(name)
    return _core.Queue(host, queue)._policies()["policy"]


@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_policies_stay_fast(pattern: str, host: _core.VirtualHost) -> None:
    for number in range(100):
        host.declare_queue(f"{NAME[3:]}{number}")
    started = time.monotonic()
    _core.set_policy(host, "p", pattern, {"max-length": 1})
    assert policy_of(host, NAME) is None
    assert time.monotonic() - started < SECONDS_MAX


@pytest.mark.parametrize("pattern", REFUSED)
def test_bad_policy_is_refused_and_acts_on_nothing(pattern: str, host: _core.VirtualHost) -> None:
    with pytest.raises(InvalidArgument, match="pattern"):
        _core.set_policy(host, "p", pattern, {"max-length": 1})
    assert policy_of(host, "a") is None


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("", "any", True),
        (".*", "any", True),
        ("ob", "jobs", True),
        ("^ob", "jobs", False),
        ("^jobs$", "jobs", True),
        ("^$", "jobs", False),
    ],
)
def test_patterns_of_policies_are_searched_for(
    pattern: str, name: str, found: bool, host: _core.VirtualHost
) -> None:
    _core.set_policy(host, "p", pattern, {"max-length": 1})
    assert (policy_of(host, name) == "p") is found
