"""Who gets which message, in which order, and as redelivered or not; how long queues live."""

from __future__ import annotations

from typing import Any

from differential.cases.language import Step, case, connect, declare, do, open_, publish


def get(queue: str = "@q", **fields: Any) -> Step:
    return do("basic.get", queue=queue, **fields)


def put(body: str, priority: int | None = None, **fields: Any) -> Step:
    return publish("", "@q", body, {} if priority is None else {"priority": priority}, **fields)


def consume(tag: str, **fields: Any) -> Step:
    return do("basic.consume", queue="@q", consumer_tag=tag, **fields)


def ack(tag: int, **fields: Any) -> Step:
    return do("basic.ack", delivery_tag=tag, **fields)


def nack(tag: int, **fields: Any) -> Step:
    return do("basic.nack", delivery_tag=tag, **{"requeue": True, **fields})


# Giving back.

case(
    "requeue several in their order",
    declare(),
    *[put(body) for body in "1234"],
    *[get()] * 3,
    nack(3, multiple=True),
    *[get()] * 4,
)
case(
    "requeue each by itself",
    declare(),
    *[put(body) for body in "1234"],
    *[get()] * 3,
    nack(2),
    do("basic.reject", delivery_tag=1, requeue=True),
    *[get()] * 4,
)
case(
    "requeue in reverse with gets between",
    declare(),
    *[put(body) for body in "123"],
    *[get()] * 3,
    nack(3),
    nack(2),
    get(),
    nack(1),
    *[get()] * 3,
)
case(
    "requeue goes before what came later",
    declare(),
    put("1"),
    get(),
    put("2"),
    nack(1),
    put("3"),
    *[get()] * 3,
)
case(
    "channel close requeues what it held",
    open_("a", 2),
    declare(),
    *[put(body) for body in "123"],
    consume("c", channel=2),
    ack(2, channel=2),
    do("channel.close", channel=2, code=200),
    *[get()] * 3,
)
case(
    "recover redelivers to the same consumer",
    declare(),
    consume("c"),
    *[put(body) for body in "123"],
    ack(2),
    do("basic.recover", requeue=True),
    ack(5),
    do("basic.recover", requeue=True),
)
case(
    "recover what was got",
    declare(),
    put("1"),
    put("2"),
    *[get()] * 2,
    do("basic.recover", requeue=True),
    *[get()] * 2,
)
case(
    "recover after the consumer was cancelled",
    declare(),
    put("1"),
    put("2"),
    consume("c"),
    do("basic.cancel", consumer_tag="c"),
    do("basic.recover", requeue=True),
    *[get()] * 2,
)
case(
    "nack after a cancel goes to another consumer",
    open_("a", 2),
    declare(),
    consume("c"),
    put("1"),
    do("basic.cancel", consumer_tag="c"),
    consume("d", channel=2),
    nack(1),
)
case(
    "nack to the only consumer comes again",
    declare(),
    do("basic.qos", prefetch_count=1),
    consume("c"),
    put("1"),
    put("2"),
    nack(1),
    ack(2),
    ack(3),
)
case(
    "nack of all comes again in order",
    declare(),
    consume("c"),
    *[put(body) for body in "123"],
    nack(0, multiple=True),
)
case(
    "counts leave out what is unacknowledged",
    declare(),
    *[put(body) for body in "123"],
    get(),
    declare(passive=True),
    do("queue.purge", queue="@q"),
    nack(1),
    declare(passive=True),
    get(),
    do("queue.delete", queue="@q"),
)
case(
    "delete if empty with unacknowledged",
    declare(),
    put("1"),
    get(),
    do("queue.delete", queue="@q", if_empty=True),
)
case(
    "settle after the queue is deleted",
    declare(),
    put("1"),
    put("2"),
    *[get()] * 2,
    do("queue.delete", queue="@q"),
    nack(2, multiple=True),
    ack(2),
)

# Priorities of messages.

LEVELS = {"arguments": {"x-max-priority": 5}}
case(
    "priority order",
    declare(**LEVELS),
    put("none"),
    *[put(str(level), level) for level in (1, 9, 5, 3, 3)],
    *[get()] * 6,
)
case(
    "priority requeue",
    declare(**LEVELS),
    put("1", 1),
    put("3", 3),
    put("3b", 3),
    *[get()] * 2,
    put("3c", 3),
    nack(2, multiple=True),
    *[get()] * 4,
)
case(
    "priority beside a prefetch limit",
    declare(**LEVELS),
    do("basic.qos", prefetch_count=1),
    put("1", 1),
    put("2", 2),
    consume("c"),
    put("5", 5),
    put("0"),
    *[ack(tag) for tag in (1, 2, 3, 4)],
)
case(
    "priority reject publish",
    declare(arguments={"x-max-priority": 5, "x-max-length": 2, "x-overflow": "reject-publish"}),
    do("confirm.select"),
    *[put(str(level), level) for level in (5, 1, 3)],
    *[get()] * 3,
)

