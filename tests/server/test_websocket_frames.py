"""WebSocket's frames in every form: bytes between a client of wsproto's and the server's transport,
without a socket.
"""

from __future__ import annotations

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason

from wherry.server._origins import Origins
from wherry.server._tls import TransportFailed
from wherry.server._websocket import FRAMES_PER_TURN, WebSocket


class Peer:
    """A client of wsproto's and the server's transport, joined by bytes."""

    def __init__(self, bytes_max: int = 1 << 20, size: int = 64 << 10) -> None:
        self.client = WSConnection(ConnectionType.CLIENT)
        self.server = WebSocket("/ws", Origins((), ()), bytes_max)
        self.buffer = memoryview(bytearray(size))
        self.payload = b""
        self.closed = False
        self.events: list[Event] = []

    def hello(self) -> bytes:
        return self.client.send(Request(host="127.0.0.1", target="/ws"))

    def feed(self, data: bytes) -> None:
        """Bytes off the client's socket, in as many turns as they take."""
        self.turn(data)
        while self.server.unfinished:
            self.turn(b"")

    def turn(self, data: bytes) -> None:
        self.server.turn()
        for count in self.server.receive(memoryview(data), self.buffer):
            self.closed |= count == 0
            self.payload += bytes(self.buffer[:count])

    def back(self, data: bytes) -> list[Event]:
        """Bytes off the server's."""
        if data:
            self.client.receive_data(data)
        return list(self.client.events())

    def open(self) -> Peer:
        self.feed(self.hello())
        (accepted,) = self.back(self.server.pending())
        assert isinstance(accepted, AcceptConnection)
        assert accepted.extensions == []
        return self


def client_bytes(client: WSConnection) -> list[bytes]:
    """Messages in every form, with pings in between."""
    return [
        client.send(TextMessage("CONN", message_finished=False)),
        client.send(Ping(b"one")),
        client.send(TextMessage("", message_finished=False)),
        client.send(TextMessage("ECT é✓", message_finished=True)),
        client.send(BytesMessage(b"")),
        client.send(BytesMessage(bytes(range(256)))),
        client.send(Pong(b"unasked")),
        client.send(TextMessage("\n")),
    ]


def test_bytes_cut_at_every_point() -> None:
    expected = "CONNECT é✓".encode() + bytes(range(256)) + b"\n"
    probe = Peer()
    whole = probe.hello()
    probe.feed(whole)
    probe.back(probe.server.pending())
    stream = b"".join(client_bytes(probe.client))
    for cut in range(len(whole) + len(stream) + 1):
        peer = Peer()
        # The server does not mind a client that does not wait for the answer.
        data = whole + stream
        peer.feed(data[:cut])
        peer.feed(data[cut:])
        assert peer.payload == expected, cut
        out = peer.server.pending()
        assert out.startswith(b"HTTP/1.1 101 "), cut
        assert out.endswith(b"\x8a\x03one"), cut
    byte_by_byte = Peer()
    for i in range(len(data)):
        byte_by_byte.feed(data[i : i + 1])
    assert byte_by_byte.payload == expected


def test_a_buffer_smaller_than_what_comes() -> None:
    peer = Peer(size=7).open()
    peer.feed(peer.client.send(TextMessage("ab✓" * 10)) + peer.client.send(BytesMessage(b"xyz")))
    assert peer.payload == ("ab✓" * 10 + "xyz").encode()


