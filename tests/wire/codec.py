"""The bytes of AMQP 0-9-1, written a second time and independently of the server, for tests.

Its source is the public specification (amqp0-9-1) with RabbitMQ's extensions. It is exact on
purpose: it encodes what it is told to, also what no client would send, and it decodes tables with
their types so that two brokers' answers can be compared to the bit. It is slow and promises
nothing about speed.
"""

from __future__ import annotations

import struct
from typing import Any

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_END = b"\xce"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

_ARGUMENTS = {
    "connection.start": (10, 10, "major:o minor:o server_properties:t mechanisms:S locales:S"),
    "connection.start-ok": (10, 11, "client_properties:t mechanism:s response:S locale:s"),
    "connection.secure": (10, 20, "challenge:S"),
    "connection.secure-ok": (10, 21, "response:S"),
    "connection.tune": (10, 30, "channel_max:h frame_max:l heartbeat:h"),
    "connection.tune-ok": (10, 31, "channel_max:h frame_max:l heartbeat:h"),
    "connection.open": (10, 40, "virtual_host:s reserved_1:s reserved_2:b"),
    "connection.open-ok": (10, 41, "reserved_1:s"),
    "connection.close": (10, 50, "code:h text:s class_id:h method_id:h"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "reason:s"),
    "connection.unblocked": (10, 61, ""),
    "connection.update-secret": (10, 70, "new_secret:S reason:s"),
    "connection.update-secret-ok": (10, 71, ""),
    "channel.open": (20, 10, "reserved_1:s"),
    "channel.open-ok": (20, 11, "reserved_1:S"),
    "channel.flow": (20, 20, "active:b"),
    "channel.flow-ok": (20, 21, "active:b"),
    "channel.close": (20, 40, "code:h text:s class_id:h method_id:h"),
    "channel.close-ok": (20, 41, ""),
    "access.request": (30, 10, "realm:s exclusive:b passive:b active:b write:b read:b"),
    "access.request-ok": (30, 11, "ticket:h"),
    "exchange.declare": (
        40,
        10,
        "ticket:h exchange:s type:s passive:b durable:b auto_delete:b internal:b no_wait:b"
        " arguments:t",
    ),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "ticket:h exchange:s if_unused:b no_wait:b"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (
        40,
        30,
        "ticket:h destination:s source:s routing_key:s no_wait:b arguments:t",
    ),
    "exchange.bind-ok": (40, 31, ""),
    "exchange.unbind": (
        40,
        40,
        "ticket:h destination:s source:s routing_key:s no_wait:b arguments:t",
    ),
    "exchange.unbind-ok": (40, 51, ""),
    "queue.declare": (
        50,
        10,
        "ticket:h queue:s passive:b durable:b exclusive:b auto_delete:b no_wait:b arguments:t",
    ),
    "queue.declare-ok": (50, 11, "queue:s message_count:l consumer_count:l"),
    "queue.bind": (50, 20, "ticket:h queue:s exchange:s routing_key:s no_wait:b arguments:t"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "ticket:h queue:s no_wait:b"),
    "queue.purge-ok": (50, 31, "message_count:l"),
    "queue.delete": (50, 40, "ticket:h queue:s if_unused:b if_empty:b no_wait:b"),
    "queue.delete-ok": (50, 41, "message_count:l"),
    "queue.unbind": (50, 50, "ticket:h queue:s exchange:s routing_key:s arguments:t"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "prefetch_size:l prefetch_count:h global_:b"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (
        60,
        20,
        "ticket:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b no_wait:b arguments:t",
    ),
    "basic.consume-ok": (60, 21, "consumer_tag:s"),
    "basic.cancel": (60, 30, "consumer_tag:s no_wait:b"),
    "basic.cancel-ok": (60, 31, "consumer_tag:s"),
    "basic.publish": (60, 40, "ticket:h exchange:s routing_key:s mandatory:b immediate:b"),
    "basic.return": (60, 50, "code:h text:s exchange:s routing_key:s"),
    "basic.deliver": (
        60,
        60,
        "consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s",
    ),
    "basic.get": (60, 70, "ticket:h queue:s no_ack:b"),
    "basic.get-ok": (
        60,
        71,
        "delivery_tag:L redelivered:b exchange:s routing_key:s message_count:l",
    ),
    "basic.get-empty": (60, 72, "reserved_1:s"),
    "basic.ack": (60, 80, "delivery_tag:L multiple:b"),
    "basic.reject": (60, 90, "delivery_tag:L requeue:b"),
    "basic.recover-async": (60, 100, "requeue:b"),
    "basic.recover": (60, 110, "requeue:b"),
    "basic.recover-ok": (60, 111, ""),
    "basic.nack": (60, 120, "delivery_tag:L multiple:b requeue:b"),
    "confirm.select": (85, 10, "no_wait:b"),
    "confirm.select-ok": (85, 11, ""),
    "tx.select": (90, 10, ""),
    "tx.select-ok": (90, 11, ""),
    "tx.commit": (90, 20, ""),
    "tx.commit-ok": (90, 21, ""),
    "tx.rollback": (90, 30, ""),
    "tx.rollback-ok": (90, 31, ""),
}
"""Name -> class id, method id, fields; o octet, h short, l long, L long long, s short string, S
long string, t table, b bit.
"""

METHODS = {
    name: (class_id, method_id, [tuple(word.split(":")) for word in fields.split()])
    for name, (class_id, method_id, fields) in _ARGUMENTS.items()
}
NAMES = {(class_id, method_id): name for name, (class_id, method_id, _) in METHODS.items()}
WITH_CONTENT = {"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"}

PROPERTIES = [
    ("content_type", "s"),
    ("content_encoding", "s"),
    ("headers", "t"),
    ("delivery_mode", "o"),
    ("priority", "o"),
    ("correlation_id", "s"),
    ("reply_to", "s"),
    ("expiration", "s"),
    ("message_id", "s"),
    ("timestamp", "L"),
    ("type", "s"),
    ("user_id", "s"),
    ("app_id", "s"),
    ("cluster_id", "s"),
]
"""In the order of their flag bits, the first at bit 15."""

_NUMBERS = {"o": ">B", "h": ">H", "l": ">I", "L": ">Q"}
_TABLE_NUMBERS = {
    "b": ">b",
    "B": ">B",
    "s": ">h",
    "u": ">H",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "f": ">f",
    "d": ">d",
    "T": ">Q",
}


def short_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">B", len(data)) + data


