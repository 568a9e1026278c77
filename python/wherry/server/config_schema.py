"""Every setting of the server: its key, type, default, range and meaning, once.

Reading (`config_reading`), printing and documentation (`config_text`) are derived from the classes
here; docs/configuration.md is generated from them. Numbers are RabbitMQ's where it has the setting.

msgspec checks values. It was chosen over pydantic (its import alone is longer than the time in
which the server is to be ready) and over attrs with cattrs (a second library for the checks);
its Struct makes the classes, which for dataclasses takes longer than reading a configuration. The
annotations are no strings (no `from __future__ import annotations`), so that nobody has to compile
them when the server starts.

Values are immutable and may be shared between threads.
"""

import os
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = [
    "Amqp",
    "Auth",
    "Config",
    "Control",
    "Disk",
    "InlinePermission",
    "InlineUser",
    "Limits",
    "Log",
    "Memory",
    "Shutdown",
    "Stomp",
    "Tls",
    "parse_address",
]

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# `kind` in a Meta's `extra` names how text is read: see `config_reading.convert`.
SIZE = {"kind": "size"}
ADDRESSES = {"kind": "addresses"}
COUNT = {"kind": "count"}

Mechanism = Literal["PLAIN", "AMQPLAIN", "EXTERNAL"]
PATTERN_BYTES_MAX = 4 * KIB