def masked(first: int, payload: bytes, mask_bit: int = 0x80) -> bytes:
    return bytes([first, mask_bit | len(payload), *b"\0\0\0\0"[: mask_bit // 32]]) + payload


EMPTY = {
    "fragments": masked(0x00, b""),
    "messages": masked(0x81, b""),
    "pings": masked(0x89, b""),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_turn_takes_so_many_frames(kind: str) -> None:
    peer = Peer().open()
    if kind == "fragments":
        peer.feed(masked(0x01, b""))
    frame = masked(0x80 if kind == "fragments" else 0x81, b"x")
    peer.turn(EMPTY[kind] * (2 * FRAMES_PER_TURN) + frame)
    assert peer.server.unfinished
    peer.turn(b"")
    assert peer.server.unfinished
    assert peer.payload == b""
    peer.turn(b"")
    assert not peer.server.unfinished
    assert peer.payload == b"x"


def test_a_goodbye_among_frames_waits_for_its_turn() -> None:
    peer = Peer().open()
    data = masked(0x81, b"x") * FRAMES_PER_TURN + peer.client.send(CloseConnection(1000))
    peer.turn(data)
    assert not peer.closed
    peer.feed(b"")
    assert peer.closed
    assert not peer.server.unfinished
    assert peer.payload == b"x" * FRAMES_PER_TURN


def test_of_many_pings_the_last_is_answered() -> None:
    peer = Peer().open()
    for number in range(100):
        peer.feed(peer.client.send(Ping(b"%d" % number)))
    out = peer.server.pending()
    assert peer.back(out) == [Pong(b"99")]
    assert peer.server.pending() == b""
    # Behind output it goes along.
    peer.feed(peer.client.send(Ping(b"x")))
    assert peer.back(peer.server.encode(b"\n")) == [Pong(b"x"), TextMessage("\n")]


def failing(peer: Peer, data: bytes) -> CloseReason:
    """The close code for these bytes."""
    with pytest.raises(TransportFailed) as caught:
        peer.feed(data)
    assert caught.value.answered
    (close,) = peer.back(peer.server.pending())
    assert isinstance(close, CloseConnection)
    peer.feed(b"anything")  # does not matter any more
    assert peer.server.encode(b"x") == b""
    return CloseReason(close.code)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(0x81, b"\xff"), CloseReason.INVALID_FRAME_PAYLOAD_DATA),
        (masked(0x81, b"\xc3"), CloseReason.INVALID_FRAME_PAYLOAD_DATA),  # a letter's beginning
        (masked(0x81, b"\xed\xa0\x80"), CloseReason.INVALID_FRAME_PAYLOAD_DATA),  # a surrogate
        (masked(0x82, b"x", mask_bit=0), CloseReason.PROTOCOL_ERROR),  # not masked
        (masked(0xC2, b"x"), CloseReason.PROTOCOL_ERROR),  # compressed
        (masked(0x80, b"x"), CloseReason.PROTOCOL_ERROR),  # goes on with nothing
        (masked(0x02, b"x") + masked(0x82, b"y"), CloseReason.PROTOCOL_ERROR),  # not gone on with
        (masked(0x83, b"x"), CloseReason.PROTOCOL_ERROR),  # no opcode
        (masked(0x09, b"x"), CloseReason.PROTOCOL_ERROR),  # half a ping
        (masked(0x88, b"\x03"), CloseReason.PROTOCOL_ERROR),  # half a code
        (masked(0x88, b"\x03\xee"), CloseReason.PROTOCOL_ERROR),  # 1006 is never sent
        (b"\x82\xff" + b"\xff" * 8 + b"\0" * 4, CloseReason.PROTOCOL_ERROR),  # 2^64 bytes
    ],
)
def test_what_is_no_websocket_is_closed_with_a_code(data: bytes, code: CloseReason) -> None:
    peer = Peer().open()
    before = peer.client.send(BytesMessage(b"before"))
    assert failing(peer, before + data) is code
    assert peer.payload.startswith(b"before")


def test_messages_have_a_limit() -> None:
    peer = Peer(bytes_max=100).open()
    for _ in range(10):
        peer.feed(peer.client.send(BytesMessage(b"x" * 100)))
    assert len(peer.payload) == 1000
    part = peer.client.send(BytesMessage(b"y" * 60, message_finished=False))
    peer.feed(part)
    rest = peer.client.send(BytesMessage(b"y" * 41, message_finished=False))
    assert failing(peer, rest) is CloseReason.MESSAGE_TOO_BIG


def test_a_frame_that_announces_too_much_takes_no_memory() -> None:
    peer = Peer(bytes_max=1 << 20).open()
    head = b"\x82\xff" + (1 << 62).to_bytes(8, "big") + b"\0" * 4
    peer.feed(head + b"z" * 1000)
    assert peer.payload == b"z" * 1000
    for _ in range(31):
        peer.feed(b"z" * 32768)
    assert failing(peer, b"z" * 40000) is CloseReason.MESSAGE_TOO_BIG


def test_goodbyes() -> None:
    peer = Peer().open()
    peer.feed(peer.client.send(CloseConnection(4000, "enough")))
    assert peer.closed
    (reply,) = peer.back(peer.server.pending())
    assert isinstance(reply, CloseConnection)
    assert (reply.code, peer.server.goodbye(going_away=False)) == (4000, b"")
    for going_away, code in [(True, CloseReason.GOING_AWAY), (False, CloseReason.NORMAL_CLOSURE)]:
        peer = Peer().open()
        (close,) = peer.back(peer.server.goodbye(going_away=going_away))
        assert isinstance(close, CloseConnection)
        assert close.code is code
        peer.feed(peer.client.send(close.response()))
        assert peer.closed
