"""Who may do what, as plain values: what the user store hands to the sessions.

RabbitMQ's rules: three regular expressions for each user and virtual host, over the names of
exchanges and queues, searched for anywhere in the name unless anchored; an empty one matches
nothing but the empty name. Matching is done in Rust, whose regular expressions take linear time; a
pattern that it does not compile (a look-ahead, a back reference) is refused when it is set.

Immutable, so any thread may keep and read them. Why they are named tuples: see `_settings`.
"""

from typing import Any, NamedTuple

from wherry import _core
from wherry._errors import InvalidArgument

__all__ = [
    "AccessTable",
    "Permission",
    "TopicPermission",
    "UserAccess",
    "VirtualHostLimits",
    "check_pattern",
]

# A pattern is typed by a person or made by a deployment tool; a kilobyte names a hundred queues.
PATTERN_BYTES_MAX = 4096


class Permission(NamedTuple):
    """What a user may do in one virtual host."""

    vhost: str
    """The virtual host."""
    configure: str
    """Names that may be declared and deleted."""
    write: str
    """Names that may be published to, and bound."""
    read: str
    """Names that may be consumed, purged, and bound to."""


class TopicPermission(NamedTuple):
    """Which routing keys a user may use with one topic exchange; `{username}` and `{vhost}` stand
    for the user's.
    """

    vhost: str
    """The virtual host."""
    exchange: str
    """The topic exchange."""
    write: str
    """Routing keys that may be published with."""
    read: str
    """Patterns that may be bound with."""


class UserAccess(NamedTuple):
    """A user, without the password."""

    name: str
    """The name."""
    tags: tuple[str, ...] = ()
    """`administrator`, `monitoring`, `impersonator`, or one's own."""
    permissions: tuple[Permission, ...] = ()
    """At most one for each virtual host; without one the user cannot enter it."""
    topic_permissions: tuple[TopicPermission, ...] = ()
    """At most one for each exchange; without one every routing key may be used."""
    max_connections: int | None = None
    """Connections at most; None for the server's limit."""
    max_channels: int | None = None
    """Channels at most, over all connections; None for the server's limit."""


class VirtualHostLimits(NamedTuple):
    """Limits of one virtual host; None for the server's."""

    vhost: str
    """The virtual host."""
    max_connections: int | None = None
    """Connections at most."""
    max_queues: int | None = None
    """Queues at most."""


class AccessTable(NamedTuple):
    """Everything that sessions need to know of users, at one moment."""

    users: tuple[UserAccess, ...] = ()
    """By name, in alphabetical order."""
    vhost_limits: tuple[VirtualHostLimits, ...] = ()
    """By virtual host, in alphabetical order; those without limits are not in it."""

    def as_dict(self) -> dict[str, Any]:
        """The same, of dicts and lists."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    return [_plain(item) for item in value]


def check_pattern(pattern: str) -> None:
    """See that a regular expression will be understood.

    Raises:
        InvalidArgument: it will not; the message says where and why.
    """
    if len(pattern.encode()) > PATTERN_BYTES_MAX:
        raise InvalidArgument(f"a pattern of over {PATTERN_BYTES_MAX} bytes")
    _core.check_pattern(pattern)
