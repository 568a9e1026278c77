"""A running server, as its user holds it: `Server` under trio, `ThreadServer` in plain threads."""

from __future__ import annotations

import contextlib
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

from wherry.server import _host
from wherry.server._hub import Hub
from wherry.server._listener import bind

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry import _core, blocking
    from wherry._broker import Broker
    from wherry._loop import Loop as EmbeddedLoop
    from wherry.server._accounts import Users
    from wherry.server._listener import Endpoint
    from wherry.server._loop import Loop
    from wherry.server._settings import Protocol, Settings

log = logging.getLogger("wherry.server")

T = TypeVar("T")

_ENDED = "the server has ended"


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
    """Runs a hub on a loop, until told to stop or the loop ends. On the loop's thread."""

    def __init__(self, engine: _core.Engine, settings: Settings, users: Users, loop: Loop) -> None:
        self.hub = Hub(engine, settings, users, loop)
        self.failure: BaseException | None = None
        self.stopped = loop.event()
        self._end = loop.event()
        self._loop = loop
        self._stopping = False

    def start(self, bound: list[Endpoint]) -> None:
        """Serve on these addresses. They are closed with the server."""
        try:
            self.hub.start(bound, self._failed)
        except BaseException:
            self.hub.close()
            raise
        self._loop.spawn(self._run)

    def _failed(self, error: Exception) -> None:
        log.error("the server has failed", exc_info=error)
        self.failure = error
        self._end.set()

    async def _run(self) -> None:
        try:
            await self._end.wait()
        finally:
            self.hub.close()
            self.stopped.set()

    async def stop(self, drain_seconds: float) -> None:
        """Tell the clients to go, wait so long for it, and end. May be repeated."""
        if not self._stopping:
            self._stopping = True
            if not self.stopped.is_set():
                await self.hub.shut_down(drain_seconds)
            self._end.set()
        await self.stopped.wait()

    def stop_now(self) -> None:
        """Wait for nobody any more."""
        self._end.set()


