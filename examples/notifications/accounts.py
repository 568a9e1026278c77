"""Who may log in, and what a browser may do with the broker.

Every user is a user of the broker, too, with the session's token as the password. All a browser may
do there is to read its own mailbox, to hear who is online, and to talk with the other pages of its
user: it publishes nothing to others and sees nobody else's mailbox. What it writes goes through the
HTTP API.
"""

from __future__ import annotations

import bisect
import hashlib
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING

import argon2

from wherry.server import AccessTable, Permission, TopicPermission, UserAccess

from .mailboxes import PAGES, PREFIX, PRESENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import Store

# Letters that mean nothing in routing keys, URLs and patterns.
NAME = re.compile(r"[a-z0-9_]{1,32}")

PASSWORD_LENGTH_MAX = 200

SESSION_SECONDS = 30 * 24 * 3600

# Pages that one user may have open; more would be a program that runs wild.
CONNECTIONS_MAX = 20

# The queue that STOMP makes for a subscription to an exchange.
OWN_QUEUES = "stomp-subscription-"


class Accounts:
    """The users, for the HTTP API; and for the broker, whose `wherry.server.Users` it is. All
    methods may be called from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hasher = argon2.PasswordHasher()
        # Each check takes some 50 ms of a core and memory, on purpose.
        self._checks = threading.BoundedSemaphore(2)
        self._callbacks: list[Callable[[], None]] = []
        # In alphabetical order. Kept, so that a new user costs no look at the others; the broker
        # does as much with what it makes of them.
        self._users = [access_of(name) for name in store.users()]
        self._users_lock = threading.Lock()

    # For the HTTP API

    def log_in(self, name: str, password: str) -> str | None:
        """A new session's token; None when the password is wrong. A new name is a new user. Takes
        about 50 ms.
        """
        known = self._store.password_hash(name)
        if known is None:
            with self._checks:
                fresh = self._hasher.hash(password)
            if not self._store.add_user(name, fresh):
                return self.log_in(name, password)  # somebody was faster
            with self._users_lock:
                bisect.insort(self._users, access_of(name), key=lambda user: user.name)
            for callback in self._callbacks:
                callback()
        elif not self._is_right(known, password):
            return None
        token = secrets.token_urlsafe(32)
        now = time.time()
        self._store.start_session(hash_of(token), name, now, now + SESSION_SECONDS)
        return token

    def _is_right(self, known: str, password: str) -> bool:
        try:
            with self._checks:
                return self._hasher.verify(known, password)
        except argon2.exceptions.VerifyMismatchError:
            return False

    def user_of(self, token: str) -> str | None:
        """Whose session it is."""
        return self._store.session_user(hash_of(token), time.time())

    def log_out(self, token: str) -> None:
        """The token counts no more. May be repeated."""
        self._store.end_session(hash_of(token))

    # For the broker

    def verify(self, name: str, password: str) -> UserAccess | None:
        """A browser connects with its token."""
        return access_of(name) if self.user_of(password) == name else None

    def exists(self, name: str) -> bool:
        """Whether there is such a user."""
        return self._store.password_hash(name) is not None

    def refresh(self) -> bool:
        """Nobody else changes the database."""
        return False

    def snapshot(self) -> AccessTable:
        """What everybody may do."""
        with self._users_lock:
            return AccessTable(tuple(self._users))

    def on_change(self, callback: Callable[[], None]) -> None:
        """Called when there is a new user."""
        self._callbacks.append(callback)


def access_of(name: str) -> UserAccess:
    """What a user's browser may do with the broker."""
    own = f"^{OWN_QUEUES}"
    write = f"^({PAGES}$|{OWN_QUEUES})"
    read = f"^({re.escape(PREFIX + name)}|{PRESENCE}|{PAGES}|{OWN_QUEUES}.*)$"
    key = "^{username}$"
    return UserAccess(
        name,
        permissions=(Permission("/", configure=own, write=write, read=read),),
        topic_permissions=(TopicPermission("/", PAGES, write=key, read=key),),
        max_connections=CONNECTIONS_MAX,
    )


def hash_of(token: str) -> str:
    """A token is random and long: a fast hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
