"""Bytes that are not AMQP, or are too much of it, before and after the login.

Each attack is one that hit a broker before (frame sizes, frame ends, table bombs, body sizes,
wrong channels). It says how the connection must end: with which codes, or (before the login) by
the end of the socket too.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from hostile.conftest import MESSAGE_BYTES_MAX
from wire import brokers, codec
from wire.peer import Event, Peer, Silence, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wire.brokers import Broker

frame, method, payload = codec.frame, codec.method_frame, codec.method_payload


def nested(depth: int, letter: bytes) -> bytes:
    """A table with one value, nested `depth` deep in tables (F) or arrays (A)."""
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(inner)) + inner
        inner = (b"\x01a" if letter == b"F" else b"") + letter + inner
    if letter == b"A":
        inner = b"\x01a" + inner
    return struct.pack(">I", len(inner)) + inner


def declare(arguments: bytes) -> bytes:
    return frame(1, 1, payload("queue.declare", {"queue": "hostile", "arguments": arguments}))


def content(body_size: int, *bodies: bytes) -> bytes:
    return b"".join(
        [
            method(1, "basic.publish", routing_key="nobody"),
            frame(2, 1, codec.header_payload({}, body_size)),
            *(frame(3, 1, body) for body in bodies),
        ]
    )


ZERO_WIDTH = codec.long_string(b"\x01aA" + codec.long_string(b"V" * 100_000))

ATTACKS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "frame of 4 GiB announced": (struct.pack(">BHI", 1, 1, 2**32 - 1), (501,)),
    "frame above what was agreed": (struct.pack(">BHI", 3, 1, 1 << 24), (501,)),
    "frame end wrong": (method(1, "basic.qos")[:-1] + b"\x00", (501,)),
    "frame kind unknown": (frame(9, 1, b"x"), (501,)),
    "heartbeat of 4 GiB": (struct.pack(">BHI", 8, 0, 2**32 - 1), (501,)),
    "garbage": (bytes(range(256)) * 64, (501,)),
    "method of no class": (frame(1, 1, struct.pack(">HH", 9999, 1)), (501, 502, 503, 540)),
    "method cut off": (frame(1, 1, payload("queue.declare", {"queue": "q"})[:-4]), (501, 502)),
    "short string past the end": (frame(1, 1, b"\x00\x32\x00\x1e\x00\x00\xff"), (501, 502)),
    "table longer than its frame": (declare(b"\xff\xff\xff\xff"), (501, 502)),
    "tables 10,000 deep": (declare(nested(10_000, b"F")), (501, 502)),
    "arrays 10,000 deep": (declare(nested(10_000, b"A")), (501, 502)),
    "array of 100,000 nothings": (declare(ZERO_WIDTH), (406, 501, 502)),
    "body longer than announced": (content(2, b"abc"), (505,)),
    "body of 2^63 bytes announced": (content(1 << 63), (406, 505)),
    "body of 2^64-1 bytes announced": (content(2**64 - 1), (406, 505)),
    "body above the limit announced": (content(MESSAGE_BYTES_MAX + 1), (406,)),
    "body before header": (
        method(1, "basic.publish") + frame(3, 1, b"abc"),
        (505,),
    ),
    "header on a method without content": (
        method(1, "basic.qos") + frame(2, 1, codec.header_payload({}, 0)),
        (505,),
    ),
    "header of another class": (
        method(1, "basic.publish") + frame(2, 1, codec.header_payload({}, 0, class_id=10)),
        (505,),
    ),
    "method on a channel that is not open": (method(60, "basic.qos"), (504,)),
    "method on channel 0": (method(0, "basic.publish"), (503, 504)),
    "channel opened twice": (method(1, "channel.open"), (504,)),
    "delivery tag 2^64-1": (method(1, "basic.ack", delivery_tag=2**64 - 1), (406,)),
    "name that is not UTF-8": (
        frame(1, 1, payload("queue.declare", {"queue": b"\xff\xfe"})),
        (501, 502),
    ),
}


def last_words(peer: Peer) -> Event:
    """What closes the channel or the connection; the end of the socket if nothing is said."""
    while True:
        event = peer.read()
        if event.name in ("channel.close", "connection.close", "eof"):
            return event


@pytest.mark.parametrize("name", ATTACKS)
def test_after_login(name: str, broker: Broker) -> None:
    data, codes = ATTACKS[name]
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.raw(data)
        event = last_words(peer)
        assert event.name != "eof", "closed without a word"
        assert event.code in codes, event


@pytest.fixture(scope="module")
def patient() -> Iterator[Broker]:
    """A server that gives a handshake all the time in the world: what ends here, ends by itself."""
    if brokers.CHOICE != "wherry":
        pytest.skip("the attacks need a server with limits of their own")
    with brokers.start("wherry", options={"limits.handshake_seconds": 600}) as started:
        yield started


@pytest.mark.parametrize("name", ATTACKS)
def test_before_login(name: str, patient: Broker) -> None:
    """Nothing of it is worth an answer, but it must end at once."""
    data, _ = ATTACKS[name]
    with Peer(patient.host, patient.port) as peer:
        peer.raw(codec.PROTOCOL_HEADER)
        assert peer.read().name == "connection.start"
        peer.raw(data)
        assert last_words(peer).name in ("connection.close", "eof")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"AMQP\x00\x01\x00\x00", b"x" * 8]
)
def test_another_protocol_gets_our_header(data: bytes, broker: Broker) -> None:
    with Peer(broker.host, broker.port) as peer:
        peer.raw(data)
        assert peer.read().fields["bytes"] == codec.PROTOCOL_HEADER
        assert peer.read().name == "eof"


def test_empty_bodies_for_ever_end(broker: Broker) -> None:
    """Body frames of no bytes carry nothing on: the connection lives, or ends with a code."""
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.raw(content(1) + frame(3, 1, b"") * 50_000)
        peer.raw(frame(3, 1, b"x") + method(1, "basic.qos"))
        event = peer.read()
        assert event.name == "basic.qos-ok" or event.code in (501, 505), event


def test_frame_above_what_there_is_before_tune(patient: Broker) -> None:
    """Before the tuning a frame has 8 KiB at most, whatever may be agreed on later."""
    with Peer(patient.host, patient.port) as peer:
        peer.raw(codec.PROTOCOL_HEADER)
        assert peer.read().name == "connection.start"
        peer.raw(struct.pack(">BHI", 1, 0, 8193))
        assert last_words(peer).name in ("connection.close", "eof")


@pytest.mark.parametrize("frame_max", [1, 100, 4095, 1 << 30, 2**32 - 1])
def test_tune_outside_of_what_was_offered_is_refused(frame_max: int, patient: Broker) -> None:
    with Peer(patient.host, patient.port) as peer:
        answer = peer.handshake(frame_max=frame_max)
        assert answer.name == "eof" or answer.code in (501, 530), answer


@pytest.mark.parametrize("offered", ["frame_max", "channel_max"])
def test_tune_without_a_limit_does_not_lift_ours(offered: str, patient: Broker) -> None:
    with Peer(patient.host, patient.port) as peer:
        answer = peer.handshake(**{offered: 0})  # type: ignore[arg-type]
        assert (answer.name, answer.code) == ("connection.close", 530), answer


def test_channels_above_what_the_client_agreed_to(broker: Broker) -> None:
    with connect(broker.host, broker.port, channel_max=2) as peer:
        peer.open_channel(1)
        peer.open_channel(2)
        answer = peer.call(3, "channel.open")
        assert (answer.name, answer.code) == ("connection.close", 530), answer


def test_channel_that_was_closed_hears_nothing_until_that_is_answered(broker: Broker) -> None:
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        assert peer.call(1, "basic.ack", delivery_tag=7).code == 406
        peer.raw(method(1, "queue.declare", queue="", exclusive=True) + content(3, b"abc") * 100)
        peer.raw(method(1, "channel.close-ok") + method(1, "channel.open"))
        assert peer.expect(1).name == "channel.open-ok"


NUMBERS = {
    "x-message-ttl": (-1, -(2**63), 2**63 - 1, 1.5, "1000"),
    "x-expires": (0, -1, 2**63 - 1),
    "x-max-length": (-1, -(2**63)),
    "x-max-length-bytes": (-1,),
    "x-max-priority": (-1, 256, 2**31, 2**63 - 1),
    "x-delivery-limit": (-(2**63), "many"),
    "x-retry-attempts": (0, -1, 2**63 - 1),
    "x-lease": (0, -1, 2**63 - 1),
    "x-dedup-size": (0, -1, 2**63 - 1),
}


@pytest.mark.parametrize(
    ("argument", "value"), [(name, value) for name, values in NUMBERS.items() for value in values]
)
def test_numbers_of_queues_that_cannot_be(argument: str, value: object, broker: Broker) -> None:
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        arguments = {argument: value}
        answer = peer.call(1, "queue.declare", queue="never", arguments=arguments)
        assert (answer.name, answer.code) == ("channel.close", 406), answer
        assert argument in answer.text
        peer.send(1, "channel.close-ok")
        peer.open_channel(1)
        assert peer.call(1, "queue.declare", queue="never", passive=True).code == 404


@pytest.mark.parametrize("tag", [0, 1, 2, 2**63, 2**64 - 1])
@pytest.mark.parametrize("name", ["basic.ack", "basic.nack", "basic.reject"])
def test_tags_of_others_and_of_nobody(name: str, tag: int, broker: Broker) -> None:
    """Tag 1 is outstanding on the neighbour's channel, and stays so."""
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.open_channel(2)
        queue = peer.call(1, "queue.declare", exclusive=True).queue
        peer.publish(1, "", queue, b"m")
        while peer.call(1, "basic.get", queue=queue).name != "basic.get-ok":
            pass
        answer = peer.call(2, name, delivery_tag=tag)
        assert (answer.name, answer.code) == ("channel.close", 406), answer
        assert answer.text == f"PRECONDITION_FAILED - unknown delivery tag {tag}"
        peer.send(1, "basic.nack", delivery_tag=1, requeue=True)
        assert peer.call(1, "basic.get", queue=queue).body == b"m"


@pytest.mark.parametrize("expiration", ["-1", "1.5", "", "x", str(2**64), "9" * 200])
def test_expiration_that_is_no_time(expiration: str, broker: Broker) -> None:
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.publish(1, "", "nobody", b"m", {"expiration": expiration})
        answer = peer.expect(1)
        assert (answer.name, answer.code) == ("channel.close", 406), answer


@pytest.mark.parametrize("seconds", [0, 1, 65535])
def test_heartbeats_of_any_length_are_accepted(seconds: int, broker: Broker) -> None:
    with connect(broker.host, broker.port, heartbeat=seconds) as peer:
        peer.open_channel(1)
        with pytest.raises(Silence):
            peer.read(0.05)
