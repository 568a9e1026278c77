"""Each scenario of STOMP through stomp.py, by version and transport."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import stomp_scenarios
from python_clients.api import Unsupported

pytest.importorskip("stomp", reason="stomp.py is not installed: make clients-install")
pytest.importorskip("websocket", reason="websocket-client is not installed: make clients-install")

from python_clients.with_stomp import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wire.brokers import Broker

pytestmark = [
    pytest.mark.timeout(90),
    # The client leaves sockets to the collector when the server has closed them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=CLIENTS)
def world(request: pytest.FixtureRequest, stomp_broker: Broker) -> Iterator[stomp_scenarios.World]:
    made = stomp_scenarios.World(
        CLIENTS[request.param], stomp_broker, f"wherry.stomp.{uuid.uuid4().hex[:8]}"
    )
    yield made
    made.close()


@pytest.mark.parametrize("scenario", stomp_scenarios.ALL, ids=lambda one: one.__name__)
def test_scenario(
    scenario: Callable[[stomp_scenarios.World], None], world: stomp_scenarios.World
) -> None:
    try:
        scenario(world)
    except Unsupported as reason:
        pytest.skip(str(reason))
