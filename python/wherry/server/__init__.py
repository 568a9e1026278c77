"""The server for AMQP 0-9-1 and STOMP: `wherry.serve` starts one. What it can be told beyond that
is here.

Names are loaded when they are used: who only reads a configuration needs no event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.server._accounts import Users
    from wherry.server._run import run
    from wherry.server._server import Server, ThreadServer
    from wherry.server._serving import Serving
    from wherry.server._settings import TLS
    from wherry.server.permissions import (
        AccessTable,
        Permission,
        TopicPermission,
        UserAccess,
        VirtualHostLimits,
    )
    from wherry.server.users import UserStore

__all__ = [
    "TLS",
    # Who may do what, for a store of users of one's own
    "AccessTable",
    "Permission",
    "Server",
    "Serving",
    "ThreadServer",
    "TopicPermission",
    "UserAccess",
    "UserStore",
    "Users",
    "VirtualHostLimits",
    "run",
]

_MODULES = {
    "TLS": "_settings",
    "AccessTable": "permissions",
    "Permission": "permissions",
    "Server": "_server",
    "Serving": "_serving",
    "ThreadServer": "_server",
    "TopicPermission": "permissions",
    "UserAccess": "permissions",
    "UserStore": "users",
    "Users": "_accounts",
    "VirtualHostLimits": "permissions",
    "run": "_run",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'wherry.server' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(f"wherry.server.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
