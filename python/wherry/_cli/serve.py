"""`wherry serve`."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry import _core
    from wherry.server._server import ThreadServer
    from wherry.server.config import Config, Loaded
    from wherry.server.users import UserStore

PORT = click.IntRange(0, 65_535)


def _flags(options: dict[str, Any]) -> dict[str, Any]:
    """The keys of the configuration that options set."""
    flags: dict[str, Any] = {}
    for text in options["set_"]:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"'{text}' is not KEY=VALUE", param_hint="--set")
        flags[key.strip()] = value.strip()
    names = {"directory": "directory", "durability": "durability", "log_level": "log.level"}
    for option, key in {**names, "log_format": "log.format"}.items():
        if options[option] is not None:
            flags[key] = options[option]
    if options["memory"]:
        if options["directory"] is not None:
            raise click.UsageError("--memory and --directory: choose one")
        flags["directory"] = None
    from wherry.server._settings import AMQP_PORT

    host, port, stomp_port = options["host"], options["port"], options["stomp_port"]
    if host is not None or port is not None:
        flags["amqp.listeners"] = _addresses(host, AMQP_PORT if port is None else port)
    if stomp_port is not None:
        flags["stomp.listeners"] = _addresses(host, stomp_port)
    if options["websocket_port"] is not None:
        flags["stomp.websocket_listeners"] = _addresses(host, options["websocket_port"])
    return flags


def _addresses(host: str | None, port: int) -> tuple[str, ...]:
    hosts = ["127.0.0.1", "::1"] if host is None else [host]
    if port == 0:
        del hosts[1:]  # the system would choose two different ones
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)


def _with_stomp(loaded: Loaded, host: str | None, port: int | None) -> Loaded:
    """STOMP goes where AMQP goes, unless something says where: to the same host, and with port 0
    to a free port. Nobody asked for it, so if the port is taken there is a warning and no STOMP:
    two brokers of one machine need different ports of AMQP only.
    """
    if "stomp.listeners" in loaded.sources:
        return loaded
    from msgspec.structs import replace

    from wherry.server._settings import STOMP_PORT

    listeners = loaded.config.stomp.listeners
    sources, warnings = loaded.sources, loaded.warnings
    if host is not None or port == 0:
        listeners = _addresses(host, 0 if port == 0 else STOMP_PORT)
        sources = {**sources, "stomp.listeners": "command line"}
    taken = next((address for address in listeners if _is_taken(address)), None)
    if taken is not None:
        listeners = ()
        warnings = (
            *warnings,
            f"STOMP is not served, since {taken} is in use: give --stomp-port for another one",
        )
    config = replace(loaded.config, stomp=replace(loaded.config.stomp, listeners=listeners))
    return loaded._replace(config=config, sources=sources, warnings=warnings)


def _is_taken(address: str) -> bool:
    """Whether somebody else listens there. All else that may be wrong is found when it is bound."""
    from wherry.server.config import parse_address

    if "LISTEN_FDS" in os.environ:
        return False  # it may be for us
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            if sys.platform != "win32":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


@click.command()
@click.option(
    "-c",
    "--config",
    "file",
    envvar="WHERRY_CONFIG",
    type=click.Path(dir_okay=False),
    help="A TOML file; docs/configuration.md lists its keys.",
)
@click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False),
    help="Keep messages and users here. Without it everything is in memory.",
)
@click.option("--memory", is_flag=True, help="Everything in memory, whatever the file says.")
@click.option("--host", help="Address to listen on; * for every address of the machine.")
@click.option("--port", type=PORT, help="AMQP's port; 0 lets the system choose.")
@click.option("--stomp-port", type=PORT, help="STOMP's port; 0 lets the system choose.")
@click.option(
    "--websocket-port", type=PORT, help="Speak STOMP over WebSocket, too, usually at 15674."
)
@click.option(
    "--durability",
    type=click.Choice(["always", "interval", "never"]),
    help="When a persistent message is confirmed.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option("--set", "set_", multiple=True, metavar="KEY=VALUE", help="Any key of the file.")
@click.option("--check", is_flag=True, help="Check the configuration and the user file; no start.")
@click.option("--print-config", is_flag=True, help="Print the configuration in force; no start.")
def serve(file: str | None, check: bool, print_config: bool, **options: Any) -> None:
    """Run a server for AMQP 0-9-1 and STOMP, until Ctrl-C or SIGTERM; a second one ends it at once.
    SIGHUP reads certificates and users again.

    Options win over WHERRY_... environment variables, these over the file. A new data directory has
    the user guest with the password guest, let in from this machine only.

    \b
    Examples:
      wherry serve                                          everything in memory, this machine only
      wherry serve --directory /var/lib/wherry --host '*'
      wherry serve --websocket-port 15674                   STOMP for browsers, too
      wherry serve --config wherry.toml --set limits.connections_max=50000
      wherry serve --config wherry.toml --print-config
    """
    from wherry.server.config import ConfigError, load

    try:
        loaded = load(file, environment=os.environ, flags=_flags(options))
        loaded = _with_stomp(loaded, options["host"], options["port"])
    except ConfigError as error:
        for problem in error.problems:
            click.secho(f"error: {problem}", fg="red", err=True)
        raise SystemExit(2) from None
    if print_config:
        from wherry.server.config import to_toml

        click.echo(to_toml(loaded.config, loaded.sources), nl=False)
    if check:
        _check(loaded)
    if not print_config and not check:
        _serve(loaded)


def _check(loaded: Loaded) -> None:
    """What can be seen without starting."""
    from wherry.server.users import UserStore

    config, problems = loaded.config, []
    for name in ("certificate", "key", "ca"):
        path = getattr(config.tls, name)
        if path is not None and not os.access(path, os.R_OK):
            problems.append(f"tls.{name}: {path} cannot be read")
    users = config.users_path()
    # Looking must not make the directory.
    UserStore(users if users is not None and os.path.exists(users) else None, fixed=config.users)
    for warning in loaded.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    if problems:
        raise click.ClickException("; ".join(problems))
    click.echo("the configuration is good", err=True)


def _serve(loaded: Loaded) -> None:
    import logging

    from wherry.server import logs

    config = loaded.config
    logs.configure(config.log.level, config.log.format)
    log = logging.getLogger("wherry.server")
    for warning in loaded.warnings:
        log.warning("%s", warning)
    _run(config)


def _run(config: Config) -> None:
    from wherry.server._run import run
    from wherry.server.users import UserStore

    users = UserStore(
        config.users_path(),
        fixed=config.users,
        verifications_max=config.limits.verifications_max,
    )
    control = config.control_path()

    def beside(server: ThreadServer) -> Callable[[], None]:
        from wherry.server.control import ControlServer

        assert control is not None
        return ControlServer(_Access(server, users), control).close

    run(
        config,
        users=users,
        ready=lambda server: _ready(server, config),
        beside=None if control is None else beside,
    )
    _notify("STOPPING=1")


class _Access:
    """What the control socket needs of a server."""

    def __init__(self, server: ThreadServer, users: UserStore) -> None:
        self._server = server
        self.users = users

    @property
    def engine(self) -> _core.Engine:
        return self._server.engine

    def connections(self) -> list[dict[str, Any]]:
        return self._server.connections()

    def close_connection(self, id: int, reason: str) -> bool:
        return self._server.close_connection(id, reason)

    def reload(self) -> None:
        self._server.reload()


def _ready(server: ThreadServer, config: Config) -> None:
    """Says where it listens, to people and to systemd."""
    where = config.directory
    kept = "in memory, gone when it ends" if where is None else f"in {where}"
    for url in server.urls:
        click.echo(f"listening on {url}")
    click.echo(f"messages are kept {kept}; Ctrl-C ends it")
    sys.stdout.flush()
    # What is there now stays: the collector shall not look through it again and again.
    gc.freeze()
    gc.enable()
    _notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=listening on {', '.join(server.urls)}")


def _notify(state: str) -> None:
    """Tells systemd, if it started us with Type=notify: a datagram to a socket that it names."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        try:
            peer.connect(address)
            peer.sendall(state.encode())
        except OSError as error:
            click.echo(f"systemd was not told: {error}", err=True)
