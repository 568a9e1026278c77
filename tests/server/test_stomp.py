"""STOMP over TCP and TLS, with stomp.py: what it shares with AMQP, what the server does for it."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pika
import pytest
import stomp
import trustme
from processes import Serving

import wherry.testing
from clients import channel, eventually
from wherry.server import TLS
from wherry.server.config import Config, Stomp
from wherry.testing._users import PlainUsers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wherry.testing import TestBroker

WAIT_SECONDS_MAX = 10
VERSIONS = {
    "1.0": stomp.Connection10,
    "1.1": stomp.Connection11,
    "1.2": stomp.Connection12,
}


class Told(stomp.ConnectionListener):  # type: ignore[misc]
    """What a client was told, to be waited for."""

    def __init__(self) -> None:
        self.frames: queue.Queue[Any] = queue.Queue()

    def on_message(self, frame: Any) -> None:
        self.frames.put(frame)

    on_error = on_receipt = on_message

    def on_disconnected(self) -> None:
        self.frames.put(None)

    def next(self, command: str) -> Any:
        frame = self.frames.get(timeout=WAIT_SECONDS_MAX)
        assert frame is not None, "disconnected"
        assert frame.cmd == command, frame
        return frame

    def closed(self) -> None:
        assert self.frames.get(timeout=WAIT_SECONDS_MAX) is None

    def nothing(self) -> None:
        assert self.frames.empty(), self.frames.get()


@contextmanager
def client(
    where: tuple[str, int], version: str = "1.2", *, user: str = "guest", **options: Any
) -> Iterator[tuple[Any, Told]]:
    """A connected stomp.py client, and what it was told."""
    context = options.pop("ssl", None)
    connection = VERSIONS[version]([where], reconnect_attempts_max=1, **options)
    if context is not None:
        connection.set_ssl([where], **context)
    told = Told()
    connection.set_listener("told", told)
    try:
        connection.connect(user or None, user or None, wait=True)
        yield connection, told
    finally:
        if connection.is_connected():
            connection.disconnect()


def stomp_of(broker: TestBroker) -> tuple[str, int]:
    return broker.host, broker.stomp_port


class Raw:
    """STOMP 1.2 over a plain socket."""

    def __init__(self, where: tuple[str, int], **headers: str) -> None:
        self.socket = socket.create_connection(where, WAIT_SECONDS_MAX)
        self._received = b""
        lines = {"accept-version": "1.2", "login": "guest", "passcode": "guest", **headers}
        self.send("CONNECT", **{n.replace("_", "-"): v for n, v in lines.items()})

    def send(self, command: str, body: str = "", **headers: str) -> None:
        lines = [command, *(f"{name}:{value}" for name, value in headers.items()), "", body]
        self.socket.sendall("\n".join(lines).encode() + b"\0")

    def frame(self) -> str:
        """The next one; heart-beats are left out."""
        while b"\0" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(self._received)
            self._received += data
        frame, _, self._received = self._received.lstrip(b"\n").partition(b"\0")
        return frame.decode()

    def is_closed(self) -> bool:
        """Whether the server closes; waits for it."""
        while self.socket.recv(65536):
            pass
        return True

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_sends_and_gets(broker: TestBroker, version: str) -> None:
    with client(stomp_of(broker), version) as (connection, told):
        connection.subscribe("/queue/q", id="1")
        connection.send("/queue/q", "né:\nw", headers={"a": "b"}, receipt="r")
        seen = {frame.cmd: frame for frame in (told.frames.get(timeout=5) for _ in range(2))}
        assert seen["RECEIPT"].headers["receipt-id"] == "r"
        assert seen["MESSAGE"].body == "né:\nw"
        assert seen["MESSAGE"].headers["a"] == "b"
        listed = broker.server.connections()
        assert [one["protocol"] for one in listed] == [f"STOMP {version}"]
        assert listed[0]["user"] == "guest"
        assert listed[0]["listener"] == broker.stomp_url
    broker.wait_idle()


# With AMQP


def test_properties_pass_from_amqp_to_stomp(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as amqp, client(stomp_of(broker)) as (connection, told):
        amqp.queue_declare("q", durable=True)
        properties = pika.BasicProperties(
            content_type="text/plain",
            content_encoding="identity",
            headers={"text": "a:b\nc", "number": 7, "flag": True, "table": {"a": [1]}},
            delivery_mode=2,
            priority=5,
            correlation_id="c",
            reply_to="answers",
            expiration="60000",
            message_id="m",
            timestamp=1_700_000_000,
            type="t",
            user_id="guest",
            app_id="app",
        )
        amqp.basic_publish("", "q", "né".encode(), properties)
        connection.subscribe("/queue/q", id="1", ack="client-individual")
        frame = told.next("MESSAGE")
        assert frame.body == "né"
        headers = dict(frame.headers)
        connection.ack(headers.pop("ack"))
        assert json.loads(headers.pop("table")) == {"a": [1]}
        assert headers.pop("message-id")
        assert headers == {
            "subscription": "1",
            "destination": "/queue/q",
            "redelivered": "false",
            "content-type": "text/plain",
            "content-encoding": "identity",
            "text": "a:b\nc",
            "number": "7",
            "flag": "true",
            "persistent": "true",
            "priority": "5",
            "correlation-id": "c",
            "reply-to": "/reply-queue/answers",
            "expiration": "60000",
            "amqp-message-id": "m",
            "timestamp": "1700000000",
            "type": "t",
            "user-id": "guest",
            "app-id": "app",
            "content-length": "3",
        }
        broker.wait_idle()


def test_properties_pass_from_stomp_to_amqp(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as amqp, client(stomp_of(broker)) as (connection, told):
        headers = {
            "persistent": "true",
            "content-encoding": "identity",
            "priority": "5",
            "correlation-id": "c",
            "reply-to": "answers",
            "expiration": "60000",
            "amqp-message-id": "m",
            "timestamp": "1700000000",
            "type": "t",
            "user-id": "guest",
            "app-id": "app",
            "text": "a:b\nc",
        }
        connection.send("/queue/q", "né", content_type="text/plain", headers=headers, receipt="r")
        told.next("RECEIPT")
        method, properties, body = amqp.basic_get("q", auto_ack=True)
        assert (method.exchange, method.routing_key, body) == ("", "q", "né".encode())
        expected = pika.BasicProperties(
            content_type="text/plain",
            content_encoding="identity",
            headers={"text": "a:b\nc"},
            delivery_mode=2,
            priority=5,
            correlation_id="c",
            reply_to="answers",
            expiration="60000",
            message_id="m",
            timestamp=1_700_000_000,
            type="t",
            user_id="guest",
            app_id="app",
        )
        assert vars(properties) == vars(expected)


# Virtual hosts and users


def test_a_host_that_is_this_machine_is_the_default_virtual_host(broker: TestBroker) -> None:
    with broker.virtual_host("shop"):
        for host in ["127.0.0.1", "localhost", socket.gethostname(), "/", "shop"]:
            with Raw(stomp_of(broker), host=host) as raw:
                assert raw.frame().startswith("CONNECTED\n")
                entered = {one["virtual_host"] for one in broker.server.connections()}
                assert ("shop" if host == "shop" else "/") in entered
        with Raw(stomp_of(broker), host="nowhere.example") as raw:
            assert "Virtual host 'nowhere.example' access denied" in raw.frame()
            assert raw.is_closed()


def test_a_wrong_password_is_an_error(broker: TestBroker) -> None:
    with Raw(stomp_of(broker), passcode="wrong") as raw:
        assert raw.frame().startswith("ERROR\nmessage:Bad CONNECT\n")
        assert raw.is_closed()
    assert broker.server.counters()["logins_refused"] == 1


def test_permissions_hold(broker: TestBroker) -> None:
    broker.add_user("bob", "bob")
    broker.permit("bob", configure="^bob-", write="^bob-|^amq.default$", read="^bob-")
    with client(stomp_of(broker), user="bob") as (connection, told):
        connection.send("/queue/bob-1", "x", receipt="r")
        told.next("RECEIPT")
        connection.send("/queue/others", "x", receipt="r")
        error = told.next("ERROR")
        assert error.headers["message"] == "access_refused"
        assert "queue 'others' in vhost '/' refused for user 'bob'" in error.body
        told.closed()
    assert set(broker.queues()) == {"bob-1"}


def test_over_tls_a_certificate_is_a_login(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    bob = authority.issue_cert("bob@example.org", common_name="bob")
    bob.private_key_and_cert_chain_pem.write_to_path(tmp_path / "bob.pem")
    tls = TLS(tmp_path / "server.pem", ca=tmp_path / "ca.pem", verify="peer")
    with wherry.testing.broker(tls=tls) as broker:
        assert broker.stomp_url.startswith("stomp+ssl://127.0.0.1:")
        broker.add_user("bob", "unknown to all")
        broker.permit("bob")
        trusted = {"ca_certs": str(tmp_path / "ca.pem")}
        with client(stomp_of(broker), ssl=trusted) as (connection, told):
            connection.subscribe("/queue/q", id="1")
            connection.send("/queue/q", "x" * 300_000)
            assert len(told.next("MESSAGE").body) == 300_000
            assert broker.server.connections()[0]["tls"]
        known = {**trusted, "cert_file": str(tmp_path / "bob.pem")}
        known["key_file"] = known["cert_file"]
        with client(stomp_of(broker), ssl=known, user="") as (_, _told):
            assert broker.server.connections()[-1]["user"] == "bob"


# Time, room, and the end


def test_heart_beats_are_sent_and_expected(broker: TestBroker) -> None:
    with Raw(stomp_of(broker), heart_beat="2000,2000") as raw:
        assert "\nheart-beat:2000,2000\n" in raw.frame()
        assert broker.server.connections()[0]["heartbeat_seconds"] == 2
        raw.socket.settimeout(2)
        assert raw.socket.recv(1) == b"\n"  # the end of CONNECTED
        assert raw.socket.recv(1) == b"\n"
        # It says nothing.
        raw.socket.settimeout(WAIT_SECONDS_MAX)
        assert raw.is_closed()


def test_publishers_wait_while_memory_is_full() -> None:
    with wherry.testing.broker(memory_bytes_max=4 << 20) as broker, Raw(stomp_of(broker)) as raw:
        assert raw.frame().startswith("CONNECTED\n")
        body = "x" * 100_000

        def publish() -> None:
            for number in range(60):
                raw.send("SEND", body, destination="/queue/q", receipt=str(number))

        publisher = threading.Thread(target=publish)
        publisher.start()
        eventually(lambda: [c["state"] for c in broker.server.connections()] == ["blocked"])
        assert broker.queues()["q"].ready < 60
        with client(stomp_of(broker)) as (connection, told):
            connection.subscribe("/queue/q", id="1")
            for _ in range(60):
                assert len(told.next("MESSAGE").body) == 100_000
        publisher.join(WAIT_SECONDS_MAX)
        got = [raw.frame() for _ in range(60)]
        assert got == [f"RECEIPT\nreceipt-id:{n}\n\n" for n in range(60)]


def test_a_server_that_ends_says_so() -> None:
    with wherry.testing.broker() as broker, client(stomp_of(broker)) as (_, told):
        broker.server.close()
        error = told.next("ERROR")
        assert error.headers["message"] == "connection_forced"
        assert "'shutdown'" in error.body
        told.closed()


def test_an_operator_closes_a_connection(broker: TestBroker) -> None:
    with client(stomp_of(broker)) as (_, told):
        assert broker.server.close_connection(broker.server.connections()[0]["id"], "go home")
        assert told.next("ERROR").body == "CONNECTION_FORCED - go home"
        told.closed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_has_a_receipt_survives(tmp_path: Path, number: signal.Signals) -> None:
    serving = Serving("--directory", tmp_path / "data")
    try:
        with Raw(("127.0.0.1", serving.stomp_port())) as raw:
            assert raw.frame().startswith("CONNECTED\n")
            for n in range(500):
                raw.send("SEND", str(n), destination="/queue/q", persistent="true", receipt=str(n))
            got = {raw.frame() for _ in range(500)}
            assert got == {f"RECEIPT\nreceipt-id:{n}\n\n" for n in range(500)}
            os.kill(serving.process.pid, number)
            serving.process.wait(WAIT_SECONDS_MAX)
    finally:
        serving.close()
    serving = Serving("--directory", tmp_path / "data")
    try:
        with Raw(("127.0.0.1", serving.stomp_port())) as raw:
            assert raw.frame().startswith("CONNECTED\n")
            raw.send("SUBSCRIBE", id="1", destination="/queue/q")
            bodies = [raw.frame().partition("\n\n")[2] for _ in range(500)]
        assert bodies == [str(n) for n in range(500)]
    finally:
        serving.close()


# Where it listens


def test_a_server_speaks_what_it_is_asked_to() -> None:
    users = PlainUsers({"guest": "guest"})
    with wherry.serve(port=0, users=users) as server:
        assert [url.partition(":")[0] for url in server.urls] == ["amqp"]
        with pytest.raises(RuntimeError, match="no listener for STOMP: give stomp_port="):
            _ = server.stomp_url
        with pytest.raises(RuntimeError, match="no listener for WebSocket: give websocket_port="):
            _ = server.websocket_url
    configured = Config(stomp=Stomp(listeners=("127.0.0.1:0",), websocket_path="/there"))
    with wherry.serve(port=0, users=users, config=configured) as server:
        assert [url.partition(":")[0] for url in server.urls] == ["amqp"]
    options = {"port": 0, "stomp_port": 0, "websocket_port": 0}
    with wherry.serve(**options, users=users, config=configured) as server:
        assert [url.partition(":")[0] for url in server.urls] == ["amqp", "stomp", "ws"]
        assert server.websocket_url.endswith("/there")
        address = server.stomp_url.removeprefix("stomp://").rstrip("/").split(":")
        with client((address[0], int(address[1]))) as (connection, _):
            assert connection.is_connected()
