"""A disk that is really full (a small file system of its own), or that gives the journal no more
files, under a server in a process.
"""

from __future__ import annotations

import resource
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from processes import Serving
from test_cli_serve import wherry

import directories
from wire import brokers, stomp
from wire.peer import Peer, Silence, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wire.stomp import StompPeer

DISK_MIB = 64
BODY = bytes(50_000)
MESSAGES_MAX = 3000
"""More than twice of what the disk takes."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Needs root, for the mount."""
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    try:
        for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, mount]):
            subprocess.run(command, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as reason:
        pytest.skip(f"no file system to fill: {reason}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True, timeout=30)


def publish_until_blocked(peer: Peer) -> tuple[int, str]:
    """How many were confirmed, and why no more are."""
    confirmed = 0
    for number in range(1, MESSAGES_MAX + 1):
        peer.publish(1, "", "q", BODY, {"delivery_mode": 2})
        while confirmed < number:
            event = peer.read()
            if event.name == "connection.blocked":
                return confirmed, event.reason
            assert event.name == "basic.ack", event
            confirmed = event.delivery_tag
    raise AssertionError(f"{MESSAGES_MAX} messages on a disk of {DISK_MIB} MiB")


@pytest.mark.parametrize("least", [2_000_000, 0], ids=["before it is full", "when it is full"])
@pytest.mark.timeout(120)
def test_publishers_wait_and_go_on_by_themselves(least: int, disk: Path) -> None:
    options = {"directory": str(disk / "data"), "disk.free_bytes_min": least}
    with (
        brokers.start("wherry", options=options) as broker,
        connect(broker.host, broker.port) as publisher,
        connect(broker.host, broker.port) as consumer,
    ):
        publisher.open_channel(1)
        publisher.call(1, "confirm.select")
        assert publisher.call(1, "queue.declare", queue="q", durable=True).queue == "q"
        confirmed, reason = publish_until_blocked(publisher)
        assert reason == "low on disk"
        assert confirmed > 100
        with pytest.raises(Silence):
            publisher.read(0.5)
        # What is there can be had, and to take it makes room.
        consumer.open_channel(1)
        consumer.call(1, "basic.consume", queue="q", consumer_tag="c")
        for number in range(1, confirmed + 1):
            assert consumer.until("basic.deliver").delivery_tag == number
            consumer.send(1, "basic.ack", delivery_tag=number)
        events = {publisher.read(20).name, publisher.read(20).name}
        assert events == {"connection.unblocked", "basic.ack"}
        assert consumer.until("basic.deliver").body == BODY


def test_the_reason_is_told_when_it_is_not_the_disk(tmp_path: Path) -> None:
    with (
        closing(Serving("--directory", tmp_path / "data")) as server,
        connect("127.0.0.1", server.port) as peer,
    ):
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        peer.call(1, "queue.declare", queue="q", durable=True)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        confirmed, reason = publish_until_blocked(peer)
        assert confirmed > 0
        assert reason == "making a journal segment: Too many open files (os error 24)"
        server.wait_for_log(
            f"{reason}: publishers wait until the journal can grow: raise the limit of open files"
        )
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        events = {peer.read(20).name, peer.read(20).name}
        assert events == {"connection.unblocked", "basic.ack"}


def test_nothing_is_confirmed_into_a_directory_that_is_gone(tmp_path: Path) -> None:
    with (
        closing(Serving("--directory", tmp_path / "data")) as server,
        connect("127.0.0.1", server.port) as peer,
    ):
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        peer.call(1, "queue.declare", queue="q", durable=True)
        directories.delete(tmp_path / "data")
        peer.publish(1, "", "q", BODY, {"delivery_mode": 2})
        assert peer.read(20).name == "basic.nack"
        # Whichever call met it first: the next segment may be in the making.
        server.wait_for_log(": the file was deleted while it was in use")
        # Nor anything declared; and a command says why.
        told = wherry(
            "publish", "--url", server.url(), "--queue", "r", "--declare", "-m", "x", status=1
        )
        assert "541 INTERNAL_ERROR" in told.stderr
        assert "Traceback" not in told.stderr


# STOMP has no word for it: receipts do not come, and nothing is read.

IN_FLIGHT = 8
"""Frames that are sent before the receipt of the first is waited for."""

SILENT_SECONDS = 2
"""How long no receipt must come before the disk is taken for full; one takes milliseconds."""


def send(peer: StompPeer, number: int) -> None:
    headers = {"destination": "/queue/q", "persistent": "true", "receipt": number}
    peer.send("SEND", {**headers, "n": number}, BODY)


def send_until_silent(peer: StompPeer) -> tuple[set[int], int]:
    """The numbers of those that have receipts, and how many were sent."""
    receipts: set[int] = set()
    for sent in range(1, MESSAGES_MAX + 1):
        send(peer, sent)
        while sent - len(receipts) >= IN_FLIGHT:
            try:
                frame = peer.read(SILENT_SECONDS)
            except Silence:
                return receipts, sent
            assert frame.command == "RECEIPT", frame
            receipts.add(int(frame.headers["receipt-id"]))
    raise AssertionError(f"{MESSAGES_MAX} messages on a disk of {DISK_MIB} MiB")


def take(peer: StompPeer) -> int:
    """The next message, and its acknowledgement."""
    message = peer.until("MESSAGE")
    assert message.body == BODY
    peer.send("ACK", {"id": message.headers["ack"]})
    return int(message.headers["n"])


SUBSCRIBE = {"id": "1", "destination": "/queue/q", "ack": "client-individual"}
LEAST = pytest.mark.parametrize(
    "least", [2_000_000, 0], ids=["before it is full", "when it is full"]
)


@LEAST
@pytest.mark.timeout(120)
def test_over_stomp_receipts_wait_and_come_by_themselves(least: int, disk: Path) -> None:
    options = {"directory": str(disk / "data"), "disk.free_bytes_min": least}
    with (
        brokers.start("wherry", options=options, stomp=brokers.Stomp()) as broker,
        stomp.connect(broker.host, broker.stomp_port) as publisher,
        stomp.connect(broker.host, broker.stomp_port) as consumer,
    ):
        receipts, sent = send_until_silent(publisher)
        assert len(receipts) > 100
        # What is there can be had, and to take it makes room: then the rest is stored, too.
        consumer.send("SUBSCRIBE", SUBSCRIBE)
        assert [take(consumer) for _ in range(sent)] == list(range(1, sent + 1))
        while len(receipts) < sent:
            frame = publisher.read(20)
            assert frame.command == "RECEIPT", frame
            receipts.add(int(frame.headers["receipt-id"]))
        assert receipts == set(range(1, sent + 1))
        assert publisher.call("DISCONNECT").command == "RECEIPT"


@LEAST
@pytest.mark.timeout(120)
def test_what_has_a_receipt_is_on_a_full_disk(least: int, disk: Path) -> None:
    options = {"directory": str(disk / "data"), "disk.free_bytes_min": least}
    with brokers.start("wherry", options=options, stomp=brokers.Stomp()) as broker:
        with stomp.connect(broker.host, broker.stomp_port) as publisher:
            receipts, sent = send_until_silent(publisher)
            broker.kill_and_restart()
        with stomp.connect(broker.host, broker.stomp_port) as consumer:
            consumer.send("SUBSCRIBE", SUBSCRIBE)
            got = [take(consumer) for _ in range(len(receipts))]
            # Of the last few nobody was told; those that are there come behind the others.
            assert got == sorted(receipts)
            assert got[-1] <= sent
            # There is room again.
            send(consumer, sent + 1)
            while take(consumer) != sent + 1:
                pass
