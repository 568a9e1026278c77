"""Many connections, slow readers, no descriptors, no room."""

from __future__ import annotations

import errno
import gc
import itertools
import logging
import queue
import resource
import socket
import threading
from typing import TYPE_CHECKING
from unittest import mock

import pika
import psutil
import pytest

import wherry.testing
from clients import Raw, channel, connect, long, method, short
from wherry.server import _alarms, _connection
from wherry.server._listener import Endpoint
from wherry.server._poll import READ
from wherry.server._settings import Listen, Settings

if TYPE_CHECKING:
    from wherry.testing import TestBroker

MIB = 1 << 20


def test_a_thousand_connections(broker: TestBroker) -> None:
    process = psutil.Process()
    with Raw(broker.host, broker.port) as first:
        first.handshake()  # what is loaded once is loaded
        gc.collect()
        before = process.memory_info().rss
        connections = []
        for _ in range(1000):
            raw = Raw(broker.host, broker.port)
            raw.handshake()
            connections.append(raw)
        grown = process.memory_info().rss - before
        assert len(broker.server.connections()) == 1001
        # The bound is for the server's end alone; here the clients' ends are in it too.
        assert grown / 1000 < 32 << 10
        for raw in connections:
            raw.close()
        first.send(method(1, 20, 10, b"\x00"))
        assert first.method() == (20, 11)
    broker.faults.drop_connections()
    assert broker.server.connections() == []


def test_connections_over_the_limit_are_refused() -> None:
    with wherry.testing.broker(limits={"connections_max": 2}) as broker:
        first, second = connect(broker.amqp_url), connect(broker.amqp_url)
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connect(broker.amqp_url)
        first.close()
        connect(broker.amqp_url).close()
        second.close()


def test_a_reader_that_stops_costs_no_memory(broker: TestBroker) -> None:
    body = b"x" * 10_000
    with channel(broker.amqp_url) as client, Raw(broker.host, broker.port) as slow:
        client.queue_declare("q")
        slow.handshake()
        slow.send(method(1, 20, 10, b"\x00"))
        assert slow.method() == (20, 11)
        # basic.consume, no_ack
        slow.send(method(1, 60, 20, b"\x00\x00" + short("q") + short("c") + b"\x02" + b"\0" * 4))
        assert slow.method() == (60, 21)
        for _ in range(3000):
            client.basic_publish("", "q", body)
        client.queue_declare("q", passive=True)
        # 30 MB are waiting; what left the queue is in the sockets and one budget.
        ready = broker.queues()["q"].ready
        assert ready * len(body) > 15 * MIB
        hub = broker.server._hub
        unsent = [connection._unsent for connection in hub.connections.values()]
        budgets = _connection.OUTPUT_BUDGET_BYTES + len(body) + 1000
        assert sum(len(data) for data in unsent if data is not None) <= budgets
        # It reads on, and gets all of it.
        total = 0
        while total < 3000 * len(body) or broker.queues()["q"].ready:
            total += len(slow.socket.recv(1 << 20))


def send_much(raw: Raw, data: bytes) -> None:
    sent = 0
    while sent < 200 * MIB:
        sent += raw.socket.send(data)


def open_until_it_fails(opened: list[socket.socket]) -> None:
    while True:
        opened.append(socket.socket())


def test_a_client_that_publishes_and_never_reads(broker: TestBroker) -> None:
    # Each publish is answered with basic.return: the answers pile up until reading stops.
    with Raw(broker.host, broker.port) as raw:
        raw.handshake()
        raw.send(method(1, 20, 10, b"\x00"))
        assert raw.method() == (20, 11)
        publish = method(1, 60, 40, b"\x00\x00" + short("") + short("nowhere") + b"\x01")
        header = b"\x02\x00\x01" + long(b"\x00\x3c\x00\x00" + (1000).to_bytes(8, "big") + b"\0\0")
        message = publish + header + b"\xce" + b"\x03\x00\x01" + long(b"y" * 1000) + b"\xce"
        raw.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            send_much(raw, message * 100)
        [connection] = broker.server._hub.connections.values()
        assert connection.paused
        # The others do not notice.
        with channel(broker.amqp_url) as client:
            client.queue_declare("q")


def test_no_descriptors_left(broker: TestBroker, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[socket.socket] = []
    with channel(broker.amqp_url) as client, caplog.at_level(logging.WARNING, "wherry.server"):
        waiting = socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 10, hard))
            with pytest.raises(OSError, match="Too many open files"):
                open_until_it_fails(opened)
            waiting.connect((broker.host, broker.port))
            waiting.sendall(b"AMQP\x00\x00\x09\x01")
            client.queue_declare("q")  # who is there goes on
            while "cannot accept" not in caplog.text:
                client.queue_declare("q")
        finally:
            for sock in opened:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.settimeout(10)
        assert waiting.recv(1) == b"\x01"  # accepted now
        waiting.close()


