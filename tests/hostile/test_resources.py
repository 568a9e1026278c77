"""Peers that take without giving: silence, slowness, numbers of things, and what is another's."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hostile.conftest import CHANNEL_MAX, CONNECTIONS_PER_USER_MAX, HANDSHAKE_SECONDS
from wire import codec
from wire.peer import Peer, connect

if TYPE_CHECKING:
    from wire.brokers import Broker

SILENT_PEERS = 200
SLOW_BYTES = 64 * 1024
GROWTH_BYTES_MAX = 16 << 20
CONSUMERS_OF_A_CHANNEL = 400
PROCESSOR_SECONDS_MIN = 0.05
"""The system counts in hundredths."""


def resident_bytes(broker: Broker) -> int:
    pages = int(Path(f"/proc/{broker.pid}/statm").read_text().split()[1])
    return pages * 4096


def descriptors(broker: Broker) -> int:
    return len(os.listdir(f"/proc/{broker.pid}/fd"))


def give_back_descriptors(broker: Broker, before: int) -> None:
    """Wait until the server has let go of all connections that came since."""
    deadline = time.monotonic() + 10
    while (now := descriptors(broker)) > before:
        assert time.monotonic() < deadline, f"{now - before} descriptors are left open"
        time.sleep(0.01)


def test_silent_peers_are_dropped(broker: Broker) -> None:
    peers = [Peer(broker.host, broker.port) for _ in range(SILENT_PEERS)]
    started = time.monotonic()
    for peer in peers:
        assert peer.read(HANDSHAKE_SECONDS + 5).name == "eof"
        peer.close()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + 5


def test_peer_that_drips_its_handshake_is_dropped(broker: Broker) -> None:
    """The limit is for the whole handshake: a byte now and then does not renew it."""
    greeting = codec.PROTOCOL_HEADER + codec.method_frame(
        0, "connection.start-ok", mechanism="PLAIN", response="\0guest\0guest", locale="en_US"
    )
    with Peer(broker.host, broker.port) as peer:
        started = time.monotonic()
        for at in range(len(greeting) - 1):
            peer.raw(greeting[at : at + 1])
            time.sleep(0.1)  # the attack itself
            if time.monotonic() - started > HANDSHAKE_SECONDS + 3:
                break
        assert peer.read(5).name in ("connection.start", "eof")
        assert peer.ended or peer.read(5).name == "eof"
        assert at < len(greeting) - 2, "it got all the time it wanted"


HANDSHAKE = [
    codec.PROTOCOL_HEADER,
    codec.method_frame(
        0,
        "connection.start-ok",
        client_properties={},
        mechanism="PLAIN",
        response="\0guest\0guest",
        locale="en_US",
    ),
    codec.method_frame(0, "connection.tune-ok", channel_max=9, frame_max=4096, heartbeat=0),
]


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("rest", ["nothing", "half of the next"])
def test_peer_that_stops_in_its_handshake_is_dropped(steps: int, rest: str, broker: Broker) -> None:
    step = [*HANDSHAKE, codec.method_frame(0, "connection.open", virtual_host="/")]
    with Peer(broker.host, broker.port) as peer:
        for sent in step[:steps]:
            peer.raw(sent)
        if rest != "nothing":
            peer.raw(step[steps][: len(step[steps]) // 2])
        peer.timeout = HANDSHAKE_SECONDS + 5
        while (event := peer.read()).name != "eof":
            assert event.name.startswith("connection."), event


def test_connections_of_a_user_are_limited(broker: Broker) -> None:
    peers = [Peer(broker.host, broker.port) for _ in range(CONNECTIONS_PER_USER_MAX + 5)]
    answers = [peer.handshake() for peer in peers]
    refused = [answer for answer in answers if answer.name != "connection.open-ok"]
    # The bystander holds one.
    assert len(refused) == 6
    assert all(answer.name == "connection.close" and answer.code == 530 for answer in refused)
    for peer in peers:
        peer.close()


def test_channels_of_a_connection_are_limited(broker: Broker) -> None:
    with connect(broker.host, broker.port) as peer:
        for channel in range(1, CHANNEL_MAX + 1):
            peer.open_channel(channel)
        answer = peer.call(CHANNEL_MAX + 1, "channel.open")
        assert (answer.name, answer.code) == ("connection.close", 530)


def processor_seconds(broker: Broker) -> float:
    """What the server has worked, whoever else was on the machine."""
    fields = Path(f"/proc/{broker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def come_and_go(broker: Broker, of_a_channel: int) -> float:
    """So many consumers of one queue on each channel of a connection, and their end: what it took
    the server.
    """
    before = processor_seconds(broker)
    with connect(broker.host, broker.port) as peer:
        for channel in range(1, CHANNEL_MAX + 1):
            peer.open_channel(channel)
        queue = peer.call(1, "queue.declare", auto_delete=True).queue
        one = [
            codec.method_frame(channel, "basic.consume", queue=queue, no_wait=True)
            for channel in range(1, CHANNEL_MAX + 1)
        ]
        peer.raw(b"".join(one * of_a_channel))
        for channel in range(1, CHANNEL_MAX + 1):
            assert peer.call(channel, "basic.qos").name == "basic.qos-ok"
        answer = peer.call(1, "queue.declare", queue=queue, passive=True)
        assert answer.consumer_count == CHANNEL_MAX * of_a_channel
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        # It goes with the last of them.
        while peer.call(1, "queue.declare", queue=queue, passive=True).name != "channel.close":
            time.sleep(0.01)
    return processor_seconds(broker) - before


def test_consumers_of_one_queue_by_the_ten_thousand(broker: Broker) -> None:
    """To come and to go costs each the same, however many there are."""
    few = come_and_go(broker, CONSUMERS_OF_A_CHANNEL // 8)
    many = come_and_go(broker, CONSUMERS_OF_A_CHANNEL)
    # Where each walks along all others it is 64 times as much.
    assert many < 24 * max(few, PROCESSOR_SECONDS_MIN), (few, many)


def test_consumer_that_never_reads_costs_little(broker: Broker) -> None:
    """Unlimited prefetch and a socket that nobody empties: what is waiting stays in the queue."""
    with connect(broker.host, broker.port) as publisher, connect(broker.host, broker.port) as deaf:
        publisher.open_channel(1)
        deaf.open_channel(1)
        queue = publisher.call(1, "queue.declare", auto_delete=True).queue
        body = bytes(SLOW_BYTES)
        count = 1200
        publisher.call(1, "confirm.select")
        for _ in range(count):
            publisher.publish(1, "", queue, body)
        confirmed = 0
        while confirmed < count:
            event = publisher.until("basic.ack")
            confirmed = event.delivery_tag if event.multiple else confirmed + 1
        before = resident_bytes(broker)
        deaf.send(1, "basic.consume", queue=queue, consumer_tag="deaf")
        deadline = time.monotonic() + 10
        found = {"queue": queue, "passive": True}
        while publisher.call(1, "queue.declare", **found).message_count == count:
            assert time.monotonic() < deadline
        # No second copy of them in buffers, beside what the socket holds.
        assert resident_bytes(broker) - before < GROWTH_BYTES_MAX
        assert publisher.call(1, "queue.declare", **found).message_count > count / 2


def test_reset_with_unacknowledged_gives_back(broker: Broker) -> None:
    with connect(broker.host, broker.port) as owner:
        owner.open_channel(1)
        owner.call(1, "confirm.select")
        queue = owner.call(1, "queue.declare", auto_delete=False).queue
        owner.publish(1, "", queue, b"m")
        owner.until("basic.ack")
        thief = connect(broker.host, broker.port)
        thief.open_channel(1)
        assert thief.call(1, "basic.get", queue=queue).body == b"m"
        thief.reset()
        deadline = time.monotonic() + 10
        while (answer := owner.call(1, "basic.get", queue=queue)).name == "basic.get-empty":
            assert time.monotonic() < deadline
        assert answer.redelivered
        owner.call(1, "queue.delete", queue=queue)


@pytest.mark.parametrize("count", [300])
def test_storm_of_connections_that_leave_at_once(count: int, broker: Broker) -> None:
    before = descriptors(broker)
    for number in range(count):
        peer = Peer(broker.host, broker.port)
        if number % 3 == 0:
            peer.raw(codec.PROTOCOL_HEADER)
        if number % 2:
            peer.reset()
        else:
            peer.close()
    give_back_descriptors(broker, before)


def test_wrong_passwords_do_not_hold_up_others(broker: Broker) -> None:
    for user, password in (("guest", "wrong"), ("nobody", "guest"), ("guest", ""), ("", "")):
        with Peer(broker.host, broker.port) as peer:
            answer = peer.handshake(user=user, password=password)
            assert (answer.name, answer.code) == ("connection.close", 403)
            assert password == "" or password not in answer.text


def test_topic_pattern_of_many_hashes(broker: Broker) -> None:
    """`#.#.#...` against a long key took exponential time elsewhere."""
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        queue = peer.call(1, "queue.declare", exclusive=True).queue
        pattern = ".".join(["#"] * 100)
        peer.call(1, "queue.bind", queue=queue, exchange="amq.topic", routing_key=pattern)
        peer.call(
            1, "queue.bind", queue=queue, exchange="amq.topic", routing_key=pattern[:-2] + ".x.y"
        )
        before = processor_seconds(broker)
        peer.publish(1, "amq.topic", ".".join(["a"] * 120), b"m")
        peer.until("basic.ack")
        assert processor_seconds(broker) - before < 1  # milliseconds


def test_forged_reply_address_reaches_nobody(broker: Broker) -> None:
    with connect(broker.host, broker.port) as victim, connect(broker.host, broker.port) as forger:
        victim.open_channel(1)
        forger.open_channel(1)
        victim.call(
            1, "basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="c", no_ack=True
        )
        forger.call(1, "confirm.select")
        for guess in ("", ".", ".1", ".AAAAAAAAAAAAAAAA", ".g2dkAAh3aGF0ZXZlcg==.forged=="):
            forger.publish(1, "", "amq.rabbitmq.reply-to" + guess, b"forged")
            event = forger.read()
            assert event.name in ("basic.ack", "channel.close"), event
            if event.name == "channel.close":
                forger.send(1, "channel.close-ok")
                forger.open_channel(1)
                forger.call(1, "confirm.select")
        # Nothing came in between.
        assert victim.call(1, "basic.qos", prefetch_count=1).name == "basic.qos-ok"


def test_reply_queue_of_another_cannot_be_used_as_a_queue(broker: Broker) -> None:
    """Bound, filled through an exchange, consumed, counted: it is no queue for anybody."""
    with connect(broker.host, broker.port) as victim, connect(broker.host, broker.port) as forger:
        victim.open_channel(1)
        victim.open_channel(2)
        consume = {"queue": "amq.rabbitmq.reply-to", "consumer_tag": "c", "no_ack": True}
        victim.call(1, "basic.consume", **consume)
        work = victim.call(2, "queue.declare", auto_delete=False).queue
        victim.publish(1, "", work, b"question", {"reply_to": "amq.rabbitmq.reply-to"})
        while (question := victim.call(2, "basic.get", queue=work)).name != "basic.get-ok":
            pass
        name = question.properties["reply_to"]
        for method, fields in (
            ("queue.bind", {"exchange": "amq.fanout"}),
            ("basic.get", {}),
            ("basic.consume", {"no_ack": True}),
            ("queue.purge", {}),
        ):
            forger.open_channel(1)
            for queue in ("amq.rabbitmq.reply-to.forged", name):
                answer = forger.call(1, method, queue=queue, **fields)
                assert (answer.name, answer.code) in (
                    ("channel.close", 404),
                    ("channel.close", 403),
                    ("channel.close", 405),
                ), (method, queue, answer)
                forger.send(1, "channel.close-ok")
                forger.open_channel(1)
            assert forger.call(1, "channel.close").name == "channel.close-ok"
        forger.open_channel(1)
        forger.publish(1, "amq.fanout", "", b"forged")
        assert forger.call(1, "basic.qos").name == "basic.qos-ok"
        # Nothing came of it, and who was asked can answer.
        victim.publish(2, "", name, b"answer")
        assert victim.expect(1).body == b"answer"
        victim.call(2, "queue.delete", queue=work)


def test_user_id_of_another_is_refused(broker: Broker) -> None:
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        peer.publish(1, "", "nobody", b"m", {"user_id": "root"})
        assert peer.read().code == 406
