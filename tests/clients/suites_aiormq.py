"""For pytest in aiormq's suite: the fixtures that start a broker in a container there; ours runs
already.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from yarl import URL


@pytest.fixture(scope="session")
def rabbitmq_container() -> SimpleNamespace:
    return SimpleNamespace(ports={"5672/tcp": 5672, "5671/tcp": 5671}, host="localhost")


@pytest.fixture
def amqp_direct_url(rabbitmq_container: SimpleNamespace) -> URL:
    return URL.build(
        scheme="amqp", user="guest", password="guest", host="localhost", port=5672, path="//"
    )
