"""All commands, for click.

A command's module is imported only when the command runs: `wherry --help` stays quick, and
`import wherry` never pays for click or rich.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any

import click

from wherry._errors import WherryError

__all__ = ["COMMANDS", "main", "status_of"]

# Name of a command, its module here, and the line in `wherry --help`.
COMMANDS = {
    "serve": ("serve", "Run a server for AMQP 0-9-1 and STOMP."),
    "publish": ("messages", "Publish messages to a server."),
    "consume": ("messages", "Print the messages of a queue."),
    "queues": ("queues", "List queues."),
    "exchanges": ("listings", "List exchanges."),
    "bindings": ("listings", "List bindings."),
    "consumers": ("listings", "List consumers."),
    "purge": ("queues", "Drop the messages of a queue."),
    "delete": ("queues", "Delete a queue."),
    "policies": ("policies", "List, set and delete policies."),
    "vhosts": ("queues", "List, add and delete virtual hosts."),
    "connections": ("queues", "List and close the connections of a running server."),
    "channels": ("listings", "List the channels of a running server."),
    "limits": ("limits", "Show and change when publishers of a running server wait."),
    "users": ("users", "Manage users and what they may do."),
    "definitions": ("definitions", "Import RabbitMQ's definitions, and export them."),
    "journal": ("journal", "Check the journal of a data directory."),
    "demo": ("demo", "Replay a year of real flights and check the result."),
}

INTERRUPTED = 130


class Commands(click.Group):
    """Loads a command's module when it is wanted; makes a line and a status of what went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a newcomer's needs."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"wherry._cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, so that help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the command that was probably meant."""
        if args and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if near:
                ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (WherryError, OSError, KeyboardInterrupt) as error:
            ctx.exit(status_of(error))


def status_of(error: WherryError | OSError | KeyboardInterrupt) -> int:
    """What a command ends with that met this, after a line that says so."""
    if isinstance(error, KeyboardInterrupt):
        # What was begun is closed by now; a traceback would say nothing.
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # `wherry queues | head`: nobody reads any more, and the interpreter must not try.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        click.ClickException(str(error)).show()
    return 1


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Status: 0 done, 1 refused or failed, 2 wrongly called, 130 interrupted. Colours are off"
    " with NO_COLOR.",
)
@click.version_option(package_name="wherry")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Wherry, a message broker: as a server, and the tools around it.

    Start with `wherry serve`; then, in another terminal, `wherry publish --queue hello --declare -m
    world` and `wherry consume hello`.
    """
    if ctx.invoked_subcommand != "serve":  # which does so when it is ready
        gc.enable()
