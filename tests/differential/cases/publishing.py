"""Publishing."""

from __future__ import annotations

from differential.cases.language import case, declare, do, publish

case("publish exchange absent", publish("@absent", "k"))
case("publish exchange absent confirmed", do("confirm.select"), publish("@absent", "k"))
case(
    "publish internal exchange",
    do("exchange.declare", exchange="@e", type="direct", internal=True),
    publish("@e", "k"),
)
case("publish unroutable", do("confirm.select"), publish("", "@nobody"))
case("publish unroutable mandatory", do("confirm.select"), publish("", "@nobody", mandatory=True))
case(
    "publish unroutable mandatory unconfirmed",
    publish("", "@nobody", "back", {"headers": {"a": 1}}, mandatory=True),
)
case("publish immediate", declare(), publish("", "@q", immediate=True))
for text in (
    "abc",
    "-1",
    "",
    "1.5",
    " 5",
    "5 ",
    "+5",
    "0",
    "00060000",
    "4294967296",
    "99999999999999999999",
):
    case(
        f"publish expiration {text!r}",
        declare(),
        do("confirm.select"),
        publish("", "@q", "m", {"expiration": text}),
    )
case("publish foreign user id", declare(), publish("", "@q", "m", {"user_id": "other"}))
case(
    "publish own user id",
    declare(),
    do("confirm.select"),
    publish("", "@q", "m", {"user_id": "guest"}),
)
case(
    "publish priority 255",
    declare(arguments={"x-max-priority": 5}),
    do("confirm.select"),
    publish("", "@q", "m", {"priority": 255}),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "publish delivery mode 0",
    declare(),
    do("confirm.select"),
    publish("", "@q", "m", {"delivery_mode": 0}),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "publish cc",
    declare(),
    do("confirm.select"),
    publish("", "@nobody", "m", {"headers": {"CC": ["@q"]}}),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "publish bcc",
    declare(),
    do("confirm.select"),
    publish("", "@nobody", "m", {"headers": {"BCC": ["@q"], "a": 1}}),
    do("basic.get", queue="@q", no_ack=True),
)
case("publish cc not an array", declare(), publish("", "@q", "m", {"headers": {"CC": "@q"}}))
case(
    "publish cc of numbers",
    declare(),
    do("confirm.select"),
    publish("", "@q", "m", {"headers": {"CC": [1]}}),
    do("queue.purge", queue="@q"),
)
case(
    "publish refused by length",
    declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"}),
    do("confirm.select"),
    publish("", "@q"),
    publish("", "@q"),
    do("queue.purge", queue="@q"),
)
case(
    "publish drops head by length",
    declare(arguments={"x-max-length": 1}),
    do("confirm.select"),
    publish("", "@q", "old"),
    publish("", "@q", "new"),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
)
