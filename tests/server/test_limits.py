"""Every key of `[limits]` is enforced: each is set small by a configuration and met by a client."""

from __future__ import annotations

import contextlib
import struct
import threading
from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
)

import wherry
from clients import HEADER, Raw, channel, connect, eventually, frame, method, short
from wherry.server.config import Amqp, Config, Limits, Stomp
from wherry.testing._users import PlainUsers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wherry.server import ThreadServer

GUEST = {"guest": "guest"}


@contextlib.contextmanager
def serving(
    users: PlainUsers | None = None, path: Path | None = None, **limits: Any
) -> Iterator[ThreadServer]:
    """A server with these limits in its configuration. They may be smaller than a file's."""
    config = Config(
        amqp=Amqp(listeners=("127.0.0.1:0",)),
        stomp=Stomp(listeners=()),
        limits=Limits(**limits),
    )
    users = users or PlainUsers(GUEST)
    with wherry.serve(path, config=config, users=users, drain_seconds=0) as server:
        yield server


def raw(server: ThreadServer) -> Raw:
    return Raw(*server.addresses[0])


def tuned(client: Raw) -> tuple[int, int, int]:
    """channel_max, frame_max and heartbeat that the server proposes."""
    client.start()
    client.start_ok("guest", "guest")
    _, _, payload = client.frame()
    assert payload[:4] == struct.pack(">HH", 10, 30)
    proposed: tuple[int, int, int] = struct.unpack(">HIH", payload[4:])
    return proposed


def opened(client: Raw, channel_max: int, frame_max: int) -> None:
    tune_ok = struct.pack(">HIH", channel_max, frame_max, 0)
    client.send(method(0, 10, 31, tune_ok), method(0, 10, 40, short("/") + b"\x00\x00"))
    assert client.method() == (10, 41)


def closed_with(client: Raw, code: int) -> None:
    """The connection, by the server, with this code."""
    _, _, payload = client.frame()
    assert struct.unpack(">HHH", payload[:6]) == (10, 50, code), payload


def test_frame_max() -> None:
    with serving(frame_max=4096) as server, raw(server) as client:
        assert tuned(client)[1] == 4096
        opened(client, 1, 4096)
        client.send(frame(1, 0, b"x" * 4097))
        closed_with(client, 501)


def test_channel_max() -> None:
    with serving(channel_max=2) as server, raw(server) as client:
        assert tuned(client)[0] == 2
        opened(client, 2, 4096)
        for channel in (1, 2):
            client.send(method(channel, 20, 10, short("")))
            assert client.method() == (20, 11)
        client.send(method(3, 20, 10, short("")))
        closed_with(client, 530)


def test_heartbeat_seconds() -> None:
    with serving(heartbeat_seconds=7) as server, raw(server) as client:
        assert tuned(client)[2] == 7


def test_handshake_seconds() -> None:
    with serving(handshake_seconds=1) as server, raw(server) as client:
        client.start()
        assert client.is_closed()


def test_send_seconds() -> None:
    beat = frame(8, 0, b"")
    with serving(send_seconds=1) as server, raw(server) as client:
        with channel(server.amqp_url) as publisher:
            publisher.queue_declare("q")
            publisher.confirm_delivery()
            for _ in range(100):
                publisher.basic_publish("", "q", b"x" * 100_000)
        client.handshake()
        consume = method(1, 60, 20, b"\0\0" + short("q") + short("c") + b"\0\0\0\0\0")
        client.send(method(1, 20, 10, short("")), consume)
        queue = server.broker.queue("q")
        eventually(lambda: queue.statistics().unacked > 0)

        def closed() -> bool:
            with contextlib.suppress(ConnectionError):
                client.send(beat)  # it is alive, but reads nothing
            return server.connections() == []

        eventually(closed)
        # Others have what it did not acknowledge.
        assert (queue.statistics().ready, queue.statistics().unacked) == (100, 0)


def test_handshakes_max() -> None:
    with serving(handshakes_max=1) as server, raw(server) as first:
        first.start()
        with raw(server) as second:
            second.send(HEADER)
            second.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.read(1)
            second.socket.settimeout(10)
            first.close()
            assert second.method() == (10, 10)


