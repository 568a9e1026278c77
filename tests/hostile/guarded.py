"""A broker in this process whose users a test may change while they are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.server.permissions import AccessTable, Permission, TopicPermission, UserAccess

if TYPE_CHECKING:
    from wherry.testing import TestBroker


class Guarded:
    """Users are logged in with their name for password, and may go to `/` only."""

    def __init__(self, broker: TestBroker) -> None:
        self.broker = broker
        self.host, self.port = broker.host, broker.port
        self._users = {
            "guest": UserAccess("guest", ("administrator",), (Permission("/", ".*", ".*", ".*"),))
        }

    def user(self, name: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Adds one, or changes what it may do."""
        if name not in self._users:
            self.broker.add_user(name, name)
        before = self._users.get(name, UserAccess(name))
        permissions = (Permission("/", configure, write, read),)
        self._put(UserAccess(name, (), permissions, before.topic_permissions))

    def topic(self, name: str, exchange: str, write: str, read: str) -> None:
        """Narrows what a user may do with a topic exchange."""
        permissions = self._users[name].permissions
        topics = (TopicPermission("/", exchange, write, read),)
        self._put(UserAccess(name, (), permissions, topics))

    def shut_out(self, name: str) -> None:
        """Takes every permission from a user."""
        self._put(UserAccess(name))

    def delete(self, name: str) -> None:
        """Deletes a user."""
        del self._users[name]
        self._apply()

    def _put(self, user: UserAccess) -> None:
        self._users[user.name] = user
        self._apply()

    def _apply(self) -> None:
        self.broker.server._hub.front.set_access(AccessTable(tuple(self._users.values())))
