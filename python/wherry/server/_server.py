"""A running server, as its user holds it: `Server` under trio, `ThreadServer` in plain threads."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

import trio

from wherry.server import _host
from wherry.server._hub import Hub
from wherry.server._listener import bind

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry import _core, blocking
    from wherry._broker import Broker
    from wherry._loop import Loop
    from wherry.server._accounts import Users
    from wherry.server._listener import Endpoint
    from wherry.server._settings import Protocol, Settings

log = logging.getLogger("wherry.server")

T = TypeVar("T")


class _Addresses:
    """What a server says about where it listens."""

    _endpoints: list[Endpoint]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listener."""
        return [(endpoint.host, endpoint.port) for endpoint in self._endpoints]

    @property
    def urls(self) -> list[str]:
        """What clients connect to, one for each listener, without user and password."""
        return [endpoint.url for endpoint in self._endpoints]

    @property
    def amqp_url(self) -> str:
        """The first of them that speaks AMQP, as a client on this machine writes it.

        Raises:
            RuntimeError: there is none.
        """
        return self._first("amqp").local_url

    @property
    def stomp_url(self) -> str:
        """The first of them that speaks STOMP, as a client on this machine writes it: host and port
        behind `stomp://` or, with TLS, `stomp+ssl://`.

        Raises:
            RuntimeError: there is none.
        """
        return self._first("stomp").local_url

    @property
    def websocket_url(self) -> str:
        """The first of them for STOMP over WebSocket: what a browser on this machine connects to.

        Raises:
            RuntimeError: there is none.
        """
        return self._first("stomp", websocket=True).local_url

    def _first(self, protocol: Protocol, *, websocket: bool = False) -> Endpoint:
        for endpoint in self._endpoints:
            if endpoint.protocol == protocol and (endpoint.path is not None) is websocket:
                return endpoint
        name = "WebSocket" if websocket else protocol.upper()
        option = "port" if protocol == "amqp" else f"{name.lower()}_port"
        raise RuntimeError(f"this server has no listener for {name}: give {option}=")


class Runner:
    """Runs a hub in a system task of the current trio run, until told to stop."""

    def __init__(self, engine: _core.Engine, settings: Settings, users: Users) -> None:
        self.hub = Hub(engine, settings, users)
        self.failure: BaseException | None = None
        self.stopped = trio.Event()
        self._started = trio.Event()
        self._scope = trio.CancelScope()
        self._stopping = False

    async def start(self, bound: list[Endpoint]) -> None:
        """Serve on these addresses. They are closed with the server."""
        # A system task, not a nursery around the user's block: the user's exceptions come out as
        # they went in, and the server serves until it was closed in order.
        trio.lowlevel.spawn_system_task(self._run, bound, name="wherry server")
        await self._started.wait()
        if self.failure is not None:
            raise self.failure

    async def _run(self, bound: list[Endpoint]) -> None:
        try:
            with self._scope:
                await self.hub.run(bound, self._started.set)
        except Exception as error:
            log.exception("the server has failed")
            self.failure = error
        finally:
            self._started.set()
            self.stopped.set()

    async def stop(self, drain_seconds: float) -> None:
        """Tell the clients to go, wait so long for it, and end. Seen through if it is cancelled;
        may be repeated.
        """
        with trio.CancelScope(shield=True):
            if not self._stopping:
                self._stopping = True
                if not self.stopped.is_set():
                    await self.hub.shut_down(drain_seconds)
                self._scope.cancel()
            await self.stopped.wait()

    def stop_now(self) -> None:
        """Wait for nobody any more."""
        self._scope.cancel()


