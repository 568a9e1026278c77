"""Numbers that cannot be right are refused by name, with what would be right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

import wherry
import wherry.testing
from wherry import blocking

if TYPE_CHECKING:
    from collections.abc import Callable

# What may be given, by argument: how, and a number that is too large.
WHOLE: dict[str, tuple[Callable[[blocking.Broker, Any], object], int]] = {
    "max_priority": (lambda broker, n: broker.declare_queue("new", max_priority=n), 256),
    "max_length": (lambda broker, n: broker.declare_queue("new", max_length=n), 2**64),
    "max_length_bytes": (lambda broker, n: broker.declare_queue("new", max_length_bytes=n), 2**64),
    "delivery_limit": (lambda broker, n: broker.declare_queue("new", delivery_limit=n), 2**32),
    "retry.attempts": (
        lambda broker, n: broker.declare_queue("new", retry=wherry.Retry(attempts=n)),
        2**32,
    ),
    "dedup.size": (
        lambda broker, n: broker.declare_queue("new", dedup=wherry.Dedup(size=n)),
        2**64,
    ),
    "priority": (
        lambda broker, n: broker.default_exchange.publish(b"", "q", priority=n),
        256,
    ),
    "priority of a message": (lambda broker, n: wherry.Message(b"", "q", priority=n), 256),
    "limit": (lambda broker, n: broker.queue("q").browse(n), 2**64),
    "limit of moving": (lambda broker, n: broker.queue("q").move(broker.queue("q"), n), 2**64),
    "offset": (lambda broker, n: broker.queue("q").browse(1, n), 2**64),
    "max": (lambda broker, n: broker.queue("q").get_many_nowait(n), 2**64),
    "prefetch": (lambda broker, n: broker.queue("q").consume(n), 2**32),
    "id": (lambda broker, n: broker.queue("q").cancel_scheduled(n), 2**64),
    "receipt": (lambda broker, n: broker.confirmed(n), 2**64),
    "max_messages": (lambda broker, n: broker.queue("q").batches(n), 2**31),
    "max of a fifo": (lambda broker, n: wherry.Fifo().get_many(n), 2**64),
    "levels": (lambda broker, n: wherry.PriorityFifo(n), 2**16),
    "priority in a fifo": (lambda broker, n: wherry.PriorityFifo(9).put("x", n), 2**16),
    "segment_bytes": (lambda broker, n: blocking.open(segment_bytes=n), 2**32),
    "memory_bytes_max": (lambda broker, n: blocking.open(memory_bytes_max=n), 2**64),
    "port": (lambda broker, n: wherry.serve(port=n), 65_536),
    "stomp_port": (lambda broker, n: wherry.serve(stomp_port=n), 65_536),
    "websocket_port": (lambda broker, n: wherry.serve(websocket_port=n), 65_536),
}


@pytest.mark.parametrize("what", WHOLE)
def test_whole_numbers_have_a_range(what: str) -> None:
    call, too_large = WHOLE[what]
    name = what.split(" ", maxsplit=1)[0]
    with blocking.open() as broker:
        broker.declare_queue("q")
        for number in (-1, too_large, 10**100):
            with pytest.raises(ValueError, match=rf"{name}.*: give a whole number from [01] to"):
                call(broker, number)
        with pytest.raises(TypeError):
            call(broker, 1.5)
        assert broker.queues() == ["q"]


def test_an_endless_number_is_not_shown() -> None:
    with pytest.raises(ValueError, match=r"^levels: give a whole number"):
        wherry.PriorityFifo(10**100_000)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_times_are_numbers_that_can_come(seconds: float) -> None:
    with blocking.open() as broker:
        queue = broker.declare_queue("q")
        with pytest.raises(ValueError, match="max_seconds="):
            queue.batches(max_seconds=seconds)
    with pytest.raises(ValueError, match="drain_seconds="):
        wherry.serve(drain_seconds=seconds)
    with (
        pytest.raises(ValueError, match=r"limits\.send_seconds="),
        wherry.testing.broker(limits={"send_seconds": seconds}),  # type: ignore[dict-item]
    ):
        pass
