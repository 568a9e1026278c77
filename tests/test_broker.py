"""Opening, declaring, virtual hosts, transactions, publish-subscribe."""

from __future__ import annotations

from pathlib import Path

import pytest

import wherry
from helpers import settle, tasks
from test_queue import Oops, filled

# Opening and closing


async def test_the_predeclared_exchanges_are_there() -> None:
    async with wherry.open() as broker:
        for name, kind in [
            ("", "direct"),
            ("amq.direct", "direct"),
            ("amq.topic", "topic"),
            ("amq.headers", "headers"),
            ("amq.match", "headers"),
            ("amq.fanout", "fanout"),
        ]:
            assert broker.exchange(name).type == kind
        assert broker.default_exchange.name == ""
        assert broker.name == "/"
        assert repr(broker) == "<wherry.Broker '/'>"
        assert {"amq.topic", "amq.fanout"} <= set(broker.exchanges())
        assert broker.queues() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"durability": "sometimes"}, "'always', 'interval' or 'never'"),
        ({"durability": "interval", "sync_interval": -1.0}, "sync_interval"),
        ({"on_corruption": "ignore"}, "'refuse' or 'salvage'"),
    ],
)
async def test_options_that_can_never_be_right(
    tmp_path: Path, options: dict[str, object], says: str
) -> None:
    with pytest.raises(wherry.InvalidArgument, match=says):
        async with wherry.open(tmp_path / "j", **options):  # type: ignore[arg-type]
            pass
    async with wherry.open(tmp_path / "j"):
        pass


async def test_two_brokers_in_one_loop() -> None:
    async with wherry.open() as one, wherry.open() as two, tasks() as running:
        queues = [await filled(broker, 1) for broker in (one, two)]
        for queue in queues:
            assert queue.get_nowait(no_ack=True).body == b"0"
        waiting = [running.start(queue.get) for queue in queues]
        await settle()
        two.default_exchange.publish_nowait(b"two", "q")
        assert (await waiting[1].wait()).body == b"two"
        assert not waiting[0].done
        one.default_exchange.publish_nowait(b"one", "q")
        assert (await waiting[0].wait()).body == b"one"


async def test_closing_ends_whoever_waits() -> None:
    async with tasks() as running:
        async with wherry.open() as broker:
            queue = await filled(broker, 1)
            held = queue.get_nowait()
            exchange = broker.default_exchange

            async def iterate() -> None:
                async with queue.consume() as consumer:
                    async for _ in consumer:
                        pass

            waiting = [running.start(queue.get), running.start(iterate)]
            await settle()
        for task in waiting:
            with pytest.raises(wherry.BrokerClosed):
                await task.wait()
        with pytest.raises(wherry.BrokerClosed):
            exchange.publish_nowait(b"", "q")
        with pytest.raises(wherry.BrokerClosed):
            await exchange.publish(b"", "q")
        with pytest.raises(wherry.BrokerClosed):
            queue.get_nowait()
        with pytest.raises(wherry.BrokerClosed):
            await queue.get()
        with pytest.raises(wherry.BrokerClosed):
            held.ack()
        with pytest.raises(wherry.BrokerClosed):
            await broker.declare_queue("new")
        with pytest.raises(wherry.BrokerClosed):
            async with queue.consume():
                pass
        await broker.aclose()


async def test_the_exception_of_the_block_comes_out_as_it_is() -> None:
    error = Oops("mine")
    with pytest.raises(Oops) as caught:
        async with wherry.open():
            raise error
    assert caught.value is error


async def test_the_clock_is_shown() -> None:
    import time

    async with wherry.open() as broker:
        assert abs(broker.clock.now() - time.time()) < 5
        assert not hasattr(broker.clock, "advance")


# Declaring


