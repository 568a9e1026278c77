"""Carbon copies, consumers that have room, lengths of what comes back."""

from __future__ import annotations

from differential.cases.language import case, connect, declare, do, open_, publish

case(
    "publish CC and BCC through two exchanges",
    do("exchange.declare", exchange="@first", type="direct"),
    do("exchange.declare", exchange="@second", type="topic"),
    do("exchange.bind", destination="@second", source="@first", routing_key="one"),
    declare(),
    do("queue.bind", queue="@q", exchange="@second", routing_key="two"),
    publish("@first", "", properties={"headers": {"CC": ["one"], "BCC": ["two"]}}),
    do("basic.get", queue="@q", no_ack=True),
    do("exchange.delete", exchange="@first"),
    do("exchange.delete", exchange="@second"),
)
case(
    "get behind a consumer with room",
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q"),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "get behind a consumer without room",
    declare(),
    do("basic.qos", prefetch_count=1),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q", "1"),
    publish("", "@q", "2"),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "get behind a consumer of another connection",
    connect(),
    open_(),
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c", peer="b"),
    publish("", "@q"),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "qos global does not count what was got",
    do("basic.qos", prefetch_count=1, global_=True),
    declare(),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q", "1"),
    publish("", "@q", "2"),
    publish("", "@q", "3"),
    do("basic.get", queue="@q"),
    do("basic.ack", delivery_tag=1),
    do("basic.ack", delivery_tag=2),
)
case(
    "qos global holds up a consumer without acknowledgements",
    do("basic.qos", prefetch_count=1, global_=True),
    declare("@a"),
    declare("@b"),
    do("basic.consume", queue="@a", consumer_tag="a"),
    publish("", "@a", "1"),
    do("basic.consume", queue="@b", consumer_tag="b", no_ack=True),
    publish("", "@b", "2"),
    publish("", "@b", "3"),
    do("basic.ack", delivery_tag=1),
)
case(
    "requeue into a queue that is full",
    declare(arguments={"x-max-length": 2}),
    publish("", "@q", "old 1"),
    publish("", "@q", "old 2"),
    do("basic.get", queue="@q"),
    do("basic.get", queue="@q"),
    publish("", "@q", "new 1"),
    publish("", "@q", "new 2"),
    do("basic.nack", delivery_tag=1, requeue=True),
    do("basic.nack", delivery_tag=2, requeue=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
)
case(
    "requeue into a queue that is full, with a dead-letter exchange",
    declare("@dead"),
    declare(
        arguments={
            "x-max-length": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "@dead",
        }
    ),
    publish("", "@q", "old"),
    do("basic.get", queue="@q"),
    publish("", "@q", "new"),
    do("basic.reject", delivery_tag=1, requeue=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@q", no_ack=True),
    do("basic.get", queue="@dead", no_ack=True),
)
case(
    "publish to a queue of no length with a consumer",
    declare(arguments={"x-max-length": 0}),
    publish("", "@q", "dropped"),
    do("basic.qos", prefetch_count=1),
    do("basic.consume", queue="@q", consumer_tag="c"),
    publish("", "@q", "1"),
    publish("", "@q", "dropped"),
    do("basic.ack", delivery_tag=1),
    publish("", "@q", "2"),
)