def test_it_does_not_say_ten_times_a_second_that_none_are_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub, sock = mock.Mock(), mock.Mock()
    hub.now.return_value = 0.0
    sock.getsockname.return_value = ("127.0.0.1", 5672)
    sock.accept.side_effect = OSError(errno.EMFILE, "Too many open files")
    endpoint = Endpoint(sock, Listen("127.0.0.1", 5672), None)
    endpoint.start(hub)
    warnings = []
    for tenths in range(205):
        hub.now.return_value = tenths / 10
        endpoint.on_ready(READ)
        seconds, go_on = hub.later.call_args.args
        assert seconds == 0.1
        go_on()
        if caplog.messages:
            warnings.append((hub.now.return_value, *caplog.messages))
            caplog.clear()
    said = "cannot accept on amqp://127.0.0.1:5672/: Too many open files: trying again"
    assert warnings == [(0, said), (10, said), (20, said)]


def test_publishers_are_blocked_while_memory_is_full() -> None:
    with wherry.testing.broker(memory_bytes_max=4 * MIB) as broker:
        heard: list[str] = []
        with channel(broker.amqp_url) as consumer, channel(broker.amqp_url) as publisher:
            consumer.queue_declare("q")
            connection = publisher.connection
            connection.add_on_connection_blocked_callback(
                lambda _c, frame: heard.append(frame.method.reason)
            )
            connection.add_on_connection_unblocked_callback(lambda _c, _f: heard.append("on"))
            for _ in range(60):
                publisher.basic_publish("", "q", b"x" * 100_000)
            while not heard:
                connection.process_data_events(1)
            assert heard == ["low on memory"]
            assert consumer.queue_declare("q", passive=True).method.message_count < 60
            messages = consumer.consume("q", auto_ack=True, inactivity_timeout=5)
            assert all(body is not None for _, _, body in itertools.islice(messages, 60))
            consumer.cancel()
            while "on" not in heard:
                connection.process_data_events(1)
    assert heard == ["low on memory", "on"]


def test_memory_that_comes_and_goes_is_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    front, loop = mock.Mock(), mock.Mock()
    settings = Settings()
    alarms = _alarms.Alarms(mock.Mock(), front, settings, loop, mock.Mock())
    over = "messages waiting in memory are over the limit: publishers wait"
    under = "messages waiting in memory are under the limit again"
    lines = []
    with caplog.at_level(logging.WARNING, "wherry.server"):
        # Up and down 10 times a second, for a minute; then up, and down for good.
        for tenth in range(700):
            loop.now.return_value = tenth / 10
            front.memory_full.return_value = tenth % 2 == 0 if tenth < 600 else tenth == 600
            alarms.look_at_memory()
            assert alarms.memory is front.memory_full.return_value  # who publishes is not put off
            if tenth % 10 == 5:
                alarms.say_memory()
            lines += [(tenth // 10, message) for message in caplog.messages]
            caplog.clear()
        alarms.memory = True
        alarms.say_memory(soon=True)
    assert [text for _, text in lines][:2] == [over, under]
    assert len(lines) <= 8
    assert lines[-1][1] == under
    assert caplog.messages == [over]


def test_publishers_are_blocked_while_the_disk_is_full(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10]
    asked = threading.Semaphore(0)

    def fake(directory: str) -> int:
        asked.release()
        return free[0]

    monkeypatch.setattr(_alarms, "_free_bytes", fake)
    with wherry.testing.broker(str(tmp_path)) as broker, channel(broker.amqp_url) as publisher:
        asked.acquire()
        asked.acquire()  # the first answer was acted on
        connection = publisher.connection
        heard: list[str] = []
        connection.add_on_connection_blocked_callback(
            lambda _c, frame: heard.append(frame.method.reason)
        )
        connection.add_on_connection_unblocked_callback(lambda _c, _f: heard.append("on"))
        publisher.queue_declare("q")
        publisher.basic_publish("", "q", b"x")
        while heard != ["low on disk"]:
            connection.process_data_events(1)
        free[0] = 1 << 40
        while heard != ["low on disk", "on"]:
            connection.process_data_events(1)
        assert publisher.queue_declare("q", passive=True).method.message_count == 1


def test_a_full_disk_stays_full_while_it_cannot_be_looked_at(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    asked = threading.Semaphore(0)

    def fake(directory: str) -> int:
        asked.release()
        free = answers.get()
        if free is None:
            raise OSError(errno.EIO, "Input/output error")
        return free

    monkeypatch.setattr(_alarms, "_free_bytes", fake)
    with wherry.testing.broker(str(tmp_path)) as broker:
        found = []
        asked.acquire()
        for free in (10, None, 1 << 40, None):
            answers.put(free)
            assert asked.acquire(timeout=20)  # the next look: this answer was acted on
            found.append(broker.server.limits()["disk_alarm"])
        answers.put(1 << 40)
    assert found == [True, True, False, False]
