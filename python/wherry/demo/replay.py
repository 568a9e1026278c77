"""The process that holds the broker: publishes the events and runs the subscribers.

                                 ┌─ flight.# ─────────────────→ `aircraft`, grouped ─→ N workers
    publisher ─→ topic `flights` ┼─ flight.*.*.departed.late ─→ `late` ──────────────→ 1 subscriber
                                 └─ flight.# ─────────────────→ `hours` ─────────────→ batches

It may be killed at any moment and started again on the same directory; then it goes on:

- The publisher goes on after the last event that its ledger has as confirmed. What was confirmed
  but not yet written there is published a second time.
- The subscribers get again what they had not acknowledged durably. They acknowledge a batch after
  their own commit, so they may see again what they have applied, and leave it out by its number.

One line of JSON on standard output after each batch tells the parent how far it is.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

import trio

import wherry
from wherry.demo.flights import Event, Events, decode, read_flights
from wherry.demo.tables import Aircraft, Hours, Late, Ledger, Store

__all__ = ["Progress", "Settings", "replay"]

PUBLISH_COUNT = 500
"""Events published and confirmed together: one wait for the disk for all of them."""

OUTSTANDING_COUNT_MAX = 2_500
"""The publisher waits while more events than this are published and not yet applied."""

TAKE_COUNT_MAX = 128
"""Deliveries that a worker applies in one SQLite transaction. An aircraft's next event waits for
that of the last one, so larger batches make busy aircraft slower, not the whole faster.
"""

BATCH_COUNT_MAX = 1_000
BATCH_SECONDS_MAX = 0.25
"""A batch of hourly totals is written when it has that many messages, or after that time."""

STALLED_SECONDS = 10.0
"""Without any progress for so long, what is still missing is lost: end, and let it be compared."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the parent asks of one life of the process."""

    data: str
    directory: str
    limit: int | None = None
    workers: int = 4
    publish_up_to: int | None = None
    """Stop publishing after this event and wait (for the kill); None: publish all, then end."""


@dataclass(slots=True)
class Progress:
    """How far one life of the process is. Counts are of events."""

    total: int = 0
    published: int = 0
    applied: int = 0
    late: int = 0
    aggregated: int = 0
    batches: int = 0
    redelivered: int = 0
    """Deliveries marked as redelivered by the broker."""
    duplicates: int = 0
    """Deliveries that were left out because they had been applied before."""
    out_of_order: int = 0
    """Events applied to an aircraft after a later event: must stay 0."""
    seconds: float = 0.0
    """Since the broker was open."""
    open_seconds: float = 0.0
    """To open the broker: recovery, in a second life."""
    done: bool = False
    latency_ms: dict[str, float] = field(default_factory=dict)
    """From the call of publish to the commit in `aircraft`, by name of the percentile."""


async def replay(settings: Settings) -> Progress:
    """Go on from what `settings.directory` holds until everything is applied."""
    events = Events(read_flights(Path(settings.data), settings.limit))
    gc.freeze()  # they stay to the end: the collector need not look at them again and again
    directory = Path(settings.directory)
    started = time.perf_counter()
    async with wherry.open(directory / "broker.wherry") as broker:
        process = _Process(settings, events, broker)
        process.progress.open_seconds = time.perf_counter() - started
        try:
            return await process.run()
        finally:
            process.close()


