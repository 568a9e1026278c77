"""Both watchers of sockets: the one for epoll and the one for systems without."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import wherry.testing
from clients import channel
from wherry.server import _host, _trio
from wherry.server._poll import HANGUP, READ, WRITE
from wherry.server._trio import EpollPoller, TaskPoller

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.server._loop import Poller

pytestmark = pytest.mark.only("trio")

POLLERS = [EpollPoller, TaskPoller]


class Recorder:
    """Reads what comes, and remembers what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.told: list[int | str] = []

    def on_ready(self, what: int) -> None:
        self.told.append(what)
        if what & READ:
            self.socket.recv(100)

    def on_again(self) -> None:
        self.told.append("again")


@pytest.mark.parametrize("make", POLLERS)
async def test_it_tells_what_is_asked_for(make: Callable[[], Poller]) -> None:
    poller = make()
    ours, theirs = socket.socketpair()
    recorder = Recorder(ours)
    poller.add(ours, recorder, READ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await wait_all_tasks_blocked()
        assert recorder.told == []
        theirs.send(b"x")
        await wait_all_tasks_blocked(0.01)
        assert recorder.told == [READ]
        poller.change(ours, 0)
        theirs.send(b"x")
        await wait_all_tasks_blocked(0.01)
        assert recorder.told == [READ]
        poller.change(ours, READ)
        await wait_all_tasks_blocked(0.01)
        assert recorder.told == [READ, READ]
        poller.again(recorder)
        await wait_all_tasks_blocked(0.01)
        assert recorder.told == [READ, READ, "again"]
        poller.remove(ours)
        theirs.send(b"x")
        await wait_all_tasks_blocked(0.01)
        assert recorder.told == [READ, READ, "again"]
        nursery.cancel_scope.cancel()
    poller.close()
    ours.close()
    theirs.close()


@pytest.mark.parametrize("make", POLLERS)
async def test_a_socket_that_can_be_written(make: Callable[[], Poller]) -> None:
    poller = make()
    ours, theirs = socket.socketpair()
    recorder = Recorder(ours)
    told = trio.Event()

    def on_ready(what: int) -> None:
        recorder.told.append(what)
        poller.change(ours, READ)
        told.set()

    recorder.on_ready = on_ready  # type: ignore[method-assign]
    poller.add(ours, recorder, READ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await wait_all_tasks_blocked()
        poller.change(ours, READ | WRITE)
        await told.wait()
        await wait_all_tasks_blocked(0.01)
        assert recorder.told == [WRITE]
        nursery.cancel_scope.cancel()
    poller.close()
    ours.close()
    theirs.close()


async def test_a_hangup_is_told_to_who_wants_nothing() -> None:
    poller = EpollPoller()
    ours, theirs = socket.socketpair()
    recorder = Recorder(ours)
    told = trio.Event()

    def on_ready(what: int) -> None:
        recorder.told.append(what)
        poller.remove(ours)
        told.set()

    recorder.on_ready = on_ready  # type: ignore[method-assign]
    poller.add(ours, recorder, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        theirs.close()
        await told.wait()
        nursery.cancel_scope.cancel()
    assert recorder.told == [HANGUP]
    poller.close()
    ours.close()


async def test_a_busy_socket_leaves_turns_to_other_tasks() -> None:
    poller = EpollPoller()
    ours, theirs = socket.socketpair()

    class Greedy:
        def on_ready(self, what: int) -> None:
            pass  # it stays readable for ever

        def on_again(self) -> None:
            pass

    poller.add(ours, Greedy(), READ)
    theirs.send(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    poller.close()
    ours.close()
    theirs.close()


async def test_a_server_works_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trio.TrioLoop, "poller", lambda loop: TaskPoller())
    monkeypatch.setattr(_host, "HAS_ITS_OWN", False)

    def talk() -> None:
        with wherry.testing.broker() as broker:
            body = b"x" * 1_000_000
            with channel(broker.amqp_url) as client:
                client.queue_declare("q")
                client.confirm_delivery()
                for _ in range(5):
                    client.basic_publish("", "q", body)
                for _ in range(5):
                    assert client.basic_get("q", auto_ack=True)[2] == body
            with channel(broker.amqp_url) as client:
                client.basic_publish("", "q", b"last")
                assert next(client.consume("q", auto_ack=True))[2] == b"last"
                client.cancel()

    await trio.to_thread.run_sync(talk)
