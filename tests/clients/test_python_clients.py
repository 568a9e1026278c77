"""Each scenario through each Python client."""

from __future__ import annotations

import contextlib
import importlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import scenarios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wire.brokers import Broker
    from wire.proxy import Proxy

pytestmark = [
    pytest.mark.timeout(60),
    # A client that is cut off leaves sockets and tasks to the collector, and warns; the
    # server is the subject here.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

CLIENTS = {
    "pika": "pika",
    "aio-pika": "aio_pika",
    "py-amqp": "amqp",
    "kombu": "kombu",
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(
        CLIENTS[request.param], reason=f"{request.param} is not installed: make clients-install"
    )
    module = request.param.replace("-", "_")
    return importlib.import_module(f"python_clients.with_{module}")


@pytest.fixture
def world(
    request: pytest.FixtureRequest, client: Any, broker: Broker, proxy: Proxy
) -> Iterator[scenarios.World]:
    made = scenarios.World(
        client, broker, proxy, f"wherry.{client.name}.{uuid.uuid4().hex[:8]}", []
    )
    yield made
    for connection in made.connections:
        connection.close()


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=scenarios.NAMES)
def test_scenario(scenario: Callable[[scenarios.World], None], world: scenarios.World) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(_unsupported_skips())
        scenario(world)


@contextlib.contextmanager
def _unsupported_skips() -> Iterator[None]:
    from python_clients.api import Unsupported

    try:
        yield
    except Unsupported as reason:
        pytest.skip(str(reason))
