"""Right passwords of the last minute, so that clients that reconnect do not cost 50 ms each.

A login is kept as a digest of name, password and the hash that it fitted, with a key of this
process only. So the passwords are not in memory, a changed password is not found any more, and what
a core dump shows is worth a minute. Wrong passwords are never kept.

May be used from any thread.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Remembered"]

# As long as a burst of reconnects takes.
REMEMBERED_SECONDS = 60.0
# Users who log in within that time; 150 bytes each. The oldest makes room.
REMEMBERED_MAX = 1024


class Remembered:
    """Right logins, for a while. `now` gives seconds that only grow."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._key = os.urandom(32)
        self._lock = threading.Lock()
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def has(self, name: str, password_hash: str, password: str) -> bool:
        """Whether this was right lately, for this hash."""
        login = self._digest(name, password_hash, password)
        with self._lock:
            until = self._until.get(login)
            return until is not None and self._now() < until

    def add(self, name: str, password_hash: str, password: str) -> None:
        """It is right."""
        login = self._digest(name, password_hash, password)
        with self._lock:
            self._until[login] = self._now() + REMEMBERED_SECONDS
            self._until.move_to_end(login)
            while len(self._until) > REMEMBERED_MAX:
                self._until.popitem(last=False)

    def _digest(self, *parts: str) -> bytes:
        # Loaded with the first login: a server starts without it.
        import hashlib
        import hmac

        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            # With lengths, so that no two logins give the same bytes.
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.digest()
