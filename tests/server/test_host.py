"""The loop of the server's own: trio as a guest of the sockets' epoll."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from wherry.server import _host, _poll
from wherry.server._poll import READ, Epoll, EpollPoller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [
    pytest.mark.only("trio"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is trio.run"),
]


def run(function: Callable[..., Awaitable[Any]], *args: object, **options: int) -> Any:
    """On a thread of its own, as a server's."""
    result: list[Any] = []

    def body() -> None:
        try:
            result.append(_host.run(function, *args, **options))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


class Echo:
    """Answers what it reads, and tells a task."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.turns = 0
        self.told = trio.Event()

    def on_ready(self, what: int) -> None:
        assert what == READ
        self.socket.send(self.socket.recv(100))
        self.told.set()

    def on_again(self) -> None:
        self.turns += 1
        self.told.set()


def test_results_and_errors_come_out() -> None:
    async def give(value: int) -> int:
        await trio.sleep(0.001)
        return value

    async def fail() -> None:
        raise ValueError("mine")

    assert run(give, 7) == 7
    with pytest.raises(ValueError, match="mine"):
        run(fail)


@pytest.mark.parametrize("busy_wait_us", [0, 100])
def test_sockets_tasks_threads_and_deadlines_all_have_their_turn(busy_wait_us: int) -> None:
    async def main() -> None:
        poller = _host.sockets()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        echo = Echo(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            poller.add(ours, echo, READ)
            for _ in range(20):
                # From this thread, and from another one.
                theirs.send(b"x")
                await trio.lowlevel.wait_readable(theirs)
                assert theirs.recv(10) == b"x"
                await trio.to_thread.run_sync(theirs.send, b"y")
                await trio.lowlevel.wait_readable(theirs)
                assert theirs.recv(10) == b"y"
            # A task that waits for what a socket's turn sets.
            echo.told = trio.Event()
            theirs.send(b"z")
            await echo.told.wait()
            # Another turn, and nothing that keeps the loop awake after it.
            echo.told = trio.Event()
            poller.again(echo)
            await echo.told.wait()
            assert echo.turns == 1
            with trio.move_on_after(0.01) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
            poller.remove(ours)
            nursery.cancel_scope.cancel()
        poller.close()
        ours.close()
        theirs.close()

    run(main, busy_wait_us=busy_wait_us)


def test_two_runs_one_after_the_other_and_one_beside() -> None:
    async def main(depth: int) -> int:
        assert not isinstance(_host.sockets(), EpollPoller)
        if depth:
            return 1 + await trio.to_thread.run_sync(_host.run, main, depth - 1)
        return 0

    assert run(main, 1) == 1
    assert run(main, 0) == 0
    # A loop that is somebody else's.
    poller = _host.sockets()
    assert isinstance(poller, EpollPoller)
    poller.close()


def test_a_wake_up_that_comes_late_touches_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts: list[_host._Host] = []

    async def main() -> None:
        hosts.append(_host._current.host)

    run(main)
    wakes = []
    monkeypatch.setattr(Epoll, "wake", lambda self: wakes.append(self))
    # What trio's thread does when the loop has taken its call before it could wake the loop.
    hosts[0]._soon(lambda: None)
    assert wakes == []


def test_an_interrupt_reaches_the_guest() -> None:
    cleaned = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        _host.run(main)
    assert cleaned


class Waits:
    """In place of an epoll: each wait takes as long as it is told, by a clock of its own."""

    def __init__(self, *waits_ns: int) -> None:
        self.now = 0
        self.waits = list(waits_ns)
        self.looks = 0

    def clock(self) -> int:
        return self.now

    def poll(self, timeout: int, most: int) -> list[tuple[int, int]]:
        if timeout == 0:
            self.looks += 1
            self.now += 1_000
            self.waits[0] -= 1_000
            if self.waits[0] > 0:
                return []
        else:
            self.now += self.waits[0]
        self.waits.pop(0)
        return [(-1, 0)]


def test_it_stays_awake_only_while_waits_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = 20_000, 5_000_000
    waits = Waits(*[short] * 4, short, long, *[long] * 4, short)
    monkeypatch.setattr(_poll.time, "perf_counter_ns", waits.clock)
    epoll = Epoll(busy_wait_ns=50_000)
    with monkeypatch.context() as patch:
        patch.setattr(epoll, "_epoll", waits)
        looks = []
        for _ in range(11):
            before = waits.looks
            epoll.serve(wait=True)
            looks.append(waits.looks - before)
    epoll.close()
    # Four short ones were seen; then it looks 20 times for the short one, and 50 times for a long
    # one before it sleeps. When fewer than four of the last eight were short, it sleeps at once.
    assert looks == [0, 0, 0, 0, 20, 50, 50, 50, 50, 50, 0]


def test_it_always_sleeps_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits(*[10] * 20)
    epoll = Epoll()
    with monkeypatch.context() as patch:
        patch.setattr(epoll, "_epoll", waits)
        for _ in range(20):
            epoll.serve(wait=True)
    epoll.close()
    assert waits.looks == 0
