"""Numbers of things that must leave nothing behind, and routes built to take long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from hostile.test_resources import resident_bytes
from wire import codec
from wire.peer import Peer, connect

if TYPE_CHECKING:
    from wire.brokers import Broker

KEYS = 300_000
"""Distinct routing keys. Kept at 64 bytes each they would be seen."""

NAMES = 15_000
"""Queues, bindings, consumers: each costs a round through the topology."""

BINDINGS = 30_000
"""Of each exchange: a leak of fifty bytes in each shall be seen."""

KEPT_BYTES_MAX = 1 << 20
"""What an allocator may keep back of what was freed. It was nothing in all runs looked at."""

KEYS_KEPT_BYTES_MAX = 4 << 20
"""Answers of some keys are kept on purpose, and others take their places."""

ROUTE_SECONDS_MAX = 1.0

method = codec.method_frame


def synced(peer: Peer) -> None:
    """Everything sent before is done."""
    assert peer.call(1, "basic.qos").name == "basic.qos-ok"


def keys(peer: Peer, start: int, count: int) -> None:
    header = codec.frame(2, 1, codec.header_payload({}, 0))
    for at in range(start, start + count, 5000):
        peer.raw(
            b"".join(
                method(
                    1,
                    "basic.publish",
                    exchange="amq.topic",
                    routing_key=f"word{n}.another-word-{n}.and-one-that-is-longer-{n}",
                )
                + header
                for n in range(at, at + 5000)
            )
        )
    synced(peer)


def names(peer: Peer, start: int, count: int) -> None:
    for at in range(start, start + count, 1000):
        sent = []
        for n in range(at, at + 1000):
            queue, tag = f"a-queue-of-a-distinct-name-{n}", f"a-consumer-{n}"
            bound = {"queue": queue, "exchange": "amq.topic", "routing_key": f"w{n}.*.#.x{n}"}
            sent += [
                method(1, "queue.declare", queue=queue, no_wait=True),
                method(1, "queue.bind", no_wait=True, **bound),
                method(1, "basic.consume", queue=queue, consumer_tag=tag, no_wait=True),
                method(1, "basic.cancel", consumer_tag=tag, no_wait=True),
                method(1, "queue.delete", queue=queue, no_wait=True),
            ]
        peer.raw(b"".join(sent))
        synced(peer)


def bindings(peer: Peer, start: int, count: int) -> None:
    """The binding goes, and the exchange and the queue stay."""
    for at in range(start, start + count, 1000):
        sent = []
        for n in range(at, at + 1000):
            bound = {"queue": "churned", "routing_key": f"w{n}.*.word-of-some-length-{n}.#"}
            for exchange in ("amq.topic", "amq.direct"):
                sent += [
                    method(1, "queue.bind", exchange=exchange, no_wait=True, **bound),
                    method(1, "queue.unbind", exchange=exchange, **bound),
                ]
        peer.raw(b"".join(sent))
        for _ in range(2000):
            assert peer.expect(1).name == "queue.unbind-ok"


CHURN = {
    "routing keys": (keys, KEYS, KEYS_KEPT_BYTES_MAX),
    "names": (names, NAMES, KEPT_BYTES_MAX),
    "bindings": (bindings, BINDINGS, KEPT_BYTES_MAX),
}


@pytest.mark.parametrize("what", CHURN)
def test_distinct_words_are_not_kept(what: str, broker: Broker) -> None:
    churn, count, growth_bytes_max = CHURN[what]
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.call(1, "queue.declare", queue="churned", exclusive=True)
        # What is kept on purpose is there, and is full, after the first round.
        churn(peer, 0, count // 3)
        before = resident_bytes(broker)
        churn(peer, count // 3, count // 3 * 2)
        assert resident_bytes(broker) - before < growth_bytes_max


def published(peer: Peer, exchange: str, **options: object) -> float:
    started = time.monotonic()
    peer.publish(1, exchange, "k", b"m", dict(options))
    peer.until("basic.ack")
    return time.monotonic() - started


def test_headers_of_thousands(broker: Broker) -> None:
    """Many headers against a binding of as many, of which only the last differs."""
    count = 3000
    headers = {f"h{n:05}": n for n in range(count)}
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        queue = peer.call(1, "queue.declare", exclusive=True).queue
        for mode in ("all", "any"):
            for last in range(10):
                wanted = {**headers, f"h{count - 1:05}": -last - 1, "x-match": mode}
                answer = peer.call(
                    1, "queue.bind", queue=queue, exchange="amq.headers", arguments=wanted
                )
                assert answer.name == "queue.bind-ok", answer
        assert published(peer, "amq.headers", headers=headers) < ROUTE_SECONDS_MAX
        # By the ten of "any", once.
        assert peer.call(1, "basic.get", queue=queue, no_ack=True).message_count == 0


def test_headers_of_another_order_of_size_are_refused(broker: Broker) -> None:
    """A table above the frame is no table; the limit on frames is the limit on headers."""
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        headers = {f"h{n:06}": n for n in range(20_000)}
        peer.publish(1, "amq.headers", "k", b"m", {"headers": headers})
        assert peer.read().code == 501


@pytest.mark.parametrize("size", [1, 2, 12])
def test_exchanges_bound_in_circles(size: int, broker: Broker) -> None:
    """Every exchange to every other: a message goes through each once, into each queue once."""
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        circle = [f"circle-{size}-{n}" for n in range(size)]
        queues = []
        for exchange in circle:
            peer.call(1, "exchange.declare", exchange=exchange, type="fanout")
            queue = peer.call(1, "queue.declare", exclusive=True).queue
            peer.call(1, "queue.bind", queue=queue, exchange=exchange)
            queues.append(queue)
        for source in circle:
            for destination in circle:
                answer = peer.call(1, "exchange.bind", source=source, destination=destination)
                assert answer.name == "exchange.bind-ok", answer
        assert published(peer, circle[0]) < ROUTE_SECONDS_MAX
        for queue in queues:
            assert peer.call(1, "queue.delete", queue=queue).message_count == 1
        for exchange in circle:
            assert peer.call(1, "exchange.delete", exchange=exchange).name == "exchange.delete-ok"


def test_alternates_in_a_circle(broker: Broker) -> None:
    """Unroutable everywhere: handed on once round, then returned."""
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        for exchange, alternate in (("round-a", "round-b"), ("round-b", "round-a")):
            arguments = {"alternate-exchange": alternate}
            peer.call(1, "exchange.declare", exchange=exchange, type="direct", arguments=arguments)
        peer.publish(1, "round-a", "k", b"m", mandatory=True)
        returned = peer.expect(1)
        assert (returned.name, returned.code) == ("basic.return", 312)
        for exchange in ("round-a", "round-b"):
            peer.call(1, "exchange.delete", exchange=exchange)