# Several consumers.

case(
    "consumer priorities with a prefetch limit",
    open_("a", 2),
    declare(),
    do("basic.qos", prefetch_count=1),
    do("basic.qos", prefetch_count=1, channel=2),
    consume("low"),
    consume("high", arguments={"x-priority": 10}, channel=2),
    *[put(body) for body in "123"],
    ack(1),
    put("4"),
    ack(1, channel=2),
    ack(2, channel=2),
)
case(
    "consumer priorities as they leave",
    declare(),
    consume("low", arguments={"x-priority": -1}),
    consume("mid"),
    consume("high", arguments={"x-priority": 3}),
    put("1"),
    do("basic.cancel", consumer_tag="high"),
    put("2"),
    do("basic.cancel", consumer_tag="mid"),
    put("3"),
)
case(
    "round robin",
    declare(),
    *[consume(tag, no_ack=True) for tag in "abc"],
    *[put(body) for body in "1234567"],
)
case(
    "round robin when one leaves",
    declare(),
    *[consume(tag, no_ack=True) for tag in "abc"],
    put("1"),
    do("basic.cancel", consumer_tag="b"),
    *[put(body) for body in "234"],
)
ONE = {"arguments": {"x-single-active-consumer": True}}
case(
    "single active consumer is cancelled",
    open_("a", 2),
    declare(**ONE),
    consume("one"),
    consume("two", channel=2),
    put("1"),
    put("2"),
    do("basic.cancel", consumer_tag="one"),
    put("3"),
    nack(1),
    ack(2),
)
case(
    "single active consumer loses its channel",
    open_("a", 2),
    declare(**ONE),
    consume("one", channel=2),
    consume("two"),
    put("1"),
    put("2"),
    do("channel.close", channel=2, code=200),
    put("3"),
)
case(
    "single active consumer comes again behind the other",
    declare(**ONE),
    consume("one"),
    consume("two"),
    do("basic.cancel", consumer_tag="one"),
    consume("one"),
    put("1"),
    do("basic.cancel", consumer_tag="two"),
    put("2"),
)
case(
    "single active consumer with priorities",
    open_("a", 2),
    declare(**ONE),
    consume("low"),
    consume("high", arguments={"x-priority": 5}, channel=2),
    put("1"),
    do("basic.cancel", consumer_tag="low"),
    put("2"),
)
case(
    "single active consumer beside a get",
    declare(**ONE),
    put("1"),
    do("basic.qos", prefetch_count=1),
    consume("one"),
    put("2"),
    *[get()] * 2,
)
case(
    "exclusive consumer does not keep out a get",
    declare(),
    put("1"),
    do("basic.qos", prefetch_count=1),
    consume("c", exclusive=True),
    put("2"),
    get(),
)
case(
    "exclusive consumer leaves",
    declare(),
    consume("c", exclusive=True),
    do("basic.cancel", consumer_tag="c"),
    consume("d"),
)

# How long queues live.

case(
    "auto delete with two consumers",
    open_("a", 2),
    declare(auto_delete=True),
    consume("c"),
    consume("d", channel=2),
    do("basic.cancel", consumer_tag="c"),
    declare(passive=True),
    do("channel.close", channel=2, code=200),
    declare(passive=True),
)
case("auto delete of who only gets", declare(auto_delete=True), put("1"), get(), declare())
case(
    "auto delete while a message is unacknowledged",
    declare(auto_delete=True),
    put("1"),
    consume("c"),
    do("basic.cancel", consumer_tag="c"),
    ack(1),
)
case(
    "exclusive and auto delete and durable",
    declare(exclusive=True, durable=True, auto_delete=True),
    consume("c"),
    do("basic.cancel", consumer_tag="c"),
    declare(passive=True),
)
case(
    "delete if unused with a consumer",
    declare(),
    consume("c"),
    do("queue.delete", queue="@q", if_unused=True),
)
case(
    "delete cancels every consumer",
    connect(),
    open_(),
    declare(),
    consume("c"),
    consume("d", peer="b"),
    do("queue.delete", queue="@q"),
)
