"""The server's configuration: what it can be told, and reading it.

    loaded = config.load(Path("wherry.toml"), environment=os.environ, flags={"log.level": "debug"})
    loaded.config.limits.frame_max

`Config()` is the defaults. Parts: the schema (`config_schema`), reading with errors that name file,
line and key (`config_reading`), printing and documentation (`config_text`). Not imported by
`import wherry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.server.config_reading import ConfigError, Loaded, Problem, load
from wherry.server.config_schema import (
    Amqp,
    Auth,
    Config,
    Control,
    Disk,
    InlinePermission,
    InlineUser,
    Limits,
    Log,
    Memory,
    Shutdown,
    Stomp,
    Tls,
    parse_address,
)

if TYPE_CHECKING:
    from wherry.server.config_text import to_toml

__all__ = [
    "Amqp",
    "Auth",
    "Config",
    "ConfigError",
    "Control",
    "Disk",
    "InlinePermission",
    "InlineUser",
    "Limits",
    "Loaded",
    "Log",
    "Memory",
    "Problem",
    "Shutdown",
    "Stomp",
    "Tls",
    "load",
    "parse_address",
    "to_toml",
]


def __getattr__(name: str) -> object:
    # Only printing needs it.
    if name == "to_toml":
        from wherry.server.config_text import to_toml

        return to_toml
    raise AttributeError(f"module 'wherry.server.config' has no attribute '{name}'")
