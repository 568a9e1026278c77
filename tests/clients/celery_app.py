"""The Celery application of `test_celery.py`, for the test and its workers alike; environment
variables configure it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Queue

QUORUM = os.environ.get("WHERRY_CELERY_QUEUES") == "quorum"
PREFIX = os.environ.get("WHERRY_CELERY_PREFIX", "celery-test")

app = Celery(
    "celery_app",
    broker=os.environ.get("WHERRY_CELERY_BROKER"),
    backend=os.environ.get("WHERRY_CELERY_BACKEND", "rpc://"),
)
app.conf.update(
    task_default_queue=PREFIX,
    task_default_exchange=PREFIX,
    # Delayed delivery takes topic exchanges.
    task_default_exchange_type="topic" if QUORUM else "direct",
    task_default_routing_key=PREFIX,
    task_default_queue_type="quorum" if QUORUM else "classic",
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_send_task_events=True,
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    result_expires=60,
)
if not QUORUM:
    app.conf.task_queues = [
        Queue(PREFIX, routing_key=PREFIX, queue_arguments={"x-max-priority": 10}),
    ]


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def succeed_at(self: Any, attempt: int) -> int:
    if self.request.retries < attempt:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task
def note(path: str, line: str) -> None:
    """Append a line: how a test sees order and repetition."""
    with Path(path).open("a") as file:
        file.write(line + "\n")


@app.task
def wait_for(path: str, seconds: float = 30) -> str:
    """Note the start, then hold the worker until the file `path` exists."""
    note(path + ".started", "started")
    deadline = time.monotonic() + seconds
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return "done"


@app.task(bind=True)
def priority_of(self: Any) -> int:
    return int(self.request.delivery_info["priority"] or 0)
