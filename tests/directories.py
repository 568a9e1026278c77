"""What tests do to a broker's directory while it is open."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def delete(directory: Path) -> None:
    """Delete a directory, again if a file was made in it meanwhile."""
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
