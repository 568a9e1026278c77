"""`wherry serve` without click takes what click would take, and leaves all else to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from wherry._cli import serving
from wherry._cli.commands import main
from wherry._cli.serve import serve
from wherry._cli.serve_options import OPTIONS, parsed

ABSENT = "/absent/directory"
WORDS = [
    *(f"--{option.name}" for option in OPTIONS),
    *("-d", "-c", "-h", "--help", "--", "-", "--por", "--no-memory", "-x", "serve"),
    *("0", "5672", "65535", "65536", "-1", "x", "", " 7", "always", "json", "debug", "loud"),
    *("*", "127.0.0.1", "::1", ABSENT, os.devnull, os.curdir, __file__),
    *("limits.frame_max=5000", "log.level=debug", "=", "-=="),
]
joined = st.builds("{}={}".format, st.sampled_from(WORDS[: len(OPTIONS)]), st.sampled_from(WORDS))
attached = st.builds("{}{}".format, st.sampled_from(["-d", "-c"]), st.sampled_from(WORDS))


def by_click(words: list[str]) -> dict[str, Any]:
    """Raises click.ClickException, or Exit for help."""
    arguments: dict[str, Any] = serve.make_context("serve", list(words)).params
    return arguments


@given(st.lists(st.one_of(st.sampled_from(WORDS), joined, attached), max_size=5))
def test_both_take_the_same(words: list[str]) -> None:
    arguments = parsed(words)
    if arguments is not None:
        assert arguments == by_click(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--directory", ABSENT, "--host", "*", "--port=0", "--stomp-port", "65535"],
        ["-d", os.curdir, "-c", __file__],
        ["--memory", "--log-level", "debug", "--log-format=json", "--durability", "never"],
        ["--set", "a=b", "--set=c=d=e", "--websocket-port", "15674", "-d" + ABSENT],
    ],
)
def test_what_is_right_needs_no_click(words: list[str]) -> None:
    arguments = parsed(words)
    assert arguments is not None
    assert arguments == by_click(words)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["--dir", ABSENT],  # no beginnings of names
        ["more"],
        ["--port"],
        ["--port", "65536"],
        ["--port", "x"],
        ["--durability", "sometimes"],
        ["--set", "nothing"],
        ["--directory", __file__],
        ["--config", os.curdir],
        ["--memory", "--directory", ABSENT],
        ["--check"],
        ["--print-config"],
    ],
)
def test_what_has_to_be_explained_is_left_to_click(words: list[str]) -> None:
    assert parsed(words) is None


def test_the_file_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_CONFIG", __file__)
    for words in ([], ["--config", ABSENT]):
        arguments = parsed(words)
        assert arguments is not None
        assert arguments == by_click(words)
    monkeypatch.setenv("WHERRY_CONFIG", os.curdir)
    assert parsed([]) is None
    monkeypatch.setenv("WHERRY_CONFIG", "")
    assert parsed([]) == by_click([])


def test_click_calls_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[dict[str, Any]] = []
    monkeypatch.setattr(serving, "serve", lambda **arguments: called.append(arguments))
    words = ["--directory", str(tmp_path), "--port", "0"]
    assert CliRunner().invoke(main, ["serve", *words]).exit_code == 0
    assert called == [parsed(words)]


def test_every_option_is_in_the_help() -> None:
    page = serve.get_help(click.Context(serve, info_name="serve"))
    for option in OPTIONS:
        assert f"--{option.name}" in page
        assert option.help.split(".")[0][:30] in page


def test_a_host_that_is_none_is_a_problem_of_the_configuration() -> None:
    done = CliRunner().invoke(main, ["serve", "--host", "", "--print-config"])
    assert done.exit_code == 2
    assert "error: command line: amqp.listeners" in done.output
