"""Which web pages may connect: the check of a browser's `Origin` header.

A browser lets any page of any site open a WebSocket to any address that its user can reach, such as
a broker on the user's own machine, and only the server can refuse: by the header in which the
browser, and no script, says whose page it is. Clients that are no browsers send none, and gain
nothing by one.

Allowed are the listed origins, and pages that this machine serves itself: where the host of
`Origin` is that of the `Host` header, and a host that nobody else can be. The latter matters, as a
site can have its own name mean this machine (DNS rebinding), and both headers then agree. So it
must be an address, `localhost`, or a name that the configuration says is ours.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def parse_origin(text: str) -> Origin:
    """Scheme, host and port of `https://shop.example` or `http://shop.example:8080`.

    Raises:
        ValueError: it is neither.
    """
    wrong = ValueError(f"'{text}' is no origin: write https://host or http://host:port")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    default = _PORTS.get(parts.scheme)
    if default is None or not host or parts.path or parts.query or parts.fragment:
        raise wrong
    if "@" in parts.netloc or any(c.isspace() for c in text):
        raise wrong
    return parts.scheme, host, default if port is None else port


def check_listed(text: str) -> None:
    """Raises ValueError for what cannot stand in a list of origins."""
    if text not in ("*", "null"):
        parse_origin(text)


class Origins:
    """The origins that are let in."""

    def __init__(self, listed: Iterable[str], host_names: Iterable[str]) -> None:
        texts = set(listed)
        self._all = "*" in texts
        # What pages without origin say: files, sandboxed frames.
        self._null = "null" in texts
        self._listed = {parse_origin(text) for text in texts - {"*", "null"}}
        self._names = {"localhost", *(name.lower() for name in host_names)}

    def allow(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may come in by this `Host` header."""
        if self._all:
            return True
        if origin == "null":
            return self._null
        try:
            parsed = parse_origin(origin)
            own = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return parsed in self._listed or (parsed[1] == own and self._is_ours(parsed[1]))

    def _is_ours(self, host: str) -> bool:
        if host in self._names:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True
