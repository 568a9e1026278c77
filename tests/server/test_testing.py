"""`wherry.testing`: the broker in other people's tests."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pika
import pytest
from pika.exceptions import ConnectionWrongStateError, NackError, StreamLostError

import wherry.testing
from clients import Raw, channel, connect
from wherry.testing import TestBroker

PYTHON = Path(wherry.__file__).parent.parent


def test_a_virtual_host_of_its_own(broker: TestBroker) -> None:
    with broker.virtual_host() as one, broker.virtual_host() as two:
        with channel(one.amqp_url) as client:
            client.queue_declare("q")
            client.basic_publish("", "q", b"x")
            client.queue_declare("q", passive=True)
        assert [message.body for message in one.messages("q")] == [b"x"]
        assert one.queues()["q"].ready == 1
        assert two.queues() == {}
        assert one.blocking.queue("q").get(no_ack=True).body == b"x"
        forgotten = connect(two.amqp_url)
    assert broker.broker.virtual_hosts() == ["/"]
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        forgotten.channel()
    one.delete()  # again does no harm


def test_a_virtual_host_costs_less_than_a_millisecond(broker: TestBroker) -> None:
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        with broker.virtual_host():
            best = min(best, time.perf_counter() - start)
    assert best < 0.001


def test_virtual_time(tmp_path: Path) -> None:
    with (
        wherry.testing.broker(virtual_time=True) as broker,
        channel(broker.amqp_url) as client,
    ):
        client.queue_declare("q", arguments={"x-message-ttl": 3_600_000})
        client.basic_publish("", "q", b"x")
        assert client.queue_declare("q", passive=True).method.message_count == 1
        broker.clock.advance(minutes=59)
        assert len(broker.messages("q")) == 1
        broker.clock.advance(minutes=2)
        assert broker.messages("q") == []


def test_waiting_until_there_is_nothing_to_do(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        client.basic_publish("", "q", b"x")
        with pytest.raises(TimeoutError, match="1 messages are ready"):
            broker.wait_idle(timeout=0.05)
        delivered, _, _ = client.basic_get("q")
        with pytest.raises(TimeoutError, match="1 messages are unacked"):
            broker.wait_idle(timeout=0.05)
        client.basic_ack(delivered.delivery_tag)
        broker.wait_idle()


def test_bytes_in_a_socket_are_something_to_do(broker: TestBroker) -> None:
    with Raw(broker.host, broker.port) as raw:
        raw.handshake()
        broker.wait_idle()
        broker.faults.pause_reading()
        raw.send(b"\x08\x00\x00\x00\x00\x00\x00\xce")
        with pytest.raises(TimeoutError, match="8 bytes to be read"):
            broker.wait_idle(timeout=0.05)
        broker.faults.resume_reading()
        broker.wait_idle()


def test_faults_are_counted(broker: TestBroker) -> None:
    for fault in (broker.faults.refuse_confirms, broker.faults.deliver_twice):
        for count in (-1, 2**64):
            with pytest.raises(ValueError, match=f"count={count}: give a whole number from 0 to"):
                fault(count)


def test_the_real_time_cannot_be_moved(broker: TestBroker) -> None:
    with pytest.raises(AttributeError, match="virtual_time=True"):
        broker.clock.advance(hours=2)
    assert not hasattr(broker.clock, "advance")
    with pytest.raises(AttributeError, match="no attribute 'later'"):
        _ = broker.clock.later


def test_a_closed_broker_has_nothing_to_look_at() -> None:
    with wherry.testing.broker() as broker:
        broker.broker.declare_queue("q")
        vhost = broker.virtual_host()
    for look in (
        broker.queues,
        vhost.queues,
        lambda: broker.messages("q"),
        broker.virtual_host,
    ):
        with pytest.raises(wherry.BrokerClosed):
            look()


def test_only_users_can_be_permitted(broker: TestBroker) -> None:
    with pytest.raises(ValueError, match="add_user"):
        broker.permit("nobody")
    broker.virtual_host("still")  # what it did not do harms nothing


def test_confirms_are_refused(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        broker.faults.refuse_confirms(1)
        with pytest.raises(NackError):
            client.basic_publish("", "q", b"x")
        client.basic_publish("", "q", b"x")


def test_deliveries_come_twice(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        broker.faults.deliver_twice(1)
        client.basic_publish("", "q", b"one")
        client.basic_publish("", "q", b"two")
        got = []
        for delivered, _, body in client.consume("q", inactivity_timeout=5):
            got.append((body, delivered.redelivered))
            client.basic_ack(delivered.delivery_tag)
            if len(got) == 3:
                break
        client.cancel()
    assert sorted(got) == [(b"one", False), (b"one", True), (b"two", False)]


def test_connections_are_cut(broker: TestBroker) -> None:
    with broker.virtual_host() as other, channel(other.amqp_url) as spared:
        connection = connect(broker.amqp_url)
        client = connection.channel()
        client.queue_declare("q")
        assert broker.faults.drop_connections("/") == 1
        with pytest.raises((StreamLostError, ConnectionWrongStateError)):
            client.queue_declare("q")
        spared.queue_declare("q")


def test_a_directory_survives_a_restart(tmp_path: Path) -> None:
    with wherry.testing.broker(tmp_path) as broker, channel(broker.amqp_url) as client:
        client.queue_declare("q", durable=True)
        client.confirm_delivery()
        client.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2))
    with wherry.testing.broker(tmp_path) as broker:
        assert [message.body for message in broker.messages("q")] == [b"x"]


SUITE = """
import pika

def test_one(wherry_vhost, wherry_broker):
    connection = pika.BlockingConnection(pika.URLParameters(wherry_vhost.amqp_url))
    channel = connection.channel()
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"x")
    channel.queue_declare("q", passive=True)
    assert len(wherry_vhost.messages("q")) == 1
    # and forgets to close

def test_two(wherry_vhost, wherry_broker):
    assert wherry_vhost.queues() == {}
    assert wherry_broker.server.connections() == []
"""


def test_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_wherry", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(PYTHON), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        timeout=25,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_imports_nothing_of_wherry() -> None:
    code = "import sys, pytest_wherry; print([m for m in sys.modules if m.startswith('wherry')])"
    output = subprocess.check_output(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PYTHON)}, text=True
    )
    assert output.strip() == "[]"
