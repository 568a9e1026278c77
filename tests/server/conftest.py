"""A broker for each test that talks to a server, and clients for it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

import wherry.testing
from wherry.server import users_hashes as hashes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where Python may write no bytecode beside its modules, each of the processes that tests start
    would compile everything again: a second instead of a fifth.
    """
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode:
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patch.setitem(os.environ, "PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("pyc")))
        yield


@pytest.fixture
def broker() -> Iterator[wherry.testing.TestBroker]:
    """A server of its own for one test."""
    with wherry.testing.broker() as broker:
        yield broker


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the hashes that were checked; checking takes no time."""
    seen: list[str] = []

    def check(algorithm: str, password_hash: str, password: str) -> bool:
        seen.append(algorithm)
        return password != "" and password_hash == f"hash of {password}"

    monkeypatch.setattr(hashes, "check", check)
    monkeypatch.setattr(hashes, "check_hash", lambda algorithm, password_hash: None)
    monkeypatch.setattr(hashes, "hash_password", lambda password: f"hash of {password}")
    monkeypatch.setattr(
        hashes, "is_outdated", lambda algorithm, password_hash: algorithm != hashes.ARGON2
    )
    return seen
