"""`wherry policies`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from wherry._cli.output import as_json, json_option, table
from wherry._cli.target import commander, target_options

vhost_option = click.option("--vhost", default="/", show_default=True, help="The virtual host.")
operator_option = click.option(
    "--operator", is_flag=True, help="An operator policy: a limit beside those that users set."
)

KINDS = ["queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all"]


@click.group()
def policies() -> None:
    """List, set and delete policies.

    A policy gives settings to the queues and exchanges whose names match its pattern: those that
    are there, at once, and those that are declared later. Clients go on declaring them as they do.
    Of the policies that match a queue the one with the highest priority acts, alone. Of two
    numbers, the policy's and the queue's argument, the lower one counts; of other settings the
    argument.

    Settings of queues: message-ttl and expires (milliseconds), max-length, max-length-bytes,
    overflow (drop-head, reject-publish, reject-publish-dlx), dead-letter-exchange,
    dead-letter-routing-key, delivery-limit (quorum queues), retry-attempts with retry-kind,
    retry-first, retry-factor, retry-max and retry-jitter, lease. Of exchanges: alternate-exchange.

    An operator policy bounds what users ask for: where it and a policy have the same number, the
    lower one counts. It can have expires, message-ttl, max-length, max-length-bytes,
    delivery-limit, overflow and lease.

    \b
    Examples:
      wherry policies set -d /var/lib/wherry short '^log\\.' '{"max-length": 1000}'
      wherry policies set -d /var/lib/wherry --operator cap '' '{"max-length": 1000000}'
      wherry policies list -d /var/lib/wherry
      wherry policies delete -d /var/lib/wherry short
    """


@policies.command("list")
@target_options
@click.option("--vhost", help="Only those of this virtual host.")
@operator_option
@json_option
def list_policies(
    directory: Path | None, control: Path | None, vhost: str | None, operator: bool, as_json_: bool
) -> None:
    """List policies, in the order in which they act. Which one acts on a queue is in `wherry queues
    --json`.
    """
    with commander(directory, control) as broker:
        found = broker.do("policies", {"vhost": vhost, "operator": operator})
    if as_json_:
        as_json(found)
        return
    columns = ["vhost", "name", "pattern", "apply_to", "priority"]
    titles = ["Vhost", "Name", "Pattern", "Apply to", "Priority", "Definition"]
    rows = [[*(one[column] for column in columns), json.dumps(one["definition"])] for one in found]
    table(titles, rows)


@policies.command("set")
@target_options
@vhost_option
@click.option(
    "--apply-to",
    type=click.Choice(KINDS),
    default="all",
    show_default=True,
    help="What it acts on.",
)
@click.option(
    "--priority", type=int, default=0, show_default=True, help="Of those that match, the highest."
)
@operator_option
@json_option
@click.argument("name")
@click.argument("pattern")
@click.argument("definition")
def set_policy(
    directory: Path | None,
    control: Path | None,
    vhost: str,
    apply_to: str,
    priority: int,
    operator: bool,
    as_json_: bool,
    name: str,
    pattern: str,
    definition: str,
) -> None:
    """Set the policy NAME, in place of the one of that name.

    PATTERN is a regular expression that is searched for in names: '^log\\.' are those that begin
    with "log.", '' are all. DEFINITION is a JSON object with the settings.

    \b
    Examples:
      wherry policies set -d /var/lib/wherry --apply-to queues day '.*' '{"message-ttl": 86400000}'
      wherry policies set -d /var/lib/wherry lost '^orders$' '{"alternate-exchange": "lost"}'
    """
    with commander(directory, control) as broker:
        result = broker.do(
            "set_policy",
            {
                "name": name,
                "pattern": pattern,
                "definition": _parsed(definition),
                "vhost": vhost,
                "apply_to": apply_to,
                "priority": priority,
                "operator": operator,
            },
        )
    if as_json_:
        as_json(result)
        return
    for note in result["notes"]:
        click.echo(f"note: {note}", err=True)


def _parsed(definition: str) -> dict[str, Any]:
    try:
        parsed = json.loads(definition)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="DEFINITION") from None
    if not isinstance(parsed, dict):
        raise click.BadParameter(
            """a JSON object is expected, such as '{"max-length": 1000}'""", param_hint="DEFINITION"
        )
    return parsed


@policies.command("delete")
@target_options
@vhost_option
@operator_option
@click.argument("name")
def delete_policy(
    directory: Path | None, control: Path | None, vhost: str, operator: bool, name: str
) -> None:
    """Delete the policy NAME. What it acted on is as declared, or as the next policy has it."""
    with commander(directory, control) as broker:
        if not broker.do("delete_policy", {"name": name, "vhost": vhost, "operator": operator})[
            "deleted"
        ]:
            kind = "operator policy" if operator else "policy"
            raise click.ClickException(f"there is no {kind} '{name}' in virtual host '{vhost}'")
