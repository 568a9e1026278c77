"""Dead letters."""

from __future__ import annotations

from differential.cases.language import case, declare, do, publish

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@dead"}
case(
    "dead letter rejected",
    declare("@dead"),
    declare(arguments=DEAD),
    do("confirm.select"),
    publish("", "@q", "m", {"headers": {"a": 1}}),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=1),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter twice",
    declare("@dead", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@q"}),
    declare(arguments=DEAD),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=1),
    do("basic.get", queue="@dead"),
    do("basic.reject", delivery_tag=2),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=3),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter maxlen",
    declare("@dead"),
    declare(arguments=DEAD | {"x-max-length": 1}),
    do("confirm.select"),
    publish("", "@q", "old"),
    publish("", "@q", "new"),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter cc",
    declare("@dead"),
    declare(arguments={"x-dead-letter-exchange": ""}),
    do("confirm.select"),
    publish("", "@nobody", "m", {"headers": {"CC": ["@q", "@dead"]}}),
    do("basic.get", queue="@dead", no_ack=True),
    do("basic.get", queue="@q"),
    do("basic.reject", delivery_tag=2),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "dead letter cycle of expiry is dropped",
    declare(arguments={"x-dead-letter-exchange": "", "x-message-ttl": 0}),
    do("confirm.select"),
    publish("", "@q"),
    do("basic.get", queue="@q"),
)
case(
    "dead letter expired at once",
    declare("@dead"),
    declare(arguments=DEAD),
    do("confirm.select"),
    publish("", "@q", "m", {"expiration": "0"}),
    do("basic.get", queue="@dead", no_ack=True),
)
