"""A loopback proxy that can cut all its connections: how a test drops a client without asking the
broker to.

A second port takes commands: whoever connects to it cuts, so programs in any language can.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading


class Proxy:
    """Forwards `port` to a broker; `cut()`, or a connection to `control_port`, resets every
    connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._control = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1"
        self.port = int(self._listener.getsockname()[1])
        self.control_port = int(self._control.getsockname()[1])
        for serve in (self._accept, self._obey):
            threading.Thread(target=serve, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection through the proxy; new ones are welcome."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Let nothing through any more, nor the end of a connection: as a cable that was pulled."""
        self._flowing.clear()

    def release(self) -> None:
        """Put the cable in again: what was held comes through."""
        self._flowing.set()

    def close(self) -> None:
        for listener in (self._listener, self._control):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.release()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, broker}
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _obey(self) -> None:
        while True:
            try:
                command, _ = self._control.accept()
            except OSError:
                return
            self.cut()
            command.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(data)
        self._flowing.wait()
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(source)
        source.close()
