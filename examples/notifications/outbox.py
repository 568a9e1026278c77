"""From the database to the broker: every post that was committed is published, once.

The relay publishes what stands in the outbox, waits for the broker's confirm (the message is on
stable storage) and takes it out of the outbox. A crash before the confirm loses nothing, since the
row is there still; a crash between the confirm and the mark doubles nothing, since the exchange
knows the post's id and takes it once (`wherry.Dedup`), also after a restart.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import trio

import wherry

if TYPE_CHECKING:
    from .store import Post, Store

log = logging.getLogger("notifications")

BATCH = 100

# What was published and is not marked is one batch at most, so that this is plenty.
IDS_REMEMBERED = 10 * BATCH

# After a failure that may pass, such as a full disk.
RETRY_SECONDS = 1.0


class Outbox:
    """Brings posts to the exchange."""

    def __init__(self, store: Store, exchange: wherry.Exchange) -> None:
        self._store = store
        self._exchange = exchange
        self._news = trio.Event()
        self._empty = trio.Event()

    def wake(self) -> None:
        """Something was put into the outbox."""
        self._news.set()
        if self._empty.is_set():
            self._empty = trio.Event()

    async def drained(self) -> None:
        """Wait until everything that `wake` told of is published and marked."""
        await self._empty.wait()

    async def run(self) -> None:
        """Publish what is there, then whatever comes, until cancelled."""
        while True:
            self._news = trio.Event()  # before the look: what comes after it is told
            posts = await trio.to_thread.run_sync(self._store.unsent, BATCH)
            if not posts:
                if not self._news.is_set():
                    self._empty.set()
                await self._news.wait()
                continue
            try:
                await self.publish(posts)
            except (wherry.DiskFull, wherry.Busy) as error:
                log.warning("posts wait in the outbox: %s", error)
                await trio.sleep(RETRY_SECONDS)
                continue
            await self.mark(posts)

    async def publish(self, posts: list[Post]) -> None:
        """Returns when the broker has them on stable storage."""
        await self._exchange.publish_many([message_of(post) for post in posts])

    async def mark(self, posts: list[Post]) -> None:
        """They need not be published again."""
        await trio.to_thread.run_sync(self._store.mark_sent, posts)


def message_of(post: Post) -> wherry.Message:
    """A post as its readers get it. Its author is the routing key."""
    return wherry.Message(
        json.dumps(post.as_dict()).encode(),
        post.author,
        content_type="application/json",
        headers={"x-dedup-id": str(post.id)},
    )
