"""Numbers of a whole broker, from the engine's dicts to frozen dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry._types import BrokerStatistics, JournalStatistics

if TYPE_CHECKING:
    from wherry import _core


def broker_statistics(engine: _core.Engine) -> BrokerStatistics:
    """Of this broker."""
    fields = engine.statistics()
    journal = fields.pop("journal", None)
    return BrokerStatistics(
        journal=None if journal is None else JournalStatistics(**journal), **fields
    )
