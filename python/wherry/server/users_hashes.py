"""Hashes of passwords: argon2id for our own, RabbitMQ's for what is imported.

The cost of argon2 is OWASP's minimum (19 MiB, two passes, one thread): about 40 ms of one core.
More would protect a stolen file better, and would let strangers who only try to log in take more
of the server.

RabbitMQ's are Base64 of four bytes of salt and the digest of salt and password; such a hash is
replaced by an argon2 one at the user's next login.

What hashes is loaded when a password is checked or set: a server starts without it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from wherry._errors import InvalidArgument

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["ARGON2", "PASSWORD_BYTES_MAX", "check", "check_hash", "hash_password", "is_outdated"]

ARGON2 = "argon2"

# Hashing takes longer with longer ones; nobody types a kilobyte.
PASSWORD_BYTES_MAX = 1024

_RABBIT = {
    "rabbit_password_hashing_md5": "md5",
    "rabbit_password_hashing_sha256": "sha256",
    "rabbit_password_hashing_sha512": "sha512",
}
_RABBIT_SALT_BYTES = 4


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher, Type

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)


# A hash from elsewhere may not make each login cost more than this.
MEMORY_KIB_MAX = 256 * 1024
TIME_COST_MAX = 10

# Of a password that nobody has, to take as long over a user who does not exist.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$2LmkNgaRUZZwfqoFTB+FbQ$" + "A" * 43


def hash_password(password: str) -> str:
    """The argon2 hash of a password. Takes a while: not for an event loop.

    Raises:
        InvalidArgument: it is empty or over 1 KiB.
    """
    if password == "":
        raise InvalidArgument("an empty password: nobody could log in with it")
    try:
        encoded = password.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("the password is not Unicode text") from None
    if len(encoded) > PASSWORD_BYTES_MAX:
        raise InvalidArgument(f"a password of over {PASSWORD_BYTES_MAX} bytes")
    return _hasher().hash(password)


def check_hash(algorithm: str, password_hash: str) -> None:
    """See that a hash from elsewhere is one. An empty one is that of a user without password.

    Raises:
        InvalidArgument: it is not; the hash is not in the message.
    """
    if password_hash == "":
        return
    if algorithm == ARGON2:
        from argon2 import extract_parameters
        from argon2.exceptions import InvalidHashError

        try:
            parameters = extract_parameters(password_hash)
        except InvalidHashError:
            raise InvalidArgument("the password hash is not one of argon2") from None
        if parameters.memory_cost > MEMORY_KIB_MAX or parameters.time_cost > TIME_COST_MAX:
            raise InvalidArgument(
                f"the password hash takes more than {MEMORY_KIB_MAX >> 10} MiB or {TIME_COST_MAX}"
                " passes to check"
            )
        return
    digest = _RABBIT.get(algorithm)
    if digest is None:
        known = ", ".join([ARGON2, *_RABBIT])
        raise InvalidArgument(f"unknown hashing algorithm '{algorithm}': use one of {known}")
    import base64
    import binascii
    import hashlib

    try:
        raw = base64.b64decode(password_hash, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("the password hash is not Base64") from None
    if len(raw) != _RABBIT_SALT_BYTES + hashlib.new(digest).digest_size:
        raise InvalidArgument(f"the password hash has the wrong length for {algorithm}")


def check(algorithm: str, password_hash: str, password: str) -> bool:
    """Whether it is the password. Takes as long for a wrong one, for a hash of RabbitMQ's, and for
    an empty hash (give that for a user who does not exist).
    """
    secret = password.encode("utf-8", "surrogatepass")
    if not 0 < len(secret) <= PASSWORD_BYTES_MAX:
        secret, password_hash = b"nobody", ""
    if algorithm == ARGON2 and password_hash != "":
        return _argon2(password_hash, secret)
    _argon2(_NOBODY, secret)
    digest = _RABBIT.get(algorithm)
    if digest is None or password_hash == "":
        return False
    import base64
    import hashlib
    import hmac

    raw = base64.b64decode(password_hash)
    salt, expected = raw[:_RABBIT_SALT_BYTES], raw[_RABBIT_SALT_BYTES:]
    return hmac.compare_digest(hashlib.new(digest, salt + secret).digest(), expected)


def _argon2(password_hash: str, password: bytes) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(algorithm: str, password_hash: str) -> bool:
    """Whether the password should be hashed again, now that it is known."""
    return algorithm != ARGON2 or _hasher().check_needs_rehash(password_hash)
