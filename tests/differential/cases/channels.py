"""Channels and the connection."""

from __future__ import annotations

from differential.cases.language import bare, case, connect, declare, do, open_, raw
from wire import codec

case("channel not open", do("queue.declare", channel=9, queue="@q"))
case("channel open twice", do("channel.open"))
case("channel above the maximum", [*do("channel.open", channel=3000)])
case(
    "channel reopened after its close",
    do("channel.close", code=200, text="bye"),
    open_("a", 1),
    declare(),
)
case("channel reopened after an error", declare(passive=True), open_("a", 1), declare())
case("channel close unknown", do("channel.close", channel=5, code=200))
case("connection close", do("connection.close", channel=0, code=200, text="bye"))
case("connection open twice", do("connection.open", channel=0, virtual_host="/"))
case("connection tune twice", do("connection.tune-ok", channel=0, channel_max=10, frame_max=4096))
case(
    "connection start-ok twice",
    do(
        "connection.start-ok",
        channel=0,
        mechanism="PLAIN",
        response="\0guest\0guest",
        locale="en_US",
    ),
)
case("channel method on channel 0", do("queue.declare", channel=0, queue="@q"))
case("channel open on channel 0", do("channel.open", channel=0))
case("connection method on channel 1", do("connection.close", channel=1, code=200))
case("update secret", do("connection.update-secret", channel=0, new_secret="s", reason="r"))
for method in (
    "queue.declare-ok",
    "basic.consume-ok",
    "basic.get-empty",
    "channel.open-ok",
    "confirm.select-ok",
    "basic.cancel-ok",
    "basic.recover-ok",
):
    case(f"{method} from a client", do(method))
case(
    "basic.deliver from a client",
    raw(codec.method_frame(1, "basic.deliver", consumer_tag="c"), codec.content_frames(1, {}, b"")),
)
case("connection blocked from a client", do("connection.blocked", channel=0, reason="r"))
bare("connect wrong password", connect("a", password="wrong"))
bare("connect wrong password without capability", connect("a", password="wrong", capabilities={}))
bare("connect unknown user", connect("a", user="nobody"))
bare("connect empty password", connect("a", password=""))
bare("connect unknown virtual host", connect("a", virtual_host="absent"))
bare("connect empty virtual host", connect("a", virtual_host=""))
bare("connect frame max too small", connect("a", frame_max=1000))
bare("connect frame max too large", connect("a", frame_max=1 << 20))
bare("connect frame max 4096", connect("a", frame_max=4096), open_("a", 1))
bare("connect channel max too large", connect("a", channel_max=65535))
bare("connect channel max zero", connect("a", channel_max=0))
bare("connect channel max 1", connect("a", channel_max=1), open_("a", 1), open_("a", 2))
