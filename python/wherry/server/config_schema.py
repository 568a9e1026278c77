"""Every setting of the server: its key, type, default, range and meaning, once.

Reading (`config_reading`), printing and documentation (`config_text`) are derived from the classes
here; docs/configuration.md is generated from them. Numbers are RabbitMQ's where it has the setting.

msgspec checks values, when there are some that a person wrote (`config_table`). It was chosen over
pydantic (its import alone is longer than the time in which the server is to be ready) and over
attrs with cattrs (a second library for the checks). The annotations are no strings (no `from
__future__ import annotations`), so that nobody has to compile them.

Values are immutable and may be shared between threads.
"""

import os
from typing import Annotated, Any, Literal, NamedTuple

from wherry.server.config_limits import KIB, Limits
from wherry.server.config_table import Meta, Table

__all__ = [
    "Amqp",
    "Auth",
    "Config",
    "Control",
    "Disk",
    "InlinePermission",
    "InlineUser",
    "Limits",
    "Loaded",
    "Log",
    "Memory",
    "Shutdown",
    "Stomp",
    "Tls",
    "parse_address",
]

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


class Memory(Table):
    """`[memory]`: when publishers have to wait."""

    watermark: Annotated[
        float,
        Meta(
            gt=0,
            description="Messages that wait in memory may take so much before publishers wait and"
            " are told `connection.blocked`. Up to 1: a part of the machine's (or control group's)"
            ' memory; above: bytes, or text such as "512 MiB".',
            kind="size",
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


class Disk(Table):
    """`[disk]`: how much of it stays free."""

    free_bytes_min: Annotated[
        int,
        Meta(
            ge=0,
            description="Publishers wait while the data directory's file system has less free"
            " space than this.",
            kind="size",
        ),
    ] = 50_000_000


class Amqp(Table):
    """`[amqp]`: where AMQP 0-9-1 is spoken."""

    listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses without TLS: `host:port`, `[v6]:port`, `*:port` for every"
            " address of the machine. The default is reached from this machine only.",
            kind="addresses",
            flag="--host, --port",
        ),
    ] = ("127.0.0.1:5672", "[::1]:5672")
    tls_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses with TLS, usually port 5671. Needs `tls.certificate`.",
            kind="addresses",
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


class Stomp(Table):
    """`[stomp]`: where STOMP is spoken."""

    listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses without TLS, written as in `amqp.listeners`; `[]` turns them"
            " off. `--host` and `--port 0` count here, too, unless this is set.",
            kind="addresses",
            flag="--stomp-port",
        ),
    ] = ("127.0.0.1:61613", "[::1]:61613")
    tls_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses with TLS, usually port 61614. Needs `tls.certificate`.",
            kind="addresses",
        ),
    ] = ()
    websocket_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Addresses for STOMP over WebSocket without TLS, usually port 15674:"
            " browsers connect to `ws://host:15674/ws`.",
            kind="addresses",
            flag="--websocket-port",
        ),
    ] = ()
    websocket_tls_listeners: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="The same with TLS (`wss://host:15673/ws`), usually port 15673. Needs"
            " `tls.certificate`.",
            kind="addresses",
        ),
    ] = ()
    websocket_path: Annotated[
        str,
        Meta(
            max_length=255,
            description="The path in those URLs; requests for others get 404.",
            kind="web path",
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
            kind="origins",
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


class Tls(Table):
    """`[tls]`: the certificates of all `tls_listeners`. Read again on SIGHUP."""

    certificate: Annotated[
        str | None,
        Meta(
            description="PEM file with the server's certificate and the chain to its authority.",
            kind="file",
        ),
    ] = None
    key: Annotated[
        str | None,
        Meta(
            description="PEM file with its private key, readable by the server's user only.",
            kind="file",
        ),
    ] = None
    ca: Annotated[
        str | None,
        Meta(
            description="PEM file with the authorities that sign clients' certificates.",
            kind="file",
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


class Auth(Table):
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


class InlinePermission(Table):
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


class InlineUser(Table):
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


class Log(Table):
    """`[log]`: what is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important record written.", flag="--log-level"),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Meta(
            description="`json` is one object a line, for collectors of logs.",
            flag="--log-format",
        ),
    ] = "text"


class Shutdown(Table):
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


class Control(Table):
    """`[control]`: the socket by which `wherry queues` and the like reach a running server."""

    enabled: Annotated[bool, Meta(description="Whether there is one.")] = True
    socket: Annotated[
        str | None,
        Meta(
            description="Its path, reachable by the server's user only. None: `control.sock` in the"
            " data directory; a server in memory has none then.",
            kind="path",
        ),
    ] = None


class Config(Table):
    """Everything that the server is told when it starts."""

    directory: Annotated[
        str | None,
        Meta(
            description="The data directory: journal, users, control socket. None: everything in"
            " memory, gone when the server ends.",
            kind="path",
            flag="--directory, --memory",
        ),
    ] = None
    durability: Annotated[
        Literal["always", "interval", "never"],
        Meta(
            description="When a persistent message is confirmed: after the disk was told to keep"
            " it; when it is written, the disk being told every `sync_interval`; when it is"
            " written. A power failure costs nothing, the last interval, what the system had not"
            " written.",
            flag="--durability",
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
            kind="tables",
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


class Loaded(NamedTuple):
    """A configuration, and where it came from."""

    config: Config
    """What is in force."""
    sources: dict[str, str]
    """Key to the file and line, variable or option that set it; defaults are not in it."""
    warnings: tuple[str, ...]
    """What was ignored."""
