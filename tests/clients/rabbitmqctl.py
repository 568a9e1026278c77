"""What the clients' own test suites ask of `rabbitmqctl`, asked of a Wherry server.

    python tests/clients/rabbitmqctl.py [-n NODE] COMMAND [ARGUMENT ...]

A suite is told to call this where it would call RabbitMQ's program. It knows the commands that
suites use and no others; what it cannot do ends with status 1 and a line that says so. The server
is named by the environment, which `suites.py` sets: `WHERRY_SUITE_BROKER` is a file with its
process and its directory. `stop_app` and `start_app` end the server's process and start another on
the same directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry import WherryError
from wherry.server.config_reading import parse_size
from wherry.server.config_schema import Disk, Memory
from wherry.server.control import ControlClient
from wherry.server.users import UserStore

if TYPE_CHECKING:
    from wire.brokers import Broker

VARIABLE = "WHERRY_SUITE_BROKER"
SECONDS_MAX = 60.0
# Of RabbitMQ's process when it has nothing to do.
LEAST_MEMORY_BYTES = 64 << 20
# More than any disk has.
EVERYTHING_BYTES = 1 << 62


class Impossible(Exception):
    """There is no such thing in Wherry, or nobody has needed it."""


def describe(broker: Broker) -> Path:
    """Write the file that names a server."""
    assert broker.directory is not None, "it was not started here"
    described = {
        "command": broker.command,
        "directory": str(broker.directory),
        "port": broker.port,
        "pid": broker.pid,
    }
    path = broker.directory / "suite.json"
    path.write_text(json.dumps(described))
    return path


def end(broker: Broker) -> None:
    """End the server if it is another process by now than the one that was described."""
    assert broker.directory is not None
    process = json.loads((broker.directory / "suite.json").read_text())["pid"]
    if process not in (0, broker.pid):
        os.kill(process, signal.SIGTERM)
        _until(lambda: _has_ended(process), "it did not end")


def _described() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(Path(os.environ[VARIABLE]).read_text())
    return described


def _directory() -> Path:
    return Path(_described()["directory"])


def _ask(command: str, **arguments: Any) -> Any:
    with ControlClient(_directory() / "control.sock") as client:
        return client.do(command, arguments)


@contextlib.contextmanager
def _users() -> Iterator[UserStore]:
    """The user file, which the server reads again at the end: it would notice within a second, and
    suites do not wait.
    """
    yield UserStore(_directory() / "data" / "users.json")
    _ask("reload")


def _parsed(arguments: list[str], *positional: str, **options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", "--vhost", default="/")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default)
    for name in positional:
        parser.add_argument(name)
    return parser.parse_args(arguments)


# Connections


def _term(value: object) -> str:
    """Client properties as Erlang shows them."""
    if isinstance(value, dict):
        return "[" + ",".join(f'{{"{name}",{_term(one)}}}' for name, one in value.items()) + "]"
    return json.dumps(value)


def list_connections(arguments: list[str]) -> None:
    columns = [one for one in arguments if not one.startswith("-")] or ["user", "peer_host"]
    for one in _ask("connections"):
        values = {
            "pid": f"<{one['id']}>",
            "peer_host": one["host"],
            "peer_port": one["port"],
            "client_properties": _term(one.get("client_properties", {})),
            **{name: one.get(name) for name in ("user", "state", "channels", "protocol")},
            "vhost": one.get("virtual_host"),
        }
        print("\t".join(str(values[column]) for column in columns))


def close_connection(arguments: list[str]) -> None:
    given = _parsed(arguments, "pid", "reason")
    if not _ask("close", id=int(given.pid.strip("<>")), reason=given.reason)["closed"]:
        raise Impossible(f"there is no connection {given.pid}")


def close_all_connections(arguments: list[str]) -> None:
    reason = _parsed(arguments, "reason").reason
    for one in _ask("connections"):
        _ask("close", id=one["id"], reason=reason)


# Policies, virtual hosts, queues


def set_policy(arguments: list[str]) -> None:
    given = _parsed(arguments, "name", "pattern", "definition", priority="0", apply_to="all")
    _ask(
        "set_policy",
        name=given.name,
        pattern=given.pattern,
        definition=json.loads(given.definition),
        vhost=given.vhost,
        apply_to=given.apply_to,
        priority=int(given.priority),
    )


def clear_policy(arguments: list[str]) -> None:
    given = _parsed(arguments, "name")
    if not _ask("delete_policy", name=given.name, vhost=given.vhost)["deleted"]:
        raise Impossible(f"there is no policy {given.name}")


def add_vhost(arguments: list[str]) -> None:
    _ask("add_vhost", vhost=_parsed(arguments, "name").name)


def delete_vhost(arguments: list[str]) -> None:
    _ask("delete_vhost", vhost=_parsed(arguments, "name").name)


def delete_queue(arguments: list[str]) -> None:
    given = _parsed(arguments, "name")
    _ask("delete_queue", queue=given.name, vhost=given.vhost)


# Limits


def set_vm_memory_high_watermark(arguments: list[str]) -> None:
    """A part of the machine's memory, or `absolute` and bytes. RabbitMQ compares it with all that
    its process takes, so that what is less than that stops publishers.
    """
    given = [one for one in arguments if one != "absolute"]
    watermark = parse_size(given[0])
    wanted = watermark if "absolute" in arguments else Memory(watermark=watermark).bytes_max()
    _ask("set_limits", memory_bytes_max=int(wanted) if wanted >= LEAST_MEMORY_BYTES else 0)


def set_disk_free_limit(arguments: list[str]) -> None:
    _ask("set_limits", disk_free_bytes_min=int(parse_size(arguments[0])))


ALARM = re.compile(
    r"rabbit_alarm:(set|clear)_alarm\(\{+resource_limit, (memory|disk), node\(\)\}.*\)\."
)


def eval_(arguments: list[str]) -> None:
    """Of Erlang only what sets an alarm and clears it."""
    found = ALARM.fullmatch(arguments[0])
    if found is None:
        raise Impossible(f"there is no Erlang in it: {arguments[0]}")
    is_set, what = found[1] == "set", found[2]
    if what == "memory":
        _ask("set_limits", memory_bytes_max=0 if is_set else Memory().bytes_max())
    else:
        most = Disk().free_bytes_min
        _ask("set_limits", disk_free_bytes_min=EVERYTHING_BYTES if is_set else most)
        _until(lambda: _ask("limits")["disk_alarm"] is is_set, "the disk was not looked at")


# Users


def add_user(arguments: list[str]) -> None:
    given = _parsed(arguments, "name", "password")
    with _users() as users:
        users.add(given.name, given.password)


def delete_user(arguments: list[str]) -> None:
    with _users() as users:
        users.delete(_parsed(arguments, "name").name)


def set_user_tags(arguments: list[str]) -> None:
    with _users() as users:
        users.set_tags(arguments[0], tuple(arguments[1:]))


def set_permissions(arguments: list[str]) -> None:
    given = _parsed(arguments, "user", "configure", "write", "read")
    with _users() as users:
        users.set_permission(given.user, given.vhost, given.configure, given.write, given.read)


def clear_permissions(arguments: list[str]) -> None:
    given = _parsed(arguments, "user")
    with _users() as users:
        users.clear_permission(given.user, given.vhost)


def set_topic_permissions(arguments: list[str]) -> None:
    given = _parsed(arguments, "user", "exchange", "write", "read")
    patterns = (given.write, given.read)
    with _users() as users:
        users.set_topic_permission(given.user, given.vhost, given.exchange, *patterns)


def clear_topic_permissions(arguments: list[str]) -> None:
    given = _parsed(arguments, "user")
    with _users() as users:
        users.clear_topic_permission(given.user, given.vhost)


# The server itself


def _until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not happened():
        if time.monotonic() > deadline:
            raise Impossible(f"{what} in {SECONDS_MAX:.0f} s")
        time.sleep(0.02)


def _has_ended(process: int) -> bool:
    """Also when its parent, which is not this process, has not asked yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def stop_app(_arguments: list[str]) -> None:
    described = _described()
    if described["pid"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(described["pid"], signal.SIGTERM)
        _until(lambda: _has_ended(described["pid"]), "it did not end")
    Path(os.environ[VARIABLE]).write_text(json.dumps({**described, "pid": 0}))


def start_app(_arguments: list[str]) -> None:
    described = _described()
    if described["pid"]:
        return
    directory = Path(described["directory"])
    with (directory / "output.log").open("ab") as log:
        process = subprocess.Popen(
            described["command"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    Path(os.environ[VARIABLE]).write_text(json.dumps({**described, "pid": process.pid}))
    _until(lambda: _answers(described["port"]), "it did not listen")


COMMANDS = {
    function.__name__.rstrip("_"): function
    for function in (
        *(list_connections, close_connection, close_all_connections),
        *(set_policy, clear_policy, add_vhost, delete_vhost, delete_queue),
        *(set_vm_memory_high_watermark, set_disk_free_limit, eval_),
        *(add_user, delete_user, set_user_tags, set_permissions, clear_permissions),
        *(set_topic_permissions, clear_topic_permissions, stop_app, start_app),
    )
}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["-n"]:
        arguments = arguments[2:]
    name, rest = (arguments or [""])[0], arguments[1:]
    if name not in COMMANDS:
        print(f"this stand-in for rabbitmqctl does not know '{name}'", file=sys.stderr)
        return 1
    if "--help" in rest:
        print(name)
        return 0
    try:
        COMMANDS[name](rest)
    except (WherryError, Impossible) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
