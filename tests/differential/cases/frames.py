"""Broken frames."""

from __future__ import annotations

import struct

from differential.cases.language import case, open_, raw
from wire import codec

frame, method = codec.frame, codec.method_frame
PUBLISH = method(1, "basic.publish", routing_key="nobody")


def payload(class_id: int, method_id: int, data: bytes = b"") -> bytes:
    return struct.pack(">HH", class_id, method_id) + data


case("frame end wrong", raw(method(1, "basic.qos")[:-1] + b"\x00"))
case("frame end wrong heartbeat", raw(b"\x08\x00\x00\x00\x00\x00\x00\xcd"))
case("frame too large", raw(struct.pack(">BHI", 1, 1, 1 << 30)))
case("frame one byte too large", raw(struct.pack(">BHI", 3, 1, 131073)))
case("frame kind unknown", raw(frame(7, 1, b"abc")))
case("frame kind unknown channel 0", raw(frame(7, 0, b"abc")))
case("heartbeat on channel 1", raw(frame(8, 1, b"")))
case("heartbeat with payload", raw(frame(8, 0, b"abc")))
case("method frame empty", raw(frame(1, 1, b"")))
case("method frame of 3 bytes", raw(frame(1, 1, b"\x00\x0a\x00")))
case("class unknown", raw(frame(1, 1, payload(99, 10))))
case("method unknown", raw(frame(1, 1, payload(50, 99))))
case("class unknown channel 0", raw(frame(1, 0, payload(99, 10))))
case(
    "method truncated", raw(frame(1, 1, codec.method_payload("queue.declare", {"queue": "q"})[:-3]))
)
case(
    "method with trailing bytes",
    raw(frame(1, 1, codec.method_payload("basic.qos", {}) + b"\x00\x00")),
)
case("short string past the end", raw(frame(1, 1, payload(50, 30, b"\x00\x00\xff" + b"ab"))))
case(
    "table past the end",
    raw(
        frame(
            1,
            1,
            codec.method_payload(
                "queue.declare", {"queue": "q", "arguments": struct.pack(">I", 999)}
            ),
        )
    ),
)
case(
    "table length 2^32-1",
    raw(
        frame(
            1,
            1,
            codec.method_payload("queue.declare", {"queue": "q", "arguments": b"\xff\xff\xff\xff"}),
        )
    ),
)
case(
    "table value of unknown type",
    raw(
        frame(
            1,
            1,
            codec.method_payload(
                "queue.declare", {"queue": "q", "arguments": codec.long_string(b"\x01aZ\x00")}
            ),
        )
    ),
)
case(
    "table truncated inside",
    raw(
        frame(
            1,
            1,
            codec.method_payload(
                "queue.declare", {"queue": "q", "arguments": codec.long_string(b"\x01aI\x00")}
            ),
        )
    ),
)
case(
    "name not utf-8",
    raw(frame(1, 1, codec.method_payload("queue.declare", {"queue": b"\xff\xfe"}))),
)
case("header without method", raw(frame(2, 1, codec.header_payload({}, 0))))
case("body without method", raw(frame(3, 1, b"abc")))
case("header on channel 0", raw(frame(2, 0, codec.header_payload({}, 0))))
case("body on channel 0", raw(frame(3, 0, b"abc")))
case("header on a closed channel", raw(frame(2, 9, codec.header_payload({}, 0))))
case("body on a closed channel", raw(frame(3, 9, b"abc")))
case("method instead of header", raw(PUBLISH, method(1, "basic.qos")))
case("body instead of header", raw(PUBLISH, frame(3, 1, b"abc")))
case(
    "method instead of body",
    raw(PUBLISH, frame(2, 1, codec.header_payload({}, 5)), method(1, "basic.qos")),
)
case(
    "header twice",
    raw(
        PUBLISH, frame(2, 1, codec.header_payload({}, 5)), frame(2, 1, codec.header_payload({}, 5))
    ),
)
case(
    "body longer than announced",
    raw(PUBLISH, frame(2, 1, codec.header_payload({}, 2)), frame(3, 1, b"abc")),
)
case(
    "body when none was announced",
    raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0)), frame(3, 1, b"abc")),
)
case(
    "body frames empty",
    raw(
        PUBLISH, frame(2, 1, codec.header_payload({}, 2)), frame(3, 1, b"") * 3, frame(3, 1, b"ab")
    ),
)
case("body size 2^63", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 1 << 63))))
case("header of another class", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0, class_id=50))))
case("header weight", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0, weight=1))))
case(
    "header truncated",
    raw(PUBLISH, frame(2, 1, codec.header_payload({"content_type": "text"}, 0)[:-2])),
)
case("header with trailing bytes", raw(PUBLISH, frame(2, 1, codec.header_payload({}, 0) + b"abc")))
case("header with unknown flag", raw(PUBLISH, frame(2, 1, codec.header_payload(b"\x00\x02", 0))))
case(
    "header with continuation flag",
    raw(PUBLISH, frame(2, 1, codec.header_payload(b"\x00\x01\x00\x00", 0))),
)
case("header too short", raw(PUBLISH, frame(2, 1, b"\x00\x3c")))
case(
    "heartbeat inside a content", raw(PUBLISH, frame(8, 0, b""), codec.content_frames(1, {}, b"ab"))
)
case(
    "other channel inside a content",
    open_("a", 2),
    raw(PUBLISH, method(2, "basic.qos"), codec.content_frames(1, {}, b"ab")),
)
