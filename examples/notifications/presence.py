"""Who is online: whose mailbox has a consumer. The broker knows, and tells whenever it changes.

Nobody sends signs of life to the application: a page that is closed, a browser that was killed and
a cable that was cut all end the consumer, the last one when heart-beats are missed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .mailboxes import PREFIX, PRESENCE

if TYPE_CHECKING:
    import wherry


class Presence:
    """Follows the broker, and tells the pages through a fanout exchange."""

    def __init__(self, broker: wherry.Broker) -> None:
        self._broker = broker
        self._online: set[str] = set()
        # Pages fetch the whole once and then hear of changes; by the number they know which of
        # those they have already.
        self._changes = 0

    def online(self) -> tuple[set[str], int]:
        """Who is online, and how many changes that includes."""
        return set(self._online), self._changes

    async def run(self) -> None:
        """Follow the broker until cancelled."""
        exchange = self._broker.exchange(PRESENCE)
        async with self._broker.watch_consumers() as counts:
            async for queue, consumers in counts:
                if not queue.startswith(PREFIX):
                    continue
                user, online = queue.removeprefix(PREFIX), consumers > 0
                if online == (user in self._online):
                    continue  # a second page of the same user
                if online:
                    self._online.add(user)
                else:
                    self._online.discard(user)
                self._changes += 1
                change = {"user": user, "online": online, "change": self._changes}
                await exchange.publish(
                    json.dumps(change).encode(),
                    content_type="application/json",
                    persistent=False,
                )
