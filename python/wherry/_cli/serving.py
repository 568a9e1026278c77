"""A server from the command line: what the arguments of `wherry serve` make of the configuration,
and what a server says when it is there.

Click is loaded only for what it says of errors, and for `--check` and `--print-config`: see
`serve_options`.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry import _core
    from wherry.server._server import ThreadServer
    from wherry.server.config import Config, Loaded
    from wherry.server.users import UserStore


def serve(file: str | None, check: bool, print_config: bool, **options: Any) -> None:
    """Serve until a signal ends it.

    Args:
        file: the configuration's.
        check: only look at the configuration.
        print_config: only print it.
        options: the rest of `serve_options`, by name.
    """
    loaded = _loaded(file, options)
    if print_config:
        import click

        from wherry.server.config import to_toml

        click.echo(to_toml(loaded.config, loaded.sources), nl=False)
    if check:
        _check(loaded)
    if not print_config and not check:
        _serve(loaded)


def _loaded(file: str | None, options: dict[str, Any]) -> Loaded:
    from wherry.server import config

    right, flags = _settings(options)
    try:
        loaded = config.load(file, environment=os.environ, flags=flags, options=right)
        return _with_stomp(loaded, options["host"], options["port"])
    except config.ConfigError as error:
        import click

        for problem in error.problems:
            click.secho(f"error: {problem}", fg="red", err=True)
        raise SystemExit(2) from None


def _settings(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of the configuration that options set: with values that are right, and with values
    that have to be looked at.
    """
    right: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    for text in options["set_"]:
        key, equals, value = text.partition("=")
        if not equals:
            import click

            raise click.BadParameter(f"'{text}' is not KEY=VALUE", param_hint="--set")
        flags[key.strip()] = value.strip()
    names = {"directory": "directory", "durability": "durability", "log_level": "log.level"}
    for option, key in {**names, "log_format": "log.format"}.items():
        if options[option] is not None:
            (right if options[option] else flags)[key] = options[option]
    if options["memory"]:
        if options["directory"] is not None:
            import click

            raise click.UsageError("--memory and --directory: choose one")
        right["directory"] = None
    from wherry.server._settings import AMQP_PORT

    host, port, stomp_port = options["host"], options["port"], options["stomp_port"]
    listeners = {}
    if host is not None or port is not None:
        listeners["amqp.listeners"] = _addresses(host, AMQP_PORT if port is None else port)
    if stomp_port is not None:
        listeners["stomp.listeners"] = _addresses(host, stomp_port)
    if options["websocket_port"] is not None:
        listeners["stomp.websocket_listeners"] = _addresses(host, options["websocket_port"])
    # A host is any text; the ports are right.
    (right if host is None or _is_host(host) else flags).update(listeners)
    return right, flags


def _is_host(text: str) -> bool:
    from wherry.server.config import parse_address

    try:
        parse_address(*_addresses(text, 0))
    except ValueError:
        return False
    return True


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
    config = loaded.config
    config = config.replace(stomp=config.stomp.replace(listeners=listeners))
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
        import errno

        return error.errno == errno.EADDRINUSE
    return False


def _check(loaded: Loaded) -> None:
    """What can be seen without starting."""
    import click

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

    def channels(self) -> list[dict[str, Any]]:
        return self._server.channels()

    def limits(self) -> dict[str, Any]:
        return self._server.limits()

    def set_limits(self, *, memory_bytes_max: int | None, disk_free_bytes_min: int | None) -> None:
        self._server.set_limits(
            memory_bytes_max=memory_bytes_max, disk_free_bytes_min=disk_free_bytes_min
        )

    def reload(self) -> None:
        self._server.reload()


def _ready(server: ThreadServer, config: Config) -> None:
    """Says where it listens, to people and to systemd."""
    where = config.directory
    kept = "in memory, gone when it ends" if where is None else f"in {where}"
    for url in server.urls:
        print(f"listening on {url}")
    print(f"messages are kept {kept}; Ctrl-C ends it", flush=True)
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
            print(f"systemd was not told: {error}", file=sys.stderr)
