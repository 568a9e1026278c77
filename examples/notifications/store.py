"""The application's own data, in SQLite: people, who follows whom, posts, and the outbox.

A post and its row in the outbox are one transaction: after a crash both are there, or neither. That
is all the outbox pattern needs of the database.

Every method blocks and may be called from any thread; the event loop calls them in worker threads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY,
    password TEXT NOT NULL  -- as argon2 hashes it
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    token TEXT PRIMARY KEY,  -- its SHA-256: who reads the file cannot log in
    user TEXT NOT NULL REFERENCES users (name),
    until REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS follows (
    follower TEXT NOT NULL REFERENCES users (name),
    author TEXT NOT NULL REFERENCES users (name),
    PRIMARY KEY (follower, author)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    author TEXT NOT NULL REFERENCES users (name),
    text TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS posts_of_authors ON posts (author, id);
CREATE TABLE IF NOT EXISTS outbox (
    post INTEGER PRIMARY KEY REFERENCES posts (id)
) STRICT;
"""


@dataclass(frozen=True)
class Post:
    """What somebody wrote."""

    id: int
    author: str
    text: str
    at: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Store:
    """The database in one file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A post that was answered with 201 is on the disk.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        """May be repeated."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    # People

    def add_user(self, name: str, password_hash: str) -> bool:
        """False when the name is taken."""
        with self._transaction() as db:
            added = db.execute(
                "INSERT INTO users VALUES (?, ?) ON CONFLICT DO NOTHING", (name, password_hash)
            )
            return added.rowcount == 1

    def password_hash(self, name: str) -> str | None:
        """None when there is no such user."""
        rows = self._rows("SELECT password FROM users WHERE name = ?", name)
        return rows[0][0] if rows else None

    def users(self) -> list[str]:
        """Everybody, in alphabetical order."""
        return [name for (name,) in self._rows("SELECT name FROM users ORDER BY name")]

    def start_session(self, token_hash: str, user: str, now: float, until: float) -> None:
        """Those that are over go at the same time."""
        with self._transaction() as db:
            db.execute("DELETE FROM sessions WHERE until <= ?", (now,))
            db.execute("INSERT INTO sessions VALUES (?, ?, ?)", (token_hash, user, until))

    def session_user(self, token_hash: str, now: float) -> str | None:
        """Whose session it is, while it lasts."""
        rows = self._rows(
            "SELECT user FROM sessions WHERE token = ? AND until > ?", token_hash, now
        )
        return rows[0][0] if rows else None

    def end_session(self, token_hash: str) -> None:
        """May be repeated."""
        with self._transaction() as db:
            db.execute("DELETE FROM sessions WHERE token = ?", (token_hash,))

    # Following

    def follow(self, follower: str, author: str) -> None:
        """May be repeated."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO follows VALUES (?, ?) ON CONFLICT DO NOTHING", (follower, author)
            )

    def unfollow(self, follower: str, author: str) -> None:
        """May be repeated."""
        with self._transaction() as db:
            db.execute("DELETE FROM follows WHERE follower = ? AND author = ?", (follower, author))

    def followed_by(self, follower: str) -> set[str]:
        """Whom somebody follows."""
        rows = self._rows("SELECT author FROM follows WHERE follower = ?", follower)
        return {author for (author,) in rows}

    def follows(self) -> list[tuple[str, str]]:
        """All pairs of follower and author."""
        return self._rows("SELECT follower, author FROM follows")

    # Posts

    def add_post(self, author: str, text: str, now: float) -> Post:
        """Write a post and that it is to be sent, in one transaction."""
        with self._transaction() as db:
            added = db.execute(
                "INSERT INTO posts (author, text, at) VALUES (?, ?, ?)", (author, text, now)
            )
            assert added.lastrowid is not None
            db.execute("INSERT INTO outbox VALUES (?)", (added.lastrowid,))
            return Post(added.lastrowid, author, text, now)

    def feed(
        self, reader: str, *, after: int = 0, before: int | None = None, limit: int = 50
    ) -> list[Post]:
        """What somebody and those whom he follows wrote, the newest first."""
        rows = self._rows(
            "SELECT id, author, text, at FROM posts WHERE id > ? AND id < ? AND author IN"
            " (SELECT author FROM follows WHERE follower = ? UNION SELECT ?)"
            " ORDER BY id DESC LIMIT ?",
            after,
            2**63 - 1 if before is None else before,
            reader,
            reader,
            limit,
        )
        return [Post(*row) for row in rows]

    # The outbox

    def unsent(self, limit: int) -> list[Post]:
        """The oldest posts that the broker may not have yet."""
        rows = self._rows(
            "SELECT id, author, text, at FROM outbox JOIN posts ON posts.id = outbox.post"
            " ORDER BY post LIMIT ?",
            limit,
        )
        return [Post(*row) for row in rows]

    def mark_sent(self, posts: list[Post]) -> None:
        """The broker has confirmed them: they leave the outbox."""
        with self._transaction() as db:
            db.executemany("DELETE FROM outbox WHERE post = ?", [(post.id,) for post in posts])
