"""A broker for each test that talks to a server, and clients for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import wherry.testing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[wherry.testing.TestBroker]:
    """A server of its own for one test."""
    with wherry.testing.broker() as broker:
        yield broker
