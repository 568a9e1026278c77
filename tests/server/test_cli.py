"""The command line, without a server: help, users, data directories, the journal, statuses."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from wherry import blocking
from wherry._cli import output as output_module
from wherry._cli.commands import COMMANDS, main
from wherry.server.users import UserStore

DEFINITIONS = Path(__file__).parent / "data" / "rabbitmq-3.10-definitions.json"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WHERRY_DIRECTORY", "WHERRY_CONFIG", "WHERRY_URL", "WHERRY_USER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: object, status: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
    if result.exit_code != status and result.exception is not None:
        raise AssertionError(result.output) from result.exception
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a queue of three messages."""
    directory = tmp_path / "data"
    with blocking.open(directory) as broker:
        broker.declare_queue("orders", max_length=10)
        for number in range(3):
            broker.default_exchange.publish(str(number).encode(), "orders")
    return directory


# Help


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands(main)]
)
def test_help_teaches(path: tuple[str, ...], command: click.Command) -> None:
    text = run(*path, "--help").output
    assert text.startswith("Usage: ")
    if len(path) == 1:
        assert re.search(r"\n  Examples?:\n    \S*.*wherry ", text), "an example is missing"
        assert COMMANDS[path[0]][1].split()[0] in (command.help or "").split("\n")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            names = parameter.help, parameter.type, parameter.name
            assert parameter.help or isinstance(parameter.type, click.Choice | click.IntRange), (
                names
            )


def test_examples_in_help_name_options_that_exist() -> None:
    for path, command in commands(main):
        for line in (command.help or "").splitlines():
            example = re.search(r"\bwherry ((?:[a-z-]+ )+)", line)
            if not line.startswith("  ") or example is None:
                continue
            words = example[1].split()
            inner: click.Command = main
            while isinstance(inner, click.Group):
                found = inner.get_command(click.Context(inner), words.pop(0))
                assert found is not None, line
                inner = found
            known = {name for parameter in inner.params for name in parameter.opts}
            known |= {name for parameter in inner.params for name in parameter.secondary_opts}
            used = re.findall(r"(?<=\s)--?[a-z][a-z-]*", line.split("|")[0].split("<")[0])
            assert set(used) <= known, (path, line)


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from wherry._cli.commands import main;"
        "main(['--help'], standalone_mode=False);"
        "print([m for m in sys.modules if m.startswith(('wherry._cli.', 'trio', 'pika', 'msgs'))])"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.splitlines()[-1] == "['wherry._cli.commands']"


def test_a_mistyped_command() -> None:
    assert "Did you mean 'queues'?" in run("queus", status=2).output
    assert "No such command 'xyz'" in run("xyz", status=2).output


