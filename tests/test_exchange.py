"""Publishing: every form of it, every option, every refusal."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

import wherry

MOMENT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone.utc)

EVERYTHING: wherry.PublishOptions = {
    "headers": {"order-id": "A17", "count": 3},
    "persistent": False,
    "priority": 7,
    "expiration": 60.0,
    "message_id": "m-1",
    "correlation_id": "c-1",
    "reply_to": "answers",
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "type": "order",
    "app_id": "shop",
    "user_id": "ann",
    "timestamp": MOMENT,
}


def check_everything(delivery: wherry.Delivery) -> None:
    properties = delivery.properties
    for name, value in EVERYTHING.items():
        assert getattr(properties, name) == value, name
        assert getattr(delivery, name) == value, name


async def test_publish_returns_when_confirmed_and_the_message_is_there() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        await broker.default_exchange.publish(b"one", "q")
        delivery = queue.get_nowait()
        assert delivery.body == b"one"
        assert delivery.routing_key == "q"
        assert delivery.exchange == ""
        assert delivery.queue == "q"
        assert delivery.persistent
        assert delivery.headers == {}
        assert delivery.properties == wherry.Properties()
        assert not delivery.redelivered
        assert delivery.delivery_count == 0
        assert delivery.deaths == []
        assert delivery.delivery_tag == 1


async def test_every_property_comes_back_the_same() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        exchange = broker.default_exchange
        await exchange.publish(b"", "q", **EVERYTHING)
        check_everything(queue.get_nowait())
        exchange.publish_nowait(b"", "q", **EVERYTHING)
        check_everything(queue.get_nowait())
        exchange.publish_many_nowait([wherry.Message(b"", "q", **EVERYTHING)])
        check_everything(queue.get_nowait())
        async with broker.transaction() as tx:
            tx.publish(exchange, b"", "q", **EVERYTHING)
        check_everything(queue.get_nowait())


@pytest.mark.parametrize("body", [b"x", bytearray(b"x"), memoryview(b"-x-")[1:2]])
async def test_bodies_are_bytes_of_any_kind(body: bytes) -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        exchange = broker.default_exchange
        await exchange.publish(body, "q")
        exchange.publish_many_nowait([body, (body, "q"), wherry.Message(body, "q")], "q")
        assert [d.body for d in queue.get_many_nowait(9)] == [b"x"] * 4


async def test_a_bytearray_may_change_after_it_was_published() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        body = bytearray(b"before")
        broker.default_exchange.publish_nowait(body, "q")
        broker.default_exchange.publish_many_nowait([body], "q")
        body[:] = b"after!"
        assert [d.body for d in queue.get_many_nowait(2)] == [b"before", b"before"]


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((None, "q"), {}, "not NoneType"),
        (("text", "q"), {}, r"body\.encode\(\)"),
        ((b"", "q"), {"expiration": -1.0}, "expiration=-1"),
        ((b"", "q"), {"expiration": float("nan")}, "expiration=NaN"),
        ((b"", "q"), {"delay": -0.5}, "delay=-0.5"),
        ((b"", "q"), {"delay": float("inf")}, "delay=inf"),
        ((b"", "q"), {"delay": 1.0, "deliver_at": 2e9}, "one of them"),
        ((b"", "q"), {"deliver_at": datetime(2030, 1, 1)}, "time zone"),
        ((b"", "q"), {"deliver_at": "tomorrow"}, "not str"),
        ((b"", "q"), {"timestamp": -5.0}, "1970"),
        ((b"", "q"), {"message_id": "x" * 256}, "255 bytes"),
        ((b"", "q" * 256), {}, "255"),
        ((b"", "q"), {"headers": {"a": object()}}, r"headers\['a'\]"),
        ((b"", "q"), {"headers": {1: "a"}}, "not int"),
    ],
)
async def test_what_can_never_be_right_is_refused_and_changes_nothing(
    arguments: tuple[bytes, str], options: wherry.PublishOptions, says: str
) -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        exchange = broker.default_exchange
        with pytest.raises(wherry.InvalidArgument, match=says):
            await exchange.publish(*arguments, **options)
        with pytest.raises(wherry.InvalidArgument, match=says):
            exchange.publish_nowait(*arguments, **options)
        with pytest.raises(wherry.InvalidArgument, match=says):
            exchange.publish_many_nowait([wherry.Message(*arguments, **options)])
        with pytest.raises(wherry.InvalidArgument, match=says):
            async with broker.transaction() as tx:
                tx.publish(exchange, *arguments, **options)
        with pytest.raises(ValueError, match=says):
            await exchange.publish(*arguments, **options)
        assert queue.statistics().ready == 0
        assert queue.scheduled() == []


async def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    async with wherry.open() as broker:
        with pytest.raises(TypeError, match="prority"):
            await broker.default_exchange.publish(b"", "q", prority=1)  # type: ignore[call-arg]


async def test_mandatory_raises_when_no_queue_is_bound() -> None:
    async with wherry.open() as broker:
        exchange = broker.default_exchange
        await exchange.publish(b"", "nowhere")
        with pytest.raises(wherry.Unroutable, match="nowhere"):
            await exchange.publish(b"", "nowhere", mandatory=True)
        stats = exchange.statistics()
        assert (stats.published, stats.unroutable) == (1, 1)


async def test_an_internal_exchange_refuses_publishers() -> None:
    async with wherry.open() as broker:
        exchange = await broker.declare_exchange("inner", internal=True)
        with pytest.raises(wherry.AccessRefused):
            await exchange.publish(b"", "q")


async def test_a_message_over_the_limit_is_refused() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        with pytest.raises(wherry.MessageTooLarge):
            await broker.default_exchange.publish(bytes((128 << 20) + 1), "q")
        assert queue.statistics().ready == 0


async def test_reject_publish_refuses_at_the_limit() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", max_length=2, overflow="reject-publish")
        exchange = broker.default_exchange
        await exchange.publish_many([b"1", b"2"], "q")
        with pytest.raises(wherry.PublishRejected, match="'q'"):
            await exchange.publish(b"3", "q")
        assert [m.body for m in queue.browse()] == [b"1", b"2"]


async def test_drop_head_makes_room() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", max_length=2)
        await broker.default_exchange.publish_many([b"1", b"2", b"3"], "q")
        assert [m.body for m in queue.browse()] == [b"2", b"3"]
        assert queue.statistics().dropped == 1


# Batches


async def test_a_batch_takes_bytes_pairs_and_messages() -> None:
    async with wherry.open() as broker:
        a, b = await broker.declare_queue("a"), await broker.declare_queue("b")
        messages = [b"1", (b"2", "b"), wherry.Message(b"3", "a", message_id="x"), b"4"]
        await broker.default_exchange.publish_many(messages, routing_key="a")
        await broker.default_exchange.publish_many(iter(messages), "a")
        await broker.default_exchange.publish_many(tuple(messages), "a")
        assert [d.body for d in a.get_many_nowait(99)] == [b"1", b"3", b"4"] * 3
        assert [d.body for d in b.get_many_nowait(99)] == [b"2"] * 3


async def test_an_empty_batch_is_nothing() -> None:
    async with wherry.open() as broker:
        await broker.default_exchange.publish_many([], "q")
        assert broker.default_exchange.publish_many_nowait([], "q") == 0


async def test_a_long_batch_keeps_its_order() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        bodies = [b"%d" % i for i in range(10_500)]
        await broker.default_exchange.publish_many(bodies, "q")
        assert [d.body for d in queue.get_many_nowait(20_000)] == bodies


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("text", r"messages\[1\].*encode"),
        (7, r"messages\[1\].*int"),
        ((b"x",), r"messages\[1\].*tuple"),
        ((b"x", 3), r"messages\[1\].*routing key.*int"),
        (("x", "q"), r"messages\[1\].*encode"),
        ((b"x", "q", 3), r"messages\[1\].*tuple"),
    ],
)
async def test_a_bad_message_in_a_batch_is_named_and_nothing_is_published(
    bad: object, says: str
) -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        batch = [b"good", bad, b"good"]
        with pytest.raises(wherry.InvalidArgument, match=says):
            broker.default_exchange.publish_many_nowait(batch, "q")  # type: ignore[arg-type]
        assert queue.statistics().ready == 0


@pytest.mark.parametrize("batch", [b"one bytes object", None, 7])
async def test_a_batch_is_a_sequence(batch: object) -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.InvalidArgument, match="messages is"):
            broker.default_exchange.publish_many_nowait(batch, "q")  # type: ignore[arg-type]


def test_a_message_shows_what_it_is() -> None:
    message = wherry.Message(b"four", "key")
    assert message.body == b"four"
    assert message.routing_key == "key"
    assert repr(message) == "<wherry.Message 4 bytes, routing_key='key'>"
    with pytest.raises(AttributeError):
        message.body = b""  # type: ignore[misc]


# Routing and looking


async def test_types_route_as_they_should() -> None:
    async with wherry.open() as broker:
        queues = {name: await broker.declare_queue(name) for name in "abc"}
        topic = await broker.declare_exchange("t", "topic")
        await queues["a"].bind(topic, "order.*.placed")
        await queues["b"].bind(topic, "order.#")
        await queues["c"].bind("t", "#.placed")
        await topic.publish(b"", "order.eu.placed")
        await topic.publish(b"", "order.eu.shipped")
        assert [q.statistics().ready for q in queues.values()] == [1, 2, 1]

        headers = await broker.declare_exchange("h", "headers")
        await queues["a"].bind(headers, arguments={"x-match": "any", "colour": "red", "size": 3})
        await headers.publish(b"", headers={"colour": "red"})
        await headers.publish(b"", headers={"colour": "blue"})
        assert queues["a"].statistics().ready == 2

        fanout = await broker.declare_exchange("f", "fanout")
        for queue in queues.values():
            await queue.bind(fanout)
        await fanout.publish(b"", "anything")
        assert [q.statistics().ready for q in queues.values()] == [3, 3, 2]


async def test_bindings_and_statistics_of_an_exchange() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        source = await broker.declare_exchange("s", "headers")
        target = await broker.declare_exchange("t", "fanout")
        await queue.bind(target)
        await target.bind(source, "k", arguments={"x-match": "all", "a": 1})
        assert source.bindings() == [
            wherry.Binding("t", "exchange", "k", {"x-match": "all", "a": 1})
        ]
        assert target.bindings() == [wherry.Binding("q", "queue", "", {})]
        await source.publish(b"", headers={"a": 1})
        await source.publish(b"", headers={"a": 2})
        assert source.statistics() == wherry.ExchangeStatistics(
            published=2, routed=1, unroutable=1, bindings=1
        )
        await target.unbind(source, "k", arguments={"x-match": "all", "a": 1})
        assert source.bindings() == []
        assert repr(source) == "<wherry.Exchange 's', headers>"
        await source.delete()
        with pytest.raises(wherry.UnknownExchange):
            broker.exchange("s")


async def test_an_alternate_exchange_takes_what_no_binding_does() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("lost")
        await broker.declare_exchange("ae", "fanout")
        await queue.bind("ae")
        exchange = await broker.declare_exchange("x", alternate_exchange="ae")
        await exchange.publish(b"?", "no such key", mandatory=True)
        assert queue.get_nowait().body == b"?"


async def test_a_batch_refused_in_the_middle_says_how_far_it_went() -> None:
    async with wherry.open() as broker:
        limited = await broker.declare_queue("q", max_length=3, overflow="reject-publish")
        other = await broker.declare_queue("other")
        exchange = broker.default_exchange
        batch = [(b"0", "q"), (b"1", "other"), (b"2", "q"), (b"3", "other"), (b"4", "q")]
        await exchange.publish_many(batch)
        with pytest.raises(wherry.PublishRejected) as caught:
            await exchange.publish_many([(b"5", "other"), (b"6", "q"), (b"7", "other")])
        assert caught.value.published == 1
        with pytest.raises(wherry.PublishRejected) as caught:
            exchange.publish_many_nowait([(b"8", "other"), (b"9", "q")])
        assert caught.value.published == 1
        with pytest.raises(wherry.PublishRejected) as caught:
            await exchange.publish(b"", "q")
        assert caught.value.published == 0
        assert [m.body for m in limited.browse()] == [b"0", b"2", b"4"]
        assert [m.body for m in other.browse()] == [b"1", b"3", b"5", b"8"]
