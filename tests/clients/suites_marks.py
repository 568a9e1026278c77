"""For pytest in the suites of py-amqp and kombu: their `env` mark means tox's environments; and
first tries only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "env(name): an environment of tox")
    config.addinivalue_line("markers", "flaky(**options): may be tried again; here it is not")
