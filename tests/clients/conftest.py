"""The broker that the clients talk to: one for the whole run (WHERRY_TEST_BROKER chooses, see
wire/brokers.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wire import brokers
from wire.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def broker() -> Iterator[brokers.Broker]:
    try:
        started = brokers.start()
    except brokers.Unavailable as reason:
        pytest.skip(str(reason))
    with started:
        yield started


@pytest.fixture(scope="session")
def stomp_broker() -> Iterator[brokers.Broker]:
    """One that speaks STOMP as well, and keeps what it has on disk: a scenario kills it."""
    try:
        started = brokers.start(stomp=brokers.Stomp(), durable=True)
    except brokers.Unavailable as reason:
        pytest.skip(str(reason))
    with started:
        yield started


@pytest.fixture
def proxy(broker: brokers.Broker) -> Iterator[Proxy]:
    with Proxy(broker.host, broker.port) as opened:
        yield opened
