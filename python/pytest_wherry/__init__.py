"""The pytest plugin: fixtures `wherry_broker` and `wherry_vhost` (docs/testing.md).

It is loaded in every run of pytest wherever Wherry is installed, so it imports nothing of it before
a test asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.testing import TestBroker, TestVirtualHost


@pytest.fixture(scope="session")
def wherry_broker() -> Iterator[TestBroker]:
    """A broker in memory for the whole run, on a free port of this machine."""
    import wherry.testing

    with wherry.testing.broker() as broker:
        yield broker


@pytest.fixture
def wherry_vhost(wherry_broker: TestBroker) -> Iterator[TestVirtualHost]:
    """A fresh virtual host for one test: `wherry_vhost.amqp_url`. Gone with everything in it
    afterwards, connections that the test forgot to close included.
    """
    with wherry_broker.virtual_host() as virtual_host:
        yield virtual_host
