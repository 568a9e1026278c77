"""Sockets that listened before the server did: systemd's socket activation (sd_listen_fds(3)).

The environment says how many there are, from descriptor 3 on, and for which process. One is used in
place of a listener of the same address: what is spoken there says the configuration, as ever.
Clients that connect while the server is down or starts wait in the socket's backlog.
"""

from __future__ import annotations

import os
import socket

_FIRST = 3


class Inherited:
    """The sockets that this process was handed. Those that nobody takes are left alone: in a
    program that serves beside something else they are the program's.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        count = os.environ.get("LISTEN_FDS", "")
        if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
            return
        for descriptor in range(_FIRST, _FIRST + int(count)):
            try:
                if not os.get_inheritable(descriptor):
                    continue  # taken by another server of this process
                found = socket.socket(fileno=descriptor)
            except OSError:
                continue  # no socket
            if found.family in (socket.AF_INET, socket.AF_INET6) and _listens(found):
                self._sockets.append(found)
            else:
                found.detach()

    def take(self, host: str, port: int) -> socket.socket | None:
        """The one that listens on this address."""
        for found in self._sockets:
            if found.getsockname()[:2] == (host, port):
                self._sockets.remove(found)
                found.setblocking(False)
                found.set_inheritable(False)
                return found
        return None

    def covers(self, taken: list[socket.socket], host: str, port: int) -> bool:
        """Whether a socket for all addresses of IPv6 is one for all of IPv4, too."""
        return host == "0.0.0.0" and any(
            one.family == socket.AF_INET6
            and one.getsockname()[:2] == ("::", port)
            and not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            for one in (*taken, *self._sockets)
        )

    def release(self) -> None:
        """Forget the rest without closing them."""
        for found in self._sockets:
            found.detach()
        self._sockets.clear()


def _listens(found: socket.socket) -> bool:
    return found.type == socket.SOCK_STREAM and bool(
        found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )
