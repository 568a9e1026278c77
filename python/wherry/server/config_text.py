"""A `Config` as TOML (`wherry serve --print-config`), and docs/configuration.md.

`python -m wherry.server.config_text > docs/configuration.md` writes the latter; a test compares.
"""

from __future__ import annotations

import json
import types
from typing import Any, Union, get_args, get_origin

from wherry.server.config_reading import Key, all_keys, allowed
from wherry.server.config_schema import Config, InlinePermission, InlineUser

__all__ = ["documentation", "to_toml"]

HIDDEN = "(not shown)"

TABLE_LINES = {
    "": "Before any table.",
    "memory": "When publishers have to wait.",
    "disk": "How much of it stays free.",
    "amqp": "Where AMQP 0-9-1 is spoken.",
    "stomp": "Where STOMP is spoken ([stomp.md](stomp.md)).",
    "tls": "The certificates of all `tls_listeners`; read again on SIGHUP.",
    "limits": "What one peer, or all together, can make the server hold.",
    "auth": "Who gets in.",
    "log": "What is written to standard error. Bodies of messages and passwords never are.",
    "shutdown": "How the server ends.",
    "control": "The socket by which `wherry queues` and the like reach a running server.",
}

HEAD = """\
# Configuration

<!-- Made by `python -m wherry.server.config_text` from python/wherry/server/config_schema.py. -->

`wherry serve` needs none. What it is told it takes from, the first that speaks wins:

1. **options**: the ones named below, and `--set KEY=VALUE` for every key;
2. **environment variables**: `WHERRY_` and the key in capitals (`WHERRY_LIMITS_FRAME_MAX`); lists
   are separated by commas;
3. **a TOML file**: `wherry serve --config wherry.toml`, or the file named by `WHERRY_CONFIG`;
4. the defaults.

A key that does not exist, and a value that is not allowed, stop the server before it starts, with
the file, the line and what is allowed. `wherry serve --check` only looks; `wherry serve
--print-config` prints what is in force, as a file that can be used again.

Sizes are bytes, or text with a unit: `"16 MiB"`, `"50 MB"`. Times are seconds.

```toml
directory = "/var/lib/wherry"

[amqp]
listeners = ["*:5672"]
tls_listeners = ["*:5671"]

[tls]
certificate = "/etc/wherry/server.pem"
key = "/etc/wherry/server-key.pem"

[limits]
connections_max = 50_000
message_bytes_max = "64 MiB"

[[users]]
name = "shop"
password = "a long one"  # or password_hash, as `wherry users hash` prints it
permissions = [{ vhost = "/", configure = "^shop-", write = "^shop-", read = "^shop-" }]
```

"""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, InlinePermission):
        names = value.names()
        pairs = (f"{name} = {_toml(getattr(value, name))}" for name in names)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}"
    return str(value)


def to_toml(config: Config, sources: dict[str, str] | None = None) -> str:
    """A configuration as a TOML file with every key. Passwords are left out.

    Args:
        config: what to print.
        sources: `Loaded.sources`; then each line that is not a default says who set it.
    """
    lines: list[str] = []
    table: tuple[str, ...] = ()
    for key in all_keys():
        value: Any = config
        for name in key.path:
            value = getattr(value, name)
        if key.kind == "tables":
            for user in value:
                lines += ["", "[[users]]", *_user(user)]
            continue
        if key.path[:-1] != table:
            table = key.path[:-1]
            lines += ["", f"[{'.'.join(table)}]"]
        line = f"# {key.path[-1]} =" if value is None else f"{key.path[-1]} = {_toml(value)}"
        source = (sources or {}).get(key.name)
        lines.append(f"{line}  # {source}" if source else line)
    return "\n".join(lines) + "\n"


def _user(user: InlineUser) -> list[str]:
    lines = [f"name = {_toml(user.name)}"]
    secret = "password" if user.password is not None else "password_hash"
    lines.append(f"{secret} = {_toml(HIDDEN)}")
    lines.append(f"tags = {_toml(user.tags)}")
    lines.append(f"permissions = {_toml(user.permissions)}")
    return lines


def _type(key: Key) -> str:
    inner = key.type
    if key.kind == "size":
        return "size"
    if get_origin(inner) is tuple:
        return "list of tables" if key.kind == "tables" or key.path == ("permissions",) else "list"
    if get_origin(inner) in (Union, types.UnionType):
        inner = get_args(inner)[0]
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(inner, "text")


def _default(key: Key) -> str:
    if key.default is None:
        return "none"
    if key.kind == "tables":
        return "`[]`"
    return f"`{_toml(key.default)}`"


def _rows(keys: list[Key]) -> list[str]:
    lines = []
    for key in keys:
        takes = _type(key)
        limits = allowed(key)
        if limits:
            takes = f"{takes}, {limits}" if takes in ("integer", "number", "size") else limits
        lines += [f"### `{key.name}`", "", key.meta.description.strip(), ""]
        flag = key.meta.flag
        names = [f"default {_default(key)}", takes]
        if key.variable:
            names.append(f"`{key.variable}`")
        if flag:
            names.append(f"`{flag}`")
        lines += [" · ".join(names), ""]
    return lines


def documentation() -> str:
    """docs/configuration.md."""
    lines = [HEAD.rstrip(), ""]
    keys = all_keys()
    for table, about in TABLE_LINES.items():
        lines += [f"## `[{table}]`" if table else "## Top level", "", about, ""]
        lines += _rows(
            [key for key in keys if ".".join(key.path[:-1]) == table and key.kind != "tables"]
        )
    users = next(key for key in keys if key.kind == "tables")
    lines += ["## `[[users]]`", "", users.meta.description, ""]
    lines += ["`wherry users` cannot change such a user, and a user of the same name in the data"]
    lines += ["directory's user file is not looked at. Users that come and go belong into that"]
    lines += ["file: see [operations.md](operations.md).", ""]
    for schema, about in (
        (InlineUser, ""),
        (InlinePermission, "Each of `permissions` is a table of:"),
    ):
        lines += [about, ""] if about else []
        lines += ["| key | default | meaning |", "|---|---|---|"]
        for key in all_keys(schema):
            default = "`.*` in `/`" if key.path == ("permissions",) else _default(key)
            default = "needed" if key.path == ("name",) else default
            lines.append(f"| `{key.path[-1]}` | {default} | {key.meta.description} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(documentation(), end="")
