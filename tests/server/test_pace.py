"""How a server's thread waits: awake, asleep, or behind others."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from wherry.server import _host, _pace
from wherry.server._pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not _host.HAS_ITS_OWN, reason="elsewhere it is trio.run")

FOREVER = -1.0


class Waits:
    """In place of an epoll: each wait takes as long as it is told, by a clock of its own."""

    def __init__(self, *waits_ns: int, look_ns: int = 1_000) -> None:
        self.now = 0
        self.look_ns = look_ns
        self.waits = list(waits_ns)
        self.looks = 0
        self.timeouts: list[float] = []

    def clock(self) -> int:
        return self.now

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        if timeout == 0:
            self.looks += 1
            self.now += self.look_ns
            self.waits[0] -= self.look_ns
            if self.waits[0] > 0:
                return []
        else:
            self.timeouts.append(timeout)
            if 0 < timeout * 1e9 < self.waits[0]:
                self.now += round(timeout * 1e9)
                self.waits[0] -= round(timeout * 1e9)
                return []
            self.now += self.waits[0]
        self.waits.pop(0)
        return [(-1, 0)]


def test_it_always_sleeps_unless_told() -> None:
    waits = Waits(*[10] * 20)
    pace = Pace(clock=waits.clock)
    for _ in range(20):
        pace.wait(waits.poll, FOREVER, 1)
    assert waits.looks == 0


def test_it_stays_awake_only_while_waits_are_short() -> None:
    short, long = 20_000, 5_000_000
    waits = Waits(*[short] * 4, short, long, *[long] * 4, short)
    pace = Pace(50_000, waits.clock)
    looks = []
    for _ in range(11):
        before = waits.looks
        pace.wait(waits.poll, FOREVER, 1)
        looks.append(waits.looks - before)
    # Four short ones were seen; then it looks 20 times for the short one, and 50 times for a long
    # one before it sleeps. When fewer than four of the last eight were short, it sleeps at once.
    assert looks == [0, 0, 0, 0, 20, 50, 50, 50, 50, 50, 0]


def test_it_sleeps_while_messages_come_by_dozens() -> None:
    waits = Waits(*[20_000] * 60)
    pace = Pace(50_000, waits.clock)
    came = 0
    pace.count_with(lambda: (came, 0))

    def awake(times: int, messages: int) -> list[bool]:
        nonlocal came
        found = []
        for _ in range(times):
            came += messages
            before = waits.looks
            pace.wait(waits.poll, FOREVER, 1)
            found.append(waits.looks > before)
        return found

    assert awake(8, 1) == [False] * 4 + [True] * 4
    # A stop of the machine: hundreds at once. It is counted as sixteen.
    assert awake(1, 900) == [True]
    assert awake(9, 1) == [True] * 9
    # From now on always: it sleeps until they come one by one again.
    assert awake(20, 12)[-10:] == [False] * 10
    assert awake(20, 1)[-2:] == [True] * 2


def in_a_thread(function: Callable[[], None]) -> None:
    """On a thread of its own, whose policy is nobody else's."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()  # however slow the machine is: what it does is counted, not timed
    if errors:
        raise errors[0]


