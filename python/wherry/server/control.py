"""The control socket: how `wherry queues` and the like talk to a running server.

A Unix socket in the data directory. A request is a line of JSON, `{"command": "purge", "arguments":
{"queue": "q"}}`; the answer is a line, `{"result": ...}` or `{"error": {"kind": "UnknownQueue",
"message": ...}}`. A connection may ask as often as it likes, one thing after the other.

Who may: the file is for its owner only, and the system is asked who connects: the server's own user
or root. There is no other password. What it can do is in `operations`, and, as a running server can
alone: `connections`, `channels`, `close`, `limits`, `set_limits`, `reload`.

Both ends block; the server's has a thread for each client. What a request needs is loaded with the
first one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wherry import _errors
from wherry._errors import InvalidArgument, StorageError, WherryError

if TYPE_CHECKING:
    from wherry import _core
    from wherry.server.operations import Plain
    from wherry.server.users import UserStore

__all__ = ["ControlAccess", "ControlClient", "ControlServer", "ControlUnavailable"]

log = logging.getLogger("wherry.server.control")

# Definitions of a hundred thousand queues; larger ones are imported while the server is stopped.
REQUEST_BYTES_MAX = 64 << 20
# Of a limit; more than there is anywhere.
BYTES_MAX = (1 << 63) - 1
# People and scripts at a time.
CONNECTIONS_MAX = 16
# What a Unix socket's path may have.
PATH_BYTES_MAX = 107
CONNECT_SECONDS = 5.0
# For clients to take their answers when the server ends.
ANSWER_SECONDS = 1.0
ACCEPT_PAUSE_MS = 100
# One line in so many seconds says that none can be accepted.
ACCEPT_WARNING_SECONDS = 10.0


class ControlUnavailable(WherryError):
    """No server answers there."""


class ControlAccess(Protocol):
    """What the control socket needs of a server. Called in any thread."""

    @property
    def engine(self) -> _core.Engine: ...
    @property
    def users(self) -> UserStore | None: ...
    def connections(self) -> list[dict[str, Any]]: ...
    def close_connection(self, id: int, reason: str) -> bool: ...
    def channels(self) -> list[dict[str, Any]]: ...
    def limits(self) -> dict[str, Any]: ...
    def set_limits(
        self, *, memory_bytes_max: int | None, disk_free_bytes_min: int | None
    ) -> None: ...
    def reload(self) -> None: ...


@contextlib.contextmanager
def _short(path: str | os.PathLike[str]) -> Iterator[str]:
    """The path in a form that fits a socket's address, however long it is."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield os.fspath(path)
        return
    parent, name = os.path.split(path)
    directory = os.open(parent or os.curdir, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{directory}/{name}"
        if not os.path.isdir(f"/proc/self/fd/{directory}") or len(short) > PATH_BYTES_MAX:
            raise InvalidArgument(f"{path} is too long for a socket: set control.socket")
        yield short
    finally:
        os.close(directory)


# The server's end


def _listen(path: str | os.PathLike[str]) -> socket.socket:
    """A listening socket for its owner only. Whoever calls has the data directory locked, so a
    socket that is there already is what a killed server left.

    Raises:
        StorageError: the system refused.
        InvalidArgument: something else is there, or the path is too long.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise InvalidArgument(f"{path} is no socket: move it away, or set control.socket")
            os.unlink(path)
        with _short(path) as short:
            listener.bind(short)
        os.chmod(path, 0o600)
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StorageError(error.errno, f"{path}: {error.strerror or error}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _is_ours(peer: socket.socket) -> bool:
    """Whether the server's own user, or root, is at the other end."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the file's mode has to do
    credentials = peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())


