"""A server with limits low enough to meet, and a bystander beside every attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hostile.bystander import Bystander
from wire import brokers

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDSHAKE_SECONDS = 1
CONNECTIONS_PER_USER_MAX = 40
CHANNEL_MAX = 64
MESSAGE_BYTES_MAX = 1 << 20


@pytest.fixture(scope="session")
def broker() -> Iterator[brokers.Broker]:
    if brokers.CHOICE != "wherry":
        pytest.skip("the attacks need a server with limits of their own")
    limits = {
        "limits.handshake_seconds": HANDSHAKE_SECONDS,
        "limits.connections_per_user_max": CONNECTIONS_PER_USER_MAX,
        "limits.channel_max": CHANNEL_MAX,
        "limits.message_bytes_max": MESSAGE_BYTES_MAX,
    }
    try:
        started = brokers.start("wherry", options=limits, stomp=brokers.Stomp())
    except brokers.Unavailable as reason:
        pytest.skip(str(reason))
    with started:
        yield started


@pytest.fixture(autouse=True)
def bystander(
    broker: brokers.Broker, record_property: pytest.RecordProperty
) -> Iterator[Bystander]:
    """Fails the test if the well-behaved client is not served; its p99 is recorded."""
    with Bystander(broker) as beside:
        yield beside
    record_property("bystander_p99_ms", round(beside.p99 * 1000, 2))
    record_property("bystander_median_ms", round(beside.median * 1000, 2))
