"""Connecting, talking, and how connections end."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

import pika
import pytest
from pika.exceptions import (
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

import wherry
import wherry.testing
from clients import HEADER, Raw, channel, connect, eventually, frame, method
from wherry.server._connection import OUTPUT_BUDGET_BYTES, Connection, is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.testing import TestBroker


def test_a_message_goes_from_publisher_to_consumer(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as publisher, channel(broker.amqp_url) as consumer:
        consumer.queue_declare("q")
        publisher.confirm_delivery()
        publisher.basic_publish("", "q", b"seven", pika.BasicProperties(headers={"n": 7}))
        for delivered, properties, body in consumer.consume("q", inactivity_timeout=5):
            assert body == b"seven"
            assert properties.headers == {"n": 7}
            consumer.basic_ack(delivered.delivery_tag)
            break
        consumer.cancel()
    broker.wait_idle()


def test_the_embedded_api_and_clients_share_queues(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        broker.broker.default_exchange.publish(b"from inside", "q")
        _, _, body = client.basic_get("q", auto_ack=True)
        assert body == b"from inside"
        client.basic_publish("", "q", b"from outside")
        assert broker.broker.queue("q").get(timeout=5).body == b"from outside"


def test_a_consumer_is_served_by_a_publisher_inside(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        threading.Timer(0.05, lambda: broker.broker.default_exchange.publish(b"x", "q")).start()
        _, _, body = next(client.consume("q", auto_ack=True, inactivity_timeout=5))
        assert body == b"x"
        client.cancel()


def test_large_messages_come_through_whole(broker: TestBroker) -> None:
    body = bytes(range(256)) * 20_000  # 5 MB: many frames, many reads, several budgets
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        client.basic_publish("", "q", body)
        assert client.basic_get("q", auto_ack=True)[2] == body


def test_a_backlog_larger_than_one_turn_is_delivered(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than is written for one connection before others have their turn, and less than the
    # socket takes: nothing but the turn itself makes it go on.
    monkeypatch.setattr(Connection, "tick", lambda self, now: None)
    size, count = 10_000, 150
    assert size * count > 5 * OUTPUT_BUDGET_BYTES
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        for _ in range(count):
            client.basic_publish("", "q", b"x" * size)
        messages = client.consume("q", auto_ack=True, inactivity_timeout=5)
        assert all(body is not None for _, _, body in itertools.islice(messages, count))
        client.cancel()


def test_confirms_wait_for_the_disk(tmp_path: Path) -> None:
    with wherry.testing.broker(tmp_path) as broker, channel(broker.amqp_url) as client:
        client.queue_declare("q", durable=True)
        client.confirm_delivery()
        for _ in range(20):
            client.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2))
    with wherry.testing.broker(tmp_path) as broker:
        assert broker.queues()["q"].ready == 20


def test_a_wrong_protocol_is_told_the_right_one(broker: TestBroker) -> None:
    with Raw(broker.host, broker.port) as raw:
        raw.send(b"GET / HTTP/1.1\r\n\r\n")
        assert raw.read(8) == HEADER
        assert raw.is_closed()


def test_a_handshake_byte_by_byte(broker: TestBroker) -> None:
    with Raw(broker.host, broker.port) as raw:
        for byte in HEADER:
            raw.send(bytes([byte]))
        assert raw.method() == (10, 10)


def test_garbage_ends_its_connection_only(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as other, Raw(broker.host, broker.port) as raw:
        raw.handshake()
        raw.send(b"\xff" * 1000)
        assert raw.is_closed()
        other.queue_declare("q")


def test_a_login_with_a_wrong_password_is_refused_and_logged(
    broker: TestBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wherry.server"):
        with pytest.raises(ProbableAuthenticationError, match="ACCESS_REFUSED"):
            connect(broker.url("/", "guest", "secret-but-wrong"))
        with pytest.raises(ProbableAuthenticationError):
            connect(broker.url("/", "nobody", "secret-but-wrong"))
    assert "login of 'guest' with PLAIN refused" in caplog.text
    assert "secret-but-wrong" not in caplog.text


def test_a_user_without_permission_does_not_enter(broker: TestBroker) -> None:
    broker.add_user("ann", "pw")
    with pytest.raises(ProbableAccessDeniedError, match="NOT_ALLOWED"):
        connect(broker.url("/", "ann", "pw"))
    broker.permit("ann", "/", configure="^ann", write=".*", read="^ann")
    with channel(broker.url("/", "ann", "pw")) as client:
        client.queue_declare("ann.q")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            client.queue_declare("bob.q")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.127.0.1", False),
        ("192.168.0.1", False),
        ("::", False),
        ("fe80::1%lo", False),
    ],
)
def test_loopback_is_judged_by_the_address(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_lost_connection_gives_its_deliveries_back(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        client.basic_publish("", "q", b"x")
        client.queue_declare("q", passive=True)
    with Raw(broker.host, broker.port) as raw:
        raw.handshake()
        raw.send(method(1, 20, 10, b"\x00"))
        assert raw.method() == (20, 11)
        raw.send(method(1, 60, 70, b"\x00\x00\x01q\x00"))  # basic.get
        assert raw.method() == (60, 71)
        assert broker.queues()["q"].unacked == 1
    with channel(broker.amqp_url) as client:
        delivered, _, _ = next(client.consume("q", inactivity_timeout=5))
        assert delivered.redelivered
        client.cancel()


def test_an_operator_closes_a_connection(broker: TestBroker) -> None:
    connection = connect(broker.amqp_url)
    [info] = broker.server.connections()
    assert (info["user"], info["virtual_host"], info["tls"]) == ("guest", "/", False)
    assert broker.server.close_connection(info["id"], "maintenance")
    with pytest.raises(ConnectionClosedByBroker, match="maintenance") as caught:
        connection.process_data_events(5)
    assert caught.value.reply_code == 320
    assert not broker.server.close_connection(12345, "no such")


def test_a_silent_peer_is_closed_when_its_heartbeats_stay_out(broker: TestBroker) -> None:
    with Raw(broker.host, broker.port) as raw:
        raw.handshake(heartbeat=1)
        kinds = {raw.frame()[0]}
        assert kinds == {8}  # the server beats
        assert raw.is_closed()
    eventually(lambda: broker.server.connections() == [])


def test_short_heartbeats_go_out_in_time(broker: TestBroker) -> None:
    beat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    with Raw(broker.host, broker.port) as raw:
        raw.handshake(heartbeat=1)
        start = time.monotonic()
        for _ in range(4):
            raw.send(beat)
            assert raw.frame()[0] == 8
        # At half the interval, as near as the server looks: once a second would take over 4 s.
        assert time.monotonic() - start < 3.9


def test_a_peer_that_says_nothing_is_closed() -> None:
    with (
        wherry.testing.broker(limits={"handshake_seconds": 1}) as broker,
        Raw(broker.host, broker.port) as silent,
        Raw(broker.host, broker.port) as slow,
    ):
        slow.send(HEADER[:3])
        assert silent.is_closed()
        assert slow.is_closed()


def test_a_second_login_waits_for_the_first_only_as_long_as_it_takes(broker: TestBroker) -> None:
    # More handshakes at a time than threads that check passwords.
    connections = [Raw(broker.host, broker.port) for _ in range(20)]
    try:
        for raw in connections:
            raw.start()
        for raw in connections:
            raw.start_ok("guest", "guest")
        assert [raw.method() for raw in connections] == [(10, 30)] * 20
    finally:
        for raw in connections:
            raw.close()


def test_handshakes_over_the_limit_wait_their_turn() -> None:
    with wherry.testing.broker(handshakes_max=2) as broker:
        first = [Raw(broker.host, broker.port) for _ in range(2)]
        for raw in first:
            raw.start()
        with Raw(broker.host, broker.port) as third:
            third.send(HEADER)
            assert len(broker.server.connections()) == 2
            first[0].close()
            assert third.method() == (10, 10)
        first[1].close()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Time runs twenty times as fast for what a connection looks at once a second. Released when
    one has looked.
    """
    tick = Connection.tick
    looked = threading.Semaphore(0)

    def look(self: Connection, now: float) -> None:
        tick(self, 20 * now)
        looked.release()

    monkeypatch.setattr(Connection, "tick", look)
    return looked


