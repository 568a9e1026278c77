"""The pages about running a server, and the help of its commands: the commands, options, files and
names in them exist.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from wherry._cli.commands import main
from wherry.server import config

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
README = (ROOT / "README.md").read_text()
ARGUMENTS = (ROOT / "docs" / "arguments.md").read_text()


def calls(text: str) -> list[str]:
    """The calls of wherry in lines of shell."""
    lines = text.replace("|\n", "| ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r" \| |   +| < ", line)]
    found = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", part).rstrip(" |") for part in parts]
    return [command for command in found if command.startswith("wherry ")]


def shell_commands() -> list[str]:
    """Those of the pages."""
    blocks = re.findall(r"```sh\n(.*?)```", OPERATIONS, re.DOTALL)
    session = re.search(r"```console\n(\$ wherry serve.*?)```", README, re.DOTALL)
    assert session is not None
    return calls("\n".join([*blocks, session[1].replace("$ ", "")]))


def help_examples() -> list[str]:
    """Those of the help of each command."""

    def helps(command: click.Command, context: click.Context) -> Iterator[str]:
        yield command.help or ""
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from helps(inner, click.Context(inner, parent=context, info_name=name))

    paragraphs = "\n\n".join(helps(main, click.Context(main, info_name="wherry"))).split("\n\n")
    return [call for text in paragraphs if "Example" in text for call in calls(text)]


@pytest.mark.parametrize("command", [*shell_commands(), *help_examples()])
def test_a_command_that_is_shown_can_be_called_so(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)[1:]
    inner: click.Command = main
    context = click.Context(main, info_name="wherry")
    while isinstance(inner, click.Group):
        name = words.pop(0)
        found = inner.get_command(context, name)
        assert found is not None, name
        inner = found
        context = click.Context(inner, parent=context, info_name=name)
    # Only the words are looked at: the paths of the page are not here.
    for parameter in inner.params:
        if isinstance(parameter.type, click.Path | click.File):
            monkeypatch.setattr(parameter, "type", click.STRING)
    inner.parse_args(context, words)


def test_there_are_commands_on_the_pages_and_in_the_help() -> None:
    assert len(shell_commands()) > 20
    assert len(help_examples()) > 35


def test_files_of_the_page_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", OPERATIONS, re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path / "wherry.toml"
        file.write_text(block)
        config.load(file)


def test_settings_named_on_the_page_exist() -> None:
    known = set(re.findall(r"### `([a-z_.]+)`", (ROOT / "docs" / "configuration.md").read_text()))
    tables = {"memory", "disk", "amqp", "tls", "limits", "auth", "log", "shutdown", "control"}
    for page in (OPERATIONS, ARGUMENTS):
        for table, key in re.findall(r"`([a-z]+)\.([a-z_]+)[` ]", page):
            assert table not in tables or f"{table}.{key}" in known or key in ("sock",)


def test_every_argument_that_is_read_is_documented() -> None:
    sources = [
        *(ROOT / "rust" / "session" / "src" / "arguments").glob("*.rs"),
        ROOT / "rust" / "engine" / "src" / "dedup.rs",
        ROOT / "rust" / "engine" / "src" / "draft.rs",
        ROOT / "rust" / "engine" / "src" / "deadletter.rs",
        ROOT / "rust" / "engine" / "src" / "equivalence.rs",
        ROOT / "rust" / "amqp" / "src" / "session" / "publish.rs",
        ROOT / "rust" / "amqp" / "src" / "session" / "deliver.rs",
    ]
    read: set[str] = set()
    for source in sources:
        text = source.read_text().split("#[cfg(test)]")[0]
        read |= set(re.findall(r'"(x-[a-z-]+[a-z])"', text))
    read -= {"x-unknown", "x-retry"}
    assert len(read) > 50
    missing = {name for name in read if f"`{name}`" not in ARGUMENTS}
    assert missing == set()


def test_limits_of_the_page_are_those_of_the_source() -> None:
    """Each one's value, as Rust computes it."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    shown = re.findall(r"\(`([A-Z_]+)`\) \| ([\d,]+) \|", page)
    assert len(shown) == len(re.findall(r"\(`[A-Z_]+`\)", page))
    source = "\n".join(file.read_text() for file in (ROOT / "rust").glob("*/src/**/*.rs"))
    for name, number in shown:
        values = {
            eval(value.replace("_", ""))  # a product or a shift of numbers
            for value in re.findall(
                rf"pub const {name}: \w+ = (?:Duration::from_secs\()?([\d_ *<]+)\)?;", source
            )
        }
        days = name == "DURATION_MAX"
        assert values == {int(number.replace(",", "")) * (86_400 if days else 1)}, name
