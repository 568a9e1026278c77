"""STOMP over WebSocket, over sockets: handshakes, origins, limits, the end. Frames by themselves:
`test_websocket_frames`.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import websocket
from processes import Serving
from test_websocket_frames import EMPTY, Peer, masked
from wsproto.frame_protocol import CloseReason

import wherry.testing
from clients import channel
from wherry.server import TLS
from wherry.server._origins import Origins, parse_origin
from wherry.server._tls import TransportFailed
from wherry.server._websocket import (
    HEAD_BYTES_MAX,
    SUBPROTOCOLS,
    WebSocket,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wherry.testing import TestBroker

WAIT_SECONDS_MAX = 10
CONNECT = "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0"
OPCODE_TEXT, OPCODE_BINARY, OPCODE_CLOSE = 1, 2, 8


@pytest.fixture(autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    while DIALLED:
        DIALLED.pop().shutdown()


# The clients of a test. Their library leaves sockets to the garbage collector when it is refused.
DIALLED: list[websocket.WebSocket] = []


def dial(target: TestBroker | str, **options: Any) -> websocket.WebSocket:
    """A client that has shaken hands."""
    url = target if isinstance(target, str) else target.websocket_url
    web = websocket.WebSocket(sslopt=options.pop("sslopt", None))
    DIALLED.append(web)
    web.settimeout(WAIT_SECONDS_MAX)
    web.connect(url, **{"suppress_origin": True, **options})
    return web


def frames(data: str) -> list[str]:
    """The STOMP frames of a message."""
    return [frame.lstrip("\n") for frame in data.split("\0") if frame.strip("\n")]


def enter(web: websocket.WebSocket) -> None:
    web.send(CONNECT)
    assert web.recv().startswith("CONNECTED\n")


# With a real client


def test_messages_pass_to_and_from_amqp(broker: TestBroker) -> None:
    web = dial(broker, subprotocols=["v10.stomp", "v12.stomp"])
    assert web.subprotocol == "v12.stomp"
    enter(web)
    web.send("SUBSCRIBE\nid:0\ndestination:/queue/q\nreceipt:s\n\n\0")
    assert "receipt-id:s" in web.recv()
    with channel(broker.amqp_url) as client:
        client.basic_publish("", "q", "né".encode())
        opcode, data = web.recv_data()
        assert opcode == OPCODE_TEXT
        assert data.decode().endswith("\n\nné\0\n") or data.decode().endswith("\n\nné\0")
        client.basic_publish("", "q", b"\xff\x00\xfe")
        opcode, data = web.recv_data()
        assert opcode == OPCODE_BINARY
        assert b"\n\n\xff\x00\xfe\0" in data
    web.send_binary(b"SEND\ndestination:/queue/q\ncontent-length:2\n\n\x00\xff\0")
    opcode, data = web.recv_data()
    assert (opcode, data.rstrip(b"\n")[-4:]) == (OPCODE_BINARY, b"\n\x00\xff\0")
    (listed,) = (one for one in broker.server.connections() if one["listener"][:2] == "ws")
    assert (listed["protocol"], listed["user"], listed["tls"]) == ("STOMP 1.2", "guest", False)
    assert listed["listener"] == broker.websocket_url
    web.send("DISCONNECT\nreceipt:d\n\n\0")
    assert "receipt-id:d" in web.recv()
    assert web.recv_data() == (OPCODE_CLOSE, CloseReason.NORMAL_CLOSURE.to_bytes(2, "big"))
    web.close()
    broker.wait_idle()


def test_many_messages_come_in_few_frames(broker: TestBroker) -> None:
    web = dial(broker)
    enter(web)
    with channel(broker.amqp_url) as client:
        client.queue_declare("q", durable=True)
        for number in range(1000):
            client.basic_publish("", "q", b"%d" % number)
    web.send("SUBSCRIBE\nid:0\ndestination:/queue/q\n\n\0")
    got: list[str] = []
    received = 0
    while len(got) < 1000:
        got += frames(web.recv())
        received += 1
    assert [frame.partition("\n\n")[2] for frame in got] == [str(n) for n in range(1000)]
    assert received < 100
    web.close()


def test_a_large_message_in_many_parts(broker: TestBroker) -> None:
    web = dial(broker)
    enter(web)
    body = "é" * 500_000
    # Parts that cut letters in two.
    parts = f"SEND\ndestination:/queue/q\nreceipt:r\n\n{body}\0".encode()
    pieces = [parts[i : i + 99_999] for i in range(0, len(parts), 99_999)]
    for number, piece in enumerate(pieces):
        web.send_frame(
            websocket.ABNF.create_frame(
                piece, OPCODE_TEXT if number == 0 else 0, int(number == len(pieces) - 1)
            )
        )
        web.ping(b"between")
    while True:
        opcode, data = web.recv_data(control_frame=True)
        if opcode == OPCODE_TEXT:
            break
        assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"between")
    assert b"receipt-id:r" in data
    assert broker.messages("q")[0].body == body.encode()
    web.close()


def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with wherry.testing.broker(tls=TLS(path)) as broker:
        assert broker.websocket_url.startswith("wss://127.0.0.1:")
        web = dial(broker, sslopt={"context": context})
        enter(web)
        assert broker.server.connections()[0]["tls"]
        body = "x" * 1_000_000
        web.send("SUBSCRIBE\nid:0\ndestination:/queue/q\n\n\0")
        web.send(f"SEND\ndestination:/queue/q\n\n{body}\0")
        assert frames(web.recv())[0].endswith(body)
        web.send("DISCONNECT\n\n\0")
        assert web.recv_data()[0] == OPCODE_CLOSE
        web.close()


# Who gets in


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://shop.example", "broker.example", True),
        ("HTTPS://Shop.Example:443", "broker.example", True),
        ("https://shop.example:8443", "broker.example", False),
        ("http://shop.example", "broker.example", False),
        ("https://evil.example", "127.0.0.1:15674", False),
        # A name of theirs that means this machine: both headers agree, and mean nothing.
        ("http://evil.example:15674", "evil.example:15674", False),
        ("http://127.0.0.1:3000", "127.0.0.1:15674", True),
        ("http://[::1]:3000", "[::1]:15674", True),
        ("http://localhost", "localhost:15674", True),
        ("http://localhost", "127.0.0.1:15674", False),
        ("http://192.0.2.7", "127.0.0.1:15674", False),
        ("http://tern.example", "tern.example:15674", True),
        ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", False),
        ("http://user@127.0.0.1", "127.0.0.1", False),
        ("null", "127.0.0.1", False),
        ("", "", False),
        ("file://", "127.0.0.1", False),
        ("chrome-extension://127.0.0.1", "127.0.0.1", False),
        ("http://127.0.0.1:x", "127.0.0.1", False),
        ("http://127.0.0.1, http://evil.example", "127.0.0.1", False),
        ("http://[::1", "[::1", False),
    ],
)
def test_origins(origin: str, host: str, allowed: bool) -> None:
    assert Origins(["https://shop.example"], ["Tern.example"]).allow(origin, host) is allowed


def test_all_origins_and_none() -> None:
    assert Origins(["*"], []).allow("https://evil.example", "x")
    assert Origins(["null"], []).allow("null", "x")
    for text in ["shop.example", "https://shop.example/", "ftp://a", "https://", "https://a b"]:
        with pytest.raises(ValueError, match="is no origin"):
            parse_origin(text)


def test_foreign_pages_are_refused(broker: TestBroker, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        dial(broker, suppress_origin=False, origin="https://evil.example")
    assert caught.value.status_code == 403
    assert b"stomp.websocket_origins" in caught.value.resp_body
    assert "the origin 'https://evil.example'" in caplog.text
    # By default the client says that it comes from where it goes.
    dial(broker, suppress_origin=False).close()


def test_a_configured_server(tmp_path: Path) -> None:
    file = tmp_path / "wherry.toml"
    file.write_text(
        '[stomp]\nwebsocket_path = "/a/stomp"\nwebsocket_origins = ["https://shop.example"]\n'
    )
    serving = Serving("--config", file, "--websocket-port", "0")
    try:
        serving.stomp_port()
        assert serving.process.stdout is not None
        line = serving.process.stdout.readline()
        assert line.startswith("listening on ws://127.0.0.1:")
        url = line.removeprefix("listening on ").strip()
        assert url.endswith("/a/stomp")
        web = dial(url, suppress_origin=False, origin="https://shop.example")
        enter(web)
        web.close()
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            dial(url, suppress_origin=False, origin="https://evil.example")
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            dial(url.replace("/a/stomp", "/ws"))
    finally:
        serving.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (list(SUBPROTOCOLS), "v12.stomp"),
        (["v10.stomp"], "v10.stomp"),
        (["mqtt", "v11.stomp", "v10.stomp"], "v11.stomp"),
        ([], None),
    ],
)
def test_sub_protocols(broker: TestBroker, offered: list[str], chosen: str | None) -> None:
    web = dial(broker, subprotocols=offered or None)
    assert web.subprotocol == chosen
    enter(web)
    web.close()


def request(path: str = "/ws", **headers: str | None) -> bytes:
    """An HTTP request; a header that is None is left out."""
    all_headers = {
        "Host": "127.0.0.1",
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in all_headers.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


REFUSED = [
    (request("/other"), 404),
    (request("/ws/"), 404),
    (request(Sec_WebSocket_Protocol="mqtt, wamp"), 400),
    (request(Upgrade=None), 400),
    (request(Connection="close"), 400),
    (request(Host=None), 400),
    (request(Sec_WebSocket_Version=None), 400),
    (request(Sec_WebSocket_Version="8"), 426),
    (request(Sec_WebSocket_Key=None), 400),
    (request(Sec_WebSocket_Key=""), 400),
    (request(Sec_WebSocket_Key="x"), 400),
    (request(Sec_WebSocket_Key="MTIzNDU2Nzg5MDEyMzQ1"), 400),  # 15 bytes
    (request(Sec_WebSocket_Key="MTIzNDU2Nzg5MDEyMzQ1Njc="), 400),  # 17
    (request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400),
    (request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==x"), 400),
    (request(Sec_WebSocket_Key="dGhlIHNhbXBs!!!ZSBub25jZQ=="), 400),
    (request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ=="), 400),  # a second one
    (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    (request().replace(b"HTTP/1.1", b"HTTP/0.9"), 400),
    (request(Host="\xff"), 400),
    (request(Sec_WebSocket_Protocol="\xff"), 400),
    (request(Origin="https://evil.example"), 403),
    (request(Content_Length="5") + b"12345", 400),
    (b"POST /ws HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT\nlogin:guest\n\n\0\r\n\r\n", 400),
    (b"AMQP\0\0\x09\x01\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    (b"GET /ws HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX, 431),
    # More than is read before the answer: a socket closed at once would take the answer along.
    (b"GET /ws HTTP/1.1\r\nX: " + b"x" * 1_000_000, 431),
    (b"GET /ws HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_requests_that_are_refused(broker: TestBroker, data: bytes, status: int) -> None:
    with socket.create_connection((broker.host, broker.websocket_port), 10) as raw:
        raw.sendall(data)
        answer = b""
        while more := raw.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) in head


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), b"WebSocket needs HTTP/1.1"),
        (request(Sec_WebSocket_Key="x"), b"Sec-WebSocket-Key must be one"),
        (request(Sec_WebSocket_Version="8"), b"\r\nSec-WebSocket-Version: 13\r\n"),
    ],
)
def test_a_refusal_says_what_was_wrong(data: bytes, text: bytes) -> None:
    peer = Peer()
    with pytest.raises(TransportFailed):
        peer.feed(data)
    assert text in peer.server.pending()


def test_a_handshake_that_stalls_is_closed() -> None:
    with (
        wherry.testing.broker(limits={"handshake_seconds": 1}) as broker,
        socket.create_connection((broker.host, broker.websocket_port), 10) as raw,
    ):
        raw.sendall(request()[:-2])
        assert raw.recv(1) == b""


def test_a_client_that_does_not_log_in_is_closed() -> None:
    with wherry.testing.broker(limits={"handshake_seconds": 1}) as broker:
        web = dial(broker)
        assert web.recv_data()[0] == OPCODE_CLOSE
        web.close()


# Many frames, and the end


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_others_have_their_turn_between_tiny_frames(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    path = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    answered: list[str] = []
    encode = WebSocket.encode

    def noting(self: WebSocket, data: bytes) -> bytes:
        answered.extend(re.findall(r"receipt-id:(\w+)", data.decode()))
        return encode(self, data)

    monkeypatch.setattr(WebSocket, "encode", noting)
    with wherry.testing.broker(tls=TLS(path) if tls else None) as broker:
        flood = dial(broker, sslopt={"context": context})
        enter(flood)
        beside = dial(broker, sslopt={"context": context})
        enter(beside)
        # Both have sent all before the server looks at either, at the flood first.
        broker.faults.pause_reading()
        receipt = "SEND\ndestination:/topic/t\nreceipt:{}\n\n\0"
        flood.sock.sendall(
            EMPTY["messages"] * 1000 + masked(0x81, receipt.format("flood").encode())
        )
        beside.send(receipt.format("beside"))
        broker.faults.resume_reading()
        assert "receipt-id:flood" in flood.recv()
        assert "receipt-id:beside" in beside.recv()
        broker.wait_idle()
    assert answered == ["beside", "flood"]


def test_too_much_is_closed_with_1009() -> None:
    with wherry.testing.broker(limits={"message_bytes_max": 1024}) as broker:
        web = dial(broker)
        enter(web)
        # Heart-beats: no frame of STOMP's is too long.
        web.send_binary(b"\n" * ((4 << 20) + 1025))
        opcode, data = web.recv_data()
        assert (opcode, data[:2]) == (OPCODE_CLOSE, CloseReason.MESSAGE_TOO_BIG.to_bytes(2, "big"))
        web.close()


def test_a_server_that_ends_says_so() -> None:
    with wherry.testing.broker() as broker:
        web = dial(broker)
        enter(web)
        assert broker.server.close_connection(
            broker.server.connections()[0]["id"], "closed by a test"
        )
        error = web.recv()
        assert error.startswith("ERROR\nmessage:connection_forced\n")
        assert "closed by a test" in error
        assert web.recv_data() == (OPCODE_CLOSE, CloseReason.GOING_AWAY.to_bytes(2, "big"))
        web.close()


def test_an_error_of_stomp_comes_before_the_end(broker: TestBroker) -> None:
    web = dial(broker)
    web.send("SEND\ndestination:/queue/q\n\n\0")
    assert web.recv().startswith("ERROR\n")
    assert web.recv_data()[0] == OPCODE_CLOSE
    web.close()
