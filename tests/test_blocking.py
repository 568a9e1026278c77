"""The blocking twin: the same, in plain threads."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import wherry
from helpers import Background, in_thread
from test_exchange import EVERYTHING, check_everything
from test_queue import Oops
from wherry import blocking


def filled(broker: blocking.Broker, count: int, name: str = "q") -> blocking.Queue:
    queue = broker.declare_queue(name)
    broker.default_exchange.publish_many([b"%d" % i for i in range(count)], name)
    return queue


def test_publish_and_consume(tmp_path: Path) -> None:
    with blocking.open(tmp_path / "j") as broker:
        queue = filled(broker, 3)
        broker.default_exchange.publish(b"", "q", timeout=20, **{**EVERYTHING, "persistent": True})
        seen = []
        with queue.consume() as consumer:
            for delivery in consumer:
                with delivery:
                    seen.append(delivery.body)
                if len(seen) == 3:
                    break
            [last] = consumer.take()
            assert last.properties.headers == EVERYTHING["headers"]
        assert seen == [b"0", b"1", b"2"]
        broker.sync()
    with blocking.open(str(tmp_path / "j")) as broker:
        assert broker.queue("q").statistics().ready == 1
        journal = broker.statistics().journal
        assert journal is not None
        assert journal.failed is None


def test_every_property_comes_back_the_same() -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        broker.default_exchange.publish(b"", "q", **EVERYTHING)
        check_everything(queue.get())


def test_get_waits_in_its_thread() -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        threads = [Background(queue.get) for _ in range(3)]
        broker.default_exchange.publish_many([b"1", b"2", b"3"], "q")
        assert {thread.result().body for thread in threads} == {b"1", b"2", b"3"}


def test_waiting_has_an_end() -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        with pytest.raises(wherry.QueueEmpty, match=r"0\.01 s"):
            queue.get(timeout=0.01)
        with pytest.raises(wherry.QueueEmpty):
            queue.get(timeout=0)
        with pytest.raises(wherry.InvalidArgument, match="timeout"):
            queue.get(timeout=-1)
        with queue.consume() as consumer:
            assert consumer.take(timeout=0.01) == []
            assert consumer.take(0) == []
        broker.default_exchange.publish(b"after", "q")
        assert queue.get(no_ack=True, timeout=0).body == b"after"


def test_take_and_batches() -> None:
    with blocking.open() as broker:
        queue = filled(broker, 7)
        with queue.consume(4) as consumer:
            taken = consumer.take(3)
            assert len(taken) == 3
            assert len(consumer.take()) == 1
            assert consumer.take_nowait() == []
            consumer.prefetch = 5
            assert consumer.take_nowait(9)[0].body == b"4"
            consumer.ack_up_to(taken[1])
            consumer.ack_many([taken[2]])
            assert consumer.unacked == 2
        with queue.batches(max_messages=3, max_seconds=60) as batches:
            with next(batches) as batch:
                assert [d.body for d in batch] == [b"3", b"4", b"5"]
            broker.default_exchange.publish_many([b"x", b"y"], "q")
            with pytest.raises(Oops):  # noqa: PT012
                for batch in batches:
                    with batch:
                        raise Oops
            assert [d.delivery_count for d in next(batches)] == [1, 1, 1]
        with queue.batches(max_messages=100, max_seconds=0.01) as batches:
            assert len(next(batches)) == 3


def test_a_batch_waits_for_messages_of_other_threads() -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        with queue.batches(max_messages=3, max_seconds=60) as batches:
            thread = Background(lambda: next(batches))
            for _ in range(3):
                broker.default_exchange.publish(b"", "q")
            assert len(thread.result()) == 3


def test_closing_ends_whoever_waits() -> None:
    broker = blocking.open()
    queue = broker.declare_queue("q")
    consumer = queue.consume()
    threads = [
        Background(queue.get),
        Background(lambda: next(consumer)),
        Background(lambda: queue.get(timeout=60)),
    ]
    while queue.statistics().consumers < 1:
        pass
    broker.close()
    broker.close()
    for thread in threads:
        with pytest.raises(wherry.BrokerClosed):
            thread.result()
    with pytest.raises(wherry.BrokerClosed):
        broker.declare_queue("r")
    with pytest.raises(wherry.BrokerClosed):
        queue.consume()
    with pytest.raises(wherry.BrokerClosed):
        broker.default_exchange.publish(b"", "q")


def test_a_closed_broker_says_so_and_not_that_it_is_empty() -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        exchange = broker.default_exchange
    for look in (
        broker.queues,
        broker.exchanges,
        broker.virtual_hosts,
        broker.policies,
        broker.statistics,
        queue.browse,
        queue.scheduled,
        queue.policies,
        queue.statistics,
        exchange.bindings,
        exchange.statistics,
        exchange.policy,
    ):
        with pytest.raises(wherry.BrokerClosed):
            look()


def test_deleting_ends_whoever_waits() -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        consumer = queue.consume()
        threads = [Background(queue.get), Background(lambda: next(consumer))]
        assert queue.delete() == 0
        for thread in threads:
            with pytest.raises(wherry.UnknownQueue):
                thread.result()


def test_topology() -> None:
    with blocking.open() as broker:
        assert broker.name == "/"
        assert repr(broker) == "<wherry.blocking.Broker '/'>"
        source = broker.declare_exchange("s", "topic")
        target = broker.declare_exchange("t", "fanout", alternate_exchange="amq.fanout")
        assert broker.declare_exchange("t", passive=True).type == "fanout"
        queue = broker.declare_queue("q", max_length=10)
        assert broker.declare_queue("q", passive=True).name == "q"
        assert broker.declare_queue().name.startswith("amq.gen-")
        queue.bind(target)
        target.bind(source, "a.*")
        source.publish(b"1", "a.b")
        assert [m.body for m in queue.browse()] == [b"1"]
        target.unbind(source, "a.*")
        queue.unbind("t")
        assert source.bindings() == target.bindings() == []
        other = broker.declare_queue("other")
        assert queue.move(other) == 1
        assert other.purge() == 1
        broker.default_exchange.publish(b"later", "q", delay=60)
        [scheduled] = queue.scheduled()
        assert queue.cancel_scheduled(scheduled.id)
        assert {"s", "t"} <= set(broker.exchanges())
        source.delete()
        broker.delete_exchange("t")
        assert broker.delete_queue("other") == 0
        with pytest.raises(wherry.PreconditionFailed):
            broker.declare_queue("q", max_length=11)
        host = broker.add_virtual_host("v")
        assert sorted(broker.virtual_hosts()) == ["/", "v"]
        assert broker.virtual_host("v").queues() == []
        host.declare_queue("mine")
        assert host.queues() == ["mine"]
        broker.delete_virtual_host("v")
        assert abs(broker.clock.now() - time.time()) < 5
        assert broker.statistics().queues == 2


def test_transactions() -> None:
    with blocking.open() as broker:
        queue = filled(broker, 1)
        delivery = queue.get()
        with pytest.raises(Oops), broker.transaction() as tx:  # noqa: PT012
            tx.ack(delivery)
            tx.publish(broker.default_exchange, b"no", "q")
            raise Oops
        assert queue.statistics().unacked == 1
        with broker.transaction() as tx:
            tx.ack(delivery)
            tx.publish(broker.default_exchange, b"yes", "q")
        assert [m.body for m in queue.browse()] == [b"yes"]


def test_publish_subscribe() -> None:
    with blocking.open() as broker:
        with broker.subscribe("orders.#") as deliveries, broker.subscribe("#") as all_of_them:
            broker.publish("orders.eu", b"1")
            broker.publish("users.eu", b"2")
            assert next(deliveries).body == b"1"
            assert [d.body for d in all_of_them.take()] == [b"1", b"2"]
        assert broker.queues() == []


def test_confirms(tmp_path: Path) -> None:
    with blocking.open(tmp_path / "j") as broker:
        broker.declare_queue("q")
        receipt = broker.default_exchange.publish_nowait(b"", "q")
        broker.confirmed(receipt)
        broker.confirmed(0)
        broker.sync(timeout=20)
        with pytest.raises(TimeoutError, match="stable storage"):
            broker.confirmed(receipt + 10**9, timeout=0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="signals go to the main thread",
)
def test_ctrl_c_ends_a_wait_and_takes_nothing(tmp_path: Path) -> None:
    with blocking.open(tmp_path / "j") as broker:
        queue = broker.declare_queue("q")
        main = threading.main_thread().ident
        assert main is not None
        with queue.consume() as consumer:
            for wait in (
                queue.get,
                consumer.take,
                lambda: next(consumer),
                lambda: broker.confirmed(10**12),
            ):
                entered = threading.Event()

                def interrupt(entered: threading.Event = entered) -> None:
                    entered.wait(20)
                    signal.pthread_kill(main, signal.SIGINT)

                thread = Background(interrupt)
                with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                    entered.set()
                    wait()
                thread.result()
        broker.default_exchange.publish(b"kept", "q")
        assert queue.get().body == b"kept"


async def test_an_awaiting_broker_has_a_blocking_side() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        side = broker.blocking
        thread = Background(lambda: side.queue("q").get(timeout=20))
        side.publish("nobody", b"")
        broker.default_exchange.publish_nowait(b"to a thread", "q")
        with await in_thread(thread.result) as delivery:
            assert delivery.body == b"to a thread"
        assert queue.statistics().acknowledged == 1
