"""The users of a test: passwords as they are, and everybody may do everything, unless told."""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING

from wherry.server.permissions import AccessTable, Permission, UserAccess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class PlainUsers:
    """A store of users that hashes nothing: logging in costs no 50 ms. For tests only."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)
        self._lock = threading.Lock()
        self._tags: dict[str, tuple[str, ...]] = dict.fromkeys(self._passwords, ("administrator",))
        # By user and virtual host: configure, write, read.
        self._permissions: dict[tuple[str, str], tuple[str, str, str]] = {}
        for name in self._passwords:
            self._permissions[name, "/"] = (".*", ".*", ".*")

    def verify(self, name: str, password: str) -> UserAccess | None:
        """The user, if name and password are right."""
        known = self._passwords.get(name, "").encode()
        if known and hmac.compare_digest(known, password.encode("utf-8", "surrogatepass")):
            return UserAccess(name)
        return None

    def exists(self, name: str) -> bool:
        """Whether there is such a user."""
        return name in self._passwords

    def refresh(self) -> bool:
        """Nobody else changes it."""
        return False

    def on_change(self, callback: Callable[[], None]) -> None:
        """Who changes it tells the server himself."""

    def add(self, name: str, password: str) -> None:
        """A user, who may go nowhere yet."""
        with self._lock:
            self._passwords[name] = password
            self._tags[name] = ()

    def permit(
        self, vhost: str, user: str, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Let a user into a virtual host."""
        if user not in self._passwords:
            raise ValueError(f"there is no user '{user}': add_user('{user}', ...) makes one")
        with self._lock:
            self._permissions[user, vhost] = (configure, write, read)

    def forget_vhost(self, vhost: str) -> None:
        """It was deleted."""
        with self._lock:
            for place in [place for place in self._permissions if place[1] == vhost]:
                del self._permissions[place]

    def snapshot(self) -> AccessTable:
        """What the sessions need to know."""
        with self._lock:
            permissions: dict[str, list[Permission]] = {name: [] for name in self._passwords}
            for (name, vhost), patterns in self._permissions.items():
                permissions[name].append(Permission(vhost, *patterns))
            return AccessTable(
                tuple(
                    UserAccess(name, self._tags[name], tuple(permissions[name]))
                    for name in self._passwords
                )
            )
