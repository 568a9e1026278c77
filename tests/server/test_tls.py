"""TLS: certificates of the server and of clients, and who they log in."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pika
import pytest
import trustme
from pika.credentials import ExternalCredentials

import wherry.testing
from clients import HEADER, Raw, connect
from wherry.server import TLS
from wherry.server._tls import name_of

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.testing import TestBroker


@dataclass
class Authority:
    """A certificate authority and the files of a server that it vouches for."""

    ca: trustme.CA
    directory: Path

    def server(self, **options: Any) -> TLS:
        """A new certificate for 127.0.0.1."""
        issued = self.ca.issue_cert("127.0.0.1", "localhost")
        path = self.directory / "server.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        ca = self.directory / "ca.pem"
        self.ca.cert_pem.write_to_path(ca)
        return TLS(path, ca=ca, **options)

    def client(self, name: str | None = None) -> ssl.SSLContext:
        """What a client uses, with a certificate of its own if it has a name."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if name is not None:
            self.ca.issue_cert(f"{name}@example.org", common_name=name).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(trustme.CA(), tmp_path)


def options(context: ssl.SSLContext) -> dict[str, Any]:
    return {"ssl_options": pika.SSLOptions(context, "localhost")}


def greeted(broker: TestBroker, context: ssl.SSLContext) -> bool:
    """Whether the server goes on after the TLS handshake."""
    with (
        socket.create_connection((broker.host, broker.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(HEADER)
        return secure.recv(1) == b"\x01"


def test_messages_over_tls(authority: Authority) -> None:
    with wherry.testing.broker(tls=authority.server()) as broker:
        assert broker.amqp_url.startswith("amqps://")
        connection = connect(broker.amqp_url, **options(authority.client()))
        client = connection.channel()
        client.queue_declare("q")
        client.confirm_delivery()
        body = b"0123456789" * 200_000
        client.basic_publish("", "q", body)
        assert client.basic_get("q", auto_ack=True)[2] == body
        assert broker.server.connections()[0]["tls"]
        connection.close()


def test_tls_before_1_2_is_refused(authority: Authority) -> None:
    with wherry.testing.broker(tls=authority.server(minimum="1.3")) as broker:
        context = authority.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            greeted(broker, context)
        assert greeted(broker, authority.client())


def test_plain_bytes_to_a_tls_listener_are_refused(authority: Authority) -> None:
    with (
        wherry.testing.broker(tls=authority.server()) as broker,
        Raw(broker.host, broker.port) as raw,
    ):
        raw.send(b"AMQP\x00\x00\x09\x01" * 4)
        assert raw.is_closed()


def test_a_tls_handshake_that_stalls_is_closed(authority: Authority) -> None:
    limits = {"handshake_seconds": 1}
    with (
        wherry.testing.broker(tls=authority.server(), limits=limits) as broker,
        Raw(broker.host, broker.port) as raw,
    ):
        assert raw.is_closed()


def test_a_certificate_logs_in(authority: Authority) -> None:
    with wherry.testing.broker(tls=authority.server(verify="require")) as broker:
        broker.add_user("ann", "unused")
        broker.permit("ann")
        connection = connect(
            broker.amqp_url,
            credentials=ExternalCredentials(),
            **options(authority.client("ann")),
        )
        assert broker.server.connections()[0]["user"] == "ann"
        connection.close()
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            connect(
                broker.amqp_url,
                credentials=ExternalCredentials(),
                **options(authority.client("stranger")),
            )


def test_a_certificate_that_is_required_or_not_ours(authority: Authority) -> None:
    with wherry.testing.broker(tls=authority.server(verify="require")) as broker:
        stranger = authority.client()
        trustme.CA().issue_cert("ann@example.org").configure_cert(stranger)
        for context in (authority.client(), stranger):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                assert greeted(broker, context)
    with wherry.testing.broker(tls=authority.server(verify="peer")) as broker:
        assert greeted(broker, authority.client())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            greeted(broker, stranger)


def test_new_certificates_are_for_new_connections(authority: Authority) -> None:
    with wherry.testing.broker(tls=authority.server()) as broker:
        old = connect(broker.amqp_url, **options(authority.client()))
        renewed = Authority(trustme.CA(), authority.directory)
        renewed.server()
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            greeted(broker, renewed.client())
        broker.server.reload_certificates()
        assert greeted(broker, renewed.client())
        old.channel().queue_declare("still.there")
        old.close()
        (authority.directory / "server.pem").write_text("broken")
        with pytest.raises(ssl.SSLError, match="cannot use the certificate"):
            broker.server.reload_certificates()
        assert greeted(broker, renewed.client())


def test_verifying_clients_needs_something_to_verify_by(authority: Authority) -> None:
    tls = authority.server()
    with (
        pytest.raises(ValueError, match=r"needs tls\.ca"),
        wherry.testing.broker(tls=TLS(tls.certificate, verify="require")),
    ):
        pass


def test_a_file_to_verify_by_is_named_if_it_is_none(authority: Authority, tmp_path: Path) -> None:
    tls = authority.server()
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with (
        pytest.raises(ssl.SSLError, match=str(wrong)),
        wherry.testing.broker(tls=TLS(tls.certificate, tls.key, ca=wrong, verify="require")),
    ):
        pass


@pytest.mark.parametrize(
    "words", [{"minimum": "1.1"}, {"verify": "required"}, {"login_from": "common name"}]
)
def test_words_that_mean_nothing_are_refused(authority: Authority, words: dict[str, Any]) -> None:
    [name] = words
    with (
        pytest.raises(ValueError, match=rf"tls\.{name} = .*: give one of"),
        wherry.testing.broker(tls=authority.server()._replace(**words)),
    ):
        pass


def test_the_name_in_a_certificate() -> None:
    certificate = {
        "subject": (
            (("countryName", "NL"),),
            (("organizationName", "Acme, Inc"),),
            (("commonName", "ann"),),
        ),
        "subjectAltName": (("email", "ann@example.org"), ("DNS", "ann.example.org")),
    }
    assert name_of(certificate, "common_name") == "ann"
    assert name_of(certificate, "distinguished_name") == "CN=ann,O=Acme\\, Inc,C=NL"
    assert name_of(certificate, "dns") == "ann.example.org"
    assert name_of(certificate, "email") == "ann@example.org"
    two = {"subject": ((("commonName", "ann"),), (("commonName", "root"),))}
    assert name_of(two, "common_name") is None
    assert name_of({}, "dns") is None
