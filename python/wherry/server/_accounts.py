"""Who may log in, as the server sees it: a store of users, and the answer to one login."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.server.config import Config
    from wherry.server.permissions import AccessTable


class Users(Protocol):
    """What a server needs of a store of users. All methods may be called from any thread."""

    def verify(self, name: str, password: str) -> Any | None:
        """The user, or None when the name or the password is wrong. May take long."""

    def exists(self, name: str) -> bool:
        """Whether there is such a user, for logins that a certificate proves."""

    def refresh(self) -> bool:
        """Look whether somebody else changed it. Called every second, in a thread; not to raise."""

    def snapshot(self) -> AccessTable:
        """All users with their tags, permissions and limits."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call it, in whatever thread, after something changed."""


def default_users(directory: str | None, config: Config | None) -> Users:
    """The users of a data directory, or of a broker in memory."""
    from wherry.server.users import UserStore

    path = None if directory is None else os.path.join(directory, "users.json")
    if config is None:
        return UserStore(path)
    return UserStore(path, fixed=config.users, verifications_max=config.limits.verifications_max)
