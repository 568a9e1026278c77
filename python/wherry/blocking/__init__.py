"""The same broker for plain threads: the same names, no `await`, and `timeout=` where a call waits.

    with wherry.blocking.open("orders.wherry") as broker:
        queue = broker.declare_queue("inventory")
        broker.default_exchange.publish(b"...", "inventory")
        with queue.consume() as deliveries:
            for delivery in deliveries:
                with delivery:
                    ...

Everything here works in any thread, and waits with the interpreter released; Ctrl-C ends a wait in
the main thread. A wait for the disk that takes longer than `timeout` seconds raises TimeoutError:
what was asked for is done, but not known to be on stable storage. `Message`, `Delivery`, `Retry`,
the statistics and all errors are those of `wherry`.

Do not call what waits from an event loop's thread: the loop would stand still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wherry import _core
from wherry.blocking._broker import Broker, VirtualHost
from wherry.blocking._consumer import Batches, Consumer, ConsumerWatch
from wherry.blocking._exchange import Exchange
from wherry.blocking._queue import Queue

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from wherry._types import Durability

__all__ = [
    "Batches",
    "Broker",
    "Consumer",
    "ConsumerWatch",
    "Exchange",
    "Queue",
    "VirtualHost",
    "open",
]


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: Durability = "always",
    sync_interval: float = 0.05,
    clock: _core.VirtualClock | None = None,
    segment_bytes: int = 16 << 20,
    memory_bytes_max: int | None = None,
    on_corruption: Literal["refuse", "salvage"] = "refuse",
    progress: Callable[[int, int], object] | None = None,
) -> Broker:
    """Open a broker: `with wherry.blocking.open("orders.wherry") as broker:`. See `wherry.open`."""
    return Broker(
        _core.Engine(
            path,
            durability=durability,
            sync_interval=sync_interval,
            clock=clock,
            segment_bytes=segment_bytes,
            memory_bytes_max=memory_bytes_max,
            on_corruption=on_corruption,
            progress=progress,
        )
    )
