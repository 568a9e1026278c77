"""What `wherry.serve` returns: enter it to start a server, leave it to stop it."""

from __future__ import annotations

import math
import os
import sys
from contextlib import AsyncExitStack, ExitStack
from operator import index
from typing import TYPE_CHECKING, Any, final

import sniffio

from wherry import _broker, blocking
from wherry._errors import InvalidArgument
from wherry._loop import current_loop
from wherry.server._server import Server, ThreadServer
from wherry.server._settings import (
    AMQP_PORT,
    AMQPS_PORT,
    LOOPBACK,
    WEBSOCKET_PATH,
    Listen,
    Settings,
    broker_options,
    from_config,
)

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from wherry.server._accounts import Users
    from wherry.server._settings import TLS
    from wherry.server.config import Config


@final
class Serving:
    """A server that is about to start: `async with` under trio and asyncio, `with` in plain
    threads.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | _broker.Broker | blocking.Broker | None,
        *,
        host: str | None,
        port: int | None,
        stomp_port: int | None = None,
        websocket_port: int | None = None,
        tls: TLS | ssl.SSLContext | None,
        users: Users | None,
        config: Config | None,
        drain_seconds: float | None,
        open_options: dict[str, Any] | None = None,
        limits: dict[str, int] | None = None,
        handshakes_max: int | None = None,
    ) -> None:
        settings = Settings() if config is None else from_config(config)
        changes: dict[str, Any] = {}
        listen = settings.listen
        for name, number in (
            ("port", port),
            ("stomp_port", stomp_port),
            ("websocket_port", websocket_port),
        ):
            _check_whole(name, number, 0, 65_535)
        _check_whole("handshakes_max", handshakes_max, 1, 2**31 - 1)
        _check_number("drain_seconds", drain_seconds)
        for name, value in (limits or {}).items():
            _check_number(f"limits.{name}", value)
        if host is not None or port is not None or (config is None and tls is not None):
            default = AMQP_PORT if tls is None else AMQPS_PORT
            listen = (
                Listen(
                    LOOPBACK if host is None else host,
                    default if port is None else port,
                    tls is not None,
                ),
            )
        if stomp_port is not None:
            one = Listen(LOOPBACK if host is None else host, stomp_port, tls is not None, "stomp")
            listen = (*(a for a in listen if a.protocol != "stomp" or a.path is not None), one)
        if websocket_port is not None:
            path = WEBSOCKET_PATH if config is None else config.stomp.websocket_path
            one = Listen(
                LOOPBACK if host is None else host, websocket_port, tls is not None, "stomp", path
            )
            listen = (*(address for address in listen if address.path is None), one)
        changes["listen"] = listen
        if tls is not None:
            changes["tls"] = tls
        if drain_seconds is not None:
            changes["drain_seconds"] = drain_seconds
        if limits is not None:
            changes["limits"] = {**settings.limits, **limits}
        if handshakes_max is not None:
            changes["handshakes_max"] = handshakes_max
        self._path: str | None = None
        self._given: _broker.Broker | blocking.Broker | None = None
        self._options = dict(open_options or {})
        if isinstance(target, _broker.Broker | blocking.Broker):
            self._given = target
        elif target is not None:
            self._path = os.fspath(target)
        elif config is not None:
            self._path = config.directory
        if config is not None:
            self._options = {**broker_options(config), **self._options}
        if self._path is not None:
            changes["directory"] = self._path
        self._settings = settings.but(**changes)
        self._config = config
        self._users = users
        self._async_stack: AsyncExitStack | None = None
        self._stack: ExitStack | None = None
        self._server: Server | ThreadServer | None = None

    def _make_users(self) -> Users:
        if self._users is not None:
            return self._users
        from wherry.server._accounts import default_users

        return default_users(self._path, self._config)

    # On an event loop

    async def __aenter__(self) -> Server:
        loop = current_loop()
        beside = loop if event_loop() == "asyncio" else None
        if isinstance(self._given, blocking.Broker):
            raise TypeError("a broker of wherry.blocking is served by `with`, not `async with`")
        async with AsyncExitStack() as stack:
            broker = self._given
            if broker is None:
                broker = await stack.enter_async_context(_broker.open(self._path, **self._options))
            users = await loop.in_thread(self._make_users)
            server = Server(broker, self._settings, users, beside)
            await server._start()
            self._async_stack = stack.pop_all()
        self._server = server
        return server

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert isinstance(self._server, Server)
        assert self._async_stack is not None
        # Who is cancelled wants to end: clients are told, but not waited for.
        cancelled = exc_type is not None and issubclass(exc_type, _cancellations())
        try:
            await self._server._stop(0 if cancelled else self._settings.drain_seconds)
        finally:
            await self._async_stack.__aexit__(None, None, None)

    # In threads

    def __enter__(self) -> ThreadServer:
        if isinstance(self._given, _broker.Broker):
            raise TypeError(
                "a broker opened on an event loop is served by `async with` there; in threads give "
                "its `blocking` twin"
            )
        with ExitStack() as stack:
            broker = self._given
            if broker is None:
                broker = stack.enter_context(blocking.open(self._path, **self._options))
            server = ThreadServer(broker._engine, self._settings, self._make_users(), broker)
            server._start()
            self._stack = stack.pop_all()
        self._server = server
        return server

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert isinstance(self._server, ThreadServer)
        assert self._stack is not None
        # Ctrl-C wants to end: clients are told, but not waited for. Nor are they on a thread that
        # runs an event loop: its own clients cannot answer while it stands still here.
        interrupted = exc_type is not None and issubclass(exc_type, KeyboardInterrupt)
        hurry = interrupted or event_loop() is not None
        try:
            self._server._stop(0 if hurry else self._settings.drain_seconds)
        finally:
            self._stack.__exit__(None, None, None)


def _check_whole(name: str, value: int | None, least: int, greatest: int) -> None:
    """Of what was given."""
    if value is not None and not least <= index(value) <= greatest:
        raise InvalidArgument(f"{name}={value}: give a whole number from {least} to {greatest}")


def _check_number(name: str, value: float | None) -> None:
    """Of what was given."""
    if value is not None and not 0 <= value < math.inf:
        raise InvalidArgument(f"{name}={value}: give a number that is not negative and is finite")


def _cancellations() -> tuple[type[BaseException], ...]:
    """What the event loop libraries that are in use raise where a task is cancelled."""
    trio, asyncio = sys.modules.get("trio"), sys.modules.get("asyncio")
    found = [] if trio is None else [trio.Cancelled]
    return (*found, *([] if asyncio is None else [asyncio.CancelledError]))


def event_loop() -> str | None:
    """Which library's event loop this thread runs."""
    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        pass
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    # In a callback, which belongs to no task.
    return None if asyncio._get_running_loop() is None else "asyncio"