def unread(broker: TestBroker, raw: Raw) -> None:
    """Have this peer consume more than its socket takes, of which it reads nothing and acknowledges
    nothing.
    """
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        for _ in range(300):
            client.basic_publish("", "q", b"x" * 100_000)
    raw.handshake()
    raw.send(method(1, 20, 10, b"\x00"))
    assert raw.method() == (20, 11)
    raw.send(method(1, 60, 20, b"\x00\x00\x01q\x01c\x00\x00\x00\x00\x00"))  # basic.consume
    eventually(lambda: broker.queues()["q"].unacked > 0)


def test_a_client_that_reads_slowly_stays(broker: TestBroker, fast: threading.Semaphore) -> None:
    with Raw(broker.host, broker.port) as raw:
        unread(broker, raw)
        # For twice as long as one stays that reads nothing.
        for _ in range(4):
            raw.read(3_000_000)
            while fast.acquire(blocking=False):
                pass  # those before it had read
            assert fast.acquire(timeout=20)
        assert len(broker.server.connections()) == 1
        assert broker.queues()["q"].ready > 0, "it has had everything"
        eventually(lambda: broker.server.connections() == [])


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("how", ["client", "operator"])
def test_a_client_that_does_not_read_can_still_be_closed(how: str) -> None:
    with (
        wherry.testing.broker(limits={"send_seconds": 0}) as broker,
        Raw(broker.host, broker.port) as raw,
    ):
        unread(broker, raw)
        if how == "client":
            raw.send(method(0, 10, 50, b"\x00\xc8\x00\x00\x00\x00\x00"))  # connection.close
        else:
            [info] = broker.server.connections()
            assert broker.server.close_connection(info["id"], "maintenance")
        eventually(lambda: broker.server.connections() == [])
        assert broker.queues()["q"].unacked == 0


def test_frames_over_the_limit_close_the_connection(broker: TestBroker) -> None:
    with Raw(broker.host, broker.port) as raw:
        raw.handshake()
        raw.send(frame(1, 0, b"")[:3] + b"\x7f\xff\xff\xff")
        assert raw.method() == (10, 50)
