"""Consumers: iterating, taking, settling many, prefetch, batches."""

from __future__ import annotations

import pytest

import wherry
from helpers import pause, settle, tasks
from test_queue import Oops, filled


async def test_iterating_hands_out_in_order_and_waits_for_more() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await filled(broker, 250)
        seen: list[bytes] = []

        async def consume() -> None:
            async with queue.consume() as consumer:
                async for delivery in consumer:
                    async with delivery:
                        seen.append(delivery.body)
                    if len(seen) == 300:
                        return

        task = running.start(consume)
        await settle()
        assert len(seen) == 250
        await broker.default_exchange.publish_many([b"%d" % i for i in range(250, 300)], "q")
        await task.wait()
        assert seen == [b"%d" % i for i in range(300)]
        assert queue.statistics().acknowledged == 300


async def test_iterating_gives_other_tasks_a_turn() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await filled(broker, 1000)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await pause()

        running.start(count)
        await pause()
        before = turns
        async with queue.consume(0) as consumer:
            taken = 0
            async for _ in consumer:
                taken += 1
                if taken == 1000:
                    break
        assert turns - before >= 8


async def test_iterating_notices_a_cancellation() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        await broker.default_exchange.publish(b"", "q")
        handled = 0

        async def consume() -> None:
            nonlocal handled
            async with queue.consume() as consumer:
                async for delivery in consumer:
                    delivery.nack()  # ready again at once: the loop never has to wait
                    handled += 1

        task = running.start(consume)
        await pause()
        while handled < 100:
            await pause()
        task.cancel()
        while not task.done:
            await pause()
        assert task.cancelled


async def test_leaving_returns_what_was_not_acked() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 4)
        async with queue.consume() as consumer:
            taken = await consumer.take(3)
            taken[1].ack()
            assert consumer.unacked == 2
        assert [m.body for m in queue.browse()] == [b"0", b"2", b"3"]
        assert [m.redelivered for m in queue.browse()] == [True, True, False]
        with pytest.raises(wherry.UnknownDelivery):
            taken[0].ack()
        with pytest.raises(wherry.InvalidArgument, match="was left"):
            consumer.take_nowait(1)


async def test_breaking_out_of_the_loop_loses_nothing() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 10)
        for no_ack, left in [(False, 10), (True, 9)]:
            async with queue.consume(no_ack=no_ack) as consumer:
                async for _ in consumer:
                    break
            assert queue.statistics().ready == left


async def test_take_takes_at_least_one_and_at_most_max() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await filled(broker, 5)
        async with queue.consume() as consumer:
            assert len(await consumer.take(3)) == 3
            assert len(await consumer.take()) == 2
            assert consumer.take_nowait() == []
            assert await consumer.take(0) == []
            waiting = running.start(consumer.take, 10)
            await settle()
            assert not waiting.done
            await broker.default_exchange.publish(b"x", "q")
            assert [d.body for d in await waiting.wait()] == [b"x"]


async def test_two_tasks_may_share_a_consumer() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        async with queue.consume() as consumer:
            one, two = running.start(consumer.take, 1), running.start(consumer.take, 1)
            await settle()
            await broker.default_exchange.publish(b"1", "q")
            await settle()
            assert one.done != two.done
            await broker.default_exchange.publish(b"2", "q")
            assert {(await t.wait())[0].body for t in (one, two)} == {b"1", b"2"}
            three, four = running.start(consumer.take, 1), running.start(consumer.take, 1)
            await settle()
            three.cancel()
            await settle()
            await broker.default_exchange.publish(b"3", "q")
            assert [d.body for d in await four.wait()] == [b"3"]


async def test_prefetch_limits_and_may_be_changed() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await filled(broker, 10)
        async with queue.consume(2) as consumer:
            assert consumer.prefetch == 2
            first = await consumer.take()
            assert len(first) == 2
            assert consumer.take_nowait() == []
            waiting = running.start(consumer.take)
            await settle()
            assert not waiting.done
            first[0].ack()
            assert len(await waiting.wait()) == 1
            waiting = running.start(consumer.take)
            await settle()
            consumer.prefetch = 5
            assert len(await waiting.wait()) == 3
            consumer.prefetch = 0
            assert len(consumer.take_nowait()) == 4


