"""Forked processes: a child has none of its parent's brokers, is told so, and disturbs none."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import wherry
from wherry import blocking

SECONDS_MAX = 20

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # What Python says about a fork beside threads is what is tested here.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


class Child:
    """A forked process that runs some functions, and lives until the block ends."""

    def __init__(self, *functions: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        stay, leave = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            signal.alarm(SECONDS_MAX)  # it would wait for threads that it does not have
            try:
                os.close(leave)
                for function in functions:
                    os.write(writing, _outcome(function).encode() + b"\n")
                os.close(writing)
                os.read(stay, 1)
            finally:
                os._exit(0)
        os.close(writing)
        os.close(stay)
        self._leave = leave
        with os.fdopen(reading) as pipe:
            self.outcomes = pipe.read().splitlines()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._leave)
        os.waitpid(self._pid, 0)


def _outcome(function: Callable[[], object]) -> str:
    try:
        function()
    except Exception as error:
        return type(error).__name__
    return "done"


def test_a_child_has_no_broker_and_the_parent_keeps_its_own(tmp_path: Path) -> None:
    with blocking.open(tmp_path) as broker:
        queue = broker.declare_queue("q")
        exchange = broker.default_exchange
        exchange.publish(b"before", "q")
        with Child(
            lambda: exchange.publish(b"child", "q"),
            lambda: exchange.publish_nowait(b"child", "q"),
            lambda: queue.get_many_nowait(1),
            lambda: broker.declare_queue("of the child"),
            broker.close,
        ) as child:
            assert child.outcomes == ["BrokerClosed"] * 4 + ["done"]
            exchange.publish(b"after", "q")
            broker.close()
            # Though the child, which has the same open files, still lives.
            with blocking.open(tmp_path) as again:
                bodies = [delivery.body for delivery in again.queue("q").get_many_nowait(9)]
                assert bodies == [b"before", b"after"]
                assert list(again.queues()) == ["q"]


def test_a_child_has_no_server() -> None:
    with wherry.serve(port=0) as server:
        with Child(server.connections) as child:
            assert child.outcomes == ["RuntimeError"]
        assert server.connections() == []


def test_a_child_may_leave_the_block_of_its_parents_server() -> None:
    with wherry.serve(port=0) as server, Child(server.close) as child:
        assert child.outcomes == ["done"]
        assert server.connections() == []  # it is there as before


def test_a_child_keeps_no_client_and_no_port_of_a_server() -> None:
    with ExitStack() as stack:
        serving = stack.enter_context(ExitStack())
        server = serving.enter_context(wherry.serve(port=0, drain_seconds=0))
        client = stack.enter_context(socket.create_connection(server.addresses[0], SECONDS_MAX))
        client.sendall(b"AMQP\0\0\x09\x01")
        assert client.recv(7)  # it is accepted
        stack.enter_context(Child())
        serving.close()
        # Though the child, which had copies of its sockets, still lives.
        while client.recv(1 << 16):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.addresses[0], SECONDS_MAX)
        with wherry.serve(port=server.addresses[0][1]):
            pass
