"""Queues: taking, looking, purging, moving, scheduling."""

from __future__ import annotations

import pytest

import wherry
from helpers import settle, tasks


async def filled(broker: wherry.Broker, count: int, name: str = "q") -> wherry.Queue:
    queue = await broker.declare_queue(name)
    await broker.default_exchange.publish_many([b"%d" % i for i in range(count)], name)
    return queue


async def test_get_nowait_takes_in_order_and_says_when_there_is_none() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 2)
        first = queue.get_nowait()
        assert first.body == b"0"
        assert queue.get_nowait(no_ack=True).body == b"1"
        with pytest.raises(wherry.QueueEmpty, match="'q'"):
            queue.get_nowait()
        with pytest.raises(wherry.QueueEmpty):
            queue.get_nowait(no_ack=True)
        assert queue.statistics().unacked == 1


async def test_get_many_nowait_takes_at_most_max() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 5)
        held = queue.get_many_nowait(3)
        assert [d.body for d in held] == [b"0", b"1", b"2"]
        assert [d.body for d in queue.get_many_nowait(3, no_ack=True)] == [b"3", b"4"]
        assert queue.get_many_nowait(3) == []
        assert queue.get_many_nowait(0) == []


async def test_get_waits_and_tasks_are_woken_in_order() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        first = running.start(queue.get)
        await settle()
        second = running.start(queue.get, True)
        await settle()
        await broker.default_exchange.publish(b"1", "q")
        assert (await first.wait()).body == b"1"
        assert not second.done
        await broker.default_exchange.publish(b"2", "q")
        assert (await second.wait()).body == b"2"
        assert queue.statistics().unacked == 1
        first.result.ack()
        assert queue.statistics().unacked == 0


async def test_a_get_that_is_cancelled_takes_nothing() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        task = running.start(queue.get)
        await settle()
        task.cancel()
        await settle()
        assert task.cancelled
        await broker.default_exchange.publish(b"kept", "q")
        assert queue.get_nowait().body == b"kept"


async def test_a_get_cancelled_when_its_message_came_passes_it_on() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        cancelled = running.start(queue.get)
        await settle()
        other = running.start(queue.get)
        await settle()
        # The wake-up goes to the first task, which is cancelled before it runs.
        broker.default_exchange.publish_nowait(b"1", "q")
        cancelled.cancel()
        await settle()
        if cancelled.cancelled:
            assert (await other.wait()).body == b"1"
        else:
            assert cancelled.result.body == b"1"
            assert not other.done
        stats = queue.statistics()
        assert (stats.ready, stats.unacked) == (0, 1)


async def test_a_delivery_nobody_holds_returns_to_the_queue() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 2)
        queue.get_nowait()
        assert queue.get_nowait().redelivered
        await queue.get()
        del queue.get_many_nowait(2)[0]
        queue.get_nowait().ack()
        stats = queue.statistics()
        assert (stats.ready, stats.unacked) == (1, 0)
        held = queue.get_nowait()
        assert queue.statistics().unacked == 1
        del held
        assert queue.statistics().ready == 1


async def test_browse_shows_and_takes_nothing() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        await broker.default_exchange.publish(b"0", "q", headers={"a": 1}, message_id="m")
        await broker.default_exchange.publish_many([b"1", b"2", b"3"], "q")
        assert [m.body for m in queue.browse()] == [b"0", b"1", b"2", b"3"]
        assert [m.body for m in queue.browse(limit=2, offset=1)] == [b"1", b"2"]
        assert queue.browse(limit=0) == []
        first = queue.browse(limit=1)[0]
        assert first.headers == {"a": 1}
        assert first.properties.message_id == "m"
        assert (first.exchange, first.routing_key) == ("", "q")
        assert (first.position, first.priority, first.delivery_count) == (0, 0, 0)
        assert not first.redelivered
        queue.get_nowait().nack()
        stats = queue.statistics()
        assert (stats.ready, stats.delivered, stats.requeued) == (4, 1, 1)
        assert queue.browse(limit=1)[0].redelivered


async def test_a_requeued_message_returns_to_its_own_place() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 5)
        taken = queue.get_many_nowait(4)
        taken[2].nack()
        taken[0].nack()
        assert [m.body for m in queue.browse()] == [b"0", b"2", b"4"]
        again = queue.get_nowait()
        assert (again.body, again.redelivered, again.delivery_count) == (b"0", True, 1)
        assert again.position == 0


async def test_reject_and_nack_without_requeue_dead_letter() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue(
            "q", dead_letter_exchange="", dead_letter_routing_key="dead"
        )
        dead = await broker.declare_queue("dead")
        await broker.default_exchange.publish_many([b"0", b"1"], "q")
        queue.get_nowait().reject()
        queue.get_nowait().nack(requeue=False)
        letters = dead.get_many_nowait(9)
        assert [d.body for d in letters] == [b"0", b"1"]
        [death] = letters[0].deaths
        assert (death.queue, death.reason, death.count) == ("q", "rejected", 1)
        assert (death.exchange, death.routing_keys) == ("", ("q",))
        assert death.time is not None
        assert queue.statistics().dead_lettered == 2


async def test_settling_twice_is_an_error_and_changes_nothing() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 1)
        delivery = queue.get_nowait()
        delivery.ack()
        with pytest.raises(wherry.UnknownDelivery, match="once"):
            delivery.ack()
        with pytest.raises(wherry.UnknownDelivery):
            delivery.nack()
        with pytest.raises(wherry.UnknownDelivery):
            delivery.reject()
        with pytest.raises(wherry.UnknownDelivery):
            delivery.extend(1)
        stats = queue.statistics()
        assert (stats.ready, stats.unacked, stats.acknowledged) == (0, 0, 1)


