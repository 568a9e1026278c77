"""The options of `wherry serve`, once: for click, which explains them and what is wrong with those
given, and for `parsed`, which takes those that are right.

A server has to be there soon after it is started, and click with what it loads of the standard
library takes a fifth of that time. So a command line that is as it should be is split by `getopt`;
with any other, and with one that asks for help, click begins anew. For the same reason annotations
here are no strings (no `from __future__ import annotations`), which a named tuple has compiled.
"""

import os
from typing import Any, NamedTuple

__all__ = ["OPTIONS", "PORT_MAX", "Option", "parsed"]

PORT_MAX = 65_535


class Option(NamedTuple):
    """An option, as both need it."""

    name: str
    help: str
    # A tuple is of the words to choose from.
    kind: str | tuple[str, ...] = "text"
    short: str = ""
    # Of the argument of that name, where it is not the option's own.
    argument: str = ""
    metavar: str | None = None
    variable: str | None = None

    @property
    def key(self) -> str:
        """The argument that the command has it in."""
        return self.argument or self.name.replace("-", "_")


OPTIONS = (
    Option(
        "config",
        "A TOML file; docs/configuration.md lists its keys.",
        "file",
        short="c",
        argument="file",
        variable="WHERRY_CONFIG",
    ),
    Option(
        "directory",
        "Keep messages and users here. Without it everything is in memory.",
        "directory",
        short="d",
    ),
    Option("memory", "Everything in memory, whatever the file says.", "flag"),
    Option("host", "Address to listen on; * for every address of the machine."),
    Option("port", "AMQP's port; 0 lets the system choose.", "port"),
    Option("stomp-port", "STOMP's port; 0 lets the system choose.", "port"),
    Option("websocket-port", "Speak STOMP over WebSocket, too, usually at 15674.", "port"),
    Option(
        "durability",
        "When a persistent message is confirmed.",
        ("always", "interval", "never"),
    ),
    Option("log-level", "", ("debug", "info", "warning", "error")),
    Option("log-format", "", ("text", "json")),
    Option("set", "Any key of the file.", "several", argument="set_", metavar="KEY=VALUE"),
    Option("check", "Check the configuration and the user file; no start.", "flag"),
    Option("print-config", "Print the configuration in force; no start.", "flag"),
)


def parsed(words: list[str]) -> dict[str, Any] | None:
    """The arguments of the command, as click gives them; None if click has to look at it."""
    from getopt import GetoptError, getopt

    by_name = {f"--{one.name}": one for one in OPTIONS}
    by_name |= {f"-{one.short}": one for one in OPTIONS if one.short}
    if any(word.startswith("--") and word.partition("=")[0] not in by_name for word in words):
        return None  # it would be taken for the beginning of an option
    short = "".join(f"{one.short}:" for one in OPTIONS if one.short)
    long = [one.name if one.kind == "flag" else f"{one.name}=" for one in OPTIONS]
    try:
        found, rest = getopt(words, short, long)
    except GetoptError:
        return None
    # What is said later wins.
    given = [*_from_environment(), *((by_name[name], text) for name, text in found)]
    absent = {"flag": False, "several": ()}
    arguments: dict[str, Any] = {one.key: absent.get(str(one.kind)) for one in OPTIONS}
    for option, text in given:
        value = _value(option, text)
        if value is None:
            return None
        if option.kind == "several":
            value = (*arguments[option.key], value)
        arguments[option.key] = value
    contradiction = arguments["memory"] and arguments["directory"] is not None
    no_start = arguments["check"] or arguments["print_config"]
    return None if rest or contradiction or no_start else arguments


def _from_environment() -> list[tuple[Option, str]]:
    found = ((one, os.environ.get(one.variable)) for one in OPTIONS if one.variable)
    return [(option, text) for option, text in found if text]


def _value(option: Option, text: str) -> Any:
    """An option's value; None if it is not right, or click may say more about it."""
    kind = option.kind
    if kind == "flag":
        return True
    if text.startswith("-"):
        return None
    if kind == "port":
        right = text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX
        return int(text) if right else None
    if isinstance(kind, tuple):
        return text if text in kind else None
    if kind in ("file", "directory"):
        there = os.path.isdir if kind == "directory" else os.path.isfile
        return text if text and (there(text) or not os.path.lexists(text)) else None
    return text if kind != "several" or "=" in text else None
