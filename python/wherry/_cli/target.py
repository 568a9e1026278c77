"""Which broker a command is about: a running server, by its control socket, or a data directory
that nobody has open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import click

from wherry._errors import DirectoryLocked

__all__ = ["Commander", "commander", "existing_directory", "target_options"]


class Commander(Protocol):
    """Carries out the operations of `wherry.server.operations`."""

    def do(self, command: str, arguments: dict[str, Any]) -> Any: ...


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--directory` and `--control`, as arguments `directory` and `control`."""
    directory = click.option(
        "-d",
        "--directory",
        envvar="WHERRY_DIRECTORY",
        type=click.Path(file_okay=False, path_type=Path),
        help="The data directory; the server that runs on it is asked, if there is one.",
    )
    control = click.option(
        "--control",
        envvar="WHERRY_CONTROL_SOCKET",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The control socket of a running server, if it is not in its data directory.",
    )
    return directory(control(function))


def existing_directory(directory: Path | None) -> Path:
    """The directory, or an error that says how to name one."""
    if directory is None:
        raise click.UsageError(
            "which broker? Name its data directory with --directory (or WHERRY_DIRECTORY)"
        )
    if not directory.is_dir():
        raise click.ClickException(
            f"there is no directory {directory}: `wherry serve --directory {directory}` makes one"
        )
    return directory


@contextlib.contextmanager
def commander(
    directory: Path | None,
    control: Path | None,
    *,
    needs_server: bool = False,
    may_be_new: bool = False,
) -> Iterator[Commander]:
    """What carries out the operations; a data directory is closed again at the end.

    Args:
        directory: as given; its control socket is tried first.
        control: as given.
        needs_server: a directory that nobody has open will not do.
        may_be_new: an empty directory becomes a data directory.
    """
    from wherry.server.control import ControlClient, ControlUnavailable

    if control is not None:
        with ControlClient(control) as client:
            yield client
        return
    directory = existing_directory(directory)
    try:
        connected = ControlClient(directory / "control.sock")
    except ControlUnavailable as error:
        if needs_server:
            raise click.ClickException(f"{error}; is it running, on this directory?") from None
    else:
        with connected as client:
            yield client
        return
    with _opened(directory, may_be_new) as operations:
        yield operations


@contextlib.contextmanager
def _opened(directory: Path, may_be_new: bool) -> Iterator[Commander]:
    from wherry import blocking
    from wherry.server.operations import Operations
    from wherry.server.users import UserStore

    is_one = any(directory.glob("*.segment")) or (directory / "users.json").exists()
    if not is_one and not (may_be_new and not any(directory.iterdir())):
        raise click.ClickException(
            f"{directory} is no data directory: `wherry serve --directory {directory}` makes it one"
        )
    try:
        broker = blocking.open(directory)
    except DirectoryLocked as error:
        raise click.ClickException(
            f"{error}. If a server runs there, its control socket is elsewhere or switched off:"
            " name it with --control, or stop the server"
        ) from None
    with broker:
        yield Operations(broker._engine, UserStore(directory / "users.json"))
