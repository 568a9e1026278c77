"""Everything that happens later: time to live, delays, retries, leases, queue expiry."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

import wherry
from helpers import settle, tasks
from test_queue import Oops


async def test_a_virtual_clock_stands_still_until_it_is_moved() -> None:
    clock = wherry.VirtualClock()
    assert clock.now() == datetime(2000, 1, 1, tzinfo=timezone.utc).timestamp()
    clock.advance(1, minutes=1, hours=1, days=1)
    assert clock.now() == 946684800 + 1 + 60 + 3600 + 86400
    start = datetime(2020, 2, 3, tzinfo=timezone.utc)
    clock = wherry.VirtualClock(start=start)
    async with wherry.open(clock=clock) as broker:
        assert broker.clock is clock
        broker.clock.advance(minutes=2)
        assert clock.now() == start.timestamp() + 120
        with pytest.raises(wherry.InvalidArgument, match="belongs to a broker"):
            async with wherry.open(clock=clock):
                pass
    clock.advance(1)
    async with wherry.open(clock=clock):
        pass


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
async def test_time_does_not_go_back(seconds: float) -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        before = broker.clock.now()
        with pytest.raises(wherry.InvalidArgument):
            broker.clock.advance(seconds)
        assert broker.clock.now() == before


async def test_messages_expire_on_time_wherever_they_stand() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        dead = await broker.declare_queue("dead")
        queue = await broker.declare_queue(
            "q", message_ttl=60, dead_letter_exchange="", dead_letter_routing_key="dead"
        )
        publish = broker.default_exchange.publish
        await publish(b"long", "q")
        await publish(b"short", "q", expiration=1.5)
        broker.clock.advance(1)
        assert queue.statistics().ready == 2
        broker.clock.advance(1)
        assert [m.body for m in queue.browse()] == [b"long"]
        broker.clock.advance(minutes=1)
        assert queue.browse() == []
        letters = dead.get_many_nowait(9)
        assert [d.body for d in letters] == [b"short", b"long"]
        assert [d.deaths[0].reason for d in letters] == ["expired", "expired"]
        assert letters[0].deaths[0].queue == "q"
        assert queue.statistics().expired == 2


async def test_delayed_messages_are_listed_and_come_when_due() -> None:
    async with wherry.open(clock=wherry.VirtualClock(start=1000)) as broker, tasks() as running:
        queue = await broker.declare_queue("q")
        publish = broker.default_exchange.publish
        await publish(b"20", "q", delay=20, headers={"n": 1})
        await publish(b"10", "q", deliver_at=datetime.fromtimestamp(1010, timezone.utc))
        await publish(b"30", "q", deliver_at=1030.0)
        await publish(b"past", "q", deliver_at=5)
        assert queue.get_nowait(no_ack=True).body == b"past"
        with pytest.raises(wherry.QueueEmpty):
            queue.get_nowait()
        scheduled = queue.scheduled()
        assert [(m.due, m.body, m.retry) for m in scheduled] == [
            (1010, b"10", False),
            (1020, b"20", False),
            (1030, b"30", False),
        ]
        assert scheduled[1].headers == {"n": 1}
        assert scheduled[1].routing_key == "q"
        assert queue.statistics().scheduled == 3
        assert await queue.cancel_scheduled(scheduled[2].id)
        assert not await queue.cancel_scheduled(scheduled[2].id)
        assert not await queue.cancel_scheduled(10**6)
        task = running.start(queue.get)
        await settle()
        broker.clock.advance(9.9)
        await settle()
        assert not task.done
        broker.clock.advance(0.2)
        assert (await task.wait()).body == b"10"
        broker.clock.advance(hours=1)
        assert queue.get_nowait(no_ack=True).body == b"20"
        with pytest.raises(wherry.QueueEmpty):
            queue.get_nowait()


async def fail(queue: wherry.Queue) -> wherry.Delivery:
    delivery = queue.get_nowait()
    with pytest.raises(Oops):
        async with delivery:
            raise Oops
    return delivery


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (wherry.Retry(attempts=4, first=1, kind="constant"), [1, 1, 1]),
        (wherry.Retry(attempts=4, first=1, kind="linear"), [1, 2, 3]),
        (wherry.Retry(attempts=4, first=1, factor=3), [1, 3, 9]),
        (wherry.Retry(attempts=4, first=1, factor=3, maximum=5), [1, 3, 5]),
        (wherry.Retry(attempts=1), []),
    ],
)
async def test_retries_wait_as_the_policy_says(retry: wherry.Retry, delays: list[float]) -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        retry = wherry.Retry(
            retry.attempts, retry.first, retry.factor, retry.maximum, False, retry.kind, "failed"
        )
        queue = await broker.declare_queue("q", retry=retry)
        await broker.default_exchange.publish(b"x", "q")
        for attempt, delay in enumerate(delays):
            assert (await fail(queue)).delivery_count == attempt
            [scheduled] = queue.scheduled()
            assert scheduled.retry
            assert scheduled.due - broker.clock.now() == pytest.approx(delay, abs=1e-3)
            broker.clock.advance(delay - 0.01)
            assert queue.statistics().ready == 0
            broker.clock.advance(0.02)
        await fail(queue)
        assert queue.scheduled() == []
        stats = queue.statistics()
        assert (stats.ready, stats.dead_lettered) == (0, 1)
        letter = broker.queue("failed").get_nowait()
        assert letter.body == b"x"
        assert letter.deaths[0].queue == "q"


async def test_jitter_stays_below_the_delay() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        retry = wherry.Retry(attempts=2, first=10, jitter=True)
        queue = await broker.declare_queue("q", retry=retry)
        await broker.default_exchange.publish_many([b""] * 50, "q")
        for _ in range(50):
            await fail(queue)
        waits = [m.due - broker.clock.now() for m in queue.scheduled()]
        assert all(-1e-3 <= wait <= 10.001 for wait in waits)
        assert max(waits) - min(waits) > 1


async def test_a_retry_that_worked_is_done() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        queue = await broker.declare_queue("q", retry=wherry.Retry())
        await broker.default_exchange.publish(b"x", "q")
        await fail(queue)
        broker.clock.advance(1)
        async with queue.get_nowait() as delivery:
            assert delivery.delivery_count == 1
            assert delivery.redelivered
        assert queue.statistics().acknowledged == 1


async def test_a_batch_that_failed_is_retried() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        queue = await broker.declare_queue("q", retry=wherry.Retry(first=5))
        await broker.default_exchange.publish_many([b"1", b"2"], "q")
        async with queue.batches(2) as batches:
            with pytest.raises(Oops):
                async with await batches.__anext__():
                    raise Oops
            assert queue.statistics().scheduled == 2
            broker.clock.advance(6)
            batch = await batches.__anext__()
            assert [d.delivery_count for d in batch] == [1, 1]
            batch.ack()


async def test_a_delivery_limit_dead_letters() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue(
            "q", delivery_limit=2, dead_letter_exchange="", dead_letter_routing_key="dead"
        )
        dead = await broker.declare_queue("dead")
        await broker.default_exchange.publish(b"x", "q")
        for _ in range(3):
            queue.get_nowait().nack()
        assert queue.statistics().ready == 0
        assert dead.get_nowait().deaths[0].reason == "delivery_limit"


async def test_a_lease_ends_and_may_be_extended() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        queue = await broker.declare_queue("q", lease=30)
        await broker.default_exchange.publish(b"x", "q")
        delivery = queue.get_nowait()
        broker.clock.advance(20)
        delivery.extend(30)
        broker.clock.advance(20)
        assert queue.statistics().unacked == 1
        broker.clock.advance(11)
        assert queue.statistics().ready == 1
        with pytest.raises(wherry.UnknownDelivery):
            delivery.ack()
        with pytest.raises(wherry.UnknownDelivery):
            delivery.extend(1)
        with pytest.raises(Oops):  # which says more than that the lease ran out
            async with delivery:
                raise Oops
        assert queue.get_nowait().redelivered


async def test_extending_without_a_lease() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        await broker.default_exchange.publish(b"x", "q")
        delivery = queue.get_nowait()
        with pytest.raises(wherry.PreconditionFailed):
            delivery.extend(5)
        with pytest.raises(wherry.InvalidArgument):
            delivery.extend(-5)
        delivery.ack()


async def test_an_unused_queue_expires() -> None:
    async with wherry.open(clock=wherry.VirtualClock()) as broker:
        queue = await broker.declare_queue("q", expires=60)
        async with queue.consume():
            broker.clock.advance(100)
            assert broker.queues() == ["q"]
        broker.clock.advance(59)
        assert broker.queues() == ["q"]
        broker.clock.advance(2)
        assert broker.queues() == []


async def test_real_time_passes_too() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        await broker.default_exchange.publish(b"later", "q", delay=0.01)
        assert (await queue.get()).body == b"later"
