"""Listening sockets: binding them, and accepting what comes in without starving who is there."""

from __future__ import annotations

import errno
import logging
import math
import socket
import sys
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from wherry.server._inherited import Inherited
from wherry.server._poll import READ

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from wherry.server._loop import Poller
    from wherry.server._settings import Listen, Protocol, Settings

log = logging.getLogger("wherry.server")

# Connections accepted in one turn before those that are there go on.
_ACCEPTS_PER_TURN = 32

# When the process or the system has no descriptor left, accept again after so many seconds. Those
# who wait stay in the backlog meanwhile.
ACCEPT_PAUSE_SECONDS = 0.1

# And say so once in so many seconds: it may last, and ten lines a second would bury all others.
ACCEPT_WARNING_SECONDS = 10.0

# The client changed its mind between connecting and being accepted, or its network did.
_ITS_OWN_FAULT = {
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EPERM,
    errno.EPROTO,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
}

# By protocol and TLS. STOMP has no registered ones; these are what its clients' papers use.
_SCHEMES = {
    ("amqp", False): "amqp",
    ("amqp", True): "amqps",
    ("stomp", False): "stomp",
    ("stomp", True): "stomp+ssl",
}


class Acceptor(Interface):
    """Whose connections they are, once accepted."""

    @property
    def poller(self) -> Poller:
        """What its sockets hang on."""

    def now(self) -> float:
        """By the loop's clock."""

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call it after so many seconds, if the server still runs."""

    def may_accept(self) -> bool:
        """Whether there is room for one more that is not open yet."""

    def accepted(self, sock: socket.socket, address: Any, endpoint: Endpoint) -> None:
        """A client has connected."""


class Endpoint:
    """One address that the server listens on."""

    __slots__ = (
        "_acceptor",
        "_paused",
        "_warned_at",
        "context",
        "host",
        "path",
        "port",
        "protocol",
        "socket",
        "tls",
    )

    def __init__(
        self, sock: socket.socket, address: Listen, context: ssl.SSLContext | None
    ) -> None:
        self.socket = sock
        self.protocol: Protocol = address.protocol
        # For WebSocket: what a request must ask for.
        self.path = address.path
        self.host, self.port = sock.getsockname()[:2]
        self.tls = context is not None
        # Of connections accepted from now on.
        self.context = context
        self._paused = False
        # A moment of the loop's clock.
        self._warned_at = -math.inf
        self._acceptor: Acceptor | None = None

    @property
    def url(self) -> str:
        """The address as clients write it, without user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.path is not None:
            return f"{'wss' if self.tls else 'ws'}://{host}:{self.port}{self.path}"
        return f"{_SCHEMES[self.protocol, self.tls]}://{host}:{self.port}/"

    @property
    def local_url(self) -> str:
        """The same for clients on this machine, for whom "all addresses" is no address."""
        return self.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")

    def start(self, acceptor: Acceptor) -> None:
        """Begin to accept."""
        self._acceptor = acceptor
        acceptor.poller.add(self.socket, self, READ)

    def on_ready(self, what: int) -> None:
        """Somebody connects."""
        try:
            self._accept()
        except Exception:
            log.exception("accepting on %s failed: trying again", self.url)
            self.pause()

    def _accept(self) -> None:
        acceptor = self._acceptor
        if acceptor is None or self._paused:
            return
        for _ in range(_ACCEPTS_PER_TURN):
            if not acceptor.may_accept():
                self.pause()
                return
            try:
                sock, address = self.socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _ITS_OWN_FAULT:
                    continue
                self._warn(acceptor.now(), error)
                self.pause()
                return
            acceptor.accepted(sock, address, self)

    def _warn(self, now: float, error: OSError) -> None:
        if now - self._warned_at >= ACCEPT_WARNING_SECONDS:
            self._warned_at = now
            log.warning("cannot accept on %s: %s: trying again", self.url, error.strerror or error)

    def on_again(self) -> None:
        """Never asked for."""

    def pause(self) -> None:
        """Accept nothing for a moment."""
        if self._acceptor is not None and not self._paused:
            self._paused = True
            self._acceptor.poller.change(self.socket, 0)
            self._acceptor.later(ACCEPT_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        if self._acceptor is not None:
            self._acceptor.poller.change(self.socket, READ)

    def close(self) -> None:
        """Listen no more. May be repeated."""
        if self._acceptor is not None:
            self._acceptor.poller.remove(self.socket)
            self._acceptor = None
        self.socket.close()


def bind(settings: Settings) -> list[Endpoint]:
    """Bind all addresses, but those that a socket was handed to us for; none stays bound when one
    fails.

    Raises:
        OSError: an address cannot be used; the message names it.
        ValueError: a TLS listener without certificate.
    """
    bound: list[Endpoint] = []
    context: ssl.SSLContext | None = None
    inherited = Inherited()
    try:
        for address in settings.listen:
            if address.tls and context is None:
                if settings.tls is None:
                    raise ValueError(
                        f"listening with TLS on {address.host}:{address.port} needs a certificate: "
                        "give tls="
                    )
                from wherry.server._tls import server_context

                context = server_context(settings.tls)
            bound += [
                Endpoint(sock, address, context if address.tls else None)
                for sock in _bind(address.host, address.port, settings.backlog, inherited)
            ]
    except BaseException:
        for endpoint in bound:
            endpoint.close()
        raise
    finally:
        inherited.release()
    return bound


def _bind(host: str, port: int, backlog: int, inherited: Inherited) -> list[socket.socket]:
    """A socket for each address that the host's name stands for; the same port for all."""
    try:
        found = socket.getaddrinfo(
            # What is ASCII as bytes: text would load the codec for names in other letters.
            (host.encode() if host.isascii() else host) or None,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            handed = inherited.take(str(address[0]), port)
            if handed is not None:
                sockets.append(handed)
                continue
            if inherited.covers(sockets, str(address[0]), port):
                continue
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            if sys.platform != "win32":  # there it would share the port with others
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            sock.bind((address[0], chosen, *address[2:]))
            sock.listen(backlog)
    except OSError as error:
        for sock in sockets:
            sock.close()
        hint = ": is another broker running?" if error.errno == errno.EADDRINUSE else ""
        raise OSError(
            error.errno, f"cannot listen on {host}:{port}: {error.strerror}{hint}"
        ) from error
    return sockets
