"""The control socket: how `wherry queues` and the like talk to a running server.

A Unix socket in the data directory. A request is a line of JSON, `{"command": "purge", "arguments":
{"queue": "q"}}`; the answer is a line, `{"result": ...}` or `{"error": {"kind": "UnknownQueue",
"message": ...}}`. A connection may ask as often as it likes, one thing after the other.

Who may: the file is for its owner only, and the system is asked who connects: the server's own user
or root. There is no other password. What it can do is in `operations`, and: `connections`, `close`,
`reload`.

The server's end runs on trio, beside the server, its operations in threads; the other end blocks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wherry import _errors
from wherry._errors import InvalidArgument, StorageError, WherryError

if TYPE_CHECKING:
    import trio

    from wherry import _core
    from wherry.server.operations import Plain
    from wherry.server.users import UserStore

__all__ = ["ControlAccess", "ControlClient", "ControlUnavailable", "serve_control"]

log = logging.getLogger("wherry.server.control")

# Definitions of a hundred thousand queues; larger ones are imported while the server is stopped.
REQUEST_BYTES_MAX = 64 << 20
# People and scripts at a time.
CONNECTIONS_MAX = 16
# What a Unix socket's path may have.
PATH_BYTES_MAX = 107
CONNECT_SECONDS = 5.0


class ControlUnavailable(WherryError):
    """No server answers there."""


class ControlAccess(Protocol):
    """What the control socket needs of a server. Called on the server's loop."""

    @property
    def engine(self) -> _core.Engine: ...
    @property
    def users(self) -> UserStore | None: ...
    def connections(self) -> list[dict[str, Any]]: ...
    def close_connection(self, id: int, reason: str) -> bool: ...
    def reload(self) -> None: ...


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path in a form that fits a socket's address, however long it is."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{directory}/{path.name}"
        if not os.path.isdir(f"/proc/self/fd/{directory}") or len(short) > PATH_BYTES_MAX:
            raise InvalidArgument(f"{path} is too long for a socket: set control.socket")
        yield short
    finally:
        os.close(directory)


# The server's end


def _listen(path: Path) -> socket.socket:
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


def _is_ours(peer: socket.socket | trio.socket.SocketType) -> bool:
    """Whether the server's own user, or root, is at the other end."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the file's mode has to do
    credentials = peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())


async def serve_control(
    access: ControlAccess,
    path: Path,
    *,
    task_status: trio.TaskStatus[None] | None = None,
) -> None:
    """Answer on the socket at this path, until cancelled; then the socket is gone.

    Raises:
        StorageError, InvalidArgument: the socket cannot be there.
    """
    import trio

    listener = trio.SocketListener(_listening(path))
    slots = trio.Semaphore(CONNECTIONS_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        async with slots:
            await _answer(access, stream)

    try:
        if task_status is not None:
            task_status.started()
        await trio.serve_listeners(answer, [listener])
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _listening(path: Path) -> trio.socket.SocketType:
    import trio

    return trio.socket.from_stdlib_socket(_listen(path))


async def _answer(access: ControlAccess, stream: trio.SocketStream) -> None:
    import trio

    async with stream:
        if not _is_ours(stream.socket):
            log.warning("another user of this machine tried the control socket")
            return
        received = bytearray()
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                received += data
                while (end := received.find(b"\n", max(0, len(received) - len(data)))) >= 0:
                    line = bytes(received[:end])
                    del received[: end + 1]
                    reply = await _reply(access, line)
                    await stream.send_all(json.dumps(reply, default=_plain).encode() + b"\n")
                if len(received) > REQUEST_BYTES_MAX:
                    error = InvalidArgument(
                        f"a request of over {REQUEST_BYTES_MAX >> 20} MiB: stop the server, and"
                        " import into its directory"
                    )
                    await stream.send_all(json.dumps(_refusal(error)).encode() + b"\n")
                    return


async def _reply(access: ControlAccess, line: bytes) -> dict[str, Plain]:
    import trio

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
        if command == "connections":
            return {"result": access.connections()}
        if command == "close":
            done = access.close_connection(int(arguments["id"]), str(arguments.get("reason", "")))
            return {"result": {"closed": done}}
        if command == "reload":
            access.reload()
            return {"result": {}}
        result = await trio.to_thread.run_sync(
            partial(_do, access.engine, access.users, command, arguments)
        )
    except WherryError as error:
        return _refusal(error)
    except Exception as error:
        log.exception("control: %s failed", command)
        return _refusal(error)
    return {"result": result}


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

    def __init__(self, path: Path) -> None:
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