def long_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">I", len(data)) + data


def table(values: dict[str, Any] | bytes) -> bytes:
    """`bytes` are taken as the encoded table, length included: how a test sends a broken one."""
    if isinstance(values, bytes):
        return values
    return long_string(b"".join(short_string(k) + value(v) for k, v in values.items()))


def value(item: Any) -> bytes:
    """A table's value with its type letter. A type is forced by `{"$s": 5}`."""
    if isinstance(item, dict) and len(item) == 1 and next(iter(item)).startswith("$"):
        ((letter, inner),) = item.items()
        return _typed(letter[1:], inner)
    match item:
        case None:
            return b"V"
        case bool():
            return _typed("t", item)
        case int():
            return _typed("I" if -(2**31) <= item < 2**31 else "l", item)
        case float():
            return _typed("d", item)
        case str() | bytes():
            return _typed("S", item)
        case dict():
            return _typed("F", item)
        case list():
            return _typed("A", item)
    raise TypeError(f"no AMQP type for {item!r}")


def _typed(letter: str, item: Any) -> bytes:
    head = letter.encode()
    if letter in _TABLE_NUMBERS:
        return head + struct.pack(_TABLE_NUMBERS[letter], item)
    match letter:
        case "t":
            return head + (b"\x01" if item else b"\x00")
        case "S" | "x":
            return head + long_string(item)
        case "F":
            return head + table(item)
        case "A":
            return head + long_string(b"".join(value(one) for one in item))
        case "V":
            return head
        case "D":
            return head + struct.pack(">Bi", item[0], item[1])
    raise TypeError(f"no AMQP type {letter!r}")


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


def method_payload(name: str, fields: dict[str, Any]) -> bytes:
    """Fields that are not given are zero, false, empty."""
    class_id, method_id, layout = METHODS[name]
    unknown = fields.keys() - {field for field, _ in layout}
    if unknown:
        raise TypeError(f"{name} has no {', '.join(sorted(unknown))}")
    out = [struct.pack(">HH", class_id, method_id)]
    bits: list[bool] = []

    def flush() -> None:
        if bits:
            out.append(bytes([sum(bit << at for at, bit in enumerate(bits))]))
            bits.clear()

    for field, kind in layout:
        if kind == "b":
            bits.append(bool(fields.get(field, False)))
            continue
        flush()
        out.append(_field(kind, fields.get(field)))
    flush()
    return b"".join(out)


