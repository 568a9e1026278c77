"""One client's connection: moves bytes between its socket and its session.

The session (Rust) owns the protocol and everything it holds of the broker; here is only the socket.
Input is read into one buffer that all connections of the loop share and parsed at once. Output is
written as soon as the session has some, right where that was noticed; what the socket does not take
waits here, at most one budget of it, until the socket can be written again. Everything runs on the
loop's thread, and nothing here raises: what goes wrong in a connection ends that connection.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from wherry import _core
from wherry.server._layers import transport
from wherry.server._poll import HANGUP, READ, WRITE
from wherry.server._transport import TransportFailed

if TYPE_CHECKING:
    from wherry.server._hub import Hub
    from wherry.server._listener import Endpoint
    from wherry.server._transport import Transport

log = logging.getLogger("wherry.server")

# Asked of a session at a time. Large enough for a system call to carry hundreds of small messages,
# small enough that ten thousand clients that read nothing hold bytes, not memory: it is what each
# of them may have lying here.
OUTPUT_BUDGET_BYTES = 64 << 10

# Budgets written for one connection before others have their turn. See `BUFFER_BYTES`.
_BUDGETS_PER_TURN = 8

# After the last byte is sent, wait so long for the client to close too, in seconds. Closing at once
# could make the system throw away what is on its way to the client, such as the reason.
LINGER_SECONDS = 3.0

# Read at a time of who has not logged in: what stands behind the login has to be kept until that is
# verified, and sessions keep so much of a stranger's.
_EARLY_READ_BYTES = 64 << 10

_NOTHING = memoryview(b"")

_AUTHENTICATE = _core.Session.AUTHENTICATE
_CLOSE = _core.Session.CLOSE
_OUTPUT = _core.Session.OUTPUT
_PAUSE_READING = _core.Session.PAUSE_READING
_WAITS_FOR_DISK = _core.Session.WAITS_FOR_DISK
_WAITS_FOR_ROOM = _core.Session.WAITS_FOR_ROOM


class Connection:
    """A client. Made by the hub for an accepted socket."""

    __slots__ = (
        "_answers_wait",
        "_ends_at",
        "_going",
        "_hub",
        "_in_again",
        "_leaving",
        "_socket",
        "_stalled",
        "_stalled_at",
        "_transport",
        "_unparsed",
        "_unsent",
        "_what",
        "accepted_at",
        "authenticating",
        "endpoint",
        "heartbeat_seconds",
        "held",
        "host",
        "id",
        "loopback",
        "opened",
        "paused",
        "port",
        "session",
        "user",
        "virtual_host",
        "waits_for_disk",
        "waits_for_room",
    )

    def __init__(
        self, hub: Hub, sock: socket.socket, address: tuple[str, int], endpoint: Endpoint
    ) -> None:
        self.id = hub.port.next_token()
        self.host, self.port = address[:2]
        # Judged by the peer's address: ours says nothing about where it sits.
        self.loopback = is_loopback(self.host)
        self.endpoint = endpoint
        # Unix seconds, for the listing.
        self.accepted_at = time.time()
        self.session: _core.Session | None = None
        # The session wants no input now.
        self.paused = False
        # A test or an operator wants no input to be read now.
        self.held = False
        self.waits_for_disk = False
        self.waits_for_room = False
        self.authenticating = False
        # It has a user and a virtual host.
        self.opened = False
        self.user: str | None = None
        self.virtual_host: str | None = None
        self.heartbeat_seconds = 0
        self._hub = hub
        self._socket = sock
        self._unsent: memoryview | None = None
        # What was unsent when a tick first saw it, and when that was. Whatever is sent leaves
        # another view behind.
        self._stalled: memoryview | None = None
        self._stalled_at = 0.0
        # Among it are a transport's own answers: until they are gone nothing is read.
        self._answers_wait = False
        # The transport wants another turn for what it has read: until then nothing more is.
        self._unparsed = False
        self._what = READ
        self._in_again = False
        # The server wants it to end; all is said, and only the client's goodbye is waited for.
        self._going = False
        self._leaving = False
        # A moment of the loop's clock: the transport's handshake must be over, or after the last
        # byte was sent the client must have closed.
        self._ends_at: float | None = None
        self._transport = transport(endpoint, hub.origins, hub.websocket_bytes_max)
        if self._transport is None:
            self._start_session()
        else:
            self._ends_at = hub.now() + hub.handshake_seconds
        hub.poller.add(sock, self, READ)

    @property
    def open(self) -> bool:
        """Whether the socket is still there."""
        return self._socket.fileno() >= 0

    def _start_session(self) -> None:
        name = None
        if self._transport is not None:
            name = self._transport.certificate_name(self._hub.login_from)
        self._ends_at = None
        self.session = _core.Session(
            self._hub.front,
            self._hub.port,
            self.id,
            self.endpoint.protocol,
            host=self.host,
            port_number=self.port,
            loopback=self.loopback,
            certificate_name=name,
            tls=self.endpoint.tls,
        )

    # What the poller tells

    def on_ready(self, what: int) -> None:
        """The socket can be read or written, or is gone."""
        try:
            if what & WRITE:
                self._write_unsent()
            if what & READ and self._what & READ:
                self._read()
            elif what & HANGUP:
                if self._what & READ:
                    self._read()
                else:
                    self.drop("the client has gone")
        except Exception:
            self.fail()

    def on_again(self) -> None:
        """Others had their turn: go on reading and writing."""
        self._in_again = False
        if self._unparsed and self.open:
            try:
                self._read_through(_NOTHING)
            except Exception:
                self.fail()
        self.flush()

    def flush(self) -> None:
        """The session may have something to send."""
        if self._unsent is None and self._ends_at is None and self.session is not None:
            self.answered(_OUTPUT)

    # Input

    def _read(self) -> None:
        buffer = self._hub.buffer
        most = 0 if self.opened else _EARLY_READ_BYTES
        if self._transport is not None:
            most = self._transport.read_bytes_max
        try:
            count = self._socket.recv_into(buffer, most)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.drop(f"reading failed: {error.strerror}")
            return
        if count == 0:
            self.drop("the client has closed")
        elif self.session is None or self._transport is not None:
            self._read_through(self._hub.view[:count])
        elif self._ends_at is None:
            self._after(self.session.receive(buffer, count))

    def _read_through(self, data: memoryview) -> None:
        """Input that is not the session's as it is, for one turn."""
        transport = self._transport
        assert transport is not None
        transport.turn()
        self._hand_on(data, transport)
        if not self.open:
            return
        if transport.unfinished is not self._unparsed:
            self._unparsed = transport.unfinished
            self._watch()
        if self._unparsed:
            self._again()

    def _hand_on(self, data: memoryview, transport: Transport) -> None:
        try:
            for count in transport.receive(data, self._hub.view):
                if count == 0:
                    # Its goodbye may want an answer.
                    self._send_now(transport.pending())
                    self.drop("the client has closed")
                else:
                    if self.session is None:
                        self._start_session()
                    if self._ends_at is None:
                        assert self.session is not None
                        self._after(self.session.receive(self._hub.buffer, count))
                if not self.open:
                    return
        except TransportFailed as error:
            if error.answered or error.notable:
                log.warning("connection %s: %s", self.id, error, extra=self.fields())
            self._send_now(transport.pending())
            if not error.answered:
                self.drop(str(error))
            elif self.open:
                self._finish(say_goodbye=False)
            return
        if self.session is None and transport.established:
            self._start_session()
        self._send_now(transport.pending(busy=self._unsent is not None))

    # What the session answered

    def _after(self, status: int) -> None:
        """Do what the session asks for."""
        assert self.session is not None
        if not self.opened and self.session.virtual_host is not None:
            self.opened = True
            info = self.session.info()
            self.user, self.virtual_host = info["user"], info["virtual_host"]
            self.heartbeat_seconds = info["heartbeat_seconds"]
            self._hub.opened(self)
        if status & _OUTPUT and self._unsent is None:
            status = self._write(self.session, status)
            if not self.open:
                return
        paused = bool(status & _PAUSE_READING)
        if paused is not self.paused:
            self.paused = paused
            self._watch()
        waits = bool(status & _WAITS_FOR_ROOM)
        if waits is not self.waits_for_room:
            self.waits_for_room = waits
            self._hub.waiting_for_room(self, waits)
        waits = bool(status & _WAITS_FOR_DISK)
        if waits is not self.waits_for_disk:
            self.waits_for_disk = waits
            self._hub.waiting_for_disk(self, waits)
        if status & _AUTHENTICATE and not self.authenticating:
            self.authenticating = True
            self._hub.authenticate(self)
        if status & _CLOSE and self._unsent is None and not self._in_again:
            self._finish()

    def answered(self, status: int) -> None:
        """The session said this when somebody else called it."""
        if self.open:
            try:
                self._after(status)
            except Exception:
                self.fail()

    def resume(self) -> None:
        """What held the session up may be over."""
        if self.open and self.session is not None:
            try:
                self._after(self.session.resume())
            except Exception:
                self.fail()

    def tick(self, now: float) -> None:
        """About once a second. `now`: the loop's clock."""
        if self._ends_at is not None:
            if now >= self._ends_at:
                self.drop("it took too long")
        elif self.open and self.session is not None:
            try:
                status = self.session.tick(now)
                self._after(status)
                self._look_at_unsent(now, closing=bool(status & _CLOSE))
            except Exception:
                self.fail()

    def _look_at_unsent(self, now: float, *, closing: bool) -> None:
        """End it if the client takes nothing. Its heartbeats say that it lives, not that it reads:
        without this, it would keep its deliveries, and could not be closed, for ever.
        """
        if self._unsent is None or self._unsent is not self._stalled:
            self._stalled, self._stalled_at = self._unsent, now
            return
        seconds = now - self._stalled_at
        if closing and seconds >= LINGER_SECONDS:
            self.drop("it took too long")
        elif 0 < self._hub.send_seconds <= seconds:
            text = "connection %s: the client has read nothing for %d seconds"
            log.warning(text, self.id, seconds, extra=self.fields())
            self.drop("the client does not read")

    def shut_down(self, text: str) -> None:
        """Tell the client to go."""
        self._going = True
        if self.session is None:
            self.drop(text)
            return
        self.hold(False)
        try:
            self._after(self.session.shut_down(text))
        except Exception:
            self.fail()

    # Output

    def _write(self, session: _core.Session, status: int) -> int:
        for _ in range(_BUDGETS_PER_TURN):
            data, status = session.take_output(OUTPUT_BUDGET_BYTES)
            if data:
                if self._transport is not None:
                    data = self._transport.encode(bytes(data))
                if not self._send(data):
                    return status
            if not status & _OUTPUT:
                return status
        self._again()
        return status

    def _again(self) -> None:
        """Go on after others had their turn."""
        if not self._in_again:
            self._in_again = True
            self._hub.poller.again(self)

    def _send_now(self, data: bytes) -> None:
        """A transport's own bytes. They are few: they go behind what is unsent, and while there is
        some nothing is read that would need an answer.
        """
        if not data or not self.open:
            return
        if self._unsent is None:
            self._send(data)
        else:
            self._unsent = memoryview(bytes(self._unsent) + data)
            self._answers_wait = True
            self._watch()

    def _send(self, data: bytes | memoryview) -> bool:
        """Give it to the socket; false when not all of it was taken."""
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.drop(f"writing failed: {error.strerror}")
            return False
        if sent == len(data):
            return True
        self._unsent = memoryview(data)[sent:]
        self._watch()
        return False

    def _write_unsent(self) -> None:
        unsent = self._unsent
        if unsent is not None:
            try:
                sent = self._socket.send(unsent)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.drop(f"writing failed: {error.strerror}")
                return
            if sent < len(unsent):
                self._unsent = unsent[sent:]
                return
            self._unsent = None
            self._answers_wait = False
        self._watch()
        if self._transport is not None:
            # It kept an answer back until now.
            self._send_now(self._transport.pending())
        if self._leaving:
            if self._unsent is None and self.open:
                self._shut()
        elif self._ends_at is None and self.session is not None:
            self._after(_OUTPUT)

    def _watch(self) -> None:
        """Tell the poller what to watch for."""
        waits = self.paused or self.held or self._answers_wait or self._unparsed
        what = 0 if waits else READ
        if self._unsent is not None:
            what |= WRITE
        if what != self._what:
            self._what = what
            self._hub.poller.change(self._socket, what)

    def hold(self, held: bool) -> None:
        """Read nothing from this client, or go on."""
        self.held = held
        if self.open:
            self._watch()

    # The end

    def _finish(self, *, say_goodbye: bool = True) -> None:
        """All is said: say goodbye, and give the client time to do the same."""
        if self._leaving:
            return
        self._leaving = True
        self._ends_at = self._hub.now() + LINGER_SECONDS
        if self.session is not None:
            self.session.lost()
        if self._transport is not None and say_goodbye:
            self._send_now(self._transport.goodbye(going_away=self._going))
        if self.paused:
            # What still comes is read and thrown away.
            self.paused = False
            self._watch()
        if self._unsent is None and self.open:
            self._shut()

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop("the client has gone")

    def drop(self, why: str, *, reset: bool = False) -> None:
        """Close the socket and let the session give back what it holds. May be repeated.

        Args:
            reset: the client sees a reset connection, as after a crash.
        """
        if not self.open:
            return
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._hub.poller.remove(self._socket)
        self._socket.close()
        self._unsent = None
        try:
            if self.session is not None:
                self.session.lost()
        finally:
            self._hub.ended(self, why)

    def forked(self) -> None:
        """In another process, which has a copy of the socket."""
        self._socket.close()

    def fail(self) -> None:
        """An exception that is nobody's fault but ours: this connection ends, the others do not."""
        log.exception("connection %s: internal error", self.id, extra=self.fields())
        try:
            self.drop("internal error")
        except Exception:
            log.exception("connection %s: closing it failed", self.id, extra=self.fields())

    def info(self) -> dict[str, Any]:
        """What there is to know about it."""
        info = {} if self.session is None else self.session.info()
        return {
            "protocol": self.endpoint.protocol.upper(),
            **info,
            "id": self.id,
            "host": self.host,
            "port": self.port,
            "tls": self.endpoint.tls,
            "connected_at": self.accepted_at,
            "listener": self.endpoint.url,
        }

    def channels(self) -> list[dict[str, Any]]:
        """What there is to know about its channels."""
        if not self.opened or self.session is None:
            return []
        user, virtual_host = self.session.user, self.session.virtual_host
        where = {"connection": self.id, "user": user, "virtual_host": virtual_host}
        return [{**where, **channel} for channel in self.session.channels()]

    def busy(self) -> list[str]:
        """What is on its way here, in words."""
        busy: list[str] = []
        if not self.open or self.session is None:
            return busy
        waiting = _waiting_bytes(self._socket)
        if waiting:
            busy.append(f"has {waiting} bytes to be read")
        if self._unparsed:
            busy.append("has input to be parsed")
        if self._unsent is not None or self._in_again:
            busy.append("has output to be sent")
        unconfirmed = self.session.info()["unconfirmed"]
        if unconfirmed:
            busy.append(f"waits for {unconfirmed} confirms")
        return busy

    def fields(self) -> dict[str, object]:
        """For log records."""
        fields: dict[str, object] = {"connection": self.id, "peer": f"{self.host}:{self.port}"}
        if self.opened:
            fields["user"] = self.user
            fields["vhost"] = self.virtual_host
        return fields


def is_loopback(host: str) -> bool:
    """Whether a peer's address can only be of this machine."""
    if host in ("127.0.0.1", "::1"):
        return True
    # Loaded for others only: a server that only serves its own machine starts without it.
    import ipaddress

    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False  # of a Unix socket, or of nothing known
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _waiting_bytes(sock: socket.socket) -> int:
    """Bytes that came in and were not read yet."""
    try:
        import fcntl
        import termios
    except ImportError:  # Windows: whoever asks looks again a little later
        return 0
    answer = fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(answer, sys.byteorder)