async def test_declaring_again_the_same_way_changes_nothing() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", max_length=5)
        again = await broker.declare_queue("q", max_length=5)
        assert again.name == queue.name
        with pytest.raises(wherry.PreconditionFailed, match="q"):
            await broker.declare_queue("q", max_length=6)
        await broker.declare_exchange("x", "topic")
        await broker.declare_exchange("x", "topic")
        with pytest.raises(wherry.PreconditionFailed, match="x"):
            await broker.declare_exchange("x", "fanout")
        assert broker.exchange("x").type == "topic"


async def test_the_broker_chooses_a_name() -> None:
    async with wherry.open() as broker:
        one, two = await broker.declare_queue(), await broker.declare_queue()
        assert one.name.startswith("amq.gen-")
        assert one.name != two.name
        assert set(broker.queues()) == {one.name, two.name}


async def test_declaring_passively_only_looks() -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.UnknownQueue, match="'q' in vhost '/'"):
            await broker.declare_queue("q", passive=True)
        with pytest.raises(wherry.UnknownExchange, match="'x' in vhost '/'"):
            await broker.declare_exchange("x", passive=True)
        await broker.declare_queue("q", max_length=5)
        await broker.declare_exchange("x", "fanout")
        assert (await broker.declare_queue("q", passive=True)).name == "q"
        assert (await broker.declare_exchange("x", passive=True)).type == "fanout"


async def test_what_does_not_exist() -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.UnknownQueue):
            broker.queue("q")
        with pytest.raises(wherry.UnknownExchange):
            broker.exchange("x")
        with pytest.raises(wherry.UnknownQueue):
            await broker.delete_queue("q")
        with pytest.raises(wherry.UnknownExchange):
            await broker.delete_exchange("x")
        with pytest.raises(wherry.UnknownVirtualHost):
            broker.virtual_host("v")
        with pytest.raises(wherry.UnknownVirtualHost):
            await broker.delete_virtual_host("v")


@pytest.mark.parametrize(
    "options",
    [
        {"message_ttl": -1.0},
        {"expires": 0.0},
        {"lease": 0.0},
        {"max_priority": 0},
        {"overflow": "explode"},
        {"retry": wherry.Retry(attempts=0)},
        {"retry": wherry.Retry(first=-1)},
        {"retry": wherry.Retry(factor=0.5)},
        {"retry": wherry.Retry(kind="quadratic")},  # type: ignore[arg-type]
        {"group_by": ""},
        {"group_by": "k", "max_priority": 3},
    ],
)
async def test_queue_options_that_can_never_be_right(options: wherry.QueueOptions) -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.InvalidArgument):
            await broker.declare_queue("q", **options)
        assert broker.queues() == []


async def test_reserved_names_are_refused() -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.AccessRefused):
            await broker.declare_queue("amq.mine")
        with pytest.raises(wherry.AccessRefused):
            await broker.declare_exchange("amq.mine")
        with pytest.raises(wherry.AccessRefused):
            await broker.delete_exchange("amq.topic")
        with pytest.raises(wherry.AccessRefused):
            await broker.queue((await broker.declare_queue("q")).name).bind("", "k")


@pytest.mark.parametrize("kind", ["x-random", ""])
async def test_an_unknown_exchange_type(kind: str) -> None:
    async with wherry.open() as broker:
        with pytest.raises(wherry.InvalidArgument, match="fanout"):
            await broker.declare_exchange("x", kind)  # type: ignore[arg-type]


async def test_an_exchange_in_use_may_be_protected() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        exchange = await broker.declare_exchange("x")
        await queue.bind(exchange, "k")
        with pytest.raises(wherry.PreconditionFailed):
            await exchange.delete(if_unused=True)
        await queue.unbind(exchange, "k")
        await exchange.delete(if_unused=True)


async def test_auto_delete() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", auto_delete=True)
        async with queue.consume():
            pass
        assert broker.queues() == []


# Virtual hosts