def test_an_interrupt_has_its_status(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(blocking, "open", interrupt)
    result = run("queues", "-d", data, status=130)
    assert result.output.strip() == ""


# Users


def test_users(tmp_path: Path) -> None:
    directory = ("-d", tmp_path)
    run("users", "add", *directory, "--password-stdin", "--tag", "monitoring", "a", input="pw\n")
    run("users", "permit", *directory, "--vhost", "v", "--write", "^x$", "a")
    run("users", "permit-topic", *directory, "--write", "^{username}", "a", "amq.topic")
    run("users", "limit", *directory, "--max-connections", 3, "a")
    run("users", "limit-vhost", *directory, "--max-queues", 4, "v")
    store = UserStore(tmp_path / "users.json")
    assert store.verify("a", "pw") is not None
    user = store.list()[0]
    assert (user.tags, user.max_connections) == (("monitoring",), 3)
    assert (user.permissions[0].vhost, user.permissions[0].write) == ("v", "^x$")
    assert user.topic_permissions[0].write == "^{username}"
    assert store.snapshot().vhost_limits[0].max_queues == 4

    shown = run("users", "list", *directory).output.splitlines()
    assert shown[0] == "user\ttags\tvhost\tconfigure\twrite\tread"
    assert shown[1] == "a\tmonitoring\tv\t.*\t^x$\t.*"
    listed = json.loads(run("users", "list", *directory, "--json").output)
    assert [one["name"] for one in listed] == ["a", "guest"]
    assert "argon2" not in json.dumps(listed)

    run("users", "password", *directory, "a", env={"WHERRY_USER_PASSWORD": "other"})
    run("users", "tags", *directory, "a", "administrator", "x")
    run("users", "forbid", *directory, "--vhost", "v", "a")
    run("users", "forbid-topic", *directory, "a")
    store.refresh()
    assert store.verify("a", "other") is not None
    user = store.list()[0]
    assert (user.tags, user.permissions, user.topic_permissions) == (("administrator", "x"), (), ())
    run("users", "delete", *directory, "a")
    run("users", "add", *directory, "--no-password", "cert")
    assert [one.name for one in store.list()] == ["cert", "guest"]


def test_refusals_of_users_are_a_line(tmp_path: Path) -> None:
    directory = ("-d", tmp_path)
    result = run("users", "delete", *directory, "nobody", status=1)
    assert result.output.startswith("Error: there is no user 'nobody'")
    assert "already" in run("users", "add", *directory, "guest", status=1).output
    result = run("users", "permit", *directory, "--read", "(", "guest", status=1)
    assert result.output.startswith("Error: '('")
    assert "no terminal" in run("users", "add", *directory, "new", status=2).output
    result = run("users", "add", *directory, "--password-stdin", "new", input="\n", status=1)
    assert "an empty password" in result.output
    assert "which broker?" in run("users", "list", status=2).output
    assert "there is no directory" in run("users", "list", "-d", tmp_path / "x", status=1).output


def test_no_command_takes_a_password_as_an_argument() -> None:
    for path, command in commands(main):
        for parameter in command.params:
            if parameter.name and "password" in parameter.name:
                assert getattr(parameter, "is_flag", False), path


def test_a_hash_for_the_configuration(tmp_path: Path) -> None:
    printed = run("users", "hash", "--password-stdin", input="s3cret\n").output.strip()
    file = tmp_path / "wherry.toml"
    file.write_text(f'[[users]]\nname = "a"\npassword_hash = "{printed}"\n')
    run("serve", "--config", file, "--check")
    store = UserStore()
    store.add("a", password_hash=printed)
    assert store.verify("a", "s3cret") is not None


# Data directories that nobody has open


def test_queues_of_a_directory(data: Path) -> None:
    lines = run("queues", "-d", data).output.splitlines()
    assert lines[0].split("\t")[:3] == ["vhost", "queue", "ready"]
    assert lines[1] == "/\torders\t3\t0\t0\t0\tyes"
    (queue,) = json.loads(run("queues", "--json", env={"WHERRY_DIRECTORY": str(data)}).output)
    assert (queue["name"], queue["ready"]) == ("orders", 3)
    assert queue["arguments"] == {"x-max-length": 10}
    assert json.loads(run("queues", "-d", data, "--vhost", "/", "--json").output) == [queue]
    assert "no virtual host 'x'" in run("queues", "-d", data, "--vhost", "x", status=1).output


def test_purging(data: Path) -> None:
    assert run("purge", "-d", data, "orders", input="n\n", status=1).output.endswith("Aborted!\n")
    assert "3 messages dropped" in run("purge", "-d", data, "--yes", "orders").output
    assert "0 messages dropped" in run("purge", "-d", data, "orders", input="y\n").output
    assert "'none'" in run("purge", "-d", data, "--yes", "none", status=1).output


def test_virtual_hosts(data: Path) -> None:
    run("vhosts", "add", "-d", data, "v")
    assert run("vhosts", "list", "-d", data).output == "vhost\n/\nv\n"
    run("users", "permit", "-d", data, "--vhost", "v", "guest")
    run("vhosts", "delete", "-d", data, "--yes", "v")
    assert json.loads(run("vhosts", "list", "-d", data, "--json").output) == ["/"]
    assert len(UserStore(data / "users.json").list()[0].permissions) == 1


def test_connections_need_a_server(data: Path) -> None:
    result = run("connections", "list", "-d", data, status=1)
    assert "no server answers" in result.output
    assert "is it running" in result.output


def test_a_directory_that_somebody_has_open(data: Path) -> None:
    with blocking.open(data):
        for command in (["queues"], ["purge", "--yes", "orders"], ["definitions", "export", "-"]):
            result = run(command[0], *command[1:], *("-d", data), status=1)
            assert "--control" in result.output


def test_what_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    for arguments in (["queues"], ["definitions", "import", str(DEFINITIONS)]):
        result = run(*arguments, "-d", tmp_path, status=1)
        assert "is no data directory" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_definitions(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    result = run("definitions", "import", "-d", directory, DEFINITIONS)
    assert result.output.startswith("imported: 3 virtual hosts, 1 operator policies, 4 policies, ")
    assert "4 exchanges, 7 queues, 6 bindings" in result.output
    assert "not honoured: queue 'stream' in virtual host 'shop': " in result.output
    run("definitions", "import", "-d", directory, "--strict", "--json", DEFINITIONS, status=1)
    names = [q["name"] for q in json.loads(run("queues", "-d", directory, "--json").output)]
    assert "shop-orders" in names
    assert UserStore(directory / "users.json").verify("alice", "wonderland") is not None
    file = tmp_path / "out.json"
    run("definitions", "export", "-d", directory, file)
    assert file.stat().st_mode & 0o777 == 0o600
    exported = json.loads(file.read_text())
    again = run(
        "definitions", "import", "-d", tmp_path / "other", "--strict", "-", input=file.read_bytes()
    )
    assert "not honoured" not in again.output
    without = json.loads(
        run("definitions", "export", "-d", directory, "--without-users", "-").output
    )
    assert without["users"] == []
    assert without["queues"] == exported["queues"]
    run("users", "add", "-d", directory, "ours", "--password-stdin", input="secret\n")
    result = run("definitions", "export", "-d", directory, "--for-rabbitmq", file)
    assert "note: user 'ours': without a password" in result.output
    hashes = {user["name"]: user["password_hash"] for user in json.loads(file.read_text())["users"]}
    assert hashes["ours"] == ""
    assert hashes["bob"] != ""


def test_definitions_that_are_none(data: Path) -> None:
    result = run("definitions", "import", "-d", data, "-", input="{}", status=1)
    assert "these are no definitions" in result.output


# The journal


def contents(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
        if path.name != "LOCK"
    }


def test_a_good_journal(data: Path) -> None:
    before = contents(data)
    result = run("journal", "verify", data)
    assert "records   " in result.output
    assert result.output.endswith("ok\n")
    found = json.loads(run("journal", "verify", "--json", data).output)
    assert found["corrupt"] is False
    assert found["closed"] is True
    assert found["torn_bytes"] == 0
    assert found["end"]["file"] == "00000001.segment"
    assert contents(data) == before


def test_a_damaged_journal(data: Path) -> None:
    found = json.loads(run("journal", "verify", "--json", data).output)
    segment = data / "00000001.segment"
    damaged = bytearray(segment.read_bytes())
    damaged[4200] ^= 1
    segment.write_bytes(damaged)
    before = contents(data)
    result = run("journal", "verify", data, status=1)
    hole = re.search(r"DAMAGED   00000001.segment, offset (\d+) to (\d+): ", result.output)
    assert hole is not None
    assert int(hole[1]) <= 4200 < int(hole[2])
    assert "salvage" in result.output
    report = json.loads(run("journal", "verify", "--json", data, status=1).output)
    assert report["corrupt"] is True
    assert report["records"] < found["records"]
    assert report["holes"][0]["from"] == int(hole[1])
    assert contents(data) == before


def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    code = (
        "import os, sys; from wherry import blocking\n"
        "broker = blocking.open(sys.argv[1]).__enter__()\n"
        "broker.declare_queue('q')\n"
        "for _ in range(10): broker.default_exchange.publish(b'x' * 100, 'q')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    found = json.loads(run("journal", "verify", "--json", tmp_path).output)
    assert found["closed"] is False
    segment = tmp_path / found["end"]["file"]
    cut = bytearray(segment.read_bytes())
    offset = found["end"]["offset"]
    cut[offset - 20] ^= 1
    segment.write_bytes(cut)
    result = run("journal", "verify", tmp_path)
    assert result.output.endswith("ok\n")
    again = json.loads(run("journal", "verify", "--json", tmp_path).output)
    assert again["records"] == found["records"] - 1
    assert again["end"]["offset"] < offset


def test_journals_that_cannot_be_checked(data: Path, tmp_path: Path) -> None:
    with blocking.open(data):
        assert "is open in process" in run("journal", "verify", data, status=1).output
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no journal in" in run("journal", "verify", empty, status=1).output
    assert list(empty.iterdir()) == []
    run("journal", "verify", tmp_path / "absent", status=2)


def test_progress_is_for_terminals(data: Path) -> None:
    from wherry._cli.journal import _with_progress

    assert _with_progress(data)["holes"] == []


# Serving: what can be seen without


def test_the_configuration_in_force() -> None:
    result = run(
        "serve",
        "--print-config",
        "--host",
        "*",
        "--port",
        "1234",
        "--log-level",
        "debug",
        "--set",
        "limits.frame_max=64 KiB",
        env={"WHERRY_LIMITS_CHANNEL_MAX": "5"},
    )
    assert 'listeners = ["*:1234"]  # command line' in result.output
    assert "frame_max = 65536  # command line" in result.output
    assert "channel_max = 5  # environment variable WHERRY_LIMITS_CHANNEL_MAX" in result.output


@pytest.mark.parametrize(
    ("options", "listeners"),
    [
        (["--port", "1"], '["127.0.0.1:1", "[::1]:1"]'),
        (["--port", "0"], '["127.0.0.1:0"]'),
        (["--host", "::"], '["[::]:5672"]'),
        ([], '["127.0.0.1:5672", "[::1]:5672"]'),
    ],
)
def test_where_it_would_listen(options: list[str], listeners: str) -> None:
    assert f"listeners = {listeners}" in run("serve", "--print-config", *options).output


@pytest.mark.parametrize(
    ("options", "listeners", "websocket"),
    [
        ([], '["127.0.0.1:61613", "[::1]:61613"]', "[]"),
        (["--port", "1"], '["127.0.0.1:61613", "[::1]:61613"]', "[]"),
        # With AMQP they go to other hosts and to free ports, unless they were told where.
        (["--port", "0"], '["127.0.0.1:0"]', "[]"),
        (["--host", "*"], '["*:61613"]', "[]"),
        (["--host", "::", "--port", "0"], '["[::]:0"]', "[]"),
        (["--port", "0", "--stomp-port", "5"], '["127.0.0.1:5", "[::1]:5"]', "[]"),
        (["--host", "*", "--set", "stomp.listeners="], "[]", "[]"),
        (["--websocket-port", "0"], '["127.0.0.1:61613", "[::1]:61613"]', '["127.0.0.1:0"]'),
        (["--host", "a", "--websocket-port", "15674"], '["a:61613"]', '["a:15674"]'),
    ],
)
def test_where_it_would_listen_for_stomp(
    options: list[str], listeners: str, websocket: str
) -> None:
    output = run("serve", "--print-config", *options).output
    table = output.partition("[stomp]")[2].partition("\n\n")[0]
    lines = [line.partition("  #")[0] for line in table.splitlines()]
    assert f"listeners = {listeners}" in lines
    assert f"websocket_listeners = {websocket}" in lines


def test_memory_takes_the_directory_back(tmp_path: Path) -> None:
    file = tmp_path / "wherry.toml"
    file.write_text('directory = "/somewhere"\n')
    assert "# directory =" in run("serve", "-c", file, "--memory", "--print-config").output
    assert "choose one" in run("serve", "--memory", "-d", "x", status=2).output


def test_a_wrong_configuration_stops_it(tmp_path: Path) -> None:
    file = tmp_path / "wherry.toml"
    file.write_text('durabilty = "always"\nlog.level = 3\n')
    result = run("serve", "--config", file, status=2)
    assert f"error: {file}, line 1: durabilty: " in result.output
    assert f"error: {file}, line 2: log.level: " in result.output
    assert "is not KEY=VALUE" in run("serve", "--set", "x", status=2).output
    assert "command line: x" in run("serve", "--set", "x=1", status=2).output
    assert "cannot be read" in run("serve", "-c", tmp_path / "none", status=2).output


def test_checking(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    assert "is good" in run("serve", "--check", "-d", directory).output
    assert not directory.exists()
    UserStore(directory / "users.json")
    (directory / "users.json").chmod(0o644)
    assert "chmod 600" in run("serve", "--check", "-d", directory, status=1).output
    options = ["--set", f"tls.certificate={tmp_path}/no", "--set", f"tls.key={tmp_path}/no"]
    result = run("serve", "--check", *options, status=1)
    assert "tls.certificate: " in result.output
    result = run("serve", "--check", env={"WHERRY_PORT": "tcp://x"})
    assert "warning: environment variable WHERRY_PORT is no setting" in result.output


# Printing


def test_names_from_clients_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output_module.table(["Name", "Ready"], [["a\x1b[31m\n", 3], [None, True]])
    assert capsys.readouterr().out == "name\tready\na\\x1b[31m\\n\t3\n\tyes\n"


def test_a_table_for_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    output_module.table(["Name", "Ready"], [["[bold]a", 3], ["b", 1000]])
    text = capsys.readouterr().out
    assert "\x1b[3" not in text  # no colours
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert [line.split() for line in lines] == [["Name", "Ready"], ["[bold]a", "3"], ["b", "1000"]]