def _field(kind: str, item: Any) -> bytes:
    if kind in _NUMBERS:
        return struct.pack(_NUMBERS[kind], item or 0)
    if kind == "s":
        return short_string(item or "")
    if kind == "S":
        return long_string(item or "")
    return table(item or {})


def method_frame(channel: int, name: str, **fields: Any) -> bytes:
    return frame(METHOD, channel, method_payload(name, fields))


def properties(values: dict[str, Any]) -> bytes:
    flags = 0
    out = b""
    for at, (name, kind) in enumerate(PROPERTIES):
        if name in values:
            flags |= 1 << (15 - at)
            out += _field(kind, values[name])
    return struct.pack(">H", flags) + out


def header_payload(
    values: dict[str, Any] | bytes, body_size: int, class_id: int = 60, weight: int = 0
) -> bytes:
    encoded = values if isinstance(values, bytes) else properties(values)
    return struct.pack(">HHQ", class_id, weight, body_size) + encoded


def content_frames(
    channel: int, values: dict[str, Any] | bytes, body: bytes, frame_max: int = 131072
) -> bytes:
    """A header frame and as many body frames as `frame_max` asks for."""
    room = (frame_max or 1 << 30) - 8
    out = [frame(HEADER, channel, header_payload(values, len(body)))]
    out += [frame(BODY, channel, body[at : at + room]) for at in range(0, len(body), room)]
    return b"".join(out)


class Reader:
    """Takes fields off the front of `data`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise ValueError(f"{count} bytes wanted, {len(piece)} left")
        self.at += count
        return piece

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def short_string(self) -> str:
        return self.take(self.number(">B")).decode(errors="surrogateescape")

    def long_string(self) -> str:
        return self.take(self.number(">I")).decode(errors="surrogateescape")

    def table(self) -> dict[str, Any]:
        inner = Reader(self.take(self.number(">I")))
        values = {}
        while inner.at < len(inner.data):
            name = inner.short_string()
            values[name] = inner.value()
        return values

    def value(self) -> Any:
        """`[letter, value]`, so that types are compared too."""
        letter = self.take(1).decode("latin-1")
        if letter in _TABLE_NUMBERS:
            return [letter, self.number(_TABLE_NUMBERS[letter])]
        match letter:
            case "t":
                return [letter, self.number(">B") != 0]
            case "S" | "x":
                return [letter, self.long_string()]
            case "F":
                return [letter, self.table()]
            case "A":
                inner = Reader(self.take(self.number(">I")))
                items = []
                while inner.at < len(inner.data):
                    items.append(inner.value())
                return [letter, items]
            case "V":
                return [letter, None]
            case "D":
                return [letter, [self.number(">B"), self.number(">i")]]
        raise ValueError(f"no AMQP type {letter!r}")

    def field(self, kind: str) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == "s":
            return self.short_string()
        if kind == "S":
            return self.long_string()
        return self.table()


def decode_method(payload: bytes) -> tuple[str, dict[str, Any]]:
    reader = Reader(payload)
    name = NAMES[reader.number(">H"), reader.number(">H")]
    fields: dict[str, Any] = {}
    bits = 8
    octet = 0
    for field, kind in METHODS[name][2]:
        if kind == "b":
            if bits == 8:
                octet, bits = reader.number(">B"), 0
            fields[field] = bool(octet >> bits & 1)
            bits += 1
        else:
            bits = 8
            fields[field] = reader.field(kind)
    if reader.at != len(payload):
        raise ValueError(f"{name} has {len(payload) - reader.at} bytes too many")
    return name, fields


def decode_header(payload: bytes) -> tuple[int, dict[str, Any]]:
    """The body's size and the properties."""
    reader = Reader(payload)
    reader.take(4)
    size = reader.number(">Q")
    flags = reader.number(">H")
    values = {}
    for at, (name, kind) in enumerate(PROPERTIES):
        if flags >> (15 - at) & 1:
            values[name] = reader.field(kind)
    return size, values