@final
class Server(_Addresses):
    """A server, as its user holds it on an event loop. Made by `async with wherry.serve() as
    server:`. Under trio it runs on that loop, beside asyncio in a thread of its own.
    """

    def __init__(
        self, broker: Broker, settings: Settings, users: Users, loop: Loop | None = None
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._users = users
        self._endpoints = []
        self._runner: Runner | None = None
        # asyncio's, which waits while a thread serves.
        self._loop = loop
        self._thread = None if loop is None else ThreadServer(broker.blocking, settings, users)

    async def _start(self) -> None:
        if self._loop is not None and self._thread is not None:
            await self._loop.in_thread(self._thread._start)
            self._endpoints = self._thread._endpoints
            return
        bound = bind(self._settings)
        self._endpoints = bound
        try:
            self._runner = Runner(self._broker._engine, self._settings, self._users)
            await self._runner.start(bound)
        except BaseException:
            for endpoint in bound:
                endpoint.close()
            raise

    async def _stop(self, drain_seconds: float) -> None:
        if self._loop is not None and self._thread is not None:
            await self._loop.in_thread(partial(self._thread._stop, drain_seconds))
        elif self._runner is not None:
            await self._runner.stop(drain_seconds)

    def _do(self, function: Callable[[], T]) -> T:
        """Run it where the server runs."""
        return function() if self._thread is None else self._thread._call(function)

    @property
    def _hub(self) -> Hub:
        if self._thread is not None:
            return self._thread._hub
        assert self._runner is not None
        return self._runner.hub

    @property
    def broker(self) -> Broker:
        """The embedded API on the same queues."""
        return self._broker

    def connections(self) -> list[dict[str, Any]]:
        """One dict for each connection: id, protocol, host, port, tls, user, virtual_host, state,
        channels, and the like.
        """
        return self._do(self._hub.listing)

    def close_connection(self, id: int, reason: str = "closed by the operator") -> bool:
        """Tell a client to go, in AMQP with code 320, in STOMP with an ERROR; false when there is
        no connection of this id.
        """
        return self._do(lambda: self._hub.close_connection(id, reason))

    @property
    def engine(self) -> _core.Engine:
        """The engine below `broker`, for what works in any thread."""
        return self._broker._engine

    def counters(self) -> dict[str, int]:
        """What happened since the server started, by name: connections, messages, bytes."""
        return self._hub.front.counters()

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections accepted from now on.

        Raises:
            OSError, ssl.SSLError: they cannot be used; those from before stay.
        """
        self._do(self._hub.reload_certificates)

    def reload(self) -> None:
        """Read certificates, users and permissions again.

        Raises:
            OSError, ssl.SSLError: the certificates cannot be used; those from before stay.
        """
        self.reload_certificates()
        self._do(self._read_users)

    def _read_users(self) -> None:
        self._users.refresh()
        self._hub.set_access()

    def stop_now(self) -> None:
        """Let `aclose` wait for nobody any more."""
        if self._thread is not None:
            self._thread.stop_now()
        elif self._runner is not None:
            self._runner.stop_now()

    async def wait_closed(self) -> None:
        """Wait until the server has ended.

        If it is cancelled, nothing changed.

        Raises:
            Exception: what it ended with, if that was an error.
        """
        if self._loop is not None and self._thread is not None:
            await self._thread._wait_on_asyncio()
            return
        assert self._runner is not None
        await self._runner.stopped.wait()
        if self._runner.failure is not None:
            raise self._runner.failure

    async def aclose(self) -> None:
        """Tell the clients to go, wait a little for them, and close. May be repeated.

        It is seen through even if it is cancelled.
        """
        await self._stop(self._settings.drain_seconds)


@final
class ThreadServer(_Addresses):
    """A server in a thread of its own. Made by `with wherry.serve() as server:`. All its methods
    may be called from any thread.
    """

    def __init__(self, broker: blocking.Broker, settings: Settings, users: Users) -> None:
        self._broker = broker
        self._settings = settings
        self._users = users
        self._endpoints = []
        self._runner: Runner | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._ended: Future[None] = Future()
        # A daemon: a program that forgets to close the server can end all the same.
        self._thread = threading.Thread(target=self._run, name="wherry server", daemon=True)

    def _start(self) -> None:
        self._endpoints = bind(self._settings)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            for endpoint in self._endpoints:
                endpoint.close()
            raise self._failure

    def _run(self) -> None:
        try:
            _host.run(self._main)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()
            self._ended.set_result(None)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        runner = Runner(self._broker._engine, self._settings, self._users)
        await runner.start(self._endpoints)
        self._runner = runner
        self._ready.set()
        await runner.stopped.wait()
        if runner.failure is not None:
            raise runner.failure

    def _call(self, function: Callable[[], T]) -> T:
        """Run it on the server's loop. Not by trio's means, which refuse to wait in a thread that
        runs trio itself, as that of a test may.
        """
        if threading.current_thread() is self._thread:
            return function()
        assert self._token is not None
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

        try:
            self._token.run_sync_soon(run)
        except trio.RunFinishedError:
            raise RuntimeError("the server has ended") from None
        return done.result()

    @property
    def _hub(self) -> Hub:
        assert self._runner is not None
        return self._runner.hub

    @property
    def broker(self) -> blocking.Broker:
        """The embedded API on the same queues."""
        return self._broker

    def connections(self) -> list[dict[str, Any]]:
        """As `Server.connections`."""
        return self._call(self._hub.listing)

    def close_connection(self, id: int, reason: str = "closed by the operator") -> bool:
        """As `Server.close_connection`."""
        return self._call(lambda: self._hub.close_connection(id, reason))

    def counters(self) -> dict[str, int]:
        """As `Server.counters`."""
        return self._hub.front.counters()

    def reload_certificates(self) -> None:
        """As `Server.reload_certificates`."""
        self._call(self._hub.reload_certificates)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended; false when `timeout` seconds passed first.

        Raises:
            Exception: what it ended with, if that was an error.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def close(self) -> None:
        """Tell the clients to go, wait a little for them, and close. May be repeated."""
        self._stop(self._settings.drain_seconds)

    def stop_now(self) -> None:
        """Let `close`, which another thread has called, wait for nobody any more."""
        if self._runner is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._call(self._runner.stop_now)

    async def _wait_on_asyncio(self) -> None:
        import asyncio

        # Shielded, since to cancel the waiting is not to cancel the server.
        await asyncio.shield(asyncio.wrap_future(self._ended))
        if self._failure is not None:
            raise self._failure

    def _stop(self, drain_seconds: float) -> None:
        if self._runner is not None and self._token is not None:
            stop = partial(trio.lowlevel.spawn_system_task, self._stopping, drain_seconds)
            with contextlib.suppress(trio.RunFinishedError):  # it ended by itself
                self._token.run_sync_soon(stop)
        self._thread.join()

    async def _stopping(self, drain_seconds: float) -> None:
        assert self._runner is not None
        try:
            await self._runner.stop(drain_seconds)
        except Exception:
            log.exception("the server could not end in order")
            self._runner.stop_now()
