"""What a server is told when it starts: plain values, so that `wherry.serve()` in a test needs no
configuration library. `wherry serve` makes them from its configuration file (`_run`).

Named tuples, as dataclasses take ten times as long to be made; and the annotations of their fields
are no strings (no `from __future__ import annotations`), which each would have to be compiled: both
would be seen in the time until a server is ready.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import ssl

    from wherry.server.config import Amqp, Config, Stomp

# Bytes that must stay free on the volume of the data directory: below it publishers are held back.
# RabbitMQ's default.
DISK_FREE_BYTES_MIN = 50_000_000

# How long a stopping server waits for its clients to say goodbye, in seconds. A client that is
# alive answers within a round trip; longer than this keeps a supervisor waiting.
DRAIN_SECONDS = 5.0

AMQP_PORT = 5672
AMQPS_PORT = 5671
STOMP_PORT = 61613

# Where RabbitMQ's Web STOMP is, too.
WEBSOCKET_PATH = "/ws"

LOOPBACK = "127.0.0.1"

Protocol = Literal["amqp", "stomp"]


class TLS(NamedTuple):
    """How a TLS listener proves who it is, and what it asks of clients.

    `certificate`, `key`, `ca` are PEM files; `key` may be left out if the certificate's file has
    it. `verify`: "none" asks clients for no certificate, "peer" checks one that is sent, "require"
    refuses clients without. `login_from`: what of the client's certificate is the user's name for
    the mechanism EXTERNAL.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str] | None = None
    ca: str | os.PathLike[str] | None = None
    verify: Literal["none", "peer", "require"] = "none"
    minimum: Literal["1.2", "1.3"] = "1.2"
    login_from: Literal["common_name", "distinguished_name", "dns", "email"] = "common_name"


class Listen(NamedTuple):
    """An address to listen on. Port 0 lets the system choose one."""

    host: str
    port: int
    tls: bool = False
    protocol: Protocol = "amqp"
    # Over WebSocket, at this path.
    path: str | None = None


class Settings(NamedTuple):
    """Everything that a server needs to know beside its engine and its users."""

    listen: tuple[Listen, ...] = (Listen(LOOPBACK, AMQP_PORT),)
    # Clients that the system holds until they are accepted: a reconnect storm should find room. The
    # system has a limit of its own (net.core.somaxconn).
    backlog: int = 4096
    tls: "TLS | ssl.SSLContext | None" = None
    # Names and values of the limits, as `_core.FrontEnd` takes them; absent ones have defaults.
    limits: Mapping[str, float] = MappingProxyType({})
    # Connections that are not open yet; more stay in the system's backlog. A peer that says nothing
    # holds its place for `handshake_seconds` only.
    handshakes_max: int = 1000
    # Passwords checked at a time. A check takes some 50 ms of a core, on purpose.
    verifications_max: int = 2
    mechanisms: tuple[str, ...] = ("PLAIN", "AMQPLAIN", "EXTERNAL")
    loopback_users: frozenset[str] = frozenset({"guest"})
    cluster_name: str = "wherry"
    # Of STOMP clients that name none, or this machine; and names of it beside its own.
    stomp_virtual_host: str = "/"
    host_names: tuple[str, ...] = ()
    # Whose web pages may connect over WebSocket (`_origins`).
    websocket_origins: tuple[str, ...] = ()
    # Where free space is watched; None watches nothing.
    directory: str | None = None
    disk_free_bytes_min: int = DISK_FREE_BYTES_MIN
    drain_seconds: float = DRAIN_SECONDS

    def but(self, **changes: Any) -> "Settings":
        """The same with some changed."""
        return self._replace(**changes)


def broker_options(config: "Config") -> dict[str, Any]:
    """What a configuration says of the broker itself, as `wherry.open` takes it."""
    return {
        "durability": config.durability,
        "sync_interval": config.sync_interval,
        "memory_bytes_max": config.memory.bytes_max(),
    }


def from_config(config: "Config") -> Settings:
    """What a configuration says."""
    from wherry.server.config import parse_address

    listen: list[Listen] = []
    protocols: tuple[tuple[Protocol, Amqp | Stomp], ...] = (
        ("amqp", config.amqp),
        ("stomp", config.stomp),
    )
    for protocol, table in protocols:
        for addresses, secure in ((table.listeners, False), (table.tls_listeners, True)):
            listen += [Listen(*parse_address(text), secure, protocol) for text in addresses]
    path = config.stomp.websocket_path
    for addresses, secure in (
        (config.stomp.websocket_listeners, False),
        (config.stomp.websocket_tls_listeners, True),
    ):
        listen += [Listen(*parse_address(text), secure, "stomp", path) for text in addresses]
    tls = None
    if config.tls.certificate is not None:
        tls = TLS(
            config.tls.certificate,
            config.tls.key,
            config.tls.ca,
            config.tls.verify,
            config.tls.minimum,
            config.tls.login_from,
        )
    return Settings(
        listen=tuple(listen),
        backlog=config.amqp.backlog,
        tls=tls,
        limits=config.limits.of_sessions(),
        handshakes_max=config.limits.handshakes_max,
        verifications_max=config.limits.verifications_max,
        mechanisms=config.auth.mechanisms,
        loopback_users=frozenset(config.auth.loopback_users),
        cluster_name=config.cluster_name,
        stomp_virtual_host=config.stomp.virtual_host,
        host_names=config.stomp.host_names,
        websocket_origins=config.stomp.websocket_origins,
        directory=config.directory,
        disk_free_bytes_min=config.disk.free_bytes_min,
        drain_seconds=config.shutdown.drain_seconds,
    )