def parse_address(text: str) -> tuple[str, int]:
    """The host and port of `host:port`, `[v6]:port` or `*:port` (every address of the machine).

    Port 0 lets the system choose one.

    Raises:
        ValueError: it is none of them.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"'{text}': write an IPv6 address as [address]:port")
    if not colon or not host:
        raise ValueError(f"'{text}' is not host:port")
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"'{text}': the port is a number from 0 to 65535")
    return ("" if host == "*" else host), int(port)


class Memory(Struct, frozen=True, kw_only=True):
    """`[memory]`: when publishers have to wait."""

    watermark: Annotated[
        float,
        Meta(
            gt=0,
            description="Messages that wait in memory may take so much before publishers wait and"
            " are told `connection.blocked`. Up to 1: a part of the machine's (or control group's)"
            ' memory; above: bytes, or text such as "512 MiB".',
            extra=SIZE,
        ),
    ] = 0.6

    def bytes_max(self) -> int:
        """The watermark in bytes, on this machine."""
        if self.watermark > 1:
            return int(self.watermark)
        return int(self.watermark * _machine_bytes())


def _machine_bytes() -> int:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            group = file.read().strip()
    except OSError:
        return machine
    return min(machine, int(group)) if group.isdigit() else machine


class Disk(Struct, frozen=True, kw_only=True):
    """`[disk]`: how much of it stays free."""

    free_bytes_min: Annotated[
        int,
        Meta(
            ge=0,
            description="Publishers wait while the data directory's file system has less free"
            " space than this.",
            extra=SIZE,
        ),
    ] = 50_000_000


class Amqp(Struct, frozen=True, kw_only=True):
    """`[amqp]`: where AMQP 0-9-1 is spoken."""

    listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses without TLS: `host:port`, `[v6]:port`, `*:port` for every"
            " address of the machine. The default is reached from this machine only.",
            extra=ADDRESSES | {"flag": "--host, --port"},
        ),
    ] = ("127.0.0.1:5672", "[::1]:5672")
    tls_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses with TLS, usually port 5671. Needs `tls.certificate`.",
            extra=ADDRESSES,
        ),
    ] = ()
    backlog: Annotated[
        int,
        Meta(
            ge=1,
            le=65_535,
            description="Connections that the system keeps until the server accepts them, for each"
            " listener of every protocol.",
        ),
    ] = 1024


class Stomp(Struct, frozen=True, kw_only=True):
    """`[stomp]`: where STOMP is spoken."""

    listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses without TLS, written as in `amqp.listeners`; `[]` turns them"
            " off. `--host` and `--port 0` count here, too, unless this is set.",
            extra=ADDRESSES | {"flag": "--stomp-port"},
        ),
    ] = ("127.0.0.1:61613", "[::1]:61613")
    tls_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses with TLS, usually port 61614. Needs `tls.certificate`.",
            extra=ADDRESSES,
        ),
    ] = ()
    websocket_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses for STOMP over WebSocket without TLS, usually port 15674:"
            " browsers connect to `ws://host:15674/ws`.",
            extra=ADDRESSES | {"flag": "--websocket-port"},
        ),
    ] = ()
    websocket_tls_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="The same with TLS (`wss://host:15673/ws`), usually port 15673. Needs"
            " `tls.certificate`.",
            extra=ADDRESSES,
        ),
    ] = ()
    websocket_path: Annotated[
        str,
        Meta(
            max_length=255,
            description="The path in those URLs; requests for others get 404.",
            extra={"kind": "web path"},
        ),
    ] = "/ws"
    websocket_origins: Annotated[
        tuple[str, ...],
        Meta(
            max_length=1024,
            description="The sites whose pages may connect, such as `https://shop.example` (another"
            " port is another site); `*` is any, `null` are files and sandboxed frames. Pages that"
            " were loaded from the very address, or from `localhost`, where the listener is reached"
            " need not be here, nor programs that are no browsers.",
            extra={"kind": "origins"},
        ),
    ] = ()
    virtual_host: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="The virtual host of clients that send no `host` header, or name this"
            " machine there: by an address, as `localhost`, or by its name.",
        ),
    ] = "/"
    host_names: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Names of this machine that clients may put there beside its own, such as"
            " those that a name server knows it by. Pages loaded from them may connect over"
            " WebSocket, as from `localhost`.",
        ),
    ] = ()


class Tls(Struct, frozen=True, kw_only=True):
    """`[tls]`: the certificates of all `tls_listeners`. Read again on SIGHUP."""

    certificate: Annotated[
        str | None,
        Meta(
            description="PEM file with the server's certificate and the chain to its authority.",
            extra={"kind": "file"},
        ),
    ] = None
    key: Annotated[
        str | None,
        Meta(
            description="PEM file with its private key, readable by the server's user only.",
            extra={"kind": "file"},
        ),
    ] = None
    ca: Annotated[
        str | None,
        Meta(
            description="PEM file with the authorities that sign clients' certificates.",
            extra={"kind": "file"},
        ),
    ] = None
    verify: Annotated[
        Literal["none", "peer", "require"],
        Meta(
            description="Clients' certificates: `none` does not ask for one, `peer` checks one that"
            " is shown, `require` lets nobody in without.",
        ),
    ] = "none"
    minimum: Annotated[
        Literal["1.2", "1.3"], Meta(description="The oldest version of TLS that is spoken.")
    ] = "1.2"
    login_from: Annotated[
        Literal["common_name", "distinguished_name", "dns", "email"],
        Meta(
            description="Which part of a client's certificate is the user's name, with the"
            " mechanism `EXTERNAL`; `dns` and `email` are the first alternative name of that kind.",
        ),
    ] = "common_name"


class Limits(Struct, frozen=True, kw_only=True):
    """`[limits]`: what one peer, or all together, can make the server hold."""

    frame_max: Annotated[
        int,
        Meta(
            ge=4096,
            le=16 * MIB,
            description="Bytes of a frame, proposed to clients. Larger frames cost memory for each"
            " connection; 4096 is the protocol's minimum.",
            extra=SIZE,
        ),
    ] = 128 * KIB
    channel_max: Annotated[
        int, Meta(ge=1, le=65_535, description="Channels of a connection, proposed to clients.")
    ] = 2047
    heartbeat_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535,
            description="Heartbeat proposed to clients: a peer is dead after two missed ones. 0"
            " turns it off for clients that do not ask for it.",
        ),
    ] = 60
    handshake_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="A connection that is not open after this is closed: a peer that says"
            " nothing, or one byte a second, holds nothing for long.",
        ),
    ] = 10
    handshakes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections that are not open yet; more are not accepted meanwhile.",
        ),
    ] = 1000
    verifications_max: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Passwords checked at a time. Each check takes about 50 ms of one core and"
            " 19 MiB, on purpose; others wait for their turn.",
        ),
    ] = 2
    connections_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections in all. Each takes a file descriptor: the server raises its"
            " own soft limit to the hard one (`ulimit -Hn`).",
        ),
    ] = 65_536
    connections_per_user_max: Annotated[
        int | None,
        Meta(
            description="Connections of one user, unless that user has a limit of its own. None: no"
            " limit but the one in all.",
            extra=COUNT,
        ),
    ] = None
    connections_per_virtual_host_max: Annotated[
        int | None,
        Meta(
            description="Connections to one virtual host, unless it has a limit of its own. None:"
            " no limit but the one in all.",
            extra=COUNT,
        ),
    ] = None
    channels_per_connection_max: Annotated[
        int,
        Meta(
            ge=1,
            le=65_535,
            description="Channels open at a time on a connection, whatever numbers they have.",
        ),
    ] = 2047
    consumers_per_channel_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Consumers of a channel. One costs about a kilobyte; programs have a"
            " handful.",
        ),
    ] = 4096
    unacked_per_channel_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Deliveries that a channel may owe an acknowledgement, whatever its"
            " prefetch: deliveries stop there until some are settled. A prefetch can ask for"
            " 65,535 at most, so that only clients without one can meet it.",
        ),
    ] = 1 << 20
    unconfirmed_per_channel_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Publishes of a channel that wait for their confirm; reading from the"
            " connection pauses there until the disk has caught up.",
        ),
    ] = 65_536
    message_bytes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=128 * MIB,
            description="Bytes of a message's body. A larger one closes the channel with 406.",
            extra=SIZE,
        ),
    ] = 128 * MIB
    table_depth_max: Annotated[
        int,
        Meta(
            ge=1,
            le=32,
            description="Tables and arrays within each other, in headers and arguments.",
        ),
    ] = 32
    header_bytes_max: Annotated[
        int,
        Meta(
            ge=256,
            le=128 * KIB,
            description="Bytes of a message's properties, headers included.",
            extra=SIZE,
        ),
    ] = 128 * KIB
    queues_per_virtual_host_max: Annotated[
        int | None,
        Meta(
            description="Queues of one virtual host, unless it has a limit of its own. None: memory"
            " is the limit, a few kilobytes for an idle queue.",
            extra=COUNT,
        ),
    ] = None
    reply_inbox_bytes_max: Annotated[
        int,
        Meta(
            ge=4 * KIB,
            le=1 * GIB,
            description="Bytes of direct replies (`amq.rabbitmq.reply-to`) that wait for one"
            " channel; over it replies are dropped and counted, as direct replies are promised at"
            " most once.",
            extra=SIZE,
        ),
    ] = 16 * MIB
    output_bytes_max: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=1 * GIB,
            description="Bytes of answers that wait for a peer who does not read; reading from it"
            " pauses above.",
            extra=SIZE,
        ),
    ] = 1 * MIB
    input_bytes_max: Annotated[
        int,
        Meta(
            ge=64 * KIB,
            le=1 * GIB,
            description="Bytes of a connection that wait while it is paused (memory, disk).",
            extra=SIZE,
        ),
    ] = 1 * MIB

    def of_sessions(self) -> dict[str, int]:
        """Those that `wherry._core.FrontEnd` takes, without the ones that are off."""
        here = ("handshakes_max", "verifications_max")
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {n: value for n, value in values.items() if n not in here and value is not None}


class Auth(Struct, frozen=True, kw_only=True):
    """`[auth]`: who gets in."""

    mechanisms: Annotated[
        tuple[Mechanism, ...],
        Meta(
            min_length=1,
            description="What clients may authenticate with. `EXTERNAL` is the name in a verified"
            " client certificate; it is offered on TLS listeners only.",
        ),
    ] = ("PLAIN", "AMQPLAIN")
    loopback_users: Annotated[
        tuple[str, ...],
        Meta(
            description="Users who are let in from this machine only, judged by the peer's address."
            " Empty: nobody is kept to it.",
        ),
    ] = ("guest",)


class InlinePermission(Struct, frozen=True, kw_only=True):
    """`[[users.permissions]]`: what a user may do in a virtual host, as regular expressions over
    the names of exchanges and queues.
    """

    vhost: Annotated[str, Meta(max_length=255, description="The virtual host.")] = "/"
    configure: Annotated[
        str,
        Meta(max_length=PATTERN_BYTES_MAX, description="What it may declare and delete."),
    ] = ".*"
    write: Annotated[
        str,
        Meta(
            max_length=PATTERN_BYTES_MAX, description="Where it may publish, and what it may bind."
        ),
    ] = ".*"
    read: Annotated[
        str,
        Meta(max_length=PATTERN_BYTES_MAX, description="What it may consume, purge, and bind to."),
    ] = ".*"


class InlineUser(Struct, frozen=True, kw_only=True):
    """`[[users]]`: a user who is part of the configuration. `wherry users` cannot change it, and a
    user of the same name in the user file is not looked at.
    """

    name: Annotated[
        str, Meta(min_length=1, max_length=255, description="The name to log in with.")
    ] = ""
    password: Annotated[
        str | None,
        Meta(description="The password. Give one of the two."),
    ] = None
    password_hash: Annotated[
        str | None,
        Meta(description="Its hash, as `wherry users hash` prints it."),
    ] = None
    tags: Annotated[
        tuple[str, ...],
        Meta(
            description="`administrator`, `monitoring`, `impersonator` (may publish with any"
            " user-id), ...",
        ),
    ] = ()
    permissions: Annotated[
        tuple[InlinePermission, ...],
        Meta(description="Where it may go. None: everything in the virtual host `/`."),
    ] = (InlinePermission(),)

    # Passwords and hashes are shown by neither.

    def __repr__(self) -> str:
        return f"InlineUser(name={self.name!r}, tags={self.tags!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("tags", self.tags)]


class Log(Struct, frozen=True, kw_only=True):
    """`[log]`: what is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important record written.", extra={"flag": "--log-level"}),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Meta(
            description="`json` is one object a line, for collectors of logs.",
            extra={"flag": "--log-format"},
        ),
    ] = "text"


