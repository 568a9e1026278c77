"""How commands print: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

__all__ = ["as_json", "json_option", "table"]

json_option = click.option("--json", "as_json_", is_flag=True, help="Print JSON.")


def as_json(value: Any) -> None:
    """Prints JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; to a pipe, lines with a tab between columns, and nothing cut off. Columns
    whose values are all numbers stand to the right.
    """
    # Names come from clients: no control characters to the terminal.
    cells = [[_clean(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in ([name.lower() for name in columns], *cells):
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        grid.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for line in cells:
        grid.add_row(*map(Text, line))
    Console(highlight=False).print(grid)


def _clean(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
