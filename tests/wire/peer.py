"""A peer that says exactly what a test tells it to, and shows every frame that comes back.

No client's manners: nothing is retried, answered or hidden, but `connection.close-ok` and
`channel.close-ok`, which `Peer` can be told to send. One thread.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from wire import codec
from wire.line import ANSWER_SECONDS_MAX, Line, Silence

__all__ = ["ANSWER_SECONDS_MAX", "Event", "Peer", "Silence", "connect"]


@dataclass
class Event:
    """One method, with its content if it has one; or `eof`, `heartbeat`, `header` (a protocol
    header).
    """

    channel: int
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] | None = None
    body: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


class Peer(Line[Event]):
    """A socket to a broker. Close it, or use it as a context manager."""

    def __init__(self, host: str, port: int, *, timeout: float = ANSWER_SECONDS_MAX) -> None:
        super().__init__(host, port, timeout=timeout)
        self.frame_max = 131072
        self._partial: dict[int, tuple[Event, int]] = {}

    # What goes out.

    def send(self, channel: int, name: str, **fields: Any) -> None:
        self.raw(codec.method_frame(channel, name, **fields))

    def publish(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        body: bytes = b"",
        properties: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        self.raw(
            codec.method_frame(
                channel, "basic.publish", exchange=exchange, routing_key=routing_key, **fields
            )
            + codec.content_frames(channel, properties or {}, body, self.frame_max)
        )

    def call(self, channel: int, name: str, **fields: Any) -> Event:
        """Send and return the next event of that channel, whatever it is (or the
        connection's end).
        """
        self.send(channel, name, **fields)
        return self.expect(channel)

    # What comes in.

    def expect(self, channel: int) -> Event:
        while True:
            event = self.read()
            if event.name == "heartbeat":
                continue
            if event.channel in (channel, 0):
                return event

    def until(self, *names: str) -> Event:
        """Drop events up to the first of these names; the end of the connection fails
        unless it is named.
        """
        while True:
            event = self.read()
            if event.name in names:
                return event
            if event.name == "eof":
                raise AssertionError(f"the connection ended while waiting for {names}")

    def _eof(self) -> Event:
        return Event(0, "eof")

    def _parse(self) -> Event | None:
        while True:
            data = self._input
            if data[:4] == b"AMQP" and len(data) >= 8:
                header = bytes(data[:8])
                del data[:8]
                return Event(0, "header", {"bytes": header})
            if len(data) < 8:
                return None
            kind, channel, size = struct.unpack_from(">BHI", data)
            if len(data) < size + 8:
                return None
            payload = bytes(data[7 : 7 + size])
            assert data[7 + size] == 0xCE, "bad frame end"
            del data[: size + 8]
            event = self._frame(kind, channel, payload)
            if event is not None:
                return event

    def _frame(self, kind: int, channel: int, payload: bytes) -> Event | None:
        if kind == codec.HEARTBEAT:
            return Event(channel, "heartbeat")
        if kind == codec.METHOD:
            assert channel not in self._partial, "a method inside a content"
            name, fields = codec.decode_method(payload)
            event = Event(channel, name, fields)
            if name in codec.WITH_CONTENT:
                self._partial[channel] = (event, -1)
                return None
            return event
        event, left = self._partial[channel]
        if kind == codec.HEADER:
            assert left == -1, "a second header"
            left, event.properties = codec.decode_header(payload)
            event.body = b""
        else:
            assert left > 0, "body without need"
            assert event.body is not None
            event.body += payload
            left -= len(payload)
        if left == 0:
            del self._partial[channel]
            return event
        assert left > 0, "body longer than its header says"
        self._partial[channel] = (event, left)
        return None

    # The handshake.

    def handshake(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        virtual_host: str = "/",
        heartbeat: int = 0,
        frame_max: int | None = None,
        channel_max: int | None = None,
        capabilities: dict[str, Any] | None = None,
    ) -> Event:
        """All of it; returns what answered `connection.open` (or what ended it before)."""
        answer = self.authenticate(user=user, password=password, capabilities=capabilities)
        if answer.name != "connection.tune":
            return answer
        self.frame_max = answer.frame_max if frame_max is None else frame_max
        self.send(
            0,
            "connection.tune-ok",
            channel_max=answer.channel_max if channel_max is None else channel_max,
            frame_max=self.frame_max,
            heartbeat=heartbeat,
        )
        return self.call(0, "connection.open", virtual_host=virtual_host)

    def authenticate(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        capabilities: dict[str, Any] | None = None,
    ) -> Event:
        """Up to `connection.tune`."""
        self.raw(codec.PROTOCOL_HEADER)
        start = self.read()
        if start.name != "connection.start":
            return start
        if capabilities is None:
            capabilities = {
                "consumer_cancel_notify": True,
                "authentication_failure_close": True,
                "basic.nack": True,
                "publisher_confirms": True,
                "connection.blocked": True,
            }
        return self.call(
            0,
            "connection.start-ok",
            client_properties={"product": "peer", "capabilities": capabilities},
            mechanism="PLAIN",
            response=f"\0{user}\0{password}",
            locale="en_US",
        )

    def open_channel(self, channel: int) -> None:
        answer = self.call(channel, "channel.open")
        assert answer.name == "channel.open-ok", answer


def connect(host: str, port: int, **options: Any) -> Peer:
    """A peer that is through the handshake."""
    peer = Peer(host, port)
    answer = peer.handshake(**options)
    assert answer.name == "connection.open-ok", answer
    return peer
