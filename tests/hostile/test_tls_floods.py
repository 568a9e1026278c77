"""Peers that spend the server's time on TLS: handshakes, renegotiations, key updates."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

import pytest
import trustme

from hostile.conftest import HANDSHAKE_SECONDS
from hostile.openssl import Client, client_of_tls_1_2
from hostile.test_resources import resident_bytes
from wire import brokers, codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPDATES = 50_000
"""Key updates that nobody needs: one is due after hundreds of gigabytes."""

HANDSHAKES = 100

method = codec.method_frame

LOGIN = (
    method(
        0,
        "connection.start-ok",
        client_properties={},
        mechanism="PLAIN",
        response="\0guest\0guest",
        locale="en_US",
    )
    + method(0, "connection.tune-ok", channel_max=1, frame_max=4096, heartbeat=0)
    + method(0, "connection.open", virtual_host="/")
    + method(1, "channel.open")
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.Broker]:
    """One that speaks TLS on a port beside its own, so that the bystander needs none."""
    if brokers.CHOICE != "wherry":
        pytest.skip("the attacks need a server with limits of their own")
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    port = brokers.free_port()
    options: dict[str, object] = {
        "amqp.tls_listeners": [f"127.0.0.1:{port}"],
        "tls.certificate": str(path),
        "tls.key": str(path),
        "limits.handshake_seconds": HANDSHAKE_SECONDS,
    }
    with brokers.start("wherry", options=options) as started:
        started.tls_port = port
        yield started


@pytest.mark.parametrize("stage", ["before login", "after login"])
def test_key_updates_end_the_connection(stage: str, broker: brokers.Broker) -> None:
    with Client(broker.host, broker.tls_port) as client:
        assert client.write(codec.PROTOCOL_HEADER)
        assert client.read()
        if stage == "after login":
            assert client.write(LOGIN)
            answers = b""
            while codec.method_payload("channel.open-ok", {}) not in answers:
                answers += client.read()
        done = 0
        while done < UPDATES and client.update_key():
            done += 1
        assert 100 < done < UPDATES


def test_who_does_not_read_answers_to_key_updates_is_not_read_from(broker: brokers.Broker) -> None:
    """With as much data in between as there must be."""
    before = resident_bytes(broker)
    with Client(broker.host, broker.tls_port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
        assert client.write(codec.PROTOCOL_HEADER + LOGIN)
        heartbeat = codec.frame(8, 0, b"") * 10
        done = 0
        while done < UPDATES * 10 and client.update_key() and client.write(heartbeat):
            done += 1
        assert done < UPDATES * 10
        assert resident_bytes(broker) - before < 8 << 20


def test_a_few_key_updates_are_fine(broker: brokers.Broker) -> None:
    with Client(broker.host, broker.tls_port) as client:
        for _ in range(100):
            assert client.update_key()
        assert client.write(codec.PROTOCOL_HEADER)
        assert client.read().startswith(b"\x01\x00\x00")


def test_renegotiation_is_refused(broker: brokers.Broker) -> None:
    with client_of_tls_1_2(broker.host, broker.tls_port) as client:
        assert client.write(codec.PROTOCOL_HEADER)
        assert client.read()
        assert not client.renegotiate()


def test_handshakes_that_stop_half_way_are_dropped(broker: brokers.Broker) -> None:
    """A hello, and then nothing; or a byte now and then."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    peers = [socket.create_connection((broker.host, broker.tls_port)) for _ in range(HANDSHAKES)]
    started = time.monotonic()
    for number, peer in enumerate(peers):
        peer.sendall(hello if number % 2 else hello[: number + 1])
    for peer in peers:
        peer.settimeout(HANDSHAKE_SECONDS + 5)
        while peer.recv(1 << 16):
            pass
        peer.close()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + 5


def test_handshakes_one_after_the_other(broker: brokers.Broker) -> None:
    """Each costs a signature. Whoever makes them is reset or closed, and leaves nothing."""
    for number in range(HANDSHAKES):
        with Client(broker.host, broker.tls_port) as client:
            if number % 2:
                linger = struct.pack("ii", 1, 0)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize("data", [b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x80" * 4096])
def test_records_that_are_none(data: bytes, broker: brokers.Broker) -> None:
    with socket.create_connection((broker.host, broker.tls_port), 10) as peer:
        peer.sendall(data)
        try:
            while peer.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
