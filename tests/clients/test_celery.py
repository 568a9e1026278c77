"""Celery's real workers over the server: what an application that comes from RabbitMQ does all
day.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wire.brokers import Broker

celery = pytest.importorskip("celery", reason="Celery is not installed: make clients-install")

WAIT_SECONDS_MAX = 30.0

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore"),
]


@dataclass
class Workers:
    """An application with its workers."""

    app: Any
    tasks: Any
    environment: dict[str, str]
    directory: Path
    processes: list[subprocess.Popen[bytes]]

    def start(self, *options: str, ready: bool = True) -> subprocess.Popen[bytes]:
        """Start a worker and, unless it will be busy at once, wait until it answers."""
        name = f"w{len(self.processes)}@{self.tasks.PREFIX}"
        with (self.directory / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-n", name),
                    *("--loglevel=INFO", "--without-gossip", *options),
                ],
                cwd=Path(__file__).parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        if ready:
            until(lambda: self.app.control.ping(destination=[name], timeout=0.5), self.log)
        return process

    def log(self) -> str:
        return (self.directory / "worker.log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(reached: Callable[[], Any], what: Callable[[], str] = str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (found := reached()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
    return found


def make(
    broker: Broker, directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Workers:
    environment = {
        "WHERRY_CELERY_BROKER": f"amqp://guest:guest@{broker.host}:{broker.port}//",
        "WHERRY_CELERY_PREFIX": f"celery-{uuid.uuid4().hex[:8]}",
        **{f"WHERRY_CELERY_{name.upper()}": value for name, value in settings.items()},
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # The application reads its settings when it is imported.
    sys.modules.pop("celery_app", None)
    tasks = importlib.import_module("celery_app")
    return Workers(tasks.app, tasks, dict(os.environ), directory, [])


@pytest.fixture
def workers(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Workers]:
    made = make(broker, tmp_path, monkeypatch, **getattr(request, "param", {}))
    try:
        yield made
    finally:
        made.stop()
        made.app.close()


QUEUE_TYPES = pytest.mark.parametrize(
    "workers", [{"queues": "classic"}, {"queues": "quorum"}], indirect=True, ids=str
)


@QUEUE_TYPES
def test_tasks_results_retries_and_countdown(workers: Workers) -> None:
    workers.start("--pool=prefork", "--concurrency=2")
    tasks = workers.tasks
    results = [tasks.add.delay(number, 1) for number in range(20)]
    assert [one.get(timeout=WAIT_SECONDS_MAX) for one in results] == list(range(1, 21))
    assert tasks.succeed_at.delay(2).get(timeout=WAIT_SECONDS_MAX) == 2
    # With quorum queues this goes through delayed delivery's 28 queues.
    started = time.monotonic()
    assert tasks.add.apply_async((2, 3), countdown=1).get(timeout=WAIT_SECONDS_MAX) == 5
    assert time.monotonic() - started >= 0.9
    # Celery asks delayed delivery for whole seconds, rounded down.
    eta = datetime.now(timezone.utc) + timedelta(seconds=2)
    assert tasks.add.apply_async((3, 3), eta=eta).get(timeout=WAIT_SECONDS_MAX) == 6
    assert datetime.now(timezone.utc) >= eta - timedelta(seconds=1)


def test_remote_control_and_events(workers: Workers) -> None:
    workers.start("--pool=prefork", "--concurrency=1", "--events")
    app, tasks = workers.app, workers.tasks
    seen: list[str] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(
            connection, handlers={"*": lambda event: seen.append(event["type"])}
        )
        with receiver.consumer_context() as (own, _channel, _consumers):
            tasks.add.delay(1, 1)

            def succeeded() -> bool:
                own.drain_events(timeout=WAIT_SECONDS_MAX)
                return "task-succeeded" in seen

            until(succeeded)
    assert {"task-received", "task-started", "task-succeeded"} <= set(seen)
    (registered,) = app.control.inspect(timeout=5, limit=1).registered().values()
    assert "celery_app.add" in registered

    # A revoked task does not run: the worker is held, the task told off while it waits.
    gate, trace = workers.directory / "gate", workers.directory / "trace"
    held = tasks.wait_for.delay(str(gate))
    until(lambda: Path(f"{gate}.started").exists(), workers.log)
    revoked = tasks.note.delay(str(trace), "must not run")
    assert app.control.revoke(revoked.id, reply=True, timeout=5, limit=1)
    gate.touch()
    assert held.get(timeout=WAIT_SECONDS_MAX) == "done"
    with pytest.raises(celery.exceptions.TaskRevokedError):
        revoked.get(timeout=WAIT_SECONDS_MAX)
    assert not trace.exists()

    # Prefetch follows the pool: the channel's limit is changed while it consumes.
    (answer,) = app.control.pool_grow(2, reply=True, timeout=5, limit=1)
    assert "ok" in next(iter(answer.values()))
    # Three at a time, which the limit of before would not let through.
    gate = workers.directory / "three"
    held = [tasks.wait_for.delay(str(gate)) for _ in range(3)]
    started = Path(f"{gate}.started")
    until(lambda: started.exists() and len(started.read_text().split()) == 3, workers.log)
    gate.touch()
    assert [one.get(timeout=WAIT_SECONDS_MAX) for one in held] == ["done"] * 3
    more = f"{tasks.PREFIX}.more"
    app.control.add_consumer(more, reply=True, timeout=5, limit=1)
    result = tasks.add.apply_async((4, 4), queue=more)
    assert result.get(timeout=WAIT_SECONDS_MAX) == 8
    app.control.cancel_consumer(more, reply=True, timeout=5, limit=1)


def test_priorities(workers: Workers) -> None:
    trace, gate = workers.directory / "trace", workers.directory / "gate"
    tasks = workers.tasks
    workers.start("--pool=solo", "--concurrency=1")
    tasks.wait_for.delay(str(gate))
    until(lambda: Path(f"{gate}.started").exists(), workers.log)
    # One is handed out already when the more important ones come: late acks and a prefetch of 1
    # leave that one with the broker until the held task ends.
    for priority in (1, 9, 5, 9, 0):
        tasks.note.apply_async((str(trace), str(priority)), priority=priority)
    gate.touch()
    lines = until(
        lambda: trace.exists() and len(found := trace.read_text().split()) == 5 and found,
        workers.log,
    )
    assert lines == ["9", "9", "5", "1", "0"]


def test_task_of_a_killed_worker_runs_again(workers: Workers) -> None:
    gate = workers.directory / "gate"
    tasks = workers.tasks
    first = workers.start("--pool=solo")
    result = tasks.wait_for.delay(str(gate))
    started = Path(f"{gate}.started")
    until(started.exists, workers.log)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    workers.start("--pool=solo", "--without-mingle", ready=False)
    until(lambda: len(started.read_text().split()) == 2, workers.log)
    gate.touch()
    assert result.get(timeout=WAIT_SECONDS_MAX) == "done"


def test_chord(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    backend = f"db+sqlite:///{tmp_path}/results.sqlite"
    workers = make(broker, tmp_path, monkeypatch, backend=backend)
    try:
        workers.start("--pool=prefork", "--concurrency=2")
        tasks = workers.tasks
        header = [tasks.add.s(number, number) for number in range(5)]
        assert celery.chord(header)(tasks.total.s()).get(timeout=WAIT_SECONDS_MAX) == 20
    finally:
        workers.stop()
        workers.app.close()