async def test_virtual_hosts_are_apart() -> None:
    async with wherry.open() as broker, tasks() as running:
        host = await broker.add_virtual_host("other")
        assert sorted(broker.virtual_hosts()) == ["/", "other"]
        assert repr(host) == "<wherry.VirtualHost 'other'>"
        queue = await host.declare_queue("q")
        with pytest.raises(wherry.UnknownQueue):
            broker.queue("q")
        await broker.default_exchange.publish(b"lost", "q")
        await broker.virtual_host("other").default_exchange.publish(b"found", "q")
        assert [m.body for m in queue.browse()] == [b"found"]
        await queue.purge()
        task = running.start(queue.get)
        await settle()
        await broker.delete_virtual_host("other")
        with pytest.raises(wherry.WherryError):
            await task.wait()
        assert broker.virtual_hosts() == ["/"]


# Transactions


async def test_a_transaction_is_all() -> None:
    async with wherry.open() as broker:
        queue, done = await filled(broker, 2), await broker.declare_queue("done")
        first, second = queue.get_many_nowait(2)
        async with broker.transaction() as tx:
            tx.publish(broker.default_exchange, b"result", "done")
            tx.ack(first)
            tx.nack(second)
            assert done.statistics().ready == 0
            assert queue.statistics().unacked == 2
        assert [m.body for m in done.browse()] == [b"result"]
        stats = queue.statistics()
        assert (stats.ready, stats.unacked, stats.acknowledged) == (1, 0, 1)
        async with first:  # settled: the block leaves it alone
            pass


async def test_a_transaction_is_nothing_after_an_exception() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 1)
        delivery = queue.get_nowait()
        with pytest.raises(Oops):  # noqa: PT012
            async with broker.transaction() as tx:
                tx.publish(broker.default_exchange, b"no", "q")
                tx.ack(delivery)
                raise Oops
        stats = queue.statistics()
        assert (stats.ready, stats.unacked, stats.published) == (0, 1, 1)
        delivery.ack()


async def test_a_transaction_with_a_part_that_is_refused_is_nothing() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 2)
        settled, held = queue.get_many_nowait(2)
        settled.ack()
        with pytest.raises(wherry.UnknownDelivery):  # noqa: PT012
            async with broker.transaction() as tx:
                tx.publish(broker.default_exchange, b"no", "q")
                tx.ack(held)
                tx.ack(settled)
        with pytest.raises(wherry.Unroutable):  # noqa: PT012
            async with broker.transaction() as tx:
                tx.ack(held)
                tx.publish(broker.default_exchange, b"no", "nowhere", mandatory=True)
        stats = queue.statistics()
        assert (stats.ready, stats.unacked) == (0, 1)
        held.ack()


async def test_a_transaction_that_is_over() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 1)
        async with broker.transaction() as tx:
            pass
        for use in (
            lambda: tx.publish(broker.default_exchange, b"", "q"),
            lambda: tx.ack(queue.get_nowait()),
        ):
            with pytest.raises(wherry.PreconditionFailed, match="over"):
                use()


# Publish-subscribe


async def test_subscribers_get_copies_of_what_matches() -> None:
    async with wherry.open() as broker, tasks() as running:
        seen: dict[str, list[bytes]] = {"orders.*.placed": [], "orders.#": [], "users.#": []}

        async def subscribe(pattern: str) -> None:
            async with broker.subscribe(pattern) as deliveries:
                async for delivery in deliveries:
                    seen[pattern].append(delivery.body)

        for pattern in seen:
            running.start(subscribe, pattern)
        await settle()
        await broker.publish("orders.eu.placed", b"1", headers={"a": 1})
        await broker.publish("orders.eu.shipped", b"2")
        await settle()
        assert seen == {"orders.*.placed": [b"1"], "orders.#": [b"1", b"2"], "users.#": []}
        assert len(broker.queues()) == 3


async def test_a_subscription_ends_with_its_block() -> None:
    async with wherry.open() as broker:
        async with broker.subscribe("#", prefetch=2, no_ack=False, max_length=3) as deliveries:
            for i in range(5):
                await broker.publish("t", b"%d" % i)
            assert [d.body for d in deliveries.take_nowait()] == [b"2", b"3"]
        assert broker.queues() == []
