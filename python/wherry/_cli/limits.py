"""`wherry limits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wherry._cli.output import as_json, json_option, table
from wherry._cli.target import commander, target_options


class Size(click.ParamType[float]):
    """A number, or one with a unit, as in the configuration."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Bytes, or a part."""
        from wherry.server.config_reading import parse_size

        try:
            return value if isinstance(value, int | float) else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def limits() -> None:
    """Show and change the limits at which publishers have to wait, of a running server.

    What is changed counts at once: publishers over a limit are told connection.blocked and not read
    from, and go on when they are under it. It is forgotten when the server ends, which then starts
    with its configuration (memory.watermark, disk.free_bytes_min).

    \b
    Examples:
      wherry limits show -d /var/lib/wherry
      wherry limits set -d /var/lib/wherry --memory '2 GiB' --disk-free '10 GB'
      wherry limits set -d /var/lib/wherry --memory 0       nobody publishes
    """


def _print(found: dict[str, Any], as_json_: bool) -> None:
    if as_json_:
        as_json(found)
        return
    rows = []
    for what, limit, now, alarm in (
        ("memory at most", "memory_bytes_max", "memory_bytes", "memory_alarm"),
        ("disk free at least", "disk_free_bytes_min", "disk_free_bytes", "disk_alarm"),
    ):
        if found[limit] is not None:
            rows.append([what, found[limit], found[now], found[alarm]])
    table(["What", "Limit", "Now", "Publishers wait"], rows)


@limits.command()
@target_options
@json_option
def show(directory: Path | None, control: Path | None, as_json_: bool) -> None:
    """Show the limits in force, in bytes, and what there is."""
    with commander(directory, control, needs_server=True) as broker:
        _print(broker.do("limits", {}), as_json_)


@limits.command("set")
@target_options
@click.option(
    "--memory",
    type=Size(),
    help="Messages waiting in memory may take so much: up to 1 a part of the machine's memory,"
    " above it bytes, or such as '512 MiB'. 0 makes all publishers wait.",
)
@click.option(
    "--disk-free",
    type=Size(),
    help="So much must stay free on the volume of the data directory: bytes, or such as '10 GB'.",
)
@json_option
def set_(
    directory: Path | None,
    control: Path | None,
    memory: float | None,
    disk_free: float | None,
    as_json_: bool,
) -> None:
    """Change limits at once, until the server ends.

    \b
    Example:
      wherry limits set -d /var/lib/wherry --memory 0.4
    """
    if memory is None and disk_free is None:
        raise click.UsageError("what? Give --memory, or --disk-free, or both")
    from wherry.server.config_schema import Memory

    arguments = {
        "memory_bytes_max": None if memory is None else Memory(watermark=memory).bytes_max(),
        "disk_free_bytes_min": None if disk_free is None else int(disk_free),
    }
    with commander(directory, control, needs_server=True) as broker:
        _print(broker.do("set_limits", arguments), as_json_)