def test_verifications_max() -> None:
    class Slow(PlainUsers):
        def __init__(self) -> None:
            super().__init__(GUEST)
            self.go_on = threading.Event()
            self.count = threading.Lock()
            self.now = self.most = 0

        def verify(self, name: str, password: str) -> Any:
            with self.count:
                self.now += 1
                self.most = max(self.most, self.now)
            assert self.go_on.wait(10)
            with self.count:
                self.now -= 1
            return super().verify(name, password)

    users = Slow()
    with serving(users, verifications_max=1) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw(server)) for _ in range(4)]
        for client in clients:
            client.start()
            client.start_ok("guest", "guest")
        eventually(lambda: all(c["bytes_in"] > len(HEADER) for c in server.connections()))
        eventually(lambda: users.most == 1)
        users.go_on.set()
        for client in clients:
            assert client.method() == (10, 30)
    assert users.most == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("connections_max", r"node connection limit \(1\)"),
        ("connections_per_user_max", r"user connection limit \(1\)"),
        ("connections_per_virtual_host_max", r"'guest': connection limit \(1\)"),
    ],
)
def test_connections(name: str, words: str) -> None:
    with (
        serving(**{name: 1}) as server,
        channel(server.amqp_url),
        pytest.raises(ProbableAccessDeniedError, match=f"NOT_ALLOWED.*{words}"),
    ):
        connect(server.amqp_url)


def test_channels_per_connection_max() -> None:
    with serving(channels_per_connection_max=1) as server:
        connection = connect(server.amqp_url)
        connection.channel(1)
        with pytest.raises(ConnectionClosedByBroker, match="530"):
            connection.channel(2)


def test_consumers_per_channel_max() -> None:
    with serving(consumers_per_channel_max=1) as server:
        connection = connect(server.amqp_url)
        client = connection.channel()
        client.queue_declare("q")
        client.basic_consume("q", lambda *_: None)
        with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker), match="530"):
            client.basic_consume("q", lambda *_: None)
        if connection.is_open:
            connection.close()


