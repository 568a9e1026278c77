"""`wherry definitions`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

import click

from wherry._cli.output import as_json, json_option
from wherry._cli.target import commander, target_options


@click.group()
def definitions() -> None:
    """Import RabbitMQ's definitions, and export them.

    A definitions file has users, permissions, virtual hosts, exchanges, queues and bindings, but no
    messages. It is what `rabbitmqctl export_definitions` writes.

    \b
    Examples:
      rabbitmqctl export_definitions - | wherry definitions import -d /var/lib/wherry -
      wherry definitions export -d /var/lib/wherry definitions.json
    """


@definitions.command("import")
@target_options
@click.option("--without-users", is_flag=True, help="Leave users and permissions as they are.")
@click.option(
    "--vhost",
    default="/",
    show_default=True,
    help="The virtual host for a file that was exported from one and does not name it.",
)
@click.option("--strict", is_flag=True, help="End with status 1 if something was not honoured.")
@json_option
@click.argument("file", type=click.File("rb"))
def import_(
    directory: Path | None,
    control: Path | None,
    without_users: bool,
    vhost: str,
    strict: bool,
    as_json_: bool,
    file: IO[bytes],
) -> None:
    """Make everything that FILE names ("-" is standard input), in a running server or in a data
    directory that nobody has open.

    What exists stays, and nothing is deleted, so it may be repeated. What could not be honoured is
    listed, a line each.

    \b
    Example:
      wherry definitions import -d /var/lib/wherry definitions.json
    """
    from wherry.server.definitions import parse

    content = parse(file.read())
    if control is None and directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with commander(directory, control, may_be_new=True) as broker:
        report = broker.do(
            "import",
            {"definitions": content, "users": not without_users, "default_vhost": vhost},
        )
    if as_json_:
        as_json(report)
    else:
        done = ", ".join(f"{count} {kind}" for kind, count in report["imported"].items())
        click.echo(f"imported: {done or 'nothing'}")
        for note in report["notes"]:
            click.echo(f"note: {note}")
        for problem in report["problems"]:
            click.secho(f"not honoured: {problem}", fg="yellow")
    if strict and report["problems"]:
        raise SystemExit(1)


@definitions.command("export")
@target_options
@click.option("--without-users", is_flag=True, help="Leave out users and permissions.")
@click.option(
    "--for-rabbitmq",
    is_flag=True,
    help="Leave out what RabbitMQ refuses, with a line for each on standard error.",
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
def export(
    directory: Path | None,
    control: Path | None,
    without_users: bool,
    for_rabbitmq: bool,
    file: Path,
) -> None:
    """Write everything but messages to FILE ("-" is standard output), in RabbitMQ's form.

    The file has hashes of passwords, and is for its owner only.

    \b
    Examples:
      wherry definitions export -d /var/lib/wherry - | jq .queues
      wherry definitions export -d /var/lib/wherry --for-rabbitmq - | rabbitmqctl import_definitions
    """
    with commander(directory, control) as broker:
        content = broker.do("export", {"users": not without_users})
    if for_rabbitmq:
        from wherry.server import definitions_rabbitmq

        content, notes = definitions_rabbitmq.for_rabbitmq(content)
        for note in notes:
            click.secho(f"note: {note}", fg="yellow", err=True)
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(text)
