"""What the broker keeps: a mailbox for each user, and the bindings that fill it.

A mailbox is a durable queue; to follow is to bind it to the exchange `posts` with the author's name
as the key. So the broker does the fan-out, and the application writes each post once. A mailbox
without a reader costs memory for its name and its bindings, no task and no file; what lies in it
expires on time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import wherry

from .outbox import IDS_REMEMBERED

if TYPE_CHECKING:
    from .store import Store

POSTS = "posts"
PRESENCE = "presence"
# Where the pages of one user talk with each other, with the user's name as the key.
PAGES = "pages"
PREFIX = "mailbox."

# A mailbox is for what was missed, not an archive: that is the feed, from the database. The oldest
# make room.
LENGTH_MAX = 1000


class Mailboxes:
    """The queues and bindings of all users."""

    def __init__(self, broker: wherry.Broker, ttl_seconds: float) -> None:
        self._broker = broker
        self._ttl_seconds = ttl_seconds

    async def restore(self, store: Store) -> None:
        """Make what the database says is there. Nothing changes as a rule; after a crash between a
        row and its binding, this makes the binding.
        """
        await self._broker.declare_exchange(
            POSTS, "direct", dedup=wherry.Dedup(size=IDS_REMEMBERED)
        )
        await self._broker.declare_exchange(PRESENCE, "fanout")
        await self._broker.declare_exchange(PAGES, "topic")
        for user in store.users():
            await self.open(user)
        for follower, author in store.follows():
            await self.follow(follower, author)

    async def open(self, user: str) -> None:
        """Make sure that a user has a mailbox."""
        await self._broker.declare_queue(
            PREFIX + user, message_ttl=self._ttl_seconds, max_length=LENGTH_MAX
        )

    async def follow(self, follower: str, author: str) -> None:
        """From now on the author's posts come to the follower's mailbox."""
        await self._broker.queue(PREFIX + follower).bind(POSTS, author)

    async def unfollow(self, follower: str, author: str) -> None:
        """From now on they do not."""
        await self._broker.queue(PREFIX + follower).unbind(POSTS, author)