class ControlServer:
    """Answers on the socket at this path, from now on until `close`; then the socket is gone.

    Raises:
        StorageError, InvalidArgument: the socket cannot be there.
    """

    def __init__(self, access: ControlAccess, path: str | os.PathLike[str]) -> None:
        self._access = access
        self._path = path
        self._listener = _listen(path)
        self._slots = threading.Semaphore(CONNECTIONS_MAX)
        # Guards what follows.
        self._lock = threading.Lock()
        self._ended = False
        self._peers: dict[socket.socket, threading.Thread] = {}
        # Whatever the acceptor waits for, it looks up when this can be read.
        self._end, self._wake = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="wherry control", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Accept no more, and wait for the answers to what was asked. Not on the server's loop,
        which has to give some of them.
        """
        with self._lock:
            self._ended = True
        self._wake.close()
        # Who reads no answers has had time to.
        deadline = time.monotonic() + ANSWER_SECONDS
        for direction, seconds in ((socket.SHUT_RD, ANSWER_SECONDS), (socket.SHUT_RDWR, None)):
            with self._lock:
                peers = dict(self._peers)
                for peer in peers:
                    with contextlib.suppress(OSError):  # it has gone
                        peer.shutdown(direction)
            for thread in peers.values():
                thread.join(None if seconds is None else max(0, deadline - time.monotonic()))
        self._acceptor.join()
        self._listener.close()
        self._end.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _accept(self) -> None:
        waiting, ending = select.poll(), select.poll()
        waiting.register(self._listener, select.POLLIN)
        for poll in (waiting, ending):
            poll.register(self._end, select.POLLIN)
        warned_at = -math.inf
        while True:
            self._slots.acquire()
            waiting.poll()
            if self._ended:
                return
            try:
                peer, _ = self._listener.accept()
            except OSError as error:
                self._slots.release()
                # No descriptor is left, most likely, and that may last.
                if time.monotonic() - warned_at >= ACCEPT_WARNING_SECONDS:
                    warned_at = time.monotonic()
                    text = "cannot accept a client on the control socket: %s: trying again"
                    log.warning(text, error.strerror or error)
                ending.poll(ACCEPT_PAUSE_MS)
                continue
            with self._lock:
                if self._ended:
                    peer.close()
                    return
                thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
                self._peers[peer] = thread
                thread.start()

    def _serve(self, peer: socket.socket) -> None:
        """One client, on a thread of its own."""
        try:
            peer.setblocking(True)
            _answer(self._access, peer)
        except OSError:
            pass  # it has gone
        except Exception:
            log.exception("control: a connection failed")
        finally:
            with self._lock:
                del self._peers[peer]
            peer.close()
            self._slots.release()


def _answer(access: ControlAccess, peer: socket.socket) -> None:
    if not _is_ours(peer):
        log.warning("another user of this machine tried the control socket")
        return
    import json

    received = bytearray()
    while data := peer.recv(65_536):
        received += data
        while (end := received.find(b"\n", max(0, len(received) - len(data)))) >= 0:
            line = bytes(received[:end])
            del received[: end + 1]
            reply = _reply(access, line)
            peer.sendall(json.dumps(reply, default=_plain).encode() + b"\n")
        if len(received) > REQUEST_BYTES_MAX:
            error = InvalidArgument(
                f"a request of over {REQUEST_BYTES_MAX >> 20} MiB: stop the server, and"
                " import into its directory"
            )
            peer.sendall(json.dumps(_refusal(error)).encode() + b"\n")
            return


def _reply(access: ControlAccess, line: bytes) -> dict[str, Plain]:
    import json

    try:
        request = json.loads(line)
        command, arguments = request["command"], request.get("arguments", {})
        if not isinstance(command, str) or not isinstance(arguments, dict):
            raise InvalidArgument("a command is text, its arguments an object")
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return _refusal(InvalidArgument("a request is a line with a JSON object"))
    except WherryError as error:
        return _refusal(error)
    log.debug("control: %s", command)
    try:
        known = _OF_SERVERS.get(command)
        if known is not None:
            result = known(access, arguments)
        else:
            result = _do(access.engine, access.users, command, arguments)
    except WherryError as error:
        return _refusal(error)
    except Exception as error:
        log.exception("control: %s failed", command)
        return _refusal(error)
    return {"result": result}


def _close(access: ControlAccess, arguments: dict[str, Plain]) -> Plain:
    done = access.close_connection(int(arguments["id"]), str(arguments.get("reason", "")))
    return {"closed": done}


def _consumers(access: ControlAccess, arguments: dict[str, Plain]) -> Plain:
    """Those of the engine, with where they are."""
    found = _do(access.engine, access.users, "consumers", arguments)
    channels = {id: channel for channel in access.channels() for id in channel["consumers"]}
    for consumer in found:
        channel = channels.get(consumer["id"], {})
        # Neither for one inside the server's program.
        consumer["connection"], consumer["channel"] = (
            channel.get("connection"),
            channel.get("number"),
        )
    return found


def _set_limits(access: ControlAccess, arguments: dict[str, Plain]) -> Plain:
    bytes_of = {}
    for name in ("memory_bytes_max", "disk_free_bytes_min"):
        value = arguments.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InvalidArgument(f"{name} is a whole number of bytes")
        if value is not None and not 0 <= value <= BYTES_MAX:
            raise InvalidArgument(f"{name} is 0 to {BYTES_MAX}")
        bytes_of[name] = value
    access.set_limits(**bytes_of)
    return access.limits()


def _reload(access: ControlAccess, _arguments: dict[str, Plain]) -> Plain:
    access.reload()
    return {}


_OF_SERVERS: dict[str, Callable[[ControlAccess, dict[str, Plain]], Plain]] = {
    "connections": lambda access, _: access.connections(),
    "channels": lambda access, _: access.channels(),
    "consumers": _consumers,
    "close": _close,
    "limits": lambda access, _: access.limits(),
    "set_limits": _set_limits,
    "reload": _reload,
}


def _do(
    engine: _core.Engine, users: UserStore | None, command: str, arguments: dict[str, Plain]
) -> Plain:
    # Loaded when somebody asks: a server starts without it.
    from wherry.server.operations import Operations

    return Operations(engine, users).do(command, arguments)


def _refusal(error: Exception) -> dict[str, Plain]:
    return {"error": {"kind": type(error).__name__, "message": str(error)}}


def _plain(value: Any) -> Plain:
    """What a queue's arguments may hold beside JSON."""
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


# The other end


class ControlClient:
    """Talks to the server whose control socket this is. Blocks; for one thread.

    Raises:
        ControlUnavailable: no server answers there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(CONNECT_SECONDS)
            with _short(path) as short:
                self._socket.connect(short)
            self._socket.settimeout(None)
        except OSError as error:
            self._socket.close()
            raise ControlUnavailable(
                f"no server answers at {path}: {error.strerror or error}"
            ) from (None)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()
        self._socket.close()

    def do(self, command: str, arguments: Mapping[str, Plain]) -> Plain:
        """Ask for a command, wait for its result.

        Raises:
            WherryError: what the server raised.
            ControlUnavailable: the server went away.
        """
        import json

        request = {"command": command, "arguments": arguments}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise ControlUnavailable(f"the server went away: {error}") from None
        if not line.endswith(b"\n"):
            raise ControlUnavailable("the server went away before it answered")
        reply = json.loads(line)
        if "error" in reply:
            error_class = getattr(_errors, str(reply["error"]["kind"]), WherryError)
            if not (isinstance(error_class, type) and issubclass(error_class, WherryError)):
                error_class = WherryError
            raise error_class(reply["error"]["message"])
        return reply["result"]
