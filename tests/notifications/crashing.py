"""The program, killed (SIGKILL) at a given place of the relay: `crashing.py DIRECTORY PLACE`, where
the place is `publish` or `mark`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))

from notifications.outbox import Outbox
from notifications.program import Settings, running
from notifications.store import Post


async def die(self: Outbox, posts: list[Post]) -> None:
    """In the place of the step."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main(directory: Path, place: str) -> None:
    """Bob writes something, and that is all."""
    setattr(Outbox, place, die)
    async with running(Settings(directory, http_port=0, websocket_port=0)) as program:
        program.store.add_post("bob", "before the crash", 1.0)
        program.outbox.wake()
        await trio.sleep_forever()


trio.run(main, Path(sys.argv[1]), sys.argv[2])