def test_unacked_per_channel_max() -> None:
    with serving(unacked_per_channel_max=2) as server, channel(server.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        for _ in range(3):
            client.basic_publish("", "q", b"x")
        tags = []
        client.basic_consume("q", lambda _c, delivered, *_: tags.append(delivered.delivery_tag))
        while len(tags) < 2:
            client.connection.process_data_events(10)
        # An answer comes behind whatever would have been delivered.
        assert client.queue_declare("q", passive=True).method.message_count == 1
        client.basic_ack(tags[0])
        while len(tags) < 3:
            client.connection.process_data_events(10)


def test_unconfirmed_per_channel_max(tmp_path: Path) -> None:
    # Publishes that stand in a row go to the engine together, two at least.
    limit, count = 2, 100
    with serving(path=tmp_path, unconfirmed_per_channel_max=limit) as server, raw(server) as client:
        client.handshake()
        declare = b"\0\0" + short("q") + b"\x02" + b"\0\0\0\0"
        client.send(
            method(1, 20, 10, short("")), method(1, 50, 10, declare), method(1, 85, 10, b"\0")
        )
        assert [client.method() for _ in range(3)] == [(20, 11), (50, 11), (85, 11)]
        publish = method(1, 60, 40, b"\0\0" + short("") + short("q") + b"\0")
        persistent = frame(2, 1, struct.pack(">HHQHB", 60, 0, 1, 1 << 12, 2))
        client.send(*[publish, persistent, frame(3, 1, b"x")] * count)
        most = now = 0
        while now > 0 or server.counters()["published"] < count:
            now = server.connections()[0]["unconfirmed"]
            most = max(most, now)
        assert most <= limit + 1


def test_message_bytes_max() -> None:
    with serving(message_bytes_max=1000) as server, channel(server.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        client.basic_publish("", "q", b"x" * 1000)
        with pytest.raises(ChannelClosedByBroker, match="406"):
            client.basic_publish("", "q", b"x" * 1001)


def test_table_depth_max() -> None:
    with serving(table_depth_max=2) as server:
        for nested, refused in ({"a": {"b": 1}}, False), ({"a": {"b": {"c": 1}}}, True):
            with channel(server.amqp_url) as client:
                client.queue_declare("q")
                if refused:
                    with pytest.raises(ChannelClosedByBroker, match="406"):
                        client.queue_bind("q", "amq.headers", arguments=nested)
                else:
                    client.queue_bind("q", "amq.headers", arguments=nested)


def levels(count: int) -> dict[str, Any]:
    """Tables within each other, the outermost one counted."""
    table: dict[str, Any] = {"n": 1}
    for _ in range(count - 1):
        table = {"n": table}
    return table


def test_tables_as_deep_as_they_may_be(tmp_path: Path) -> None:
    deep = levels(32)
    with serving(path=tmp_path) as server, channel(server.amqp_url) as client:
        client.queue_declare("q", durable=True, arguments=deep)
        client.exchange_declare("x", "direct", durable=True, arguments=deep)
        client.queue_bind("q", "x", "k", arguments=deep)
        tag = client.basic_consume("q", lambda *_: None, arguments=deep)
        client.basic_cancel(tag)
        client.confirm_delivery()
        client.basic_publish("x", "k", b"x", pika.BasicProperties(headers=deep, delivery_mode=2))
    with serving(path=tmp_path) as server, channel(server.amqp_url) as client:
        client.queue_declare("q", durable=True, arguments=deep)  # as it was
        _, properties, _ = client.basic_get("q", auto_ack=True)
        assert properties.headers == deep


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, table: client.queue_declare("new", arguments=table),
        lambda client, table: client.exchange_declare("new", arguments=table),
        lambda client, table: client.queue_bind("q", "amq.direct", arguments=table),
        lambda client, table: client.basic_publish(
            "", "q", b"x", pika.BasicProperties(headers=table)
        ),
    ],
    ids=["queue", "exchange", "binding", "headers"],
)
def test_deeper_tables_are_refused(ask: Callable[..., Any]) -> None:
    with serving() as server, channel(server.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        with pytest.raises(ConnectionClosedByBroker, match="501"):
            ask(client, levels(33))


def test_arguments_with_as_many_values_as_there_may_be(tmp_path: Path) -> None:
    """They stand in the journal among those of the declaration itself."""
    many = {"n": [None] * 16_383}
    with serving(path=tmp_path) as server, channel(server.amqp_url) as client:
        client.queue_declare("q", durable=True, arguments=many)
    with serving(path=tmp_path) as server, channel(server.amqp_url) as client:
        client.queue_declare("q", durable=True, arguments=many)
        with pytest.raises(ChannelClosedByBroker, match="too many values"):
            client.queue_declare("new", durable=True, arguments={"n": [None] * 16_384})


def test_header_bytes_max() -> None:
    with serving(header_bytes_max=256) as server, channel(server.amqp_url) as client:
        client.queue_declare("q")
        client.confirm_delivery()
        client.basic_publish("", "q", b"x", pika.BasicProperties(headers={"a": "b" * 200}))
        with pytest.raises(ChannelClosedByBroker, match="406"):
            client.basic_publish("", "q", b"x", pika.BasicProperties(headers={"a": "b" * 300}))


def test_queues_per_virtual_host_max() -> None:
    with serving(queues_per_virtual_host_max=1) as server, channel(server.amqp_url) as client:
        client.queue_declare("one")
        client.queue_declare("one")
        with pytest.raises(ChannelClosedByBroker, match="406"):
            client.queue_declare("two")


def test_reply_inbox_bytes_max() -> None:
    with serving(reply_inbox_bytes_max=4096) as server, channel(server.amqp_url) as client:
        client.queue_declare("requests")
        replies: list[bytes] = []
        reply_to = "amq.rabbitmq.reply-to"
        client.basic_consume(reply_to, lambda *all_: replies.append(all_[3]), auto_ack=True)
        asked = pika.BasicProperties(reply_to=reply_to)
        client.basic_publish("", "requests", b"", asked)
        _, properties, _ = client.basic_get("requests", auto_ack=True)
        client.basic_publish("", properties.reply_to, b"x" * 10_000)
        client.basic_publish("", properties.reply_to, b"small")
        while not replies:
            client.connection.process_data_events(10)
        assert replies == [b"small"]


def test_output_bytes_max() -> None:
    count, size = 200, 100_000
    with serving(output_bytes_max=65_536) as server, raw(server) as client:
        with channel(server.amqp_url) as publisher:
            publisher.queue_declare("q")
            publisher.confirm_delivery()
            for _ in range(count):
                publisher.basic_publish("", "q", b"x" * size)
        client.handshake()
        get = method(1, 60, 70, b"\0\0" + short("q") + b"\x01")
        client.send(method(1, 20, 10, short("")), *[get] * count)
        queue = server.broker.queue("q")
        eventually(lambda: queue.statistics().ready < count)
        while (ready := queue.statistics().ready) > 0:
            # Many turns of the server: it would have gone on.
            for _ in range(50):
                server.connections()
            if queue.statistics().ready == ready:
                break
        assert ready > 0
        assert client.method() == (20, 11)
        for _ in range(count):
            assert client.method() == (60, 71)
            received = -1
            while received < size:
                kind, _, payload = client.frame()
                received = 0 if kind == 2 else received + len(payload)
        assert queue.statistics().ready == 0


def test_input_bytes_max() -> None:
    with serving(input_bytes_max=1000, frame_max=4096) as server, raw(server) as client:
        tuned(client)
        opened(client, 1, 4096)
        client.send(method(1, 20, 10, short("")))
        assert client.method() == (20, 11)
        server._hub.front.set_alarms(memory=True, disk=False)
        publish = method(1, 60, 40, b"\0\0" + short("") + short("q") + b"\0")
        empty = frame(2, 1, struct.pack(">HHQH", 60, 0, 0, 0))
        client.send(*[publish, empty] * 1000)
        closed_with(client, 506)


def test_every_limit_has_a_test() -> None:
    together = {
        "connections_max",
        "connections_per_user_max",
        "connections_per_virtual_host_max",
    }
    alone = set(Limits.names()) - together
    missing = {name for name in alone if f"test_{name}" not in globals()}
    assert not missing