class Stream:
    """A pace, the messages that pass it, and how long it waits for the next ones."""

    def __init__(self, busy_wait_ns: int = 0) -> None:
        # A look takes longer here: thousands of waits are looked through.
        self.waits = Waits(look_ns=20_000)
        self.passed = 0
        self.pace = Pace(busy_wait_ns, self.waits.clock)
        self.pace.count_with(lambda: (self.passed // 2, self.passed - self.passed // 2))

    def run(self, waits: int, messages: int, ns: int = 1_000_000) -> set[int]:
        """So many messages before each of so many waits: the thread's policies after each."""
        found = set()
        for _ in range(waits):
            self.passed += messages
            self.wait(ns)
            found.add(os.sched_getscheduler(0))
        return found

    def crowded(self, spans: int, messages: int, of: int) -> set[int]:
        """One of so many waits is longer than it stays awake, and over as soon as it sleeps."""
        found = set()
        until = self.waits.now + spans * 20_000_000
        while self.waits.now < until:
            found |= self.run(of - 1, messages, 40_000)
            found |= self.run(1, messages, 150_000)
        return found

    def wait(self, ns: int, timeout: float = FOREVER) -> Any:
        self.waits.waits.append(ns)
        return self.pace.wait(self.waits.poll, timeout, 1)


def test_it_stands_back_in_a_fast_stream_and_comes_forth_after_it() -> None:
    def body() -> None:
        stream = Stream()
        # Twenty waits are a span, but the first one has the messages of one more.
        assert stream.run(100, 57) == {os.SCHED_OTHER}
        assert stream.run(21, 60) == {os.SCHED_OTHER, os.SCHED_BATCH}
        # Between the two bounds it stays as it is.
        assert stream.run(100, 31) == {os.SCHED_BATCH}
        assert stream.run(21, 29) == {os.SCHED_OTHER, os.SCHED_BATCH}
        assert stream.run(100, 57) == {os.SCHED_OTHER}
        # The end of the server is not the end of the thread.
        stream.run(40, 100)
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        stream.pace.close()
        assert os.sched_getscheduler(0) == os.SCHED_OTHER

    in_a_thread(body)


BOTH = {os.SCHED_OTHER, os.SCHED_BATCH}


def room(stream: Stream, messages: int) -> int:
    """For how long the thread stands back, in milliseconds, while so many messages come in each."""
    began = stream.waits.now
    while stream.run(1, messages) == {os.SCHED_BATCH}:
        pass
    return (stream.waits.now - began) // 1_000_000


def test_it_stands_back_from_a_sender_that_it_keeps_waiting() -> None:
    def body() -> None:
        stream = Stream(100_000)
        # 21,000 messages a second, for 200 ms; with room there are more.
        for seconds in (1, 2, 4, 8, 8):
            assert stream.run(8, 2, 40_000) == {os.SCHED_OTHER}
            assert stream.crowded(12, 2, of=2) == BOTH
            assert seconds * 1_000 - 60 < room(stream, 28) < seconds * 1_000 + 60
        # A stream that has room and needs none has it no longer than it lasts.
        assert stream.crowded(12, 2, of=2) == BOTH
        assert room(stream, 9) < 60

    in_a_thread(body)


def test_it_makes_no_room_that_does_not_help() -> None:
    def body() -> None:
        stream = Stream(100_000)
        for seconds in (1, 2, 4):
            assert stream.run(8, 2, 40_000) == {os.SCHED_OTHER}
            assert stream.crowded(12, 2, of=2) == BOTH
            assert 940 < room(stream, 22) < 1_060
            # It stays for longer each time.
            assert stream.crowded(50 * seconds - 15, 2, of=2) == {os.SCHED_OTHER}
            stream.run(300, 22)

    in_a_thread(body)


@pytest.mark.parametrize(("messages", "of"), [(2, 20), (0, 2)])
def test_it_is_not_in_the_way_for_being_wrong_at_times_or_in_a_slow_stream(
    messages: int, of: int
) -> None:
    def body() -> None:
        stream = Stream(100_000)
        assert stream.run(8, messages, 40_000) == {os.SCHED_OTHER}
        assert stream.crowded(30, messages, of=of) == {os.SCHED_OTHER}
        assert stream.waits.looks > 0

    in_a_thread(body)


def test_the_first_message_after_a_stream_finds_it_in_front() -> None:
    def body() -> None:
        stream = Stream()
        stream.run(40, 100)
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        stream.waits.timeouts.clear()
        # Nothing for 20 ms, then in front until something comes, or until it is to come back.
        assert stream.wait(50_000_000)
        assert stream.waits.timeouts == [0.02, FOREVER]
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        stream.run(40, 100)
        stream.waits.timeouts.clear()
        assert stream.wait(500_000_000, timeout=0.25) == []
        assert stream.waits.timeouts == [0.02, pytest.approx(0.23)]
        assert os.sched_getscheduler(0) == os.SCHED_OTHER

    in_a_thread(body)


def test_it_comes_back_in_time_from_the_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        stream = Stream()
        stream.run(40, 100)
        stream.waits.timeouts.clear()
        began = stream.waits.now
        assert stream.wait(50_000_000, timeout=0.005) == []
        assert stream.waits.timeouts == [0.005]
        assert stream.waits.now - began == 5_000_000

    in_a_thread(body)


def test_a_thread_that_somebody_put_elsewhere_stays_there() -> None:
    def body() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        stream = Stream()
        assert stream.run(50, 100) == {os.SCHED_BATCH}
        assert stream.run(50, 1) == {os.SCHED_BATCH}
        stream.pace.close()
        assert os.sched_getscheduler(0) == os.SCHED_BATCH

    in_a_thread(body)


def test_where_it_may_not_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise PermissionError

    asked = 0
    monkeypatch.setattr(_pace.os, "sched_setscheduler", refuse)
    stream = Stream()
    assert stream.run(50, 100) == {os.SCHED_OTHER}
    stream.pace.close()
    assert asked == 1
