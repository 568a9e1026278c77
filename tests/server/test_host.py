"""The loop of the server's own: sockets, tasks, timers, threads and signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from wherry.server import _host
from wherry.server._poll import READ, Epoll

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wherry.server._host import Host

pytestmark = pytest.mark.skipif(not _host.HAS_ITS_OWN, reason="elsewhere it is trio.run")

SECONDS_MAX = 20.0


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
    thread.join(SECONDS_MAX)
    assert not thread.is_alive()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


class Echo:
    """Answers what it reads, and tells a task."""

    def __init__(self, host: Host, sock: socket.socket) -> None:
        self.socket = sock
        self.turns = 0
        self.told = host.event()

    def on_ready(self, what: int) -> None:
        assert what == READ
        self.socket.send(self.socket.recv(100))
        self.told.set()

    def on_again(self) -> None:
        self.turns += 1
        self.told.set()


def test_results_and_errors_come_out() -> None:
    async def give(host: Host, value: int) -> int:
        await host.sleep(0.001)
        return value

    async def fail(host: Host) -> None:
        await host.checkpoint()
        raise ValueError("mine")

    assert run(give, 7) == 7
    with pytest.raises(ValueError, match="mine"):
        run(fail)


def test_an_error_of_any_task_ends_the_run() -> None:
    ended = []

    async def fail() -> None:
        raise ValueError("of the other")

    async def main(host: Host) -> None:
        host.spawn(fail)
        try:
            await host.event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ValueError, match="of the other"):
        run(main)
    assert ended


@pytest.mark.parametrize("busy_wait_us", [0, 100])
def test_sockets_tasks_threads_and_deadlines_all_have_their_turn(busy_wait_us: int) -> None:
    async def main(host: Host) -> None:
        poller = host.poller()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(SECONDS_MAX)
        echo = Echo(host, ours)
        poller.add(ours, echo, READ)
        for number in range(20):
            # From this thread, and from another one.
            echo.told = host.event()
            theirs.send(b"x")
            assert await echo.told.wait(SECONDS_MAX)
            assert theirs.recv(10) == b"x"
            await host.in_thread(theirs.send, b"y%d" % number)
            assert await host.in_thread(theirs.recv, 10) == b"y%d" % number
        # Another turn, and nothing that keeps the loop awake after it.
        echo.told = host.event()
        poller.again(echo)
        assert await echo.told.wait(SECONDS_MAX)
        assert echo.turns == 1
        assert not await host.event().wait(0.01)
        poller.remove(ours)
        ours.close()
        theirs.close()

    run(main, busy_wait_us=busy_wait_us)


def test_timers_come_in_their_order() -> None:
    async def main(host: Host) -> list[int]:
        order: list[int] = []

        async def note(number: int, seconds: float) -> None:
            await host.sleep(seconds)
            order.append(number)

        for number, seconds in ((3, 0.03), (1, 0.01), (2, 0.02), (0, 0.0)):
            host.spawn(note, number, seconds)
        await host.sleep(0.04)
        return order

    assert run(main) == [0, 1, 2, 3]


def test_an_event_wakes_all_who_wait_and_only_once() -> None:
    async def main(host: Host) -> list[tuple[int, bool]]:
        event = host.event()
        woken: list[tuple[int, bool]] = []

        async def wait(number: int, seconds: float | None) -> None:
            woken.append((number, await event.wait(seconds)))

        host.spawn(wait, 1, None)
        host.spawn(wait, 2, 0.001)
        host.spawn(wait, 3, SECONDS_MAX)
        await host.sleep(0.005)
        assert woken == [(2, False)]
        event.set()
        event.set()
        await host.checkpoint()
        assert event.is_set()
        assert await event.wait()
        await host.sleep(0.001)
        return woken

    assert run(main) == [(2, False), (1, True), (3, True)]


def test_what_threads_give_and_raise() -> None:
    async def main(host: Host) -> None:
        assert await host.in_thread(threading.current_thread) is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await host.in_thread(lambda: 1 // 0)

    run(main)


def test_so_many_threads_at_a_time_and_as_many_as_are_needed() -> None:
    async def main(host: Host) -> None:
        limiter = host.limiter(2)
        lock = threading.Lock()
        together = threading.Barrier(2)
        counts = [0, 0]

        def work() -> None:
            with lock:
                counts[0] += 1
                counts[1] = max(counts)
            together.wait(SECONDS_MAX)  # two at a time there must be
            with lock:
                counts[0] -= 1

        left = [8]
        done = host.event()

        async def one() -> None:
            await host.in_thread(work, limiter=limiter)
            left[0] -= 1
            if not left[0]:
                done.set()

        for _ in range(8):
            host.spawn(one)
        assert await done.wait(SECONDS_MAX)
        assert counts == [0, 2]
        # Beside them others are not held up.
        blocked = threading.Event()
        for _ in range(3):
            host.spawn(host.in_thread, blocked.wait)
        assert await host.in_thread(lambda: 7) == 7
        blocked.set()

    run(main)


def test_the_end_does_not_wait_for_threads() -> None:
    release = threading.Event()
    late: list[bool] = []

    async def main(host: Host) -> None:
        begun = threading.Event()

        def work() -> None:
            begun.set()
            release.wait(SECONDS_MAX)
            late.append(host.soon(lambda: None))

        async def give_up() -> None:
            await host.in_thread(work)

        host.spawn(give_up)
        await host.in_thread(begun.wait)

    run(main)
    assert not late
    release.set()
    for thread in threading.enumerate():
        if thread.name == "wherry worker":
            thread.join(SECONDS_MAX)
    assert late == [False]


def test_a_task_is_ended_where_it_waits() -> None:
    ended = []

    async def main(host: Host) -> None:
        async def wait(name: str) -> None:
            try:
                await host.event().wait()
            finally:
                ended.append(name)

        async def end_itself() -> None:
            try:
                itself.cancel()
                ended.append("goes on until it waits")
                await host.checkpoint()
                ended.append("not reached")
            finally:
                ended.append("itself")

        other = host.spawn(wait, "other")
        itself = host.spawn(end_itself)
        host.spawn(wait, "left")
        await host.checkpoint()
        await host.checkpoint()
        assert ended == ["goes on until it waits", "itself"]
        other.cancel()
        other.cancel()
        assert ended[2:] == ["other"]
        never = host.spawn(wait, "never begun")
        never.cancel()
        await host.sleep(0.001)

    run(main)
    assert ended[3:] == ["left"]


def test_two_runs_one_after_the_other_and_one_beside() -> None:
    async def main(host: Host, depth: int) -> int:
        if depth:
            return 1 + await host.in_thread(_host.run, main, depth - 1)
        return 0

    assert run(main, 1) == 1
    assert run(main, 0) == 0


def test_a_call_that_comes_late_touches_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[Host] = []

    async def main(host: Host) -> None:
        hosts.append(host)

    run(main)
    wakes = []
    monkeypatch.setattr(Epoll, "wake", lambda self: wakes.append(self))
    assert not hosts[0].soon(lambda: None)
    assert wakes == []


def test_an_interrupt_ends_the_tasks() -> None:
    cleaned = []

    async def main(host: Host) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await host.event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        _host.run(main)
    assert cleaned


def test_signals_come_in_and_what_was_there_before_is_there_again() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR2)
    seen: list[int] = []
    mine: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: mine.append(number))
    try:

        async def main(host: Host) -> None:
            enough = host.event()

            def note(number: int) -> None:
                seen.append(number)
                if len(seen) == 2:
                    enough.set()

            host.on_signals((signal.SIGINT, signal.SIGUSR1), note)
            os.kill(os.getpid(), signal.SIGUSR2)  # is somebody else's
            os.kill(os.getpid(), signal.SIGUSR1)
            # While the loop waits: nothing else would end that.
            await host.in_thread(os.kill, os.getpid(), signal.SIGINT)
            assert await enough.wait(SECONDS_MAX)

        _host.run(main)
    finally:
        signal.signal(signal.SIGUSR2, before[1])
    assert seen == [signal.SIGUSR1, signal.SIGINT]
    assert mine == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGINT) == before[0]
    assert signal.set_wakeup_fd(-1) == -1