class Shutdown(Struct, frozen=True, kw_only=True):
    """`[shutdown]`: how the server ends."""

    drain_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="After SIGTERM, SIGINT or Ctrl-C clients are told to go (320) and have so"
            " long to do it; a second signal ends it at once.",
        ),
    ] = 10.0


class Control(Struct, frozen=True, kw_only=True):
    """`[control]`: the socket by which `wherry queues` and the like reach a running server."""

    enabled: Annotated[bool, Meta(description="Whether there is one.")] = True
    socket: Annotated[
        str | None,
        Meta(
            description="Its path, reachable by the server's user only. None: `control.sock` in the"
            " data directory; a server in memory has none then.",
            extra={"kind": "path"},
        ),
    ] = None


class Config(Struct, frozen=True, kw_only=True):
    """Everything that the server is told when it starts."""

    directory: Annotated[
        str | None,
        Meta(
            description="The data directory: journal, users, control socket. None: everything in"
            " memory, gone when the server ends.",
            extra={"kind": "path", "flag": "--directory, --memory"},
        ),
    ] = None
    durability: Annotated[
        Literal["always", "interval", "never"],
        Meta(
            description="When a persistent message is confirmed: after the disk was told to keep"
            " it; when it is written, the disk being told every `sync_interval`; when it is"
            " written. A power failure costs nothing, the last interval, what the system had not"
            " written.",
            extra={"flag": "--durability"},
        ),
    ] = "always"
    sync_interval: Annotated[
        float,
        Meta(ge=0.001, le=60, description='Seconds between syncs with `durability = "interval"`.'),
    ] = 0.05
    cluster_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="What clients are told as the broker's name (`cluster_name`).",
        ),
    ] = "wherry"
    busy_wait_us: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="While messages come one by one and closer together than so many"
            " microseconds, the server stays awake between them instead of sleeping: on a virtual"
            " machine that halves the latency, at the price of a processor that looks busy during"
            " such streams. 0: it always sleeps. Linux only.",
        ),
    ] = 100
    memory: Memory = Memory()
    disk: Disk = Disk()
    amqp: Amqp = Amqp()
    stomp: Stomp = Stomp()
    tls: Tls = Tls()
    limits: Limits = Limits()
    auth: Auth = Auth()
    log: Log = Log()
    shutdown: Shutdown = Shutdown()
    control: Control = Control()
    users: Annotated[
        tuple[InlineUser, ...],
        Meta(
            description="Users who are part of the configuration. With any of them, a new data"
            " directory does not get the user `guest`.",
            extra={"kind": "tables"},
        ),
    ] = ()

    def control_path(self) -> str | None:
        """Where the control socket is to be; None if there is none."""
        if not self.control.enabled:
            return None
        if self.control.socket is not None:
            return self.control.socket
        return None if self.directory is None else os.path.join(self.directory, "control.sock")

    def users_path(self) -> str | None:
        """The user file; None in memory."""
        return None if self.directory is None else os.path.join(self.directory, "users.json")
