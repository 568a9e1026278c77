"""What clients may log in with, as the configuration says, and new secrets of open connections."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pika
import pytest
import trustme
from pika.credentials import ExternalCredentials
from processes import Serving

from clients import HEADER, Raw, long, method, short

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wherry.testing import TestBroker


def update_secret(raw: Raw, secret: bytes) -> None:
    raw.send(method(0, 10, 70, long(secret) + short("it expires")))


@pytest.mark.parametrize("secret", [b"guest", b"new_secret", b"", b"\xff\xfe"])
def test_any_new_secret_is_taken(broker: TestBroker, secret: bytes) -> None:
    with Raw(broker.host, broker.port) as raw:
        raw.handshake()
        update_secret(raw, secret)
        assert raw.method() == (10, 71)
        raw.send(method(1, 20, 10, short("")))
        assert raw.method() == (20, 11)


def test_no_new_secret_for_who_may_not_be_here(broker: TestBroker) -> None:
    broker.add_user("ann", "pw")
    broker.permit("ann", "/")
    with Raw(broker.host, broker.port) as raw:
        raw.handshake(user="ann", password="pw")
        # Only the server's users: what the sessions know stays, or they would close for it.
        broker._users.forget_vhost("/")
        update_secret(raw, b"pw")
        kind, _, payload = raw.frame()
        assert kind == 1
        assert struct.unpack(">HHH", payload[:6]) == (10, 50, 530)
        assert b"New secret was refused" in payload


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Path:
    """A directory with the files of a TLS listener."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    (tmp_path / "server.key").chmod(0o600)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


CONFIGURATION = """
[amqp]
tls_listeners = ["127.0.0.1:0"]
[tls]
certificate = "{directory}/server.pem"
key = "{directory}/server.key"
ca = "{directory}/ca.pem"
verify = "peer"
login_from = "dns"
[auth]
mechanisms = ["AMQPLAIN", "EXTERNAL"]
[[users]]
name = "ann.example.org"
password = "not asked for"
permissions = [{{ vhost = "/", configure = ".*", write = ".*", read = ".*" }}]
"""


@pytest.fixture
def serving(files: Path) -> Iterator[Serving]:
    (files / "wherry.toml").write_text(CONFIGURATION.format(directory=files))
    (files / "wherry.toml").chmod(0o600)
    serving = Serving("--config", files / "wherry.toml")
    yield serving
    serving.close()


def client(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    """What a client uses, with a certificate if it has names."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if names:
        authority.issue_cert(*names, **options).configure_cert(context)
    return context


def offered(stream: socket.socket) -> str:
    """The mechanisms in connection.start."""
    stream.sendall(HEADER)
    start = b""
    while not start.endswith(b"\xce"):
        received = stream.recv(65536)
        if not received:
            raise ConnectionError("closed")
        start += received
    locales = b"\x00\x00\x00\x05en_US\xce"
    assert start.endswith(locales)
    names = start.removesuffix(locales)
    return names[-25:].rpartition(b"\x00")[2][1:].decode()


def test_configured_mechanisms_are_offered_and_no_others(
    serving: Serving, authority: trustme.CA
) -> None:
    with socket.create_connection(("127.0.0.1", serving.port), 10) as plain:
        assert offered(plain) == "AMQPLAIN"
    tls = ("127.0.0.1", serving.tls_port())
    assert greeted(tls, client(authority, "ann.example.org")) == "EXTERNAL AMQPLAIN"
    assert greeted(tls, client(authority)) == "AMQPLAIN"
    with Raw("127.0.0.1", serving.port) as raw:
        raw.start()
        raw.start_ok("guest", "guest")
        _, _, payload = raw.frame()
        assert struct.unpack(">HHH", payload[:6]) == (10, 50, 503)
        assert b"unknown authentication mechanism 'PLAIN'" in payload


def test_a_certificate_logs_in_by_the_configured_name(
    serving: Serving, authority: trustme.CA
) -> None:
    def connect(context: ssl.SSLContext) -> pika.BlockingConnection:
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1",
                serving.tls_port(),
                credentials=ExternalCredentials(),
                ssl_options=pika.SSLOptions(context, "localhost"),
            )
        )

    with connect(client(authority, "ann.example.org", common_name="somebody")) as connection:
        connection.channel().queue_declare("hers", durable=True)
    serving.wait_for_log("user=ann.example.org")
    # The name is in the wrong place.
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(client(authority, "eve.example.org", common_name="ann.example.org"))


@pytest.mark.parametrize(
    "options",
    [["--set", "tls.login_from=nickname"], ["--set", "auth.mechanisms=CRAM"]],
)
def test_flags_that_cannot_be_are_named(options: list[str]) -> None:
    from click.testing import CliRunner

    from wherry._cli.commands import main

    done = CliRunner().invoke(main, ["serve", "--check", *options])
    assert done.exit_code == 2
    assert options[1].partition("=")[0] in done.output


def greeted(address: tuple[str, int], context: ssl.SSLContext) -> str:
    """What a client is offered over TLS."""
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return offered(secure)


def test_flags_reach_the_server(files: Path, authority: trustme.CA) -> None:
    serving = Serving(
        *("--set", "amqp.tls_listeners=127.0.0.1:0"),
        *("--set", f"tls.certificate={files}/server.pem", "--set", f"tls.key={files}/server.key"),
        *("--set", f"tls.ca={files}/ca.pem"),
        *("--set", "tls.verify=require", "--set", "tls.login_from=email"),
        *("--set", "auth.mechanisms=EXTERNAL"),
    )
    try:
        address = ("127.0.0.1", serving.tls_port())
        context = client(authority, "guest@example.org")
        with (
            socket.create_connection(address, 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert offered(secure) == "EXTERNAL"
            properties = b"\x00\x00\x00\x00"
            secure.sendall(
                method(0, 10, 11, properties + short("EXTERNAL") + long(b"") + short("en_US"))
            )
            assert secure.recv(1) == b""
        serving.wait_for_log("login of 'guest@example.org' with EXTERNAL refused")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            greeted(address, client(authority))
    finally:
        serving.close()
