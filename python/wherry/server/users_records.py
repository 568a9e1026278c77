"""Checks of what users are made of, and from the user file's records to what others are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry._errors import InvalidArgument
from wherry.server import users_hashes as hashes
from wherry.server.permissions import Permission, UserAccess, check_pattern
from wherry.server.users_file import Record

if TYPE_CHECKING:
    from wherry.server.config_schema import InlineUser

NAME_BYTES_MAX = 255
# Tags are for rights; a list of rights that long is a mistake.
TAGS_MAX = 32


def hash_of(record: Record) -> tuple[str, str]:
    """Algorithm and hash of a user."""
    return record.hashing_algorithm, record.password_hash


def with_hash(record: Record, algorithm: str, value: str) -> Record:
    """The user with another hash."""
    return record._replace(hashing_algorithm=algorithm, password_hash=value)


def hashed(
    password: str | None, password_hash: str | None, hashing_algorithm: str
) -> tuple[str, str]:
    """Algorithm and hash of what a caller gave: a password, a hash, or neither.

    Raises:
        InvalidArgument: both, or one that cannot be.
    """
    if password is not None and password_hash is not None:
        raise InvalidArgument("give a password or its hash, not both")
    if password is not None:
        return hashes.ARGON2, hashes.hash_password(password)
    hashes.check_hash(hashing_algorithm, password_hash or "")
    return hashing_algorithm, password_hash or ""


def access(record: Record) -> UserAccess:
    """The user without the password."""
    return UserAccess(
        name=record.name,
        tags=record.tags,
        permissions=record.permissions,
        topic_permissions=record.topic_permissions,
        max_connections=record.max_connections,
        max_channels=record.max_channels,
    )


def fixed_record(user: InlineUser) -> Record:
    """A user of the configuration. Its plain password is kept elsewhere.

    Raises:
        InvalidArgument: a pattern or the hash is not understood; the message names the user.
    """
    try:
        hashes.check_hash(hashes.ARGON2, user.password_hash or "")
        for one in user.permissions:
            for pattern in (one.configure, one.write, one.read):
                check_pattern(pattern)
        return Record(
            name=user.name,
            hashing_algorithm=hashes.ARGON2,
            password_hash=user.password_hash or "",
            tags=checked_tags(user.tags),
            permissions=tuple(
                Permission(one.vhost, one.configure, one.write, one.read)
                for one in user.permissions
            ),
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"user '{user.name}' of the configuration: {error}") from None


def check_name(what: str, name: str) -> None:
    """Raises InvalidArgument for a name that cannot be."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
        raise InvalidArgument(f"the name of a {what} has 1 to {NAME_BYTES_MAX} bytes")
    if not name.isprintable():
        raise InvalidArgument(f"the name of a {what} has only characters that can be printed")


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags, or InvalidArgument."""
    if len(tags) > TAGS_MAX:
        raise InvalidArgument(f"over {TAGS_MAX} tags")
    for tag in tags:
        if "," in tag:
            raise InvalidArgument(f"tag '{tag}': a comma separates tags")
        check_name("tag", tag)
    return tuple(tags)


def check_limits(*limits: int | None) -> None:
    """Raises InvalidArgument for a negative limit."""
    for limit in limits:
        if limit is not None and limit < 0:
            raise InvalidArgument(f"a limit of {limit}: it is 0 (none allowed) or more, or absent")