@final
class Server(_Addresses):
    """A server, as its user holds it on an event loop. Made by `async with wherry.serve() as
    server:`. Under trio it runs on that loop, beside asyncio in a thread of its own.
    """

    def __init__(
        self, broker: Broker, settings: Settings, users: Users, loop: EmbeddedLoop | None = None
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._users = users
        self._endpoints = []
        self._runner: Runner | None = None
        # asyncio's, which waits while a thread serves.
        self._loop = loop
        self._thread = None if loop is None else ThreadServer(broker._engine, settings, users)

    async def _start(self) -> None:
        if self._loop is not None and self._thread is not None:
            try:
                await self._loop.in_thread(self._thread._start)
            except BaseException:
                # Cancelled while it started: it runs, and nobody would end it.
                await self._loop.in_thread(partial(self._thread._stop, 0))
                raise
            self._endpoints = self._thread._endpoints
            return
        bound = bind(self._settings)
        self._endpoints = bound
        try:
            from wherry.server._trio import TrioLoop

            engine = self._broker._engine
            self._runner = Runner(engine, self._settings, self._users, TrioLoop())
            self._runner.start(bound)
        except BaseException:
            for endpoint in bound:
                endpoint.close()
            raise

    async def _stop(self, drain_seconds: float) -> None:
        if self._loop is not None and self._thread is not None:
            await self._loop.in_thread(partial(self._thread._stop, drain_seconds))
        elif self._runner is not None:
            import trio

            with trio.CancelScope(shield=True):
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

    def channels(self) -> list[dict[str, Any]]:
        """One dict for each open channel: connection (its id), user, virtual_host, number, confirm,
        transactional, prefetch, global_prefetch, unacked, unconfirmed, consumers (the numbers that
        the engine has given them). A connection over STOMP is listed as having one.
        """
        return self._do(self._hub.channels)

    def limits(self) -> dict[str, Any]:
        """The limits at which publishers have to wait, what there is, and whether they wait:
        memory_bytes_max, memory_bytes, memory_alarm, disk_free_bytes_min, disk_free_bytes,
        disk_alarm.
        """
        return self._do(self._hub.alarms.limits)

    def set_limits(
        self, *, memory_bytes_max: int | None = None, disk_free_bytes_min: int | None = None
    ) -> None:
        """Change the limits at which publishers have to wait, at once and until the server ends.

        Args:
            memory_bytes_max: bytes that messages waiting in memory may take; 0 makes publishers
                wait whatever there is. As it was unless given.
            disk_free_bytes_min: bytes that must stay free on the volume of the data directory. As
                it was unless given.

        Raises:
            InvalidArgument: a limit that cannot be kept, or one of the disk for a server in memory.
        """
        self._do(lambda: self._hub.alarms.set_limits(memory_bytes_max, disk_free_bytes_min))

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
        """Read users, permissions and certificates again.

        Raises:
            OSError, ssl.SSLError: the certificates cannot be used; those from before stay.
            UserFileError: the file of users cannot be; those from before stay.
        """
        self._do(self._hub.reload)

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
    """A server that has a thread: a new one if it was made by `with wherry.serve() as server:`, the
    main thread if `run` made it. All its methods may be called from any thread; those that wait for
    its end from any but that.
    """

    def __init__(
        self,
        engine: _core.Engine,
        settings: Settings,
        users: Users,
        broker: blocking.Broker | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._users = users
        self._broker = broker
        self._endpoints = []
        self._runner: Runner | None = None
        self._loop: Loop | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        # Called at the end, in the server's thread; None when it is over.
        self._at_end: list[Callable[[], object]] | None = []
        self._lock = threading.Lock()
        # A daemon: a program that forgets to close the server can end all the same.
        self._thread = threading.Thread(target=self._run, name="wherry server", daemon=True)

    def _start_here(self, loop: Loop) -> Runner:
        """On the caller's thread and loop."""
        self._thread = threading.current_thread()
        self._endpoints = bind(self._settings)
        try:
            return self._start_on(loop)
        except BaseException:
            for endpoint in self._endpoints:
                endpoint.close()
            raise

    def _start(self) -> None:
        self._endpoints = bind(self._settings)
        try:
            self._thread.start()
            self._ready.wait()
        except BaseException:
            # Ctrl-C in between: it runs, and nobody would end it.
            if self._thread.is_alive():
                self._ready.wait()
                self._stop(0)
            for endpoint in self._endpoints:
                endpoint.close()
            raise
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
            self._finish()

    def _finish(self) -> None:
        """It has ended."""
        with self._lock:
            at_end, self._at_end = self._at_end, None
        for function in at_end or ():
            function()
        self._ended.set()

    def _may_wait(self) -> None:
        if threading.current_thread() is self._thread and not self._ended.is_set():
            raise RuntimeError("the server's own thread cannot wait for its end")

    def _join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; false when it took longer than that."""
        if not self._ended.wait(timeout):
            return False
        if self._thread not in (threading.main_thread(), threading.current_thread()):
            self._thread.join()  # the main thread goes on with something else
        return True

    async def _main(self, loop: Loop) -> None:
        runner = self._start_on(loop)
        self._ready.set()
        await runner.stopped.wait()
        if runner.failure is not None:
            raise runner.failure

    def _start_on(self, loop: Loop) -> Runner:
        self._loop = loop
        self._runner = Runner(self._engine, self._settings, self._users, loop)
        self._runner.start(self._endpoints)
        return self._runner

    def _call(self, function: Callable[[], T]) -> T:
        """Run it on the server's loop."""
        if threading.current_thread() is self._thread:
            return function()
        assert self._loop is not None
        if not self._thread.is_alive():  # in a process that was forked
            raise RuntimeError(_ENDED)
        call = _Call(function)
        with self._lock:
            if self._at_end is None:
                raise RuntimeError(_ENDED)
            # Else who waits would wait for ever, if the loop ends before its turn comes.
            self._at_end.append(call.abandon)
        try:
            if not self._loop.soon(call.run):
                raise RuntimeError(_ENDED)
            result: T = call.result()
            return result
        finally:
            with self._lock:
                if self._at_end is not None:
                    self._at_end.remove(call.abandon)

    @property
    def _hub(self) -> Hub:
        assert self._runner is not None
        return self._runner.hub

    @property
    def engine(self) -> _core.Engine:
        """The engine below `broker`, for what works in any thread."""
        return self._engine

    @property
    def broker(self) -> blocking.Broker:
        """The embedded API on the same queues."""
        if self._broker is None:
            from wherry import blocking

            self._broker = blocking.Broker(self._engine)
        return self._broker

    def connections(self) -> list[dict[str, Any]]:
        """As `Server.connections`."""
        return self._call(self._hub.listing)

    def close_connection(self, id: int, reason: str = "closed by the operator") -> bool:
        """As `Server.close_connection`."""
        return self._call(lambda: self._hub.close_connection(id, reason))

    def channels(self) -> list[dict[str, Any]]:
        """As `Server.channels`."""
        return self._call(self._hub.channels)

    def limits(self) -> dict[str, Any]:
        """As `Server.limits`."""
        return self._call(self._hub.alarms.limits)

    def set_limits(
        self, *, memory_bytes_max: int | None = None, disk_free_bytes_min: int | None = None
    ) -> None:
        """As `Server.set_limits`."""
        self._call(lambda: self._hub.alarms.set_limits(memory_bytes_max, disk_free_bytes_min))

    def counters(self) -> dict[str, int]:
        """As `Server.counters`."""
        return self._hub.front.counters()

    def reload_certificates(self) -> None:
        """As `Server.reload_certificates`."""
        self._call(self._hub.reload_certificates)

    def reload(self) -> None:
        """As `Server.reload`."""
        self._call(self._hub.reload)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended; false when `timeout` seconds passed first.

        Raises:
            Exception: what it ended with, if that was an error.
        """
        self._may_wait()
        if not self._join(timeout):
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

        loop = asyncio.get_running_loop()
        # To cancel the waiting is not to cancel the server.
        ended = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(ended.set)

        with self._lock:
            if self._at_end is None:
                ended.set()
            else:
                self._at_end.append(tell)
        await ended.wait()
        if self._failure is not None:
            raise self._failure

    def _stop(self, drain_seconds: float) -> None:
        self._may_wait()
        if not self._thread.is_alive():
            return  # it never started; or it is another process's, which this one was forked from
        if self._runner is not None and self._loop is not None:
            # In vain if it ended by itself.
            self._loop.soon(partial(self._loop.spawn, self._stopping, drain_seconds))
        self._join()

    async def _stopping(self, drain_seconds: float) -> None:
        assert self._runner is not None
        try:
            await self._runner.stop(drain_seconds)
        except Exception:
            log.exception("the server could not end in order")
            self._runner.stop_now()


class _Call:
    """A function that another thread waits for."""

    __slots__ = ("_done", "_error", "_function", "_result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        self._done.set()

    def abandon(self) -> None:
        """It will not be run any more."""
        if not self._done.is_set():
            self._error = RuntimeError(_ENDED)
            self._done.set()

    def result(self) -> Any:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result
