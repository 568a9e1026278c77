"""The user file: read and replaced as a whole, by one process at a time.

`users.json` in the data directory, for its owner only. It is replaced by rename, so that a reader
sees the old or the new one, and both names are on stable storage when `replace` returns. Whoever
changes it holds a lock on `users.lock` from reading to replacing: `wherry users` beside a running
server loses nothing. A file that is a link, or that others may read, is refused: somebody else has
had his hands on it. Why records are named tuples: see `_settings`.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from wherry import _core
from wherry._errors import InvalidArgument, StorageError, WherryError
from wherry.server.permissions import Permission, TopicPermission, VirtualHostLimits

if TYPE_CHECKING:
    from wherry._core import _UserFields

__all__ = ["Record", "Signature", "UserFile", "UserFileError", "Users"]

VERSION = 1

# A hundred thousand users; more is not this file.
FILE_BYTES_MAX = 64 << 20

Signature = tuple[int, int, int, int]


class UserFileError(WherryError):
    """The user file cannot be trusted or understood. Its text says what to do."""


class Record(NamedTuple):
    """A user as in the file."""

    name: str
    hashing_algorithm: str
    password_hash: str
    tags: tuple[str, ...] = ()
    permissions: tuple[Permission, ...] = ()
    topic_permissions: tuple[TopicPermission, ...] = ()
    max_connections: int | None = None
    max_channels: int | None = None

    def __repr__(self) -> str:
        return f"<user '{self.name}'>"


class Users(NamedTuple):
    """The whole file."""

    version: int = VERSION
    users: tuple[Record, ...] = ()
    vhost_limits: tuple[VirtualHostLimits, ...] = ()


def _record(fields: "_UserFields") -> Record:
    name, algorithm, value, tags, permissions, topics, max_connections, max_channels = fields
    return Record(
        name,
        algorithm,
        value,
        tuple(tags),
        tuple(Permission(*one) for one in permissions),
        tuple(TopicPermission(*one) for one in topics),
        max_connections,
        max_channels,
    )


class UserFile:
    """The file at one path. Its methods may be called from any thread and process."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._directory = os.path.dirname(self.path) or os.curdir
        self._lock_path = os.path.join(self._directory, "users.lock")

    def signature(self) -> Signature | None:
        """Changes whenever the file was replaced or written to; None without a file."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return None
        return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)

    def read(self) -> tuple[Users, Signature] | None:
        """What is in it; None without a file.

        Raises:
            UserFileError: it is a link, others may read it, or it is damaged.
            StorageError: the system refused.
        """
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            if os.path.islink(self.path):
                raise UserFileError(
                    f"{self.path} is a symbolic link: put the file itself there"
                ) from None
            raise StorageError(error.errno, f"opening {self.path}: {error.strerror}") from None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            self._trust(status)
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise UserFileError(f"{self.path} is over {FILE_BYTES_MAX >> 20} MiB")
        signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
        return self._decode(data), signature

    def _trust(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UserFileError(f"{self.path} is not a regular file")
        if sys.platform == "win32":
            return
        if status.st_mode & 0o077:
            mode = stat.filemode(status.st_mode)
            raise UserFileError(
                f"{self.path} is {mode}: others than its owner may use it. If nobody changed it,"
                f" run chmod 600 {self.path}; passwords in it should count as known if others could"
                " read it"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise UserFileError(
                f"{self.path} belongs to another user (uid {status.st_uid}): run the command as"
                " that user, or chown the file"
            )

    def _decode(self, data: bytes) -> Users:
        # The messages must not repeat what is in the file.
        try:
            version = _core.user_file_version(data)
            if version != VERSION:
                raise UserFileError(
                    f"{self.path} has version {version}, this release reads {VERSION}: use the"
                    " release that wrote it, or a newer one"
                )
            users, limits = _core.decode_users(data)
        except InvalidArgument as error:
            raise UserFileError(
                f"{self.path} is damaged ({error}): restore it from a backup, or move it away to"
                " start with a new one"
            ) from None
        names = [name for name, *_ in users]
        if len(set(names)) < len(names):
            raise UserFileError(f"{self.path} is damaged (a user is in it twice)")
        return Users(
            users=tuple(map(_record, users)),
            vhost_limits=tuple(VirtualHostLimits(*one) for one in limits),
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing the file. Waits for them."""
        try:
            os.makedirs(os.path.dirname(self._directory) or os.curdir, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
            descriptor = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600
            )
        except OSError as error:
            raise StorageError(
                error.errno, f"opening {self._lock_path}: {error.strerror}"
            ) from None
        with open(descriptor, "rb"):
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def replace(self, users: Users) -> Signature:
        """Makes this the file's content, durably. Call it `locked` only.

        Raises:
            StorageError: the system refused; the old file is still there.
        """
        new = os.path.join(self._directory, "users.json.new")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(_core.encode_users(users))
                file.flush()
                os.fsync(descriptor)
                status = os.fstat(descriptor)
            os.replace(new, self.path)
            if sys.platform != "win32":
                directory = os.open(self._directory, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
        except OSError as error:
            raise StorageError(error.errno, f"writing {self.path}: {error.strerror}") from None
        return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
