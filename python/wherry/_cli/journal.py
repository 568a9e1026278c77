"""`wherry journal`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from wherry._cli.output import as_json, json_option


@click.group()
def journal() -> None:
    """Check the journal of a data directory.

    \b
    Example:
      wherry journal verify /var/lib/wherry
    """


@journal.command()
@json_option
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def verify(as_json_: bool, directory: Path) -> None:
    """Read the whole journal in DIRECTORY, check every record, and change nothing.

    A torn tail, records at the end that a crash cut short and that were never confirmed, is
    normal: opening the directory cuts it off. Damage before the end is corruption, and ends with
    status 1. The directory must not be open: stop its server, or verify a copy.

    \b
    Example:
      wherry journal verify /var/lib/wherry
    """
    from wherry import _core

    if not any(directory.glob("*.segment")):
        raise click.ClickException(f"there is no journal in {directory}")
    found = _with_progress(directory) if sys.stderr.isatty() else _core.verify_journal(directory)
    holes = [
        {"file": _file(number), "from": start, "to": end, "reason": reason}
        for number, start, end, reason in found["holes"]
    ]
    end = found["end"] and {"file": _file(found["end"][0]), "offset": found["end"][1]}
    if as_json_:
        as_json({**found, "end": end, "holes": holes, "corrupt": bool(holes)})
    else:
        _tell(found, holes, end)
    if holes:
        raise SystemExit(1)


def _file(number: int) -> str:
    return f"{number:08x}.segment"


def _with_progress(directory: Path) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from wherry import _core

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        return _core.verify_journal(
            directory, lambda done, total: bar.update(task, completed=done, total=total)
        )


def _tell(found: dict[str, Any], holes: list[dict[str, Any]], end: dict[str, Any] | None) -> None:
    click.echo(f"segments  {found['segments']}")
    click.echo(f"records   {found['records']}")
    click.echo(f"bytes     {found['bytes']}")
    if end is not None:
        click.echo(f"end       {end['file']}, offset {end['offset']}")
    if found["torn_bytes"]:
        click.echo(
            f"torn tail {found['torn_bytes']} bytes at the end, never confirmed: opening cuts them"
            " off"
        )
    elif not found["closed"]:
        click.echo("it was not closed in order; nothing that was confirmed is missing")
    for hole in holes:
        click.secho(
            f"DAMAGED   {hole['file']}, offset {hole['from']} to {hole['to']}: {hole['reason']}",
            fg="red",
        )
    if holes:
        click.echo(
            "Restore a backup; or open it with wherry.open(..., on_corruption='salvage'), which"
            " keeps what is readable."
        )
    else:
        click.secho("ok", fg="green")
