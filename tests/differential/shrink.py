"""Make a failing sequence of steps shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SHRINK_RUNS_MAX = 150


def shrink(
    steps: list[Any], needed: Callable[[Any], bool], differs: Callable[[list[Any]], bool]
) -> list[Any]:
    """Fewer steps that still differ: halves, quarters, ... single ones left out while it does.

    What is `needed` is never left out: without it nothing else means anything.
    """
    runs = 0
    size = len(steps) // 2
    while size and runs < SHRINK_RUNS_MAX:
        at = 0
        while at < len(steps) and runs < SHRINK_RUNS_MAX:
            fewer = steps[:at] + steps[at + size :]
            runs += 1
            if not any(map(needed, steps[at : at + size])) and differs(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps
