"""Updates of many entities through a server that is killed again and again.

Publishers publish again what was not confirmed, under the same id; consumers acknowledge each
update after they applied it. However often the server dies: every entity's updates are applied in
order, one at a time, none that was confirmed is lost, and what comes a second time says so. (Or
else it was published a second time: a consumer may see an update before its record is on the disk.
If the server dies before it is, nothing is left of the first, and nothing was confirmed.)
"""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import pika.exceptions
import pytest
from processes import Serving

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.only("trio"),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
    pytest.mark.timeout(120),
]

KILLS = 5
PUBLISHERS = 4
CONSUMERS = 3
ENTITIES = 5
"""Of each publisher. Few, so that updates of one entity wait for each other."""
WINDOW = 50
PREFETCH = 10
SEED = 20_240_229

ARGUMENTS = {"x-group-by": "entity", "x-dedup-size": 100_000}

LOST = (
    pika.exceptions.AMQPConnectionError,
    pika.exceptions.ChannelWrongStateError,
    pika.exceptions.ConnectionWrongStateError,
    ConnectionError,
)


class Run:
    """One server's life after the other, and what publishers and consumers know of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.serving = Serving("--directory", directory, "--log-level", "error")
        self.life = 0
        self.enough = threading.Event()
        self.confirmed: Counter[str] = Counter()
        self.applied: Counter[str] = Counter()
        self.published_again: set[tuple[str, int]] = set()
        self.faults: list[str] = []
        self.progress = threading.Condition()
        # Who has an update of an entity in his hands, and of which life of the server.
        self._held: dict[str, int] = {}

    def kill(self) -> None:
        self.serving.process.kill()
        self.serving.close()
        serving = Serving("--directory", self._directory, "--log-level", "error")
        with self.progress:
            self.serving, self.life = serving, self.life + 1
            self.progress.notify_all()

    def connect(self) -> tuple[pika.BlockingConnection, int]:
        """To whichever server is there; and which life of it that is."""
        while True:
            with self.progress:
                life, serving = self.life, self.serving
            try:
                return serving.connect(), life
            except LOST:
                with self.progress:
                    again = self.progress.wait_for(lambda life=life: self.life != life, 20)
                assert again, "the server does not answer"

    def take(self, entity: str, number: int, life: int) -> None:
        """An update was handed out."""
        with self.progress:
            if self._held.get(entity) == life:
                self.faults.append(f"{entity}: {number} was handed out beside another")
            self._held[entity] = life

    def apply(self, entity: str, number: int, redelivered: bool, life: int) -> None:
        """The update is done; what follows may be handed out as soon as the server knows."""
        with self.progress:
            if self._held.get(entity) == life:
                del self._held[entity]
            last = self.applied[entity]
            if number == last + 1:
                self.applied[entity] = number
            elif number > last:
                self.faults.append(f"{entity}: {number} came after {last}")
            elif not redelivered and (entity, number) not in self.published_again:
                self.faults.append(f"{entity}: {number} came again unmarked, after {last}")
            self.progress.notify_all()


def close(connection: pika.BlockingConnection) -> None:
    if connection.is_open:
        with contextlib.suppress(*LOST):
            connection.close()


def publish(run: Run, name: int) -> None:
    """Rounds over the entities, a window of unconfirmed messages at a time."""
    entities = [f"{name}.{index}" for index in range(ENTITIES)]
    sent: Counter[str] = Counter()
    window: list[tuple[str, int]] = []
    chosen = random.Random(SEED + name)
    while not run.enough.is_set() or window:
        connection, _ = run.connect()
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            while not run.enough.is_set() or window:
                if not window:
                    for entity in chosen.choices(entities, k=WINDOW):
                        sent[entity] += 1
                        window.append((entity, sent[entity]))
                for entity, number in window:
                    channel.basic_publish(
                        "",
                        "updates",
                        f"{entity} {number}".encode(),
                        pika.BasicProperties(
                            delivery_mode=2,
                            headers={"entity": entity, "x-dedup-id": f"{entity} {number}"},
                        ),
                    )
                for entity, number in window:
                    run.confirmed[entity] = number
                window = []
        except LOST:
            # Nobody knows how much of it arrived.
            with run.progress:
                run.published_again.update(window)
        finally:
            close(connection)


def consume(run: Run, name: int, done: threading.Event) -> None:
    """Takes some updates, and applies them in any order: they are of different entities."""
    chosen = random.Random(SEED + name)
    while not done.is_set():
        connection, life = run.connect()
        taken: list[tuple[str, int, bool, int]] = []
        try:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=PREFETCH)
            for method, _, body in channel.consume("updates", inactivity_timeout=0.01):
                if method is not None:
                    entity, number = body.decode().split()
                    run.take(entity, int(number), life)
                    taken.append((entity, int(number), method.redelivered, method.delivery_tag))
                if method is None or len(taken) == PREFETCH:
                    chosen.shuffle(taken)
                    while taken:
                        entity, count, redelivered, tag = taken.pop()
                        run.apply(entity, count, redelivered, life)
                        channel.basic_ack(tag)
                    if done.is_set():
                        break
        except LOST:
            continue
        finally:
            close(connection)


def test_entities_stay_in_order_through_kills(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # It tells of every refused connection, and there are many.
    caplog.set_level(logging.CRITICAL, "pika")
    run = Run(tmp_path / "data")
    done = threading.Event()
    failures: list[BaseException] = []

    def guarded(function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except BaseException as error:
            failures.append(error)
            raise

    try:
        with run.serving.connect() as connection:
            connection.channel().queue_declare("updates", durable=True, arguments=ARGUMENTS)
        publishers = [
            threading.Thread(target=guarded, args=(publish, run, name))
            for name in range(PUBLISHERS)
        ]
        consumers = [
            threading.Thread(target=guarded, args=(consume, run, name, done))
            for name in range(CONSUMERS)
        ]
        for thread in publishers + consumers:
            thread.start()
        moments = random.Random(SEED)
        for _ in range(KILLS):
            # By what was done, not by time: each life sees work, on slow machines too.
            goal = run.applied.total() + moments.randrange(200, 800)
            with run.progress:
                assert run.progress.wait_for(
                    lambda goal=goal: run.applied.total() >= goal or failures or run.faults, 30
                )
            run.kill()
        run.enough.set()
        for thread in publishers:
            thread.join()
        with run.progress:
            assert run.progress.wait_for(
                lambda: run.applied == run.confirmed or failures or run.faults, 30
            ), run.confirmed - run.applied
        done.set()
        for thread in consumers:
            thread.join()
        # Applied by a consumer that could not say so before the server died.
        with run.serving.connect() as connection:
            channel = connection.channel()
            while (got := channel.basic_get("updates", auto_ack=True))[0] is not None:
                entity, number = got[2].decode().split()
                run.take(entity, int(number), got[0].redelivered, -1)
                run.settle(entity, -1)
    finally:
        run.enough.set()
        done.set()
        run.serving.close()
    assert not failures
    assert run.faults == []
    assert run.applied == run.confirmed
    assert run.applied.total() > KILLS * 200
