"""How a plain thread waits for the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from wherry._errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry import _core

T = TypeVar("T")


def durable(engine: _core.Engine, receipt: int, timeout: float | None) -> None:
    """Wait until that is on stable storage; TimeoutError when it takes longer."""
    if receipt and not engine.wait_durable(receipt, timeout):
        raise TimeoutError(
            f"done, but not known to be on stable storage after {timeout} s: "
            "call sync() to wait for it"
        )


def with_space(engine: _core.Engine, operation: Callable[[], T], timeout: float | None) -> T:
    """Do it; when it is refused as Busy, wait until the disk has caught up and do it again."""
    while True:
        try:
            return operation()
        except Busy:  # noqa: PERF203
            if not engine.wait_space(timeout):
                raise
