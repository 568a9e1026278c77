"""Single cases: every way to be refused that we know, and the neighbours that must not be.

`golden.json` holds what RabbitMQ 3.10 answers to each; `python -m differential.record` in tests/
writes it anew. Each case begins with peer `a` connected and its channel 1 open. Names with `@` are
the case's own.
"""

from __future__ import annotations

import importlib

from differential.cases.language import CASES

__all__ = ["CASES"]

# In the order of `golden.json`.
for _name in (
    *("declaring", "publishing", "consuming", "confirming", "dead_letters"),
    *("channels", "copies", "frames", "delivery", "routing", "outcomes", "seams"),
):
    importlib.import_module(f"{__name__}.{_name}")
