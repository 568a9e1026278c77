"""The users of a server: passwords, tags, permissions, limits.

A store is the file `users.json` in the data directory (`users_file`), or memory, and the users that
are part of the configuration. A store that never had a user gets `guest` with the password
`guest`, as RabbitMQ does: an administrator, let in from the same machine only, which is the
server's rule (`auth.loopback_users`). With users in the configuration there is no `guest`.

**Several processes.** The file belongs to nobody: each change is made under a lock that reads the
file, changes it and replaces it, so `wherry users` works beside a running server. The server sees
what others changed at the next login, and at `refresh`, which it calls every second. A file that
became unreadable is logged, and what was read before stays in force.

**Cost.** Checking a password takes about 50 ms and 19 MiB, on purpose; `verifications_max` at a
time, others wait. So that a thousand clients that come back after a restart of theirs cost one
check, a right password is remembered for a minute (`users_remembered`); a changed password or a
deleted user counts at once. Wrong ones are never remembered, and an unknown user takes as long as a
known one.

Passwords and hashes are in no log, exception or repr.

All methods may be called from any thread; `verify`, and what changes something, block.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from wherry._errors import WherryError
from wherry.server import users_hashes as hashes
from wherry.server.permissions import (
    AccessTable,
    Permission,
    TopicPermission,
    UserAccess,
    VirtualHostLimits,
    check_pattern,
)
from wherry.server.users_file import (
    Record,
    UserFile,
    UserFileError,
    Users,
)
from wherry.server.users_records import (
    access,
    check_limits,
    check_name,
    checked_tags,
    fixed_record,
    hash_of,
    hashed,
    with_hash,
)
from wherry.server.users_remembered import Remembered

if TYPE_CHECKING:
    from wherry.server.config_schema import InlineUser
    from wherry.server.users_file import Signature

__all__ = ["UnknownUser", "UserExists", "UserFileError", "UserIsFixed", "UserStore"]

log = logging.getLogger(__name__)

_EVERYTHING = Permission(vhost="/", configure=".*", write=".*", read=".*")

# The hash of "guest". Everybody knows that password, so its salt may be known too.
_GUEST = Record(
    name="guest",
    hashing_algorithm=hashes.ARGON2,
    password_hash="$argon2id$v=19$m=19456,t=2,p=1$keZx2J7ii55oAqPyzwb1Gw$"
    "zTPoR3Jf4WVyhmacEI9r5zRgxRxKTI3LDIN+2AfRNXc",
    tags=("administrator",),
    permissions=(_EVERYTHING,),
)


class UnknownUser(WherryError):
    """There is no user of this name."""


class UserExists(WherryError):
    """There is a user of this name already."""


class UserIsFixed(WherryError):
    """The user is part of the configuration, and can be changed there only."""


class _Password:
    """The password of a user of the configuration, in a form that no repr or dump shows."""

    __slots__ = ("_digest", "_key")

    def __init__(self, password: str) -> None:
        self._key = os.urandom(32)
        self._digest = self._digest_of(password)

    def _digest_of(self, password: str) -> bytes:
        import hmac

        return hmac.digest(self._key, password.encode("utf-8", "surrogatepass"), "sha256")

    def fits(self, password: str) -> bool:
        import hmac

        return hmac.compare_digest(self._digest_of(password), self._digest)


class UserStore:
    """The users of one server, or of one data directory.

    Args:
        path: the user file; None for a store in memory.
        fixed: users of the configuration.
        verifications_max: passwords checked at a time.
        now: seconds that only grow, for tests.

    Raises:
        UserFileError: the file cannot be trusted or understood.
        StorageError: the system refused.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        fixed: Sequence[InlineUser] = (),
        verifications_max: int = 2,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = None if path is None else UserFile(path)
        self._slots = threading.BoundedSemaphore(verifications_max)
        self._remembered = Remembered(now)
        # Guards everything below; never held while a password is checked or a callback runs.
        self._lock = threading.RLock()
        self._users: dict[str, Record] = {}
        self._limits: dict[str, VirtualHostLimits] = {}
        self._signature: Signature | None = None
        self._refused: Signature | None = None
        self._problem: str | None = None
        self._callbacks: list[Callable[[], None]] = []
        # Of the change that goes on, and the thread that makes it.
        self._draft: _Draft | None = None
        self._changer: int | None = None
        self._fixed = {user.name: fixed_record(user) for user in fixed}
        self._fixed_passwords = {
            user.name: _Password(user.password) for user in fixed if user.password is not None
        }
        self._open()

    def __repr__(self) -> str:
        where = "memory" if self._file is None else f"'{self._file.path}'"
        return f"<wherry.server.UserStore {where}>"

    def _open(self) -> None:
        first = () if self._fixed else (_GUEST,)
        if self._file is None:
            self._take(Users(users=first), None)
            return
        if self._load():
            return
        with self._file.locked():
            if not self._load():
                users = Users(users=first)
                self._take(users, self._file.replace(users))

    def _load(self) -> bool:
        assert self._file is not None
        found = self._file.read()
        if found is not None:
            self._take(*found)
        return found is not None

    def _take(self, users: Users, signature: Signature | None) -> None:
        with self._lock:
            self._users = {user.name: user for user in users.users}
            self._limits = {limits.vhost: limits for limits in users.vhost_limits}
            self._signature = signature

    # Logging in

    def verify(self, name: str, password: str) -> UserAccess | None:
        """The user, if name and password are right. Takes about 50 ms: not for an event loop."""
        self.refresh()
        with self._lock:
            record = self._fixed.get(name) or self._users.get(name)
            fixed = self._fixed_passwords.get(name)
        algorithm, known = ("", "") if record is None else hash_of(record)
        if record is not None and self._remembered.has(name, known, password):
            return access(record)
        with self._slots:
            right = hashes.check(algorithm, known, password)
            if fixed is not None:
                right = password != "" and fixed.fits(password)
        if record is None or not right:
            return None
        if fixed is None and name not in self._fixed and hashes.is_outdated(algorithm, known):
            record = self._rehash(record, password)
        self._remembered.add(name, record.password_hash, password)
        return access(record)

    def _rehash(self, record: Record, password: str) -> Record:
        """Replaces an imported hash, now that the password is known."""
        better = with_hash(record, hashes.ARGON2, hashes.hash_password(password))
        try:
            with self._changing() as users:
                if users.get(record.name) != record:
                    return record
                users[record.name] = better
        except WherryError as error:
            log.warning("the password hash of '%s' was not renewed: %s", record.name, error)
            return record
        return better

    def exists(self, name: str) -> bool:
        """Whether there is such a user: for logins that a certificate proves."""
        self.refresh()
        with self._lock:
            return name in self._fixed or name in self._users

    # Looking

    def refresh(self) -> bool:
        """Reads the file again if somebody changed it; whether the users are others now. Never
        raises: a file that cannot be used is logged once, and the users stay as they were.
        """
        if self._file is None:
            return False
        signature = self._file.signature()
        with self._lock:
            if signature == self._signature:
                self._refused = self._problem = None  # it was another one meanwhile, perhaps
                return False
            # None is the signature of a file that is gone, too.
            if self._problem is not None and signature == self._refused:
                return False
            try:
                if not self._load():
                    raise UserFileError(f"{self._file.path} is gone")
            except WherryError as error:
                self._refused = signature
                self._problem = f"the user file is not read again, its former users stay: {error}"
                log.error("%s", self._problem)
                return False
            self._refused = self._problem = None
        self._tell()
        return True

    @property
    def problem(self) -> str | None:
        """Why the users are not those of the file, as `refresh` found it."""
        with self._lock:
            return self._problem

    def snapshot(self) -> AccessTable:
        """All users without their passwords, and the limits of virtual hosts."""
        with self._lock:
            records = {**self._users, **self._fixed}
            limits = sorted(self._limits.values(), key=lambda one: one.vhost)
        return AccessTable(
            users=tuple(access(records[name]) for name in sorted(records)),
            vhost_limits=tuple(limits),
        )

    def list(self) -> tuple[UserAccess, ...]:
        """All users, in alphabetical order."""
        self.refresh()
        return self.snapshot().users

    def fixed(self) -> frozenset[str]:
        """The names of those that are part of the configuration."""
        return frozenset(self._fixed)

    def records(self) -> tuple[Record, ...]:
        """The users of the file with their hashes, for an export of definitions."""
        with self._lock:
            return tuple(self._users[name] for name in sorted(self._users))

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls it after each change, in the thread that made or noticed it."""
        with self._lock:
            self._callbacks.append(callback)

    def _tell(self) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback()

    # Changing

    def together(self) -> AbstractContextManager[object]:
        """Makes the changes of a `with` block one change of the file; this thread's only. Logins
        wait meanwhile.
        """
        return _Change(self)

    def _changing(self) -> _Change:
        return _Change(self)

    def _change(self, name: str, **changes: Any) -> None:
        with self._changing() as users:
            users[name] = self._known(users, name)._replace(**changes)

    def _known(self, users: dict[str, Record], name: str) -> Record:
        if name in self._fixed:
            raise UserIsFixed(
                f"user '{name}' is part of the configuration: change it there and restart the"
                " server"
            )
        if name not in users:
            raise UnknownUser(f"there is no user '{name}': `wherry users add {name}` makes one")
        return users[name]

    def add(
        self,
        name: str,
        password: str | None = None,
        *,
        tags: Sequence[str] = (),
        password_hash: str | None = None,
        hashing_algorithm: str = hashes.ARGON2,
    ) -> None:
        """Adds a user, who may go nowhere yet.

        Args:
            name: at most 255 bytes.
            password: None with a hash, or for a user who logs in by certificate only.
            tags: see `UserAccess`.
            password_hash: as exported by Wherry or RabbitMQ.
            hashing_algorithm: of the hash: `argon2`, `rabbit_password_hashing_sha256`, `_sha512` or
                `_md5`.

        Raises:
            UserExists: there is one.
            InvalidArgument: name, password, tags or hash cannot be.
        """
        check_name("user", name)
        tags = checked_tags(tags)
        algorithm, value = hashed(password, password_hash, hashing_algorithm)
        with self._changing() as users:
            if name in users or name in self._fixed:
                raise UserExists(f"there is a user '{name}' already")
            users[name] = Record(
                name=name, hashing_algorithm=algorithm, password_hash=value, tags=tags
            )

    def put(
        self,
        name: str,
        *,
        tags: Sequence[str] = (),
        password_hash: str = "",
        hashing_algorithm: str = hashes.ARGON2,
        max_connections: int | None = None,
        max_channels: int | None = None,
    ) -> None:
        """Adds a user or changes an existing one to this; permissions stay. For imports.

        Raises:
            UserIsFixed: it is part of the configuration.
            InvalidArgument: something cannot be.
        """
        check_name("user", name)
        if name in self._fixed:
            raise UserIsFixed(f"user '{name}' is part of the configuration")
        hashes.check_hash(hashing_algorithm, password_hash)
        tags = checked_tags(tags)
        check_limits(max_connections, max_channels)
        with self._changing() as users:
            old = users.get(name)
            users[name] = Record(
                name=name,
                hashing_algorithm=hashing_algorithm,
                password_hash=password_hash,
                tags=tags,
                permissions=() if old is None else old.permissions,
                topic_permissions=() if old is None else old.topic_permissions,
                max_connections=max_connections,
                max_channels=max_channels,
            )

    def delete(self, name: str) -> None:
        """Removes a user. Open connections lose their permissions.

        Raises:
            UnknownUser, UserIsFixed.
        """
        with self._changing() as users:
            self._known(users, name)
            del users[name]

    def set_password(
        self,
        name: str,
        password: str | None = None,
        *,
        password_hash: str | None = None,
        hashing_algorithm: str = hashes.ARGON2,
    ) -> None:
        """Changes a password; arguments are those of `add`.

        Raises:
            UnknownUser, UserIsFixed, InvalidArgument.
        """
        algorithm, value = hashed(password, password_hash, hashing_algorithm)
        self._change(name, hashing_algorithm=algorithm, password_hash=value)

    def set_tags(self, name: str, tags: Sequence[str]) -> None:
        """Replaces a user's tags.

        Raises:
            UnknownUser, UserIsFixed, InvalidArgument.
        """
        self._change(name, tags=checked_tags(tags))

    def set_permission(self, name: str, vhost: str, configure: str, write: str, read: str) -> None:
        """Sets what a user may do in a virtual host.

        Raises:
            UnknownUser, UserIsFixed.
            InvalidArgument: a pattern that is not understood.
        """
        check_name("virtual host", vhost)
        for pattern in (configure, write, read):
            check_pattern(pattern)
        new = Permission(vhost=vhost, configure=configure, write=write, read=read)
        with self._changing() as users:
            user = self._known(users, name)
            others = [one for one in user.permissions if one.vhost != vhost]
            permissions = tuple(sorted([*others, new], key=lambda one: one.vhost))
            users[name] = user._replace(permissions=permissions)

    def clear_permission(self, name: str, vhost: str) -> None:
        """Keeps a user out of a virtual host.

        Raises:
            UnknownUser, UserIsFixed.
        """
        with self._changing() as users:
            user = self._known(users, name)
            others = tuple(one for one in user.permissions if one.vhost != vhost)
            users[name] = user._replace(permissions=others)

    def set_topic_permission(
        self, name: str, vhost: str, exchange: str, write: str, read: str
    ) -> None:
        """Sets which routing keys a user may use with a topic exchange.

        Raises:
            UnknownUser, UserIsFixed.
            InvalidArgument: a pattern that is not understood.
        """
        check_name("virtual host", vhost)
        for pattern in (write, read):
            # With a name in it a variable is as good a pattern as any.
            check_pattern(pattern.replace("{username}", "x").replace("{vhost}", "x"))
        new = TopicPermission(vhost=vhost, exchange=exchange, write=write, read=read)
        with self._changing() as users:
            user = self._known(users, name)
            place = (vhost, exchange)
            others = [one for one in user.topic_permissions if (one.vhost, one.exchange) != place]
            permissions = tuple(sorted([*others, new], key=lambda one: (one.vhost, one.exchange)))
            users[name] = user._replace(topic_permissions=permissions)

    def clear_topic_permission(self, name: str, vhost: str, exchange: str | None = None) -> None:
        """Takes away a user's topic permission, or all of a virtual host: every key may be used.

        Raises:
            UnknownUser, UserIsFixed.
        """
        with self._changing() as users:
            user = self._known(users, name)
            others = tuple(
                one
                for one in user.topic_permissions
                if one.vhost != vhost or exchange not in (None, one.exchange)
            )
            users[name] = user._replace(topic_permissions=others)

    def set_limits(
        self, name: str, *, max_connections: int | None = None, max_channels: int | None = None
    ) -> None:
        """Sets a user's limits; None for the server's.

        Raises:
            UnknownUser, UserIsFixed.
            InvalidArgument: a negative one.
        """
        check_limits(max_connections, max_channels)
        self._change(name, max_connections=max_connections, max_channels=max_channels)

    def set_vhost_limits(
        self, vhost: str, *, max_connections: int | None = None, max_queues: int | None = None
    ) -> None:
        """Sets a virtual host's limits; None for the server's.

        Raises:
            InvalidArgument: a negative one.
        """
        check_name("virtual host", vhost)
        check_limits(max_connections, max_queues)
        with self._changing() as users:
            if max_connections is None and max_queues is None:
                users.limits.pop(vhost, None)
            else:
                users.limits[vhost] = VirtualHostLimits(
                    vhost=vhost, max_connections=max_connections, max_queues=max_queues
                )

    def forget_vhost(self, vhost: str) -> None:
        """Drops all permissions in a virtual host, and its limits: it was deleted."""
        with self._changing() as users:
            users.limits.pop(vhost, None)
            for name, user in users.items():
                users[name] = user._replace(
                    permissions=tuple(one for one in user.permissions if one.vhost != vhost),
                    topic_permissions=tuple(
                        one for one in user.topic_permissions if one.vhost != vhost
                    ),
                )


class _Draft(dict[str, Record]):
    """The users while they are changed, and beside them the limits of virtual hosts."""

    limits: dict[str, VirtualHostLimits]


class _Change:
    """`with` it, change the draft; leaving writes it. An exception leaves all as it was."""

    def __init__(self, store: UserStore) -> None:
        self._store = store
        self._file_lock: Any = None

    def __enter__(self) -> _Draft:
        store = self._store
        # Another thread's draft is not looked at: only this thread can hold the lock meanwhile.
        self._inner = store._changer == threading.get_ident()
        if self._inner:
            assert store._draft is not None
            return store._draft
        if store._file is not None:
            self._file_lock = store._file.locked()
            self._file_lock.__enter__()
        store._lock.acquire()
        try:
            if store._file is not None and store._file.signature() != store._signature:
                store._load()
        except BaseException:
            self._release()
            raise
        draft = _Draft(store._users)
        draft.limits = dict(store._limits)
        store._draft, store._changer = draft, threading.get_ident()
        return draft

    def __exit__(self, exc_type: object, *_exc: object) -> None:
        if self._inner:
            return
        store = self._store
        draft, store._draft, store._changer = store._draft, None, None
        assert draft is not None
        changed = exc_type is None and (
            dict(draft) != store._users or draft.limits != store._limits
        )
        try:
            if changed:
                users = Users(
                    users=tuple(draft.values()), vhost_limits=tuple(draft.limits.values())
                )
                signature = None if store._file is None else store._file.replace(users)
                store._take(users, signature)
        finally:
            self._release()
        if changed:
            store._tell()

    def _release(self) -> None:
        self._store._lock.release()
        if self._file_lock is not None:
            self._file_lock.__exit__(None, None, None)
