"""What every STOMP client must be able to do with the server, once for Python's; `node/` has the
same under the same names.

A scenario is a function of a `World`. Nothing here sleeps: an absence is shown by what comes after
it, or by the count in a queue, which a client of AMQP asks for.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from python_clients.api import Closed, Unsupported

from wire import peer as amqp

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_clients.with_stomp import Client, Connection

    from wire.brokers import Broker

LARGE_BYTES = 5 << 20

BEATS_MS = 2000
"""The least that the server agrees to."""

SUBSCRIPTIONS = 200


@dataclass
class World:
    client: Client
    broker: Broker
    prefix: str
    connections: list[Connection] = field(default_factory=list)
    peers: list[amqp.Peer] = field(default_factory=list)

    def connect(self, **options: Any) -> Connection:
        port = self.broker.web_port if self.client.web else self.broker.stomp_port
        connection = self.client.connect(self.broker.host, port, **options)
        self.connections.append(connection)
        return connection

    def amqp(self) -> amqp.Peer:
        """A client of the other protocol, with channel 1 open."""
        peer = amqp.connect(self.broker.host, self.broker.port)
        peer.open_channel(1)
        self.peers.append(peer)
        return peer

    def count(self, queue: str, wanted: int) -> None:
        """Until so many messages are ready."""
        peer = self.amqp()
        deadline = time.monotonic() + 10
        while (got := peer.call(1, "queue.declare", queue=queue, passive=True)).fields.get(
            "message_count"
        ) != wanted:
            assert time.monotonic() < deadline, got
        peer.close()

    def name(self, suffix: str = "q") -> str:
        return f"{self.prefix}.{suffix}"

    def queue(self, suffix: str = "q") -> str:
        return f"/queue/{self.name(suffix)}"

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        for peer in self.peers:
            peer.close()


def bodies(connection: Connection, count: int) -> list[bytes]:
    return [connection.next().body for _ in range(count)]


def versions(world: World) -> None:
    connected = world.connect().connected
    assert connected.headers["version"] == world.client.version
    assert connected.headers["session"]


def login_refused(world: World) -> None:
    for login, passcode in (("guest", "wrong"), ("nobody", "guest")):
        with pytest.raises(Closed, match="Bad CONNECT"):
            world.connect(login=login, passcode=passcode)


def send_receipt(world: World) -> None:
    connection = world.connect()
    for number in range(20):
        connection.send(world.queue(), b"%d" % number, persistent="true")
    world.count(world.name(), 20)
    connection.subscribe(world.queue())
    assert bodies(connection, 20) == [b"%d" % number for number in range(20)]


def ack_auto(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue())
    connection.send(world.queue(), b"gone")
    message = connection.next()
    assert message.body == b"gone"
    assert "ack" not in message.headers
    connection.disconnect()
    world.count(world.name(), 0)


def ack_client(world: World) -> None:
    """Cumulative: what is behind the acknowledged one goes back."""
    connection = world.connect()
    connection.subscribe(world.queue(), ack="client")
    for number in range(5):
        connection.send(world.queue(), b"%d" % number)
    messages = [connection.next() for _ in range(5)]
    connection.ack(messages[2])
    connection.disconnect()
    again = world.connect()
    again.subscribe(world.queue())
    rest = [again.next() for _ in range(2)]
    assert [one.body for one in rest] == [b"3", b"4"]
    assert [one.headers["redelivered"] for one in rest] == ["true", "true"]
    world.count(world.name(), 0)


def ack_individual(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue(), ack="client-individual")
    for number in range(3):
        connection.send(world.queue(), b"%d" % number)
    messages = [connection.next() for _ in range(3)]
    connection.ack(messages[1])
    connection.disconnect()
    world.count(world.name(), 2)


def nack_requeue(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue(), ack="client-individual")
    connection.send(world.queue(), b"again")
    connection.nack(connection.next())
    message = connection.next()
    assert (message.body, message.headers["redelivered"]) == (b"again", "true")
    connection.ack(message)
    world.count(world.name(), 0)


def nack_dead_letter(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue("dead"), id="dead")
    arguments = {
        "x_dead_letter_exchange": "",
        "x_dead_letter_routing_key": world.name("dead"),
    }
    connection.subscribe(world.queue(), ack="client-individual", **arguments)
    connection.receipt(
        connection.client.send,
        world.queue(),
        b"m",
        headers={name.replace("_", "-"): item for name, item in arguments.items()},
    )
    connection.nack(connection.next(), requeue="false")
    dead = connection.next()
    assert (dead.body, dead.headers["subscription"]) == (b"m", "dead")
    assert world.name() in dead.headers["x-death"]


def transaction_commit(world: World) -> None:
    connection = world.connect()
    other = world.connect()
    other.subscribe(world.queue())
    transaction = connection.client.begin()
    for number in range(3):
        connection.client.send(world.queue(), b"%d" % number, transaction=transaction)
    connection.send(world.queue(), b"before")
    assert other.next().body == b"before"
    connection.receipt(connection.client.commit, transaction)
    assert bodies(other, 3) == [b"0", b"1", b"2"]


def transaction_abort(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue(), ack="client-individual")
    transaction = connection.client.begin()
    connection.client.send(world.queue(), b"never", transaction=transaction)
    connection.receipt(connection.client.abort, transaction)
    connection.send(world.queue(), b"only")
    message = connection.next()
    assert message.body == b"only"
    # Nor is what it acknowledged acknowledged.
    transaction = connection.client.begin()
    connection.settle("ACK", message, wait=False, transaction=transaction)
    connection.receipt(connection.client.abort, transaction)
    connection.disconnect()
    world.count(world.name(), 1)


def prefetch_count(world: World) -> None:
    connection = world.connect()
    for number in range(10):
        connection.send(world.queue(), b"%d" % number)
    connection.subscribe(world.queue(), ack="client-individual", prefetch_count=3)
    held = [connection.next() for _ in range(3)]
    world.count(world.name(), 7)
    connection.ack(held[1])
    assert connection.next().body == b"3"
    world.count(world.name(), 6)


def durable_topic(world: World) -> None:
    topic = f"/topic/{world.name('t')}"
    durable = {"durable": "true", "auto_delete": "false"}
    connection = world.connect()
    connection.subscribe(topic, id="mine", **durable)
    connection.disconnect()
    publisher = world.connect()
    publisher.send(topic, b"while you were away")
    again = world.connect()
    again.subscribe(topic, id="mine", **durable)
    message = again.next()
    assert (message.body, message.headers["destination"]) == (b"while you were away", topic)
    again.unsubscribe("mine", durable="true")


def temp_queue(world: World) -> None:
    asking, answering = world.connect(), world.connect()
    answering.subscribe(world.queue())
    headers = {"reply-to": "/temp-queue/answers"}
    for number in range(3):
        asking.client.send(world.queue(), b"%d" % number, headers=dict(headers))
        question = answering.next()
        answering.send(question.headers["reply-to"], question.body * 2)
        answer = asking.next()
        assert answer.body == b"%d%d" % (number, number)
        assert answer.headers["subscription"] == "/temp-queue/answers"


def exchange_destination(world: World) -> None:
    connection = world.connect()
    key = world.name("k")
    destination = f"/exchange/amq.direct/{key}"
    connection.subscribe(destination)
    connection.send(f"{destination}-other", b"no")
    connection.send(destination, b"yes")
    message = connection.next()
    assert (message.body, message.headers["destination"]) == (b"yes", destination)


def amq_queue(world: World) -> None:
    world.amqp().call(1, "queue.declare", queue=world.name(), arguments={"x-max-length": 5})
    connection = world.connect()
    connection.subscribe(f"/amq/queue/{world.name()}")
    connection.send(f"/amq/queue/{world.name()}", b"m")
    assert connection.next().headers["destination"] == world.queue()
    connection.client.send("/amq/queue/" + world.name("none"), b"nobody gets it")
    connection.client.subscribe("/amq/queue/" + world.name("none"), "2")
    assert connection.error().headers["message"] == "not_found"


STRANGE = {"a:b": "c:d", "back\\slash": "\\n\\", "line": "one\ntwo", "ü": "€ ß"}


def headers_escaped(world: World) -> None:
    if world.client.version == "1.0":
        raise Unsupported("1.0 escapes nothing")
    given = dict(STRANGE)
    if world.client.version == "1.2":
        given["return"] = "a\rb"
    connection = world.connect()
    connection.subscribe(world.queue())
    # stomp.py escapes values, and no names.
    sayable = {name: item for name, item in given.items() if not set(name) & set(":\\")}
    connection.send(world.queue(), b"m", dict(sayable))
    headers = connection.next().headers
    for name, item in sayable.items():
        assert headers[name] == item
    # All of them, from a client of AMQP.
    peer = world.amqp()
    peer.publish(1, "", world.name(), b"m", {"headers": given})
    headers = connection.next().headers
    for name, item in given.items():
        assert headers[name] == item


def unicode(world: World) -> None:
    connection = world.connect()
    name = f"/queue/{world.prefix} grüße €"
    connection.subscribe(name)
    body = "naïve 𝄞 \U0001f600".encode()
    connection.send(name, body)
    message = connection.next()
    assert message.body == body
    # A destination comes back in a form that can be sent to again.
    connection.send(message.headers["destination"], b"again")
    assert connection.next().body == b"again"


def binary_body(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue())
    every = bytes(range(256)) * 4 + b"\0\n\0"
    connection.send(world.queue(), every, content_type="application/octet-stream")
    message = connection.next()
    assert message.body == every
    assert message.headers["content-length"] == str(len(every))
    assert message.headers["content-type"] == "application/octet-stream"


def large_message(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue())
    body = b"wherry\0!" * (LARGE_BYTES // 8)
    if world.broker.kind == "rabbitmq":
        body = body[: 3 << 20]  # its frames end at 4 MiB
    connection.send(world.queue(), body)
    assert connection.next().body == body


def heartbeats(world: World) -> None:
    if world.client.version == "1.0":
        raise Unsupported("1.0 has no heart-beats")
    connection = world.connect(beats_ms=(BEATS_MS, BEATS_MS))
    assert connection.connected.headers["heart-beat"] == f"{BEATS_MS},{BEATS_MS}"
    # Longer than either side waits for a silent peer.
    over = threading.Event()
    over.wait(2.6 * BEATS_MS / 1000)
    assert connection.is_open()
    connection.subscribe(world.queue())
    connection.send(world.queue(), b"alive")
    assert connection.next().body == b"alive"


def many_subscriptions(world: World) -> None:
    connection = world.connect()
    for number in range(SUBSCRIPTIONS):
        connection.client.subscribe(f"/topic/{world.name(str(number))}", str(number))
    connection.receipt(connection.client.begin, "round-trip")
    for number in range(SUBSCRIPTIONS):
        connection.client.send(f"/topic/{world.name(str(number))}", b"%d" % number)
    seen = [connection.next() for _ in range(SUBSCRIPTIONS)]
    assert all(one.headers["subscription"].encode() == one.body for one in seen)
    assert len({one.body for one in seen}) == SUBSCRIPTIONS


def disconnect_receipt(world: World) -> None:
    """It comes when all that was sent before is done."""
    connection = world.connect()
    for number in range(100):
        connection.client.send(world.queue(), b"%d" % number, persistent="true")
    connection.disconnect()
    world.count(world.name(), 100)


def errors(world: World) -> None:
    for header, cause in (
        ("Unknown destination", lambda c: c.client.send("/nonsense/x", b"m")),
        ("Bad transaction", lambda c: c.client.commit("none")),
        ("Missing destination", lambda c: c.client.send_frame("SEND", {})),
        ("access_refused", lambda c: c.client.send("/queue/amq.mine", b"m")),
        ("not_found", lambda c: c.client.subscribe("/exchange/none/k", "1")),
    ):
        connection = world.connect()
        cause(connection)
        error = connection.error()
        assert error.headers["message"] == header
        assert error.body
        if world.broker.kind != "rabbitmq":
            connection.ended()


def reconnect(world: World) -> None:
    """What a receipt was given for is there after the server was killed."""
    connection = world.connect()
    connection.subscribe(world.queue(), ack="client-individual")
    for number in range(10):
        connection.send(world.queue(), b"%d" % number, persistent="true")
    messages = [connection.next() for _ in range(10)]
    connection.ack(messages[0])
    world.broker.kill_and_restart()
    connection.ended()
    again = world.connect()
    again.subscribe(world.queue())
    rest = [again.next() for _ in range(9)]
    assert sorted(one.body for one in rest) == [b"%d" % number for number in range(1, 10)]


# With AMQP.


def from_amqp(world: World) -> None:
    connection = world.connect()
    connection.subscribe(world.queue())
    sent = {
        "content_type": "text/x",
        "content_encoding": "identity",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "cor",
        "expiration": "60000",
        "message_id": "mid",
        "timestamp": 1700000000,
        "type": "kind",
        "user_id": "guest",
        "app_id": "app",
        "reply_to": world.name("answers"),
        "headers": {"text": "grüße", "number": 5, "yes": True},
    }
    world.amqp().publish(1, "", world.name(), b"body", sent)
    message = connection.next()
    assert message.body == b"body"
    wanted = {
        "content-type": "text/x",
        "content-encoding": "identity",
        "persistent": "true",
        "priority": "3",
        "correlation-id": "cor",
        "expiration": "60000",
        "amqp-message-id": "mid",
        "timestamp": "1700000000",
        "type": "kind",
        "user-id": "guest",
        "app-id": "app",
        "reply-to": "/reply-queue/" + world.name("answers"),
        "text": "grüße",
        "number": "5",
        "yes": "true",
        "destination": world.queue(),
    }
    for name, item in wanted.items():
        assert message.headers[name] == item, name


def to_amqp(world: World) -> None:
    connection = world.connect()
    headers = {
        "content-type": "text/x",
        "persistent": "true",
        "priority": "3",
        "correlation-id": "cor",
        "expiration": "60000",
        "amqp-message-id": "mid",
        "timestamp": "1700000000",
        "type": "kind",
        "user-id": "guest",
        "app-id": "app",
        "own": "grüße",
    }
    connection.send(world.queue(), b"a\0b", headers)
    message = world.amqp().call(1, "basic.get", queue=world.name(), no_ack=True)
    assert message.body == b"a\0b"
    properties = dict(message.properties or {})
    got = properties.pop("headers")
    assert got.pop("own") == ["S", "grüße"]
    assert not got or world.broker.kind == "rabbitmq"  # which hands the frame's own on
    assert properties == {
        "content_type": "text/x",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "cor",
        "expiration": "60000",
        "message_id": "mid",
        "timestamp": 1700000000,
        "type": "kind",
        "user_id": "guest",
        "app_id": "app",
    }


ALL: list[Callable[[World], None]] = [
    versions,
    login_refused,
    send_receipt,
    ack_auto,
    ack_client,
    ack_individual,
    nack_requeue,
    nack_dead_letter,
    transaction_commit,
    transaction_abort,
    prefetch_count,
    durable_topic,
    temp_queue,
    exchange_destination,
    amq_queue,
    headers_escaped,
    unicode,
    binary_body,
    large_message,
    heartbeats,
    many_subscriptions,
    disconnect_receipt,
    errors,
    from_amqp,
    to_amqp,
    reconnect,
]

NAMES = [scenario.__name__ for scenario in ALL]
