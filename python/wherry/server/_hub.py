"""The server on its loop: all connections, their wake-ups, logins, ticks, alarms, and the end.

The engine and the sessions name connections by token through a port; token 0 is the journal's
progress (and room for publishers). Wake-ups are served where they come up: a session call made here
that makes another session ready writes to that one's socket on its way out, without a turn of the
scheduler. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import logging
import math
import socket
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from wherry import _core
from wherry.server._alarms import Alarms
from wherry.server._connection import Connection
from wherry.server._forked import remember
from wherry.server._poll import READ

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wherry.server._accounts import Users
    from wherry.server._listener import Endpoint
    from wherry.server._loop import Loop, Task
    from wherry.server._origins import Origins
    from wherry.server._settings import Settings

log = logging.getLogger("wherry.server")

_COMMITS = 0

# Read from a socket at a time: some thousand small messages, a large frame. No more than what can
# be written in one turn (`_BUDGETS_PER_TURN`), also when messages grow on their way through (a
# MESSAGE of STOMP has three times the bytes of its SEND): else a queue would grow while its
# consumer waits.
BUFFER_BYTES = 128 << 10

# Seconds from accept to open, as in RabbitMQ.
HANDSHAKE_SECONDS = 10

# Seconds in which a client takes nothing of what is sent to it, as in RabbitMQ.
SEND_SECONDS = 30

# A WebSocket message may be as long as the longest STOMP frame: its headers, as the session limits
# them, and a message's body, which may be this long unless configured.
STOMP_HEAD_BYTES_MAX = 4 << 20
MESSAGE_BYTES_MAX = 128 << 20

# A connection with a heartbeat of so many seconds or less is ticked this often: once a second would
# send its heartbeats late.
IMPATIENT_HEARTBEAT_SECONDS = 4
IMPATIENT_TICK_SECONDS = 0.25

# Connections ticked before others have a turn: some hundred microseconds.
_TICKS_PER_TURN = 256

# Rounds of wake-ups served in one go, before the sockets have their turn.
_DRAINS_MAX = 16


class Hub:
    """One server's connections. Made and used on the loop that runs it."""

    def __init__(self, engine: _core.Engine, settings: Settings, users: Users, loop: Loop) -> None:
        self.engine = engine
        self.settings = settings
        self.users = users
        self.handshake_seconds = float(settings.limits.get("handshake_seconds", HANDSHAKE_SECONDS))
        limits = dict(settings.limits)
        self.send_seconds = limits.pop("send_seconds", SEND_SECONDS)
        self.origins: Origins | None = None
        if any(address.path is not None for address in settings.listen):
            # Loaded here, as few servers need it.
            from wherry.server._origins import Origins

            self.origins = Origins(settings.websocket_origins, settings.host_names)
        self.websocket_bytes_max = STOMP_HEAD_BYTES_MAX + int(
            settings.limits.get("message_bytes_max", MESSAGE_BYTES_MAX)
        )
        self.login_from = getattr(settings.tls, "login_from", "common_name")
        self.poller = loop.poller()
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.connections: dict[int, Connection] = {}
        self.endpoints: list[Endpoint] = []
        self.now = loop.now
        self._pending = 0
        # Whose sessions wait for room, or for the journal's progress.
        self._room: set[Connection] = set()
        self._disk: set[Connection] = set()
        # Those with short heartbeats.
        self._impatient: set[Connection] = set()
        self._wants_commits = False
        self._draining = False
        self._stopping = False
        self._loop = loop
        self._empty = loop.event()
        # While it runs: what to tell the end to, and what is done beside serving sockets.
        self._failed: Callable[[Exception], None] | None = None
        self._tasks: set[Task] = set()
        self._logins = loop.limiter(settings.verifications_max)
        loop.protect(Hub.drain)
        self.port = _core.Port(self)
        self.front = _core.FrontEnd(
            engine,
            # Whole numbers; a part of a second is rounded up, not away.
            {name: math.ceil(value) for name, value in limits.items()},
            cluster_name=settings.cluster_name,
            platform=f"Python {'.'.join(map(str, sys.version_info[:3]))}",
            mechanisms=list(settings.mechanisms),
            stomp_virtual_host=settings.stomp_virtual_host,
            host_names=[*_own_names(), *settings.host_names],
        )
        self.front.attach(self.port)
        self.poller.count_with(self.front.traffic)
        self.alarms = Alarms(engine, self.front, settings, loop, self._room_again)
        self.set_access()

    # Running

    def start(self, endpoints: list[Endpoint], failed: Callable[[Exception], None]) -> None:
        """Serve until `close`.

        Args:
            failed: called with what keeps it from going on. Then it wants to be closed.
        """
        self.endpoints = endpoints
        self._failed = failed
        remember(self)
        self.poller.add(self.port.fileno(), _PortSource(self), READ)
        for endpoint in endpoints:
            endpoint.start(self)
        # The store may outlive many servers, and a server's own is not to keep it in a cycle.
        changed = WeakMethod(self._users_changed)
        self.users.on_change(lambda: _call(changed))
        self._spawn(self._poll)
        self._spawn(self._ticks)
        if self.settings.directory is not None:
            self._spawn(self.alarms.watch_disk, self.settings.directory)

    def close(self) -> None:
        """Close what is left. May be repeated."""
        if self._failed is None:
            return
        self._failed = None
        self._stop_listening()
        for connection in list(self.connections.values()):
            connection.drop("the server has ended")
        self.poller.remove(self.port.fileno())
        self.front.detach()
        self.alarms.close()
        while self._tasks:
            self._tasks.pop().cancel()

    def forked(self) -> None:
        """In a process that was forked from this one: the sockets are this one's alone. The epoll
        is shared, and stays as it is.
        """
        for endpoint in self.endpoints:
            endpoint.socket.close()
        for connection in self.connections.values():
            connection.forked()

    def _spawn(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run it beside the rest, until it ends or the server does."""
        if self._failed is None:
            return

        async def run() -> None:
            try:
                await function(*args)
            except Exception as error:
                if self._failed is not None:
                    self._failed(error)
            finally:
                self._tasks.discard(task)

        task = self._loop.spawn(run)
        self._tasks.add(task)

    async def _poll(self) -> None:
        try:
            await self.poller.run()
        finally:
            self.poller.close()

    async def shut_down(self, seconds: float) -> None:
        """Tell all clients to go, and wait so long for it. Then it may be closed."""
        self._stopping = True
        self._stop_listening()
        for connection in list(self.connections.values()):
            connection.shut_down("broker forced connection closure with reason 'shutdown'")
        self.drain()
        if self.connections:
            await self._empty.wait(seconds)

    def _stop_listening(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()
        self.endpoints = []

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call it after so many seconds, if the server still runs."""
        self._spawn(self._later, seconds, function)

    async def _later(self, seconds: float, function: Callable[[], None]) -> None:
        await self._loop.sleep(seconds)
        function()

    # Connections come and go

    def may_accept(self) -> bool:
        """Whether there is room for one more that is not open yet."""
        return self._pending < self.settings.handshakes_max and not self._stopping

    def accepted(self, sock: socket.socket, address: Any, endpoint: Endpoint) -> None:
        """A client has connected."""
        try:
            sock.setblocking(False)
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, address, endpoint)
        except OSError as error:
            log.warning("lost a client while accepting it: %s", error)
            sock.close()
            return
        except Exception:
            log.exception("cannot serve a client")
            sock.close()
            return
        self.connections[connection.id] = connection
        self._pending += 1
        log.debug("connection %s: accepted", connection.id, extra=connection.fields())

    def ended(self, connection: Connection, why: str) -> None:
        """Its socket is closed, and its session has given everything back."""
        if self.connections.pop(connection.id, None) is None:
            return
        if not connection.opened:
            self._pending -= 1
        self._room.discard(connection)
        self._disk.discard(connection)
        self._impatient.discard(connection)
        level = logging.INFO if connection.opened else logging.DEBUG
        log.log(level, "connection %s: closed: %s", connection.id, why, extra=connection.fields())
        if not self.connections and self._stopping:
            self._empty.set()
        self.drain()

    def opened(self, connection: Connection) -> None:
        """Its handshake is over: it has a user and a virtual host."""
        self._pending -= 1
        if 0 < connection.heartbeat_seconds <= IMPATIENT_HEARTBEAT_SECONDS:
            self._impatient.add(connection)
        log.info("connection %s: open", connection.id, extra=connection.fields())

    def waiting_for_room(self, connection: Connection, waits: bool) -> None:
        """The session has a publish that was refused as Busy, or not any more."""
        if waits:
            self._room.add(connection)
            self._want_commits(connection)
            if not self.alarms.memory and self.alarms.look_at_memory():
                # Now its session has something to say.
                self.poller.again(connection)
        else:
            self._room.discard(connection)

    def waiting_for_disk(self, connection: Connection, waits: bool) -> None:
        """The session has something to send when more is durable, or not any more."""
        if waits:
            self._disk.add(connection)
            self._want_commits(connection)
        else:
            self._disk.discard(connection)

    def _want_commits(self, connection: Connection) -> None:
        if not self._wants_commits:
            self._wants_commits = True
            self.port.want_commits(True)
            # Progress between its look and this call was not told: it looks again.
            self.poller.again(connection)

    # Wake-ups

    def drain(self) -> None:
        """Serve whoever was named. Never raises."""
        if self._draining:
            return  # the one outside goes on
        self._draining = True
        connections = self.connections
        take_ready = self.port.take_ready
        try:
            for _ in range(_DRAINS_MAX):
                tokens = take_ready()
                if not tokens:
                    return
                for token in tokens:
                    if token == _COMMITS:
                        self._progress()
                    else:
                        connection = connections.get(token)
                        if connection is not None:
                            connection.flush()
            self.port.signal()
        except Exception:
            log.exception("serving wake-ups failed")
        finally:
            self._draining = False

    def _progress(self) -> None:
        """More is durable, or there is room again."""
        for connection in list(self._disk):
            connection.flush()
        self._resume()

    def _resume(self) -> None:
        """There may be room again."""
        if self.alarms.memory:
            self.alarms.look_at_memory()
        for connection in list(self._room):
            connection.resume()

    def _room_again(self) -> None:
        self._resume()
        self.drain()

    # Logins

    def authenticate(self, connection: Connection) -> None:
        """Check what the client said, in a thread."""
        self._spawn(self._authenticate, connection)

    async def _authenticate(self, connection: Connection) -> None:
        try:
            session = connection.session
            assert session is not None
            credentials = session.credentials()
            if credentials is None:
                return
            mechanism, name, password = credentials
            refusal = None
            if connection.opened:
                refusal = await self._in_thread(self._renewal_refusal, name, connection)
            elif mechanism not in self.settings.mechanisms:
                refusal = "this mechanism is not among auth.mechanisms"
            elif name in self.settings.loopback_users and not connection.loopback:
                refusal = "this user may log in from this machine only"
            elif mechanism == "EXTERNAL":
                known = await self._in_thread(self.users.exists, name)
                refusal = None if known else "the certificate names no user"
            else:
                user = await self._in_thread(self._verify, name, password)
                refusal = None if user is not None else "wrong user or password"
            connection.authenticating = False
            if not connection.open:
                return
            if refusal is None:
                connection.answered(session.authenticated(name))
            else:
                log.warning(
                    "connection %s: %s of '%s' with %s refused: %s",
                    connection.id,
                    "new secret" if connection.opened else "login",
                    name,
                    mechanism,
                    refusal,
                    extra=connection.fields(),
                )
                connection.answered(session.refused())
            self.drain()
        except Exception:
            connection.fail()

    def _renewal_refusal(self, name: str, connection: Connection) -> str | None:
        """Why an open connection may not go on with a new secret. As with RabbitMQ's own users, the
        secret is not looked at: it would say nothing that the password did not.
        """
        if not self.users.exists(name):
            return "the user was deleted"
        for user in self.users.snapshot().users:
            if user.name == name:
                hosts = [permission.vhost for permission in user.permissions]
                return None if connection.virtual_host in hosts else "no access to the virtual host"
        return "the user was deleted"

    def _verify(self, name: str, password: bytes) -> Any | None:
        try:
            return self.users.verify(name, password.decode())
        except UnicodeDecodeError:
            return None  # no password of ours is anything but text

    async def _in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        return await self._loop.in_thread(function, *args, limiter=self._logins)

    def _users_changed(self) -> None:
        self._loop.soon(self.set_access)

    def set_access(self) -> None:
        """Tell the sessions what the users may do now."""
        try:
            self.front.set_access(self.users.snapshot())
        except Exception:
            log.exception("the users' permissions cannot be used: those from before stay")

    # Time

    async def _ticks(self) -> None:
        """Once a second everything that is about time; more often for short heartbeats, which go
        out at half their interval.
        """
        while True:
            for _ in range(round(1 / IMPATIENT_TICK_SECONDS) - 1):
                await self._loop.sleep(IMPATIENT_TICK_SECONDS)
                for connection in list(self._impatient):
                    connection.tick(self.now())
                self.drain()
            await self._loop.sleep(IMPATIENT_TICK_SECONDS)
            try:
                # Another process may have changed the users' file.
                await self._loop.in_thread(self.users.refresh)
            except Exception:
                log.exception("cannot read the users again")
            for index, connection in enumerate(list(self.connections.values())):
                connection.tick(self.now())
                if index % _TICKS_PER_TURN == _TICKS_PER_TURN - 1:
                    await self._loop.checkpoint()
            if self._room or self.alarms.memory:
                self._resume()
            self.alarms.say_memory()
            self.drain()
            if self._wants_commits and not self._disk and not self._room:
                # Not sooner: who publishes with confirms waits time and again.
                self._wants_commits = False
                self.port.want_commits(False)

    # For operators

    def listing(self) -> list[dict[str, Any]]:
        """What there is to know about each connection."""
        return [connection.info() for connection in list(self.connections.values())]

    def channels(self) -> list[dict[str, Any]]:
        """What there is to know about each open channel."""
        connections = list(self.connections.values())
        return [channel for connection in connections for channel in connection.channels()]

    def reload_certificates(self) -> None:
        """New certificates for new connections."""
        if self.settings.tls is not None:
            from wherry.server._tls import server_context

            context = server_context(self.settings.tls)
            for endpoint in self.endpoints:
                if endpoint.tls:
                    endpoint.context = context

    def reload(self) -> None:
        """Certificates, users and permissions again."""
        self.users.refresh()
        self.set_access()
        self.reload_certificates()
        # Of our own store; it has logged that, and not again for being asked.
        problem = getattr(self.users, "problem", None)
        if problem is not None:
            from wherry.server.users_file import UserFileError

            raise UserFileError(problem)

    def close_connection(self, number: int, reason: str) -> bool:
        """Tell one client to go; false when there is none of this id."""
        connection = self.connections.get(number)
        if connection is None:
            return False
        connection.shut_down(reason)
        self.drain()
        return True

    # For tests of applications

    def drop_connections(self, virtual_host: str | None) -> int:
        """Cut all connections, or those to one virtual host, as a crash does; how many."""
        dropped = 0
        for connection in list(self.connections.values()):
            if virtual_host in (None, connection.virtual_host):
                connection.drop("a test cut it", reset=True)
                dropped += 1
        self.drain()
        return dropped

    def hold(self, held: bool) -> None:
        """Read from no connection, or go on."""
        for connection in list(self.connections.values()):
            connection.hold(held)

    def is_idle(self) -> bool:
        """Nothing is ready, unacknowledged, unconfirmed, or on its way in a socket."""
        return not self.busy()

    def busy(self) -> list[str]:
        """What is there to be done, in words."""
        busy = []
        for connection in self.connections.values():
            busy += [f"connection {connection.id} {what}" for what in connection.busy()]
        numbers = self.engine.statistics()
        for state in ("ready", "unacked"):
            if numbers[state]:
                busy.append(f"{numbers[state]} messages are {state}")
        return busy


def _own_names() -> list[str]:
    """What this machine calls itself, with and without domain; no name server is asked."""
    name = socket.gethostname()
    return list({name, name.partition(".")[0]})


def _call(method: WeakMethod[Callable[[], None]]) -> None:
    """If there still is one whose it is."""
    found = method()
    if found is not None:
        found()


class _PortSource:
    """The port's descriptor, for the poller."""

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def on_ready(self, what: int) -> None:
        """Another thread made something ready."""
        self._hub.port.clear()
        self._hub.drain()

    def on_again(self) -> None:
        """Never asked for."""
