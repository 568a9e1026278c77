"""`wherry users`: changes the user file of a data directory, beside a running server or without."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry._cli.output import as_json, json_option, table
from wherry._cli.target import existing_directory

if TYPE_CHECKING:
    from wherry.server.users import UserStore

PASSWORD_VARIABLE = "WHERRY_USER_PASSWORD"

directory_option = click.option(
    "-d",
    "--directory",
    envvar="WHERRY_DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="The data directory. A server that runs on it notices within a second.",
)
stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)
vhost_option = click.option("--vhost", default="/", show_default=True, help="The virtual host.")


def _store(directory: Path | None) -> UserStore:
    from wherry.server.users import UserStore

    return UserStore(existing_directory(directory) / "users.json")


def _password(from_stdin: bool) -> str:
    """From standard input, the environment, or a prompt; never from the command line, which other
    users of the machine can see.
    """
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if PASSWORD_VARIABLE in os.environ:
        return os.environ[PASSWORD_VARIABLE]
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"no terminal to ask for the password: use --password-stdin, or {PASSWORD_VARIABLE}"
        )
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


@click.group()
def users() -> None:
    """Manage users and what they may do.

    A new data directory has the user guest with the password guest, let in from this machine only.
    A new user may go nowhere until `permit` says where.

    \b
    Examples:
      wherry users add -d /var/lib/wherry shop
      wherry users permit -d /var/lib/wherry shop --write '^shop-'
      wherry users delete -d /var/lib/wherry guest
    """


@users.command("list")
@directory_option
@json_option
def list_(directory: Path | None, as_json_: bool) -> None:
    """List users, their tags and where they may go."""
    found = _store(directory).snapshot()
    if as_json_:
        as_json(found.as_dict()["users"])
        return
    rows: list[list[object]] = []
    for user in found.users:
        first = [user.name, ", ".join(user.tags)]
        for one in user.permissions or (None,):
            patterns = [] if one is None else [one.vhost, one.configure, one.write, one.read]
            rows.append([*first, *patterns] if patterns else [*first, "", "", "", ""])
    table(["User", "Tags", "Vhost", "Configure", "Write", "Read"], rows)


@users.command()
@directory_option
@stdin_option
@click.option("--tag", "tags", multiple=True, help="Such as administrator; may be repeated.")
@click.option("--no-password", is_flag=True, help="The user logs in with a certificate only.")
@click.argument("name")
def add(
    directory: Path | None,
    password_stdin: bool,
    tags: tuple[str, ...],
    no_password: bool,
    name: str,
) -> None:
    """Add the user NAME. The password is asked for.

    \b
    Example:
      wherry users add -d /var/lib/wherry --tag monitoring shop
    """
    store = _store(directory)
    if store.exists(name):
        from wherry.server.users import UserExists

        raise UserExists(f"there is a user '{name}' already")
    store.add(name, None if no_password else _password(password_stdin), tags=tags)


@users.command()
@directory_option
@click.argument("name")
def delete(directory: Path | None, name: str) -> None:
    """Delete the user NAME. Its open connections may do nothing any more."""
    _store(directory).delete(name)


@users.command()
@directory_option
@stdin_option
@click.argument("name")
def password(directory: Path | None, password_stdin: bool, name: str) -> None:
    """Change the password of the user NAME. It is asked for."""
    store = _store(directory)
    store.set_password(name, _password(password_stdin))


@users.command()
@directory_option
@click.argument("name")
@click.argument("tags", nargs=-1)
def tags(directory: Path | None, name: str, tags: tuple[str, ...]) -> None:
    """Replace the tags of the user NAME."""
    _store(directory).set_tags(name, tags)


@users.command()
@directory_option
@vhost_option
@click.option("--configure", default=".*", show_default=True, help="What it may declare, delete.")
@click.option("--write", default=".*", show_default=True, help="Where it may publish; bind what.")
@click.option("--read", default=".*", show_default=True, help="What it may consume; bind to what.")
@click.argument("name")
def permit(
    directory: Path | None, vhost: str, configure: str, write: str, read: str, name: str
) -> None:
    """Let the user NAME into a virtual host.

    The options are regular expressions over names of exchanges and queues; an empty one allows
    nothing. The default exchange is called amq.default.

    \b
    Example:
      wherry users permit -d /var/lib/wherry shop --configure '' --write '^orders$' --read '^shop-'
    """
    _store(directory).set_permission(name, vhost, configure, write, read)


@users.command()
@directory_option
@vhost_option
@click.argument("name")
def forbid(directory: Path | None, vhost: str, name: str) -> None:
    """Keep the user NAME out of a virtual host."""
    _store(directory).clear_permission(name, vhost)


@users.command("permit-topic")
@directory_option
@vhost_option
@click.option("--write", default=".*", show_default=True, help="Routing keys to publish with.")
@click.option("--read", default=".*", show_default=True, help="Patterns to bind with.")
@click.argument("name")
@click.argument("exchange")
def permit_topic(
    directory: Path | None, vhost: str, write: str, read: str, name: str, exchange: str
) -> None:
    """Say which routing keys the user NAME may use with the topic exchange EXCHANGE. {username} and
    {vhost} stand for the user's own.

    \b
    Example:
      wherry users permit-topic -d /var/lib/wherry --write '^{username}\\.' shop orders
    """
    _store(directory).set_topic_permission(name, vhost, exchange, write, read)


@users.command("forbid-topic")
@directory_option
@vhost_option
@click.argument("name")
@click.argument("exchange", required=False)
def forbid_topic(directory: Path | None, vhost: str, name: str, exchange: str | None) -> None:
    """Take back what permit-topic said, for EXCHANGE or all: every routing key may be used."""
    _store(directory).clear_topic_permission(name, vhost, exchange)


@users.command()
@directory_option
@click.option("--max-connections", type=click.IntRange(min=0), help="None: the server's limit.")
@click.option("--max-channels", type=click.IntRange(min=0), help="None: the server's limit.")
@click.argument("name")
def limit(
    directory: Path | None, max_connections: int | None, max_channels: int | None, name: str
) -> None:
    """Set the limits of the user NAME; those not given are taken away."""
    _store(directory).set_limits(name, max_connections=max_connections, max_channels=max_channels)


@users.command("limit-vhost")
@directory_option
@click.option("--max-connections", type=click.IntRange(min=0), help="None: the server's limit.")
@click.option("--max-queues", type=click.IntRange(min=0), help="None: the server's limit.")
@click.argument("vhost")
def limit_vhost(
    directory: Path | None, max_connections: int | None, max_queues: int | None, vhost: str
) -> None:
    """Set the limits of the virtual host VHOST; those not given are taken away."""
    _store(directory).set_vhost_limits(
        vhost, max_connections=max_connections, max_queues=max_queues
    )


@users.command()
@stdin_option
def hash(password_stdin: bool) -> None:
    """Print the hash of a password, for password_hash in a configuration file."""
    from wherry.server.users_hashes import hash_password

    click.echo(hash_password(_password(password_stdin)))