@final
class _Process:
    def __init__(self, settings: Settings, events: Events, broker: wherry.Broker) -> None:
        directory = Path(settings.directory)
        self._settings = settings
        self._events = events
        self._broker = broker
        self._ledger = Ledger(directory)
        self._aircraft = Aircraft(directory)
        self._late = Late(directory)
        self._hours = Hours(directory)
        self._last_events = self._aircraft.last_events()
        self._aircraft_lock = trio.Lock()  # SQLite has one writer at a time
        self._changed = trio.Event()
        self._started = time.perf_counter()
        self._published_at = array("d", bytes(8 * (len(events) + 1)))
        self._latencies = array("d")
        self.progress = Progress(
            total=len(events),
            published=self._ledger.confirmed,
            applied=self._aircraft.applied_count(),
            late=self._late.applied_count(),
            aggregated=self._hours.applied_count(),
        )

    async def run(self) -> Progress:
        flights = await self._broker.declare_exchange("flights", "topic")
        aircraft = await self._broker.declare_queue("aircraft", group_by="tail")
        await aircraft.bind(flights, "flight.#")
        late = await self._broker.declare_queue("late")
        await late.bind(flights, "flight.*.*.departed.late")
        hours = await self._broker.declare_queue("hours")
        await hours.bind(flights, "flight.#")

        self._started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(self._settings.workers):
                nursery.start_soon(self._work, aircraft)
            nursery.start_soon(self._note_late, late)
            nursery.start_soon(self._aggregate, hours)
            await self._publish(flights)
            while not self._complete() and await self._progressed():
                pass
            nursery.cancel_scope.cancel()
        await self._broker.sync()  # the last acknowledgements
        self.progress.done = True
        self.progress.latency_ms = _percentiles_ms(self._latencies)
        self._report()
        return self.progress

    def close(self) -> None:
        for store in (self._ledger, self._aircraft, self._late, self._hours):
            store.close()

    def _complete(self) -> bool:
        progress = self.progress
        wanted = (progress.total, self._events.late_count, progress.total)
        return (progress.applied, progress.late, progress.aggregated) == wanted

    async def _publish(self, flights: wherry.Exchange) -> None:
        last = self._settings.publish_up_to
        last = len(self._events) if last is None else last
        progress = self.progress
        while progress.published < last:
            batch = self._events[progress.published : min(progress.published + PUBLISH_COUNT, last)]
            messages = [
                wherry.Message(
                    event.encode(),
                    event.routing_key,
                    headers={"tail": event.tail},
                    message_id=str(event.number),
                    content_type="application/json",
                )
                for event in batch
            ]
            now = time.perf_counter()
            for event in batch:
                self._published_at[event.number] = now
            await flights.publish_many(messages)  # returns when all are confirmed
            await trio.to_thread.run_sync(self._ledger.confirm, batch[-1].number)
            progress.published = batch[-1].number
            while self._outstanding() > OUTSTANDING_COUNT_MAX and await self._progressed():
                pass

    async def _progressed(self) -> bool:
        """Wait until a subscriber has done something; False if none does."""
        with trio.move_on_after(STALLED_SECONDS):
            await self._changed.wait()
            return True
        return False

    def _outstanding(self) -> int:
        return self.progress.published - min(self.progress.applied, self.progress.aggregated)

    async def _work(self, queue: wherry.Queue) -> None:
        async with queue.consume(prefetch=TAKE_COUNT_MAX) as consumer:
            while True:
                deliveries = await consumer.take(TAKE_COUNT_MAX)
                async with self._aircraft_lock:
                    fresh = await self._apply(self._aircraft, deliveries)
                    self._check(fresh)
                self.progress.applied += len(fresh)
                self._report()  # before the acknowledgement: the worst moment to be killed
                consumer.ack_many(deliveries)

    def _check(self, fresh: list[Event]) -> None:
        """Note the latency of what was just committed, and whether an aircraft went backwards."""
        now = time.perf_counter()
        for event in fresh:
            if self._last_events.get(event.tail, 0) > event.number:
                self.progress.out_of_order += 1
            self._last_events[event.tail] = event.number
            published_at = self._published_at[event.number]
            if published_at:  # else an earlier life published it
                self._latencies.append(now - published_at)

    async def _note_late(self, queue: wherry.Queue) -> None:
        async with queue.consume(prefetch=TAKE_COUNT_MAX) as consumer:
            while True:
                deliveries = await consumer.take(TAKE_COUNT_MAX)
                fresh = await self._apply(self._late, deliveries)
                self.progress.late += len(fresh)
                self._report()
                consumer.ack_many(deliveries)

    async def _aggregate(self, queue: wherry.Queue) -> None:
        async with queue.batches(BATCH_COUNT_MAX, BATCH_SECONDS_MAX) as batches:
            async for batch in batches:
                async with batch:  # acknowledged together
                    fresh = await self._apply(self._hours, batch.deliveries)
                    self.progress.aggregated += len(fresh)
                    self.progress.batches += 1
                    self._report()

    async def _apply(self, store: Store, deliveries: Sequence[wherry.Delivery]) -> list[Event]:
        bodies = [delivery.body for delivery in deliveries]
        # In a thread: the event loop never waits for the disk.
        fresh = await trio.to_thread.run_sync(_decode_and_apply, store, bodies)
        self.progress.redelivered += sum(delivery.redelivered for delivery in deliveries)
        self.progress.duplicates += len(deliveries) - len(fresh)
        return fresh

    def _report(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        self.progress.seconds = time.perf_counter() - self._started
        sys.stdout.write(json.dumps(asdict(self.progress)) + "\n")
        sys.stdout.flush()


def _decode_and_apply(store: Store, bodies: list[bytes]) -> list[Event]:
    return store.apply([decode(body) for body in bodies])


def _percentiles_ms(seconds: array[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: 1000 * ordered[min(int(place * len(ordered)), len(ordered) - 1)]
        for name, place in places.items()
    }
