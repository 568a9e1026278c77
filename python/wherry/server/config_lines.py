"""On which line of a TOML text a key stands; the standard parser does not say.

The text is cut into statements by the real parser: lines are added until what was added parses on
its own. So strings and arrays over several lines, quotes and comments need no rules of ours. What
it costs is a second reading of the file, and only `config_reading` with something to report asks.
"""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Path", "key_lines"]

Path = tuple["str | int", ...]


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of each table and key of a valid TOML text.

    A path is of names, and of places in arrays of tables: `("users", 0, "name")`.
    """
    lines: dict[Path, int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: Path = ()
    statement = ""
    start = 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not statement and not line.strip():
            continue
        if not statement:
            start = number
        statement += line
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        header = statement.lstrip().startswith("[")
        statement = ""
        names, value = _only_path(parsed, into_arrays=header)
        if header:
            if isinstance(value, list):
                counts[names] = counts.get(names, 0) + 1
            table = _with_places(names, counts)
            _add(lines, table, start)
        elif names:
            for path in _paths(names, value):
                _add(lines, table + path, start)
    return lines


def _only_path(parsed: dict[str, Any], *, into_arrays: bool) -> tuple[tuple[str, ...], Any]:
    """The one path of a statement, and what stands at its end."""
    names: list[str] = []
    value: Any = parsed
    while isinstance(value, dict) and len(value) == 1:
        ((name, value),) = value.items()
        names.append(name)
        if not into_arrays and not isinstance(value, dict):
            break
    return tuple(names), value


def _paths(names: tuple[str, ...], value: Any) -> list[Path]:
    """The path of a key, and those inside an inline table."""
    found: list[Path] = [names]
    if isinstance(value, dict):
        for name, inner in value.items():
            found += _paths((*names, name), inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            if isinstance(inner, dict):
                found += [(*names, place, *path) for path in _inner(inner)]
    return found


def _inner(table: dict[str, Any]) -> list[Path]:
    return [path for name, value in table.items() for path in _paths((name,), value)]


def _with_places(names: tuple[str, ...], counts: dict[tuple[str, ...], int]) -> Path:
    """Names with the place of the latest table of each array among them."""
    path: list[str | int] = []
    for length, name in enumerate(names, 1):
        path.append(name)
        count = counts.get(names[:length])
        if count:
            path.append(count - 1)
    return tuple(path)


def _add(lines: dict[Path, int], path: Path, line: int) -> None:
    """Note a path, and the tables above it that have no line of their own."""
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)
