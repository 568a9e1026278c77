"""What every client must be able to do with the server, written once over `python_clients.api`.

A scenario is a function of a `World`; its name is the test's name, and the programs in `go/`,
`java/` and `node/` use the same names. Nothing here sleeps: an absence (a message that must not be
ready) is shown by a round trip that answers with a count.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from python_clients.api import Cancelled, Closed, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_clients.api import Channel, Client, Connection

    from wire.brokers import Broker
    from wire.proxy import Proxy

LARGE_BYTES = 8 * 1024 * 1024
"""64 frames of 128 KiB."""

MANY_CHANNELS = 200

HEARTBEAT_SECONDS = 1


@dataclass
class World:
    client: Client
    broker: Broker
    proxy: Proxy
    prefix: str
    connections: list[Connection]

    def connect(self, *, heartbeat: int = 0) -> Connection:
        connection = self.client.connect(self.broker.host, self.broker.port, heartbeat=heartbeat)
        self.connections.append(connection)
        return connection

    def channel(self) -> Channel:
        return self.connect().channel()

    def name(self, suffix: str) -> str:
        return f"{self.prefix}.{suffix}"


def publish_get(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    assert (queue.messages, queue.consumers) == (0, 0)
    assert channel.get(queue.name) is None
    channel.publish("", queue.name, b"one")
    channel.publish("", queue.name, b"")
    message = channel.get(queue.name)
    assert message is not None
    assert (message.body, message.exchange, message.routing_key) == (b"one", "", queue.name)
    assert not message.redelivered
    channel.ack(message)
    empty = channel.get(queue.name, no_ack=True)
    assert empty is not None
    assert empty.body == b""
    channel.delete_queue(queue.name)


def confirm(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"), durable=True)
    channel.confirm()
    for number in range(50):
        channel.publish("", queue.name, b"%d" % number, delivery_mode=2)
    assert channel.declare_queue(queue.name, passive=True).messages == 50
    # To nowhere: confirmed all the same.
    channel.publish("", world.name("nobody"), b"lost")
    assert channel.purge(queue.name) == 50
    channel.delete_queue(queue.name)


def consume(world: World) -> None:
    connection = world.connect()
    publisher, consumer = connection.channel(), connection.channel()
    queue = publisher.declare_queue(world.name("q"))
    consumer.consume(queue.name)
    bodies = [b"%d" % number for number in range(100)]
    for body in bodies:
        publisher.publish("", queue.name, body)
    for number, body in enumerate(bodies, 1):
        message = consumer.next()
        assert (message.body, message.tag, message.redelivered) == (body, number, False)
    consumer.ack(message, multiple=True)
    declared = consumer.declare_queue(queue.name, passive=True)
    assert (declared.messages, declared.consumers) == (0, 1)


def cancel(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    tag = channel.consume(queue.name)
    channel.publish("", queue.name, b"first")
    first = channel.next()
    channel.cancel(tag)
    assert channel.declare_queue(queue.name, passive=True).consumers == 0
    channel.publish("", queue.name, b"second")
    channel.ack(first)
    message = channel.get(queue.name, no_ack=True)
    assert message is not None
    assert message.body == b"second"
    channel.delete_queue(queue.name)


def prefetch(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    for number in range(20):
        channel.publish("", queue.name, b"%d" % number)
    arrived(world, channel, queue.name, 20)
    channel.qos(5)
    channel.consume(queue.name)
    held = [channel.next() for _ in range(5)]
    assert channel.declare_queue(queue.name, passive=True).messages == 15
    channel.ack(held[4], multiple=True)
    assert [channel.next().body for _ in range(5)] == [b"5", b"6", b"7", b"8", b"9"]
    assert channel.declare_queue(queue.name, passive=True).messages == 10


def nack_requeue(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    for body in (b"a", b"b", b"c"):
        channel.publish("", queue.name, body)
    arrived(world, channel, queue.name, 3)
    taken = [channel.get(queue.name) for _ in range(3)]
    assert all(taken)
    try:
        channel.nack(taken[1], multiple=True, requeue=True)
    except Unsupported:
        channel.reject(taken[0], requeue=True)
        channel.reject(taken[1], requeue=True)
    for expected in (b"a", b"b"):
        again = channel.get(queue.name)
        assert again is not None
        assert (again.body, again.redelivered) == (expected, True)
    assert channel.get(queue.name) is None
    channel.delete_queue(queue.name)


def reject_dead_letter(world: World) -> None:
    channel = world.channel()
    exchange = world.name("dlx")
    channel.declare_exchange(exchange, "fanout")
    dead = channel.declare_queue(world.name("dead"))
    channel.bind(dead.name, exchange)
    queue = channel.declare_queue(world.name("q"), arguments={"x-dead-letter-exchange": exchange})
    channel.publish("", queue.name, b"poison", headers={"keep": "me"})
    message = channel.get(queue.name)
    assert message is not None
    channel.reject(message, requeue=False)
    buried = wait_for(channel, dead.name)
    assert (buried.body, buried.exchange, buried.routing_key) == (b"poison", exchange, queue.name)
    assert buried.headers["keep"] == "me"
    (death,) = buried.headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == (queue.name, "rejected", 1)
    assert death["routing-keys"] == [queue.name]
    assert buried.headers["x-first-death-reason"] == "rejected"


def mandatory_return(world: World) -> None:
    channel = world.channel()
    with contextlib.suppress(Unsupported):
        channel.confirm()
    channel.publish("", world.name("nobody"), b"back", mandatory=True)
    wait_until(world, lambda: bool(channel.returned))
    assert channel.returned == [(312, "NO_ROUTE", b"back")]


def transactions(world: World) -> None:
    connection = world.connect()
    channel, other = connection.channel(), connection.channel()
    queue = channel.declare_queue(world.name("q"))
    channel.publish("", queue.name, b"before")
    arrived(world, channel, queue.name, 1)
    channel.tx_select()
    message = channel.get(queue.name)
    assert message is not None
    channel.ack(message)
    channel.publish("", queue.name, b"rolled back")
    channel.tx_rollback()
    assert other.declare_queue(queue.name, passive=True).messages == 0
    channel.ack(message)
    channel.publish("", queue.name, b"committed")
    assert other.declare_queue(queue.name, passive=True).messages == 0
    channel.tx_commit()
    taken = other.get(queue.name, no_ack=True)
    assert taken is not None
    assert taken.body == b"committed"
    channel.delete_queue(queue.name)


def reconnect(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    channel.publish("", queue.name, b"1")
    channel.publish("", queue.name, b"2")
    arrived(world, channel, queue.name, 2)
    bodies = world.client.survive(world.proxy.host, world.proxy.port, queue.name, world.proxy.cut)
    assert bodies[0] == b"1"
    assert bodies[-1] == b"2"
    channel.delete_queue(queue.name)


def large_message(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    body = bytes(range(256)) * (LARGE_BYTES // 256)
    channel.publish("", queue.name, body)
    message = wait_for(channel, queue.name)
    assert len(message.body) == LARGE_BYTES
    assert message.body == body
    channel.delete_queue(queue.name)


def many_channels(world: World) -> None:
    connection = world.connect()
    channels = [connection.channel() for _ in range(MANY_CHANNELS)]
    queue = channels[0].declare_queue(world.name("q"))
    for number, channel in enumerate(channels):
        channel.publish("", queue.name, b"%d" % number)
    # Channels are not ordered among themselves; each is passed by a round trip of its own.
    for channel in channels:
        channel.declare_queue(queue.name, passive=True)
    bodies = set()
    for channel in channels:
        message = channel.get(queue.name, no_ack=True)
        assert message is not None
        bodies.add(message.body)
    assert bodies == {b"%d" % number for number in range(MANY_CHANNELS)}
    for channel in channels[1:]:
        channel.close()
    channels[0].delete_queue(queue.name)


PROPERTIES: dict[str, Any] = {
    "content_type": "text/plain",
    "content_encoding": "utf-8",
    "delivery_mode": 2,
    "priority": 7,
    "correlation_id": "correlation",
    "reply_to": "reply",
    "expiration": "60000",
    "message_id": "id",
    "timestamp": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    "type": "kind",
    "user_id": "guest",
    "app_id": "application",
}

HEADERS: dict[str, Any] = {
    "text": "grüße",
    "empty": "",
    "true": True,
    "false": False,
    "small": 7,
    "negative": -7,
    "large": 2**40,
    "float": 0.5,
    "none": None,
    "list": [1, "two", [True]],
    "table": {"inner": {"deep": "yes"}},
    "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
}


def properties(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    given = dict(PROPERTIES)
    headers = dict(HEADERS)
    stamp = given["timestamp"]
    seconds = int(stamp.timestamp())
    naive = stamp.replace(tzinfo=None)
    if world.client.name == "pika":
        given["timestamp"] = seconds
        del headers["float"]  # pika cannot write one
    if world.client.name in ("py-amqp", "kombu"):
        given["timestamp"] = seconds
        headers["time"] = naive
    channel.publish("", queue.name, b"body", headers=headers, **given)
    message = wait_for(channel, queue.name)
    got = dict(message.properties)
    assert same(got.pop("headers"), {key: HEADERS[key] for key in headers})
    for key, value in PROPERTIES.items():
        assert same(got[key], value), key
    channel.delete_queue(queue.name)


def same(got: Any, wanted: Any) -> bool:
    """Equal, with the freedom that clients take with times and text."""
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(same(got[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(same(g, w) for g, w in zip(got, wanted, strict=True))
    if isinstance(wanted, datetime.datetime):
        if isinstance(got, datetime.datetime):
            aware = got if got.tzinfo else got.replace(tzinfo=datetime.timezone.utc)
            return aware == wanted
        return bool(got == wanted.timestamp())
    if isinstance(got, bytes) and isinstance(wanted, str):
        return got.decode() == wanted
    return bool(got == wanted)


def exclusive_queue(world: World) -> None:
    owner, stranger = world.channel(), world.channel()
    queue = owner.declare_queue("", exclusive=True)
    assert queue.name.startswith("amq.gen-")
    owner.publish("", queue.name, b"mine")
    assert closed_with(lambda: stranger.declare_queue(queue.name, passive=True)) == 405
    message = wait_for(owner, queue.name)
    assert message.body == b"mine"


def errors(world: World) -> None:
    connection = world.connect()
    queue = connection.channel().declare_queue(world.name("q"), arguments={"x-max-priority": 10})
    for code, operation in (
        (404, lambda channel: channel.declare_queue(world.name("absent"), passive=True)),
        (404, lambda channel: channel.consume(world.name("absent"))),
        (404, lambda channel: channel.get(world.name("absent"))),
        (406, lambda channel: channel.declare_queue(queue.name)),
        (403, lambda channel: channel.declare_exchange("amq.mine", "direct")),
        (404, lambda channel: channel.bind(queue.name, world.name("absent"))),
    ):
        if code == 403 and world.client.name == "kombu":
            continue  # which does not even ask for such a name
        channel = connection.channel()
        assert closed_with(lambda do=operation, on=channel: do(on)) == code
    # The connection outlives its channels.
    connection.channel().delete_queue(queue.name)


def closed_with(operation: Callable[[], object]) -> int:
    try:
        operation()
    except Closed as closed:
        return closed.code
    return 0


def consumer_cancel(world: World) -> None:
    channel, other = world.channel(), world.channel()
    queue = channel.declare_queue(world.name("q"))
    tag = channel.consume(queue.name)
    other.delete_queue(queue.name)
    if world.client.name == "aio-pika":
        # aio-pika ends the consumer in silence; the channel must live on.
        wait_until(world, lambda: channel.declare_queue(world.name("q2")).consumers == 0)
        channel.delete_queue(world.name("q2"))
        return
    if world.client.name == "kombu":
        with pytest.raises(Cancelled, match=tag):
            channel.next()
        return
    wait_until(world, lambda: bool(channel.cancelled))
    assert channel.cancelled == [tag]


def heartbeats(world: World) -> None:
    connection = world.connect(heartbeat=HEARTBEAT_SECONDS)
    channel = connection.channel()
    queue = channel.declare_queue("", exclusive=True)
    # Longer than either side waits for a silent peer.
    connection.idle(3.5 * HEARTBEAT_SECONDS)
    assert connection.is_open()
    channel.publish("", queue.name, b"alive")
    assert wait_for(channel, queue.name).body == b"alive"


def direct_reply_to(world: World) -> None:
    connection = world.connect()
    queue = connection.channel().declare_queue(world.name("q"))
    assert world.client.direct_reply(connection, queue.name, b"abc") == b"cba"


def priority(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"), arguments={"x-max-priority": 5})
    for level in (1, 5, 0, 3, 5):
        channel.publish("", queue.name, b"%d" % level, priority=level)
    arrived(world, channel, queue.name, 5)
    bodies = [wait_for(channel, queue.name).body for _ in range(5)]
    assert bodies == [b"5", b"5", b"3", b"1", b"0"]
    channel.delete_queue(queue.name)


def ttl(world: World) -> None:
    channel = world.channel()
    dead = channel.declare_queue(world.name("dead"))
    queue = channel.declare_queue(
        world.name("q"),
        arguments={
            "x-message-ttl": 60000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead.name,
        },
    )
    channel.publish("", queue.name, b"short", expiration="50")
    buried = wait_for(channel, dead.name)
    assert buried.body == b"short"
    assert "expiration" not in buried.properties
    (death,) = buried.headers["x-death"]
    assert (death["reason"], death["original-expiration"]) == ("expired", "50")
    assert channel.declare_queue(queue.name, passive=True).messages == 0


def delay(world: World) -> None:
    channel = world.channel()
    exchange = world.name("delayed")
    if world.broker.kind == "rabbitmq":
        raise Unsupported("this RabbitMQ has no delayed-message plugin")
    channel.declare_exchange(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    queue = channel.declare_queue(world.name("q"))
    channel.bind(queue.name, exchange, "k")
    started = time.monotonic()
    channel.publish(exchange, "k", b"late", headers={"x-delay": 300})
    channel.publish(exchange, "k", b"now")
    assert wait_for(channel, queue.name).body == b"now"
    assert wait_for(channel, queue.name).body == b"late"
    assert time.monotonic() - started >= 0.3


def recover(world: World) -> None:
    channel = world.channel()
    queue = channel.declare_queue(world.name("q"))
    channel.publish("", queue.name, b"again")
    channel.consume(queue.name)
    assert not channel.next().redelivered
    channel.recover()
    message = channel.next()
    assert (message.body, message.redelivered) == (b"again", True)


def exchanges(world: World) -> None:
    channel = world.channel()
    names = {kind: world.name(kind) for kind in ("direct", "topic", "headers", "fanout")}
    for kind, exchange in names.items():
        channel.declare_exchange(exchange, kind)
    queues = {kind: channel.declare_queue(f"{exchange}.q").name for kind, exchange in names.items()}
    channel.bind(queues["direct"], names["direct"], "k")
    channel.bind(queues["topic"], names["topic"], "a.*.#")
    channel.bind(queues["fanout"], names["fanout"])
    channel.bind(queues["headers"], names["headers"], "", {"x-match": "all", "n": 1, "s": "x"})
    for exchange, key, headers in (
        ("direct", "k", {}),
        ("direct", "other", {}),
        ("topic", "a.b.c.d", {}),
        ("topic", "b.a", {}),
        ("fanout", "whatever", {}),
        ("headers", "", {"n": 1, "s": "x", "more": 2}),
        ("headers", "", {"n": 1}),
    ):
        channel.publish(names[exchange], key, b"m", headers=headers)
    for queue in queues.values():
        arrived(world, channel, queue, 1)
        channel.delete_queue(queue)


def arrived(world: World, channel: Channel, queue: str, count: int) -> None:
    """Until the queue holds this many: RabbitMQ answers a declare before what was published
    just before it.
    """
    wait_until(world, lambda: channel.declare_queue(queue, passive=True).messages == count)


ALL: list[Callable[[World], None]] = [
    publish_get,
    confirm,
    consume,
    cancel,
    prefetch,
    nack_requeue,
    reject_dead_letter,
    mandatory_return,
    transactions,
    reconnect,
    large_message,
    many_channels,
    properties,
    exclusive_queue,
    errors,
    consumer_cancel,
    heartbeats,
    direct_reply_to,
    priority,
    ttl,
    delay,
    recover,
    exchanges,
]

NAMES = [scenario.__name__ for scenario in ALL]


def wait_for(channel: Channel, queue: str, seconds: float = 10.0) -> Any:
    """Get until there is one: what arrives by a way of its own (another queue, a timer) has no
    round trip to wait for.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = channel.get(queue, no_ack=True)
        if message is not None:
            return message
    raise TimeoutError(queue)


def wait_until(world: World, reached: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError
        for connection in world.connections:
            connection.idle(0.02)
