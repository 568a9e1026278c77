"""STOMP in WebSocket messages (RFC 6455), without a socket. wsproto knows the encoding.

    handshake   one HTTP request, at most 16 KiB: its path, its origin, its sub-protocols
    in          messages of text or binary frames, whole or in parts; what they carry is one stream
                of bytes for the session, wherever its frames begin and end
    out         each output of the session, some whole STOMP frames, is one message: text if it is
                UTF-8, else binary

Messages are not compressed: a few bytes could be made to become gigabytes, and each connection
would hold 300 KiB for it. A client's pings are answered, of those that come in one read the last,
as the RFC allows: for a client that reads nothing one answer waits.
"""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from wherry.server._transport import TransportFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wsproto.connection import Connection

    from wherry.server._origins import Origins

# Of an HTTP request. Browsers send one or two kilobytes, with cookies some more; servers take 8 to
# 16.
HEAD_BYTES_MAX = 16 << 10

# Read off the socket at a time.
_READ_BYTES_MAX = 8 << 10

# Taken apart in one turn, before others have theirs: what costs is the frame, some 25 us, and not
# its bytes. Of empty frames 1,365 come in one read; that is 35 ms.
FRAMES_PER_TURN = 64

# The newest first: it is chosen if the client knows several.
SUBPROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")

_HEAD_END = b"\r\n\r\n"

_KEY_BYTES = 16


def _is_key(text: bytes) -> bool:
    """What a client's handshake must have (RFC 6455, 4.2.1): 16 bytes of its choice."""
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except ValueError:
        return False


