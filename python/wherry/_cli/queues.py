"""`wherry queues`, `purge`, `delete`, `vhosts`, `connections`."""

from __future__ import annotations

from pathlib import Path

import click

from wherry._cli.output import as_json, json_option, table
from wherry._cli.target import commander, target_options

vhost_option = click.option(
    "--vhost", default="/", show_default=True, help="The virtual host of the queue."
)


@click.command()
@target_options
@click.option("--vhost", help="Only those of this virtual host.")
@json_option
def queues(directory: Path | None, control: Path | None, vhost: str | None, as_json_: bool) -> None:
    """List queues, with the numbers of their messages and consumers.

    Asks the server that runs on the directory, or opens the directory if nobody has it open. With
    --json there are all numbers and the arguments of each queue.

    \b
    Examples:
      wherry queues --directory /var/lib/wherry
      wherry queues -d /var/lib/wherry --json | jq '.[] | select(.ready > 1000) | .name'
    """
    with commander(directory, control) as broker:
        found = broker.do("queues", {"vhost": vhost})
    if as_json_:
        as_json(found)
        return
    columns = ["vhost", "name", "ready", "unacked", "scheduled", "consumers", "durable"]
    titles = ["Vhost", "Queue", "Ready", "Unacked", "Scheduled", "Consumers", "Durable"]
    table(titles, [[queue[column] for column in columns] for queue in found])


@click.command()
@target_options
@vhost_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("queue")
def purge(directory: Path | None, control: Path | None, vhost: str, yes: bool, queue: str) -> None:
    """Drop the ready messages of QUEUE. What consumers hold stays theirs.

    \b
    Example:
      wherry purge --directory /var/lib/wherry --yes orders
    """
    if not yes:
        click.confirm(
            f"Drop the messages of queue '{queue}' in virtual host '{vhost}'?", abort=True
        )
    with commander(directory, control) as broker:
        result = broker.do("purge", {"queue": queue, "vhost": vhost})
    click.echo(f"{result['purged']} messages dropped")


@click.command()
@target_options
@vhost_option
@click.option("--if-unused", is_flag=True, help="Only if it has no consumers.")
@click.option("--if-empty", is_flag=True, help="Only if it has no ready messages.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("queue")
def delete(
    directory: Path | None,
    control: Path | None,
    vhost: str,
    if_unused: bool,
    if_empty: bool,
    yes: bool,
    queue: str,
) -> None:
    """Delete QUEUE with its messages. Its consumers are told.

    \b
    Example:
      wherry delete --directory /var/lib/wherry --if-unused --yes orders
    """
    if not yes:
        click.confirm(f"Delete queue '{queue}' in virtual host '{vhost}'?", abort=True)
    with commander(directory, control) as broker:
        result = broker.do(
            "delete_queue",
            {"queue": queue, "vhost": vhost, "if_unused": if_unused, "if_empty": if_empty},
        )
    click.echo(f"deleted, with {result['messages']} ready messages")


@click.group()
def vhosts() -> None:
    """List, add and delete virtual hosts.

    \b
    Examples:
      wherry vhosts list -d /var/lib/wherry
      wherry vhosts add -d /var/lib/wherry shop
    """


@vhosts.command("list")
@target_options
@json_option
def list_vhosts(directory: Path | None, control: Path | None, as_json_: bool) -> None:
    """List virtual hosts."""
    with commander(directory, control) as broker:
        found = broker.do("vhosts", {})
    if as_json_:
        as_json(found)
    else:
        table(["Vhost"], [[name] for name in found])


@vhosts.command("add")
@target_options
@click.argument("name")
def add_vhost(directory: Path | None, control: Path | None, name: str) -> None:
    """Add the virtual host NAME. Nobody may enter it until `wherry users permit` says so."""
    with commander(directory, control) as broker:
        broker.do("add_vhost", {"vhost": name})


@vhosts.command("delete")
@target_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("name")
def delete_vhost(directory: Path | None, control: Path | None, yes: bool, name: str) -> None:
    """Delete the virtual host NAME with its queues and messages, and what users may do there."""
    if not yes:
        click.confirm(f"Delete virtual host '{name}' with everything in it?", abort=True)
    with commander(directory, control) as broker:
        broker.do("delete_vhost", {"vhost": name})


@click.group()
def connections() -> None:
    """List and close the connections of a running server.

    \b
    Examples:
      wherry connections list -d /var/lib/wherry
      wherry connections close -d /var/lib/wherry 17
    """


@connections.command("list")
@target_options
@json_option
def list_connections(directory: Path | None, control: Path | None, as_json_: bool) -> None:
    """List connections."""
    with commander(directory, control, needs_server=True) as broker:
        found = broker.do("connections", {})
    if as_json_:
        as_json(found)
        return
    columns = ["id", "protocol", "user", "virtual_host", "host", "port", "state", "channels"]
    titles = ["Id", "Protocol", "User", "Vhost", "Host", "Port", "State", "Channels"]
    table(titles, [[one.get(column) for column in columns] for one in found])


@connections.command("close")
@target_options
@click.option(
    "--reason", default="closed by the operator", show_default=True, help="What the client is told."
)
@click.argument("id", type=int)
def close_connection(directory: Path | None, control: Path | None, reason: str, id: int) -> None:
    """Tell the client of connection ID to go. What it had not acknowledged is delivered again."""
    with commander(directory, control, needs_server=True) as broker:
        if not broker.do("close", {"id": id, "reason": reason})["closed"]:
            raise click.ClickException(f"there is no connection {id}")
