"""The stand-in for `rabbitmqctl` that the clients' own suites call."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pika
import pytest
import rabbitmqctl

from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[brokers.Broker]:
    with brokers.start("wherry", durable=True) as started:
        rabbitmqctl.describe(started)
        yield started
        rabbitmqctl.end(started)


def ctl(broker: brokers.Broker, *arguments: str, status: int = 0) -> str:
    assert broker.directory is not None
    done = subprocess.run(
        [sys.executable, rabbitmqctl.__file__, "-n", "node", *arguments],
        env={**os.environ, rabbitmqctl.VARIABLE: str(broker.directory / "suite.json")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def connect(broker: brokers.Broker, user: str = "guest") -> pika.BlockingConnection:
    parameters = pika.URLParameters(broker.url)
    parameters.credentials = pika.PlainCredentials(user, user)
    parameters.client_properties = {"connection_name": "mine"}
    return pika.BlockingConnection(parameters)


def test_connections_are_listed_and_closed(broker: brokers.Broker) -> None:
    with connect(broker) as connection:
        listed = ctl(broker, "list_connections", "-q", "pid", "peer_port", "client_properties")
        pid, port, properties = listed.strip().split("\t")
        assert int(port) == connection._impl._transport._sock.getsockname()[1]
        assert '{"connection_name","mine"}' in properties
        ctl(broker, "close_connection", pid, "enough of it")
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match=r"320.*enough of it"):
            connection.process_data_events(10)
    assert "no connection" in ctl(broker, "close_connection", "<999>", "x", status=1)


def test_policies_queues_and_users(broker: brokers.Broker) -> None:
    ctl(broker, "add_user", "new", "new")
    ctl(broker, "set_permissions", "-p", "/", "new", ".*", ".*", ".*")
    ctl(broker, "set_policy", "--priority", "1", "p", "^q", '{"max-length":1}')
    with connect(broker, "new") as connection:
        channel = connection.channel()
        channel.queue_declare("q")
        for _ in range(3):
            channel.basic_publish("", "q", b"x")
        assert channel.queue_declare("q", passive=True).method.message_count == 1
        ctl(broker, "clear_policy", "p")
        channel.basic_publish("", "q", b"x")
        assert channel.queue_declare("q", passive=True).method.message_count == 2
        ctl(broker, "delete_queue", "q")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
            channel.queue_declare("q", passive=True)
    ctl(broker, "delete_user", "new")
    assert "does not know 'trace_on'" in ctl(broker, "trace_on", status=1)


def test_the_server_stops_and_starts(broker: brokers.Broker) -> None:
    with connect(broker) as connection:
        connection.channel().queue_declare("q", durable=True)
    ctl(broker, "stop_app")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(broker)
    ctl(broker, "start_app")
    with connect(broker) as connection:
        connection.channel().queue_declare("q", passive=True)


def test_limits_at_which_publishers_wait(broker: brokers.Broker) -> None:
    heard: list[str] = []
    with connect(broker) as connection:
        connection.add_on_connection_blocked_callback(lambda _c, _f: heard.append("blocked"))
        connection.add_on_connection_unblocked_callback(lambda _c, _f: heard.append("on"))
        channel = connection.channel()
        channel.queue_declare("q")
        ctl(broker, "set_vm_memory_high_watermark", "0.000000001")
        channel.basic_publish("", "q", b"x")
        while heard != ["blocked"]:
            connection.process_data_events(1)
        ctl(broker, "set_vm_memory_high_watermark", "0.4")
        while heard != ["blocked", "on"]:
            connection.process_data_events(1)
        assert channel.queue_declare("q", passive=True).method.message_count == 1
        for what in ("memory", "disk"):
            heard.clear()
            alarm = f"{{resource_limit, {what}, node()}}"
            ctl(broker, "eval", f"rabbit_alarm:set_alarm({{{alarm}, []}}).")
            channel.basic_publish("", "q", b"x")
            while heard != ["blocked"]:
                connection.process_data_events(1)
            ctl(broker, "eval", f"rabbit_alarm:clear_alarm({alarm}).")
            while heard != ["blocked", "on"]:
                connection.process_data_events(1)
    assert "no Erlang" in ctl(broker, "eval", "1 + 1.", status=1)
    ctl(broker, "set_vm_memory_high_watermark", "absolute", "100MB")
    ctl(broker, "set_disk_free_limit", "1GB")