class Oops(Exception):
    """What a handler raises."""


async def test_a_delivery_block_acks_on_success() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 2)
        async with queue.get_nowait() as delivery:
            assert delivery.body == b"0"
        with queue.get_nowait() as delivery:
            assert delivery.body == b"1"
        assert queue.statistics().acknowledged == 2


async def test_a_delivery_block_returns_the_message_on_an_exception() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 1)
        with pytest.raises(Oops):
            async with queue.get_nowait():
                raise Oops
        with pytest.raises(Oops), queue.get_nowait():
            raise Oops
        assert queue.get_nowait().delivery_count == 2


async def test_a_delivery_settled_in_its_block_is_left_alone() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 3)
        async with queue.get_nowait() as delivery:
            delivery.ack()
        with pytest.raises(Oops):  # noqa: PT012
            async with queue.get_nowait() as delivery:
                delivery.reject()
                raise Oops
        async with queue.get_nowait(no_ack=True):
            pass
        stats = queue.statistics()
        assert (stats.ready, stats.unacked) == (0, 0)


async def test_a_cancelled_delivery_block_is_no_failure_of_the_message() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q", retry=wherry.Retry(attempts=1))
        await broker.default_exchange.publish(b"x", "q")

        async def handle() -> None:
            async with await queue.get():
                await (await broker.declare_queue("never")).get()

        task = running.start(handle)
        await settle()
        assert queue.statistics().unacked == 1
        task.cancel()
        await settle()
        assert queue.get_nowait().body == b"x"


async def test_purge_drops_what_is_ready_only() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 5)
        held = queue.get_nowait()
        assert await queue.purge() == 4
        assert await queue.purge() == 0
        held.nack()
        assert queue.statistics().ready == 1


async def test_move_moves_in_order() -> None:
    async with wherry.open() as broker:
        queue, other = await filled(broker, 5), await filled(broker, 1, "other")
        assert await queue.move(other, limit=2) == 2
        assert await queue.move(other) == 3
        assert [m.body for m in other.browse()] == [b"0", b"0", b"1", b"2", b"3", b"4"]
        assert queue.statistics().ready == 0
        with pytest.raises(TypeError):
            await queue.move("other")  # type: ignore[arg-type]


async def test_statistics_count() -> None:
    async with wherry.open(clock=wherry.VirtualClock(start=1000.0)) as broker:
        queue = await filled(broker, 3)
        broker.clock.advance(5)
        async with queue.consume() as consumer:
            taken = await consumer.take()
            taken[0].ack()
            taken[1].nack()
            stats = queue.statistics()
            assert stats.consumers == 1
            assert (stats.ready, stats.unacked) == (1, 1)
            assert (stats.published, stats.delivered, stats.acknowledged) == (3, 3, 1)
            assert stats.requeued == 1
            assert stats.ready_bytes > 0
            assert stats.oldest_published == 1000.0
            assert queue.get_nowait().published == 1000.0
        stats = queue.statistics()
        assert (stats.consumers, stats.scheduled, stats.groups) == (0, 0, 0)
        whole = broker.statistics()
        assert (whole.queues, whole.virtual_hosts, whole.journal) == (1, 1, None)


async def test_a_deleted_queue_tells_whoever_waits() -> None:
    async with wherry.open() as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        waiting = running.start(queue.get)

        async def consume() -> None:
            async with queue.consume() as consumer:
                await consumer.take()

        consuming = running.start(consume)
        await settle()
        assert await queue.delete() == 0
        with pytest.raises(wherry.UnknownQueue, match="'q' in vhost '/'"):
            await waiting.wait()
        with pytest.raises(wherry.UnknownQueue):
            await consuming.wait()
        with pytest.raises(wherry.UnknownQueue):
            queue.get_nowait()
        with pytest.raises(wherry.UnknownQueue):
            broker.queue("q")
        assert repr(queue) == "<wherry.Queue 'q'>"


async def test_deleting_may_be_conditional() -> None:
    async with wherry.open() as broker:
        queue = await filled(broker, 1)
        with pytest.raises(wherry.PreconditionFailed):
            await queue.delete(if_empty=True)
        async with queue.consume():
            with pytest.raises(wherry.PreconditionFailed):
                await queue.delete(if_unused=True)
        assert await queue.delete(if_unused=True) == 1


async def test_binding_to_what_does_not_exist() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        with pytest.raises(wherry.UnknownExchange, match="'nope'"):
            await queue.bind("nope", "k")
        with pytest.raises(wherry.UnknownExchange):
            await queue.unbind("nope", "k")
        with pytest.raises(wherry.InvalidArgument):
            await queue.bind("amq.headers", arguments={"x-match": "some"})


async def test_unbinding_ends_routing() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        direct = broker.exchange("amq.direct")
        await queue.bind(direct, "k")
        await queue.bind(direct, "k")
        await queue.unbind(direct, "k")
        await queue.unbind(direct, "k")
        await direct.publish(b"", "k")
        assert queue.statistics().ready == 0


async def test_priorities_leave_first_and_in_order() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q", max_priority=9)
        for body, priority in [(b"a", 1), (b"b", 9), (b"c", 1), (b"d", None), (b"e", 99)]:
            await broker.default_exchange.publish(body, "q", priority=priority)
        taken = queue.get_many_nowait(9)
        assert [d.body for d in taken] == [b"b", b"e", b"a", b"c", b"d"]
        assert [d.priority for d in taken] == [9, 99, 1, 1, 0]
