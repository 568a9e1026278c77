"""Why publishers wait: too much in memory, too little room on the disk, a journal that cannot
grow. Everything here runs on the server's loop.

Memory is over its limit when the engine says so: a session whose publish was refused finds out. The
disk is looked at once a second. Both limits are the configuration's when the server starts, and can
be changed while it runs.
"""

from __future__ import annotations

import logging
import math
import os
from operator import index
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry import _core
    from wherry.server._loop import Event, Loop
    from wherry.server._settings import Settings

log = logging.getLogger("wherry.server")

# Between two looks at the disk.
LOOK_SECONDS = 1.0

# Between two lines about memory: where it hovers around its limit there would be dozens a second.
MEMORY_LOG_SECONDS = 10.0


class Alarms:
    """The alarms of one server.

    Args:
        resume: called when publishers may have room again.
    """

    def __init__(
        self,
        engine: _core.Engine,
        front: _core.FrontEnd,
        settings: Settings,
        loop: Loop,
        resume: Callable[[], None],
    ) -> None:
        self.memory = False
        self.disk = False
        self._engine = engine
        self._front = front
        self._loop = loop
        self._resume = resume
        self._directory = settings.directory
        self._disk_free_bytes_min = settings.disk_free_bytes_min
        self._disk_free_bytes: int | None = None
        # Whether that is too little; as long as it cannot be seen, what it was.
        self._disk_low = False
        # What is wrong, as it was logged last.
        self._said: dict[str, str | None] = {}
        # Whether memory was over its limit when that was logged last, and when that was.
        self._memory_said = False
        self._memory_said_at = -math.inf
        # Ends the wait for the next look.
        self._look: Event = loop.event()

    def close(self) -> None:
        """Nobody is resumed any more."""
        self._resume = _nobody

    def _set(self, *, memory: bool, disk: bool) -> None:
        self.memory, self.disk = memory, disk
        self._front.set_alarms(memory=memory, disk=disk)

    # Memory

    def look_at_memory(self) -> bool:
        """Compare with the engine; whether that changed the alarm."""
        full = self._front.memory_full()
        if full is self.memory:
            return False
        self._set(memory=full, disk=self.disk)
        self.say_memory()
        return True

    def say_memory(self, *, soon: bool = False) -> None:
        """Log whether memory is over its limit, if that is new. What is not logged for now, as
        something was just before, is as soon as this is called later.

        Args:
            soon: it may be just after something else was.
        """
        now = self._loop.now()
        if self.memory is self._memory_said or not (
            soon or now - self._memory_said_at >= MEMORY_LOG_SECONDS
        ):
            return
        self._memory_said, self._memory_said_at = self.memory, now
        log.warning(
            "messages waiting in memory are %s",
            "over the limit: publishers wait" if self.memory else "under the limit again",
        )

    # The disk

    async def watch_disk(self, directory: str) -> None:
        """Hold publishers back, and tell them, while the volume has too little space, or while the
        journal cannot make its next segment. Say so if it failed for good.
        """
        while True:
            free = None
            try:
                # A network volume may take its time.
                free = await self._loop.in_thread(_free_bytes, directory)
            except OSError as error:
                self._say("space", f"cannot see how much space {directory} has: {error}")
            else:
                self._say("space", None)
            self._disk_has(free, directory)
            await self._look.wait(LOOK_SECONDS)
            if self._look.is_set():
                self._look = self._loop.event()

    def _disk_has(self, free: int | None, directory: str) -> None:
        self._disk_free_bytes = free
        journal = self._engine.statistics()["journal"] or {}
        self._say("journal", journal.get("failed"))
        obstacle = self._engine.obstacle()
        self._say(
            "growth",
            obstacle
            and f"{obstacle[0]}: publishers wait until the journal can grow: {obstacle[1]}",
        )
        if free is not None:
            low = free < self._disk_free_bytes_min
            if low and not self._disk_low:
                log.error(
                    "%s has %d bytes free, less than disk.free_bytes_min = %d: publishers wait "
                    "until there is more",
                    directory,
                    free,
                    self._disk_free_bytes_min,
                )
            self._disk_low = low
        held = self._disk_low or obstacle is not None
        if held is self.disk:
            return
        self._set(memory=self.memory, disk=held)
        if not held:
            log.warning("%s takes more of the journal again: publishers go on", directory)
        self._resume()

    def _say(self, what: str, text: str | None) -> None:
        """Log what is wrong with something when that changes."""
        if text is not None and text != self._said.get(what):
            log.error("%s", text)
        self._said[what] = text

    # For operators

    def limits(self) -> dict[str, Any]:
        """The limits in force, what there is, and whether publishers wait. Of the disk there is
        nothing for a server in memory.
        """
        statistics = self._engine.statistics()
        return {
            "memory_bytes_max": statistics["memory_bytes_max"],
            "memory_bytes": statistics["memory_bytes"],
            "memory_alarm": self._front.memory_full(),
            "disk_free_bytes_min": None if self._directory is None else self._disk_free_bytes_min,
            "disk_free_bytes": self._disk_free_bytes,
            "disk_alarm": self.disk,
        }

    def set_limits(self, memory_bytes_max: int | None, disk_free_bytes_min: int | None) -> None:
        """Change what is given, until the server ends.

        Raises:
            InvalidArgument: a limit that cannot be kept.
        """
        from wherry._errors import InvalidArgument

        if disk_free_bytes_min is not None:
            if index(disk_free_bytes_min) < 0:
                raise InvalidArgument(
                    f"disk_free_bytes_min={disk_free_bytes_min}: give a number of bytes, 0 or more"
                )
            if self._directory is None:
                raise InvalidArgument("this server is in memory: no disk is watched")
        if memory_bytes_max is not None:
            self._engine.set_memory_bytes_max(memory_bytes_max)
            log.warning("the memory limit is %d bytes now", memory_bytes_max)
            self.look_at_memory()
            self.say_memory(soon=True)
            self._resume()
        if disk_free_bytes_min is not None:
            self._disk_free_bytes_min = disk_free_bytes_min
            log.warning("disk.free_bytes_min is %d now", disk_free_bytes_min)
            self._look.set()


def _nobody() -> None:
    pass


def _free_bytes(directory: str) -> int:
    if hasattr(os, "statvfs"):
        volume = os.statvfs(directory)
        return volume.f_bavail * volume.f_frsize
    import shutil

    return shutil.disk_usage(directory).free