class WebSocket:
    """One connection's WebSocket, at the server's end."""

    __slots__ = (
        "_bytes_max",
        "_frames",
        "_frames_left",
        "_head",
        "_message_bytes",
        "_origins",
        "_over",
        "_own",
        "_path",
        "_pong",
        "_unfinished",
    )

    read_bytes_max = _READ_BYTES_MAX

    def __init__(self, path: str, origins: Origins, bytes_max: int) -> None:
        """For requests of this path; `bytes_max` is of a message."""
        self._path = path
        self._origins = origins
        self._bytes_max = bytes_max
        # The request, until it is whole; then wsproto's end of the connection.
        self._head = bytearray()
        self._frames: Connection | None = None
        # Of the message that comes in.
        self._message_bytes = 0
        # To be sent: an answer or a close frame, and the answer to the last ping.
        self._own = b""
        self._pong: Pong | None = None
        # Nothing that comes in counts any more.
        self._over = False
        # In this turn.
        self._frames_left = FRAMES_PER_TURN
        self._unfinished = False

    @property
    def established(self) -> bool:
        return self._frames is not None

    @property
    def unfinished(self) -> bool:
        return self._unfinished and not self._over

    def turn(self) -> None:
        self._frames_left = FRAMES_PER_TURN

    def receive(self, data: memoryview, buffer: memoryview) -> Iterator[int]:
        if self._over:
            return
        if self._frames is not None:
            self._frames.receive_data(bytes(data))
        elif not self._shake_hands(data):
            return
        frames = self._frames
        assert frames is not None
        filled = 0
        self._unfinished = True
        events = frames.events()
        while self._frames_left:
            event = next(events, None)
            if event is None:
                self._unfinished = False
                break
            self._frames_left -= 1
            if isinstance(event, TextMessage | BytesMessage):
                text = event.data
                content = memoryview(text.encode() if isinstance(text, str) else text)
                self._message_bytes += len(content)
                if self._message_bytes > self._bytes_max:
                    # What came before it counts.
                    if filled:
                        yield filled
                    self._close(
                        CloseReason.MESSAGE_TOO_BIG, f"a message of over {self._bytes_max} bytes"
                    )
                if event.message_finished:
                    self._message_bytes = 0
                # More than was read now, if a letter of text was cut by the read before.
                while filled + len(content) > len(buffer):
                    room = len(buffer) - filled
                    buffer[filled:] = content[:room]
                    content = content[room:]
                    yield len(buffer)
                    filled = 0
                buffer[filled : filled + len(content)] = content
                filled += len(content)
            elif isinstance(event, Ping):
                self._pong = event.response()
            elif isinstance(event, CloseConnection):
                if filled:
                    yield filled
                self._closed(frames, event)
                yield 0
                return
        if filled:
            yield filled

    def _shake_hands(self, data: memoryview) -> bool:
        """Whether it is done."""
        head = self._head
        # The end may have come in two parts.
        start = max(0, len(head) - len(_HEAD_END))
        head += data
        end = head.find(_HEAD_END, start)
        if end > HEAD_BYTES_MAX or (end < 0 and len(head) > HEAD_BYTES_MAX):
            self._refuse(431, f"a request of over {HEAD_BYTES_MAX} bytes")
        if end < 0:
            return False
        end += len(_HEAD_END)
        upgrade = WSConnection(ConnectionType.SERVER)
        try:
            upgrade.receive_data(bytes(head[:end]))
            request = next(upgrade.events(), None)
        except RemoteProtocolError as error:
            why = f"this is for WebSocket clients: {error}"
            hint = error.event_hint
            if isinstance(hint, RejectConnection):
                # Of another version of WebSocket: 426, and which one is spoken here.
                self._refuse(hint.status_code, why, hint.headers)
            self._refuse(400, why)
        except UnicodeError:
            self._refuse(400, "a header that is not ASCII")
        if not isinstance(request, Request):
            self._refuse(400, "no request")
        # wsproto does not look at it.
        version = bytes(head[: head.index(b"\n")]).split()[-1]
        if version < b"HTTP/1.1":
            self._refuse(400, f"WebSocket needs HTTP/1.1, this is {version.decode('ascii')}")
        self._own += upgrade.send(AcceptConnection(subprotocol=self._judge(request)))
        assert upgrade.connection is not None
        self._frames = upgrade.connection
        rest = bytes(head[end:])
        self._head = bytearray()
        self._frames.receive_data(rest)
        return True

    def _judge(self, request: Request) -> str | None:
        """The sub-protocol; refuses who may not come in."""
        if request.target.partition("?")[0] != self._path:
            self._refuse(404, f"STOMP is spoken at {self._path}")
        for header, value in request.extra_headers:
            if header == b"transfer-encoding" or (header == b"content-length" and value != b"0"):
                self._refuse(400, "a request with a body")
        keys = [value for header, value in request.extra_headers if header == b"sec-websocket-key"]
        if len(keys) != 1 or not _is_key(keys[0]):
            self._refuse(400, "Sec-WebSocket-Key must be one, of 16 bytes in base64")
        origins = [value for header, value in request.extra_headers if header == b"origin"]
        if origins:
            origin = origins[0].decode("latin-1")
            if len(origins) > 1 or not self._origins.allow(origin, request.host):
                self._refuse(403, f"the origin '{origin[:256]}' is not in stomp.websocket_origins")
        if not request.subprotocols:
            return None
        for name in SUBPROTOCOLS:
            if name in request.subprotocols:
                return name
        return self._refuse(400, f"sub-protocols here are {', '.join(SUBPROTOCOLS)}")

    def _refuse(
        self, status: int, why: str, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> NoReturn:
        """Answer the request with an error."""
        phrase = HTTPStatus(status).phrase
        text = f"{why}\n".encode("ascii", "backslashreplace")
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n"
        )
        head += "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in headers)
        self._over = True
        self._head = bytearray()
        self._own = head.encode() + b"\r\n" + text
        raise TransportFailed(
            f"WebSocket refused with {status}: {why}", answered=True, notable=True
        )

    def _closed(self, frames: Connection, event: CloseConnection) -> None:
        """The client says goodbye, or sent what is no WebSocket."""
        if frames.state is ConnectionState.OPEN:
            self._close(event.code, event.reason or "")
        self._over = True
        if frames.state is ConnectionState.REMOTE_CLOSING:
            self._own += bytes(frames.send(event.response()))

    def _close(self, code: int, why: str) -> NoReturn:
        """End it for a reason that is the client's."""
        frames = self._frames
        assert frames is not None
        self._over = True
        self._pong = None
        if frames.state is ConnectionState.OPEN:
            self._own += bytes(frames.send(CloseConnection(code, why)))
        raise TransportFailed(
            f"WebSocket closed with {int(code)}: {why}", answered=True, notable=True
        )

    def encode(self, data: bytes) -> bytes:
        frames = self._frames
        assert frames is not None
        if frames.state is not ConnectionState.OPEN:
            return b""
        try:
            message = frames.send(TextMessage(data.decode()))
        except UnicodeDecodeError:
            message = frames.send(BytesMessage(data))
        return self.pending() + message

    def pending(self, *, busy: bool = False) -> bytes:
        data = self._own
        self._own = b""
        if self._pong is not None and not busy:
            if self._frames is not None and self._frames.state is ConnectionState.OPEN:
                data += self._frames.send(self._pong)
            self._pong = None
        return data

    def goodbye(self, *, going_away: bool) -> bytes:
        frames = self._frames
        if frames is None or frames.state is not ConnectionState.OPEN:
            return self.pending()
        code = CloseReason.GOING_AWAY if going_away else CloseReason.NORMAL_CLOSURE
        return self.pending() + frames.send(CloseConnection(code))

    def certificate_name(self, login_from: str) -> str | None:
        return None