async def test_settling_many_is_all_or_none() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 9)
        async with queue.consume() as consumer, queue.consume() as other:
            a, b, c, d, e = await consumer.take(5)
            [foreign] = await other.take(1)
            consumer.ack_up_to(b)
            assert consumer.unacked == 3
            for bad in ([c, a], [c, foreign], [c, c]):
                with pytest.raises(wherry.UnknownDelivery):
                    consumer.ack_many(bad)
                assert consumer.unacked == 3
            with pytest.raises(wherry.UnknownDelivery):
                consumer.ack_up_to(foreign)
            with pytest.raises(TypeError):
                consumer.ack_many([c, b"no delivery"])  # type: ignore[list-item]
            consumer.ack_many([d, c])
            consumer.nack_many(x for x in [e])
            assert consumer.unacked == 0
        assert [m.body for m in queue.browse()] == [b"4", b"5", b"6", b"7", b"8"]


async def test_consumer_tags() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        async with queue.consume(tag="mine") as mine, queue.consume() as other:
            assert mine.tag == "mine"
            assert other.tag


async def test_an_exclusive_consumer_is_alone() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        async with queue.consume(exclusive=True):
            with pytest.raises((wherry.ResourceLocked, wherry.AccessRefused)):
                async with queue.consume():
                    pass
        async with queue.consume():
            with pytest.raises((wherry.ResourceLocked, wherry.AccessRefused)):
                async with queue.consume(exclusive=True):
                    pass


async def test_consumers_of_higher_priority_are_served_first() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        async with queue.consume(prefetch=2) as low, queue.consume(2, priority=5) as high:
            await broker.default_exchange.publish_many([b"1", b"2", b"3"], "q")
            assert low.take_nowait() == []
            assert len(high.take_nowait()) == 2
            assert len(low.take_nowait()) == 1


async def test_a_single_active_consumer_hands_over() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q", single_active_consumer=True)
        async with queue.consume() as second_in_line:
            pass
        async with queue.consume() as first, queue.consume() as second:
            await broker.default_exchange.publish_many([b"1", b"2"], "q")
            assert second.take_nowait() == []
            waiting = running.start(second.take)
            await settle()
            assert not waiting.done
            assert len(await first.take(1)) == 1
            first._cancel()
            assert len(await waiting.wait()) == 2
        del second_in_line


async def test_no_ack_counts_as_settled_when_handed_out() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 3)
        async with queue.consume(1, no_ack=True) as consumer:
            taken = await consumer.take()
            assert len(taken) == 3
            with pytest.raises(wherry.UnknownDelivery):
                taken[0].ack()
        assert queue.statistics().ready == 0


# Batches


async def test_a_full_batch_comes_at_once() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 7)
        async with queue.batches(max_messages=3, max_seconds=3600) as batches:
            batch = await batches.__anext__()
            assert [d.body for d in batch] == [b"0", b"1", b"2"]
            assert len(batch) == 3
            assert repr(batch) == "<wherry.Batch of 3 deliveries>"
            batch.ack()
            async for batch in batches:
                async with batch:
                    assert [d.body for d in batch.deliveries] == [b"3", b"4", b"5"]
                break
        stats = queue.statistics()
        assert (stats.acknowledged, stats.ready, stats.unacked) == (6, 1, 0)


@pytest.mark.only("trio")
@pytest.mark.autojump
async def test_a_batch_is_complete_after_its_time() -> None:
    import trio

    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        async with queue.batches(max_messages=10, max_seconds=5) as batches:
            task = running.start(batches.__anext__)
            await trio.sleep(100)
            assert not task.done
            start = trio.current_time()
            await broker.default_exchange.publish(b"1", "q")
            await trio.sleep(3)
            await broker.default_exchange.publish(b"2", "q")
            batch = await task.wait()
            assert trio.current_time() - start == pytest.approx(5)
            assert [d.body for d in batch] == [b"1", b"2"]
            batch.nack()
        assert queue.statistics().ready == 2


@pytest.mark.only("asyncio")
async def test_a_batch_is_complete_after_its_time_on_asyncio() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 2)
        async with queue.batches(max_messages=10, max_seconds=0.001) as batches:
            assert len(await batches.__anext__()) == 2


async def test_a_batch_in_the_making_returns_when_cancelled() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await filled(broker, 2)
        async with queue.batches(max_messages=10, max_seconds=3600) as batches:
            task = running.start(batches.__anext__)
            await settle()
            assert queue.statistics().unacked == 2
            task.cancel()
            await settle()
            assert task.cancelled
            stats = queue.statistics()
            assert (stats.ready, stats.unacked) == (2, 0)


async def test_a_batch_that_failed_returns() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 2)
        async with queue.batches(max_messages=2) as batches:
            with pytest.raises(Oops):
                async with await batches.__anext__():
                    raise Oops
            batch = await batches.__anext__()
            assert [d.delivery_count for d in batch] == [1, 1]
            with pytest.raises(Oops), batch:  # noqa: PT012
                batch.ack()
                raise Oops
        assert queue.statistics().ready == 0
