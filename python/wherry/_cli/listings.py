"""`wherry exchanges`, `bindings`, `consumers`, `channels`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from wherry._cli.output import as_json, json_option, table
from wherry._cli.target import commander, target_options

vhost_option = click.option("--vhost", help="Only those of this virtual host.")


@click.command()
@target_options
@vhost_option
@json_option
def exchanges(
    directory: Path | None, control: Path | None, vhost: str | None, as_json_: bool
) -> None:
    """List exchanges, with the policy that acts on each.

    With --json there are the numbers of messages since the broker was opened, the arguments, and
    the alternate exchange that is in force.

    \b
    Example:
      wherry exchanges -d /var/lib/wherry
    """
    with commander(directory, control) as broker:
        found = broker.do("exchanges", {"vhost": vhost})
    if as_json_:
        as_json(found)
        return
    columns = ["vhost", "name", "type", "bindings", "durable", "policy"]
    titles = ["Vhost", "Exchange", "Type", "Bindings", "Durable", "Policy"]
    table(titles, [[one[column] for column in columns] for one in found])


@click.command()
@target_options
@vhost_option
@json_option
def bindings(
    directory: Path | None, control: Path | None, vhost: str | None, as_json_: bool
) -> None:
    """List bindings. The default exchange, whose name is empty, has one to each queue, by its name.

    \b
    Example:
      wherry bindings -d /var/lib/wherry --vhost shop
    """
    with commander(directory, control) as broker:
        found = broker.do("bindings", {"vhost": vhost})
    if as_json_:
        as_json(found)
        return
    columns = ["vhost", "source", "destination", "destination_type", "routing_key"]
    titles = ["Vhost", "Exchange", "To", "Kind", "Routing key", "Arguments"]
    rows = [
        [*(one[column] for column in columns), json.dumps(one["arguments"], default=str)]
        for one in found
    ]
    table(titles, rows)


@click.command()
@target_options
@vhost_option
@json_option
def consumers(
    directory: Path | None, control: Path | None, vhost: str | None, as_json_: bool
) -> None:
    """List consumers, with the connection and channel of each.

    One that is not active waits behind the single active consumer of its queue. One without a
    connection is part of the server's own program.

    \b
    Example:
      wherry consumers -d /var/lib/wherry --json | jq '.[] | select(.unacked > 100)'
    """
    with commander(directory, control) as broker:
        found = broker.do("consumers", {"vhost": vhost})
    if as_json_:
        as_json(found)
        return
    columns = ["vhost", "queue", "tag", "connection", "channel", "prefetch", "unacked", "active"]
    titles = ["Vhost", "Queue", "Tag", "Connection", "Channel", "Prefetch", "Unacked", "Active"]
    table(titles, [[one.get(column) for column in columns] for one in found])


@click.command()
@target_options
@json_option
def channels(directory: Path | None, control: Path | None, as_json_: bool) -> None:
    """List the channels of the connections of a running server. A connection over STOMP is listed
    as having one.

    \b
    Example:
      wherry channels -d /var/lib/wherry
    """
    with commander(directory, control, needs_server=True) as broker:
        found = broker.do("channels", {})
    if as_json_:
        as_json(found)
        return
    columns = ["connection", "number", "user", "virtual_host", "prefetch", "unacked", "unconfirmed"]
    titles = ["Connection", "Channel", "User", "Vhost", "Prefetch", "Unacked", "Unconfirmed"]
    rows = [[*(one[column] for column in columns), len(one["consumers"])] for one in found]
    table([*titles, "Consumers"], rows)
