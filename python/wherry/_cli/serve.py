"""`wherry serve`, as click knows it."""

from __future__ import annotations

from typing import Any

import click

from wherry._cli import serving
from wherry._cli.serve_options import OPTIONS, PORT_MAX, Option


def _type(option: Option) -> click.ParamType[Any] | None:
    if isinstance(option.kind, tuple):
        return click.Choice(option.kind)
    types: dict[str, click.ParamType[Any]] = {
        "port": click.IntRange(0, PORT_MAX),
        "file": click.Path(dir_okay=False),
        "directory": click.Path(file_okay=False),
    }
    return types.get(option.kind)


def _parameter(option: Option) -> click.Option:
    short = [f"-{option.short}"] if option.short else []
    return click.Option(
        [*short, f"--{option.name}", option.key],
        type=_type(option),
        is_flag=option.kind == "flag",
        multiple=option.kind == "several",
        metavar=option.metavar,
        envvar=option.variable,
        help=option.help or None,
    )


@click.command(params=[_parameter(option) for option in OPTIONS])
def serve(**arguments: Any) -> None:
    """Run a server for AMQP 0-9-1 and STOMP, until Ctrl-C or SIGTERM; a second one ends it at once.
    SIGHUP reads certificates and users again.

    Options win over WHERRY_... environment variables, these over the file. A new data directory has
    the user guest with the password guest, let in from this machine only.

    \b
    Examples:
      wherry serve                                          everything in memory, this machine only
      wherry serve --directory /var/lib/wherry --host '*'
      wherry serve --websocket-port 15674                   STOMP for browsers, too
      wherry serve --config wherry.toml --set limits.connections_max=50000
      wherry serve --config wherry.toml --print-config
    """
    serving.serve(**arguments)
