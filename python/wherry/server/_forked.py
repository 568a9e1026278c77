"""What a process has of the servers that it was forked from: nothing.

It is born with a copy of every descriptor. While it lives, what its parent closes would stay open:
clients would not hear that they were cut off, and the port would go on taking connections that
nobody serves. (A program that is executed gets none: they are closed on exec.)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:

    class Forked(Protocol):
        """A server's part that has sockets."""

        def forked(self) -> None:
            """In the new process: close the copies, and change nothing that both have."""


_known: WeakSet[Forked] = WeakSet()
_registered = False


def remember(one: Forked) -> None:
    """Call its `forked` in every process that is forked from now on, as long as it is there."""
    global _registered
    _known.add(one)
    if not _registered and hasattr(os, "register_at_fork"):
        _registered = True
        os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    for one in _known:
        one.forked()
