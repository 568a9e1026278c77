"""The server's configuration: what it can be told, and reading it.

    loaded = config.load(Path("wherry.toml"), environment=os.environ, flags={"log.level": "debug"})
    loaded.config.limits.frame_max

`Config()` is the defaults. Parts: the schema (`config_schema`, `config_limits`, in terms of
`config_table`), reading with errors that name file, line and key (`config_reading`), printing and
documentation (`config_text`). What reads and prints is loaded when there is something to read or to
print. Not imported by `import wherry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.server.config_schema import (
    Amqp,
    Auth,
    Config,
    Control,
    Disk,
    InlinePermission,
    InlineUser,
    Limits,
    Loaded,
    Log,
    Memory,
    Shutdown,
    Stomp,
    Tls,
    parse_address,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from wherry.server.config_reading import ConfigError, Problem
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

_MODULES = {"ConfigError": "reading", "Problem": "reading", "to_toml": "text"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'wherry.server.config' has no attribute '{name}'")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}_{_MODULES[name]}"), name)
    return value


def load(
    file: str | os.PathLike[str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    """The configuration in force.

    Args:
        file: a TOML file.
        environment: variables; None for none (give `os.environ`).
        flags: by key (`limits.frame_max`); text is read as in the environment. None sets a key that
            may be absent to absent.
        options: by key likewise, but known to be values that the key may have. They win over flags.
            With nothing but options there is nothing to check, and what checks is not loaded.

    Raises:
        ConfigError: with everything that is wrong.
    """
    environment, flags, options = environment or {}, flags or {}, options or {}
    if file is None and not flags and not any(name.startswith("WHERRY_") for name in environment):
        return Loaded(_of_options(options), dict.fromkeys(options, "command line"), ())
    from wherry.server.config_reading import read

    return read(file, environment, {**flags, **options})


def _of_options(options: Mapping[str, Any]) -> Config:
    config = Config()
    changes: dict[str, Any] = {}
    for name, value in options.items():
        table, _, key = name.rpartition(".")
        if table:
            changes[table] = changes.get(table, getattr(config, table)).replace(**{key: value})
        else:
            changes[key] = value
    return config.replace(**changes)
