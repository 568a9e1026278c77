"""TLS over a non-blocking socket: ciphertext and plaintext through memory, no socket here.

A `Secure` is one connection's TLS: bytes off the socket go in, plaintext comes out, and back. The
contexts are made once and used for many connections; new certificates make a new context, for
connections accepted from then on.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import TYPE_CHECKING, Any

from wherry.server._settings import TLS
from wherry.server._transport import TransportFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

# A TLS record's plaintext is at most this long.
_RECORD_BYTES = 16 << 10

# Ciphertext read at a time, two records: what a peer can make the server decrypt before others have
# their turn. Key updates are some 1,200 of them, which take milliseconds.
_READ_BYTES_MAX = 32 << 10

# What TLS may send of its own beside the data, at once and in the long run. A record has up to 57
# bytes around its data, of which there is at least one; the rest is key updates and the like, which
# cost the server more than their sender. A record that has not come whole is not data yet.
_OVERHEAD_BYTES_MAX = 64 << 10
_OVERHEAD_BYTES_PER_DATA_BYTE = 64

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "none": ssl.CERT_NONE,
    "peer": ssl.CERT_OPTIONAL,
    "require": ssl.CERT_REQUIRED,
}


_LOGIN_FROM = ("common_name", "distinguished_name", "dns", "email")


def server_context(tls: TLS | ssl.SSLContext) -> ssl.SSLContext:
    """The context of a TLS listener.

    Raises:
        ValueError: a word that means nothing, or clients shall be verified, but there is nothing to
            verify them by.
        OSError, ssl.SSLError: a file cannot be read, or is not what it should be.
    """
    if isinstance(tls, ssl.SSLContext):
        return tls
    for name, value, known in (
        ("minimum", tls.minimum, _VERSIONS),
        ("verify", tls.verify, _VERIFY),
        ("login_from", tls.login_from, _LOGIN_FROM),
    ):
        if value not in known:
            raise ValueError(f"tls.{name} = {value!r}: give one of {', '.join(map(repr, known))}")
    if tls.verify != "none" and tls.ca is None:
        raise ValueError(f"tls.verify = '{tls.verify}' needs tls.ca: the certificates to verify by")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    certificate = os.fspath(tls.certificate)
    key = None if tls.key is None else os.fspath(tls.key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise type(error)(
            *error.args[:1], f"cannot use the certificate {certificate} with its key: {error}"
        ) from error
    if tls.ca is not None:
        ca = os.fspath(tls.ca)
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise type(error)(
                *error.args[:1], f"cannot use the certificates to verify clients by {ca}: {error}"
            ) from error
    context.verify_mode = _VERIFY[tls.verify]
    return context


def _no_password() -> str:
    # Without this OpenSSL asks on the terminal, and a server hangs.
    raise ValueError("the key is encrypted: give one that is not, readable by the server only")


class Secure:
    """One connection's TLS: a transport (see `_transport`)."""

    __slots__ = ("_incoming", "_object", "_outgoing", "_overhead", "established")

    read_bytes_max = _READ_BYTES_MAX
    unfinished = False

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        self._overhead = 0

    def turn(self) -> None:
        pass

    def receive(self, data: memoryview, buffer: memoryview) -> Iterator[int]:
        self._incoming.write(data)
        self._overhead += len(data)
        try:
            if not self.established:
                self._object.do_handshake()
                self.established = True
                self._overhead = 0  # certificates and the like were asked for
            while True:
                # Into the buffer: a number comes back, whatever typeshed says.
                count: Any = self._object.read(len(buffer), buffer)
                credit = count * (1 + _OVERHEAD_BYTES_PER_DATA_BYTE)
                self._overhead = max(0, self._overhead - credit)
                yield count
                if not count:
                    return
        except ssl.SSLWantReadError:
            if self._overhead > _OVERHEAD_BYTES_MAX:
                why = "dropped: it sends key updates, and hardly any data in between"
                raise TransportFailed(why, notable=True) from None
        except ssl.SSLZeroReturnError:
            yield 0
        except ssl.SSLError as error:
            # An alert tells the client why.
            raise TransportFailed(f"TLS failed: {error.reason or error}") from error

    def encode(self, data: bytes) -> bytes:
        view = memoryview(data)
        for start in range(0, len(view), _RECORD_BYTES):
            self._object.write(view[start : start + _RECORD_BYTES])
        return self._outgoing.read()

    def pending(self, *, busy: bool = False) -> bytes:
        return self._outgoing.read()

    def goodbye(self, *, going_away: bool) -> bytes:
        # Suppressed: the peer's goodbye has not come; ours is on its way, and that is all it takes.
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self._outgoing.read()

    def certificate_name(self, login_from: str) -> str | None:
        certificate = self._object.getpeercert()
        return name_of(certificate, login_from) if certificate else None


def name_of(certificate: dict[str, Any], login_from: str) -> str | None:
    """The user's name in a certificate, as `ssl` describes it; None when it has none."""
    if login_from in ("dns", "email"):
        wanted = "DNS" if login_from == "dns" else "email"
        for kind, value in certificate.get("subjectAltName", ()):
            if kind == wanted:
                return str(value)
        return None
    subject = certificate.get("subject", ())
    if login_from == "common_name":
        names = [value for part in subject for kind, value in part if kind == "commonName"]
        # Several are ambiguous: who signed for one may not have meant another.
        return str(names[0]) if len(names) == 1 else None
    short = {
        "commonName": "CN",
        "organizationName": "O",
        "organizationalUnitName": "OU",
        "countryName": "C",
        "localityName": "L",
        "stateOrProvinceName": "ST",
    }
    # As RabbitMQ and RFC 4514 write it: the last part first.
    parts = [
        f"{short.get(kind, kind)}={_escaped(value)}" for part in subject for kind, value in part
    ]
    return ",".join(reversed(parts)) or None


def _escaped(value: str) -> str:
    # Or a common name with a comma could pass for another person's name with organisation.
    return "".join("\\" + c if c in ',+"\\<>;=' else c for c in value)
