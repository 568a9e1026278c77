"""Who gets in, from where, what is left of them when they are shut out, and what the log says."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import wherry.testing
from hostile.guarded import Guarded
from wherry.server._connection import is_loopback
from wherry.testing import _users
from wire import brokers, codec
from wire.peer import Peer, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = ["correct-horse-battery", "wrong-horse-battery", "amqplain-horse-battery"]


@pytest.fixture(scope="module")
def broker() -> Iterator[Any]:
    if brokers.CHOICE != "wherry":
        pytest.skip("users are changed while they are connected")
    with wherry.testing.broker() as started:
        yield Guarded(started)


# After revocation.


def test_permission_that_is_taken_counts_at_the_next_method(broker: Guarded) -> None:
    broker.user("ann")
    with connect(broker.host, broker.port, user="ann", password="ann") as peer:
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        queue = peer.call(1, "queue.declare", exclusive=True).queue
        # Each is done once, so that an answer is kept that must not be used again.
        peer.publish(1, "", queue, b"m")
        assert peer.expect(1).name == "basic.ack"
        assert peer.call(1, "basic.get", queue=queue, no_ack=True).body == b"m"
        broker.user("ann", "^nothing$", "^nothing$", "^nothing$")
        for method, fields in {
            "basic.get": {},
            "basic.consume": {},
            "queue.purge": {},
            "queue.delete": {},
            "queue.bind": {"exchange": "amq.direct"},
        }.items():
            answer = peer.call(1, method, queue=queue, **fields)
            assert (answer.name, answer.code) == ("channel.close", 403), (method, answer)
            peer.send(1, "channel.close-ok")
            peer.open_channel(1)
        peer.publish(1, "", queue, b"m")
        assert peer.expect(1).code == 403


def test_publisher_that_goes_on_is_stopped(broker: Guarded) -> None:
    """Also on the channel that keeps the exchange it published to last."""
    broker.user("bob")
    with connect(broker.host, broker.port, user="bob", password="bob") as peer:
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        peer.publish(1, "amq.topic", "k", b"m")
        assert peer.expect(1).name == "basic.ack"
        broker.topic("bob", "amq.topic", "^other$", "")
        peer.publish(1, "amq.topic", "k", b"m")
        assert peer.expect(1).code == 403
        peer.send(1, "channel.close-ok")
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        peer.publish(1, "amq.topic", "other", b"m")
        assert peer.expect(1).name == "basic.ack"
        broker.user("bob", "", "^$", "")
        peer.publish(1, "amq.topic", "other", b"m")
        assert peer.expect(1).code == 403


@pytest.mark.parametrize(
    ("how", "ending"), [("shut_out", ("channel.close", 403)), ("delete", ("connection.close", 320))]
)
def test_consumer_that_only_listens_is_ended(
    how: str, ending: tuple[str, int], broker: Guarded
) -> None:
    broker.user(f"carl-{how}")
    with (
        connect(broker.host, broker.port, user=f"carl-{how}", password=f"carl-{how}") as peer,
        connect(broker.host, broker.port) as owner,
    ):
        peer.open_channel(1)
        owner.open_channel(1)
        queue = f"seen-{how}"
        owner.call(1, "queue.declare", queue=queue)
        peer.call(1, "basic.consume", queue=queue, consumer_tag="c")
        getattr(broker, how)(f"carl-{how}")
        answer = peer.read(5)
        assert (answer.name, answer.code) == ending, answer
        deadline = time.monotonic() + 5
        while owner.call(1, "queue.declare", queue=queue, passive=True).consumer_count:
            assert time.monotonic() < deadline
        assert owner.call(1, "queue.delete", queue=queue).name == "queue.delete-ok"
    with Peer(broker.host, broker.port) as again:
        assert again.handshake(user=f"carl-{how}", password=f"carl-{how}").code == 530


# From where.


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "::FFFF:7f00:1", "::1%lo"]
)
def test_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "128.0.0.1",
        "0.0.0.0",
        "::",
        "::2",
        "::ffff:10.0.0.1",
        "::ffff:128.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1%lo",
        "fe80::7f00:1%eth0",
        "fe80::1%127.0.0.1",
        "127.evil.example",
        "localhost",
        "",
    ],
)
def test_addresses_of_others(host: str) -> None:
    assert not is_loopback(host)


NEAR, FAR = "10.213.77.1", "10.213.77.2"

ASK = """
import sys
from wire.peer import Peer
for user in ("guest", "dora"):
    with Peer(sys.argv[1], int(sys.argv[2])) as peer:
        answer = peer.handshake(user=user, password=user)
        print(user, answer.name, answer.fields.get("code", 0))
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A machine of its own, as far as addresses go, with a cable to this one."""
    name = f"wherry-{brokers.free_port()}"
    link = name.replace("wherry", "wh")
    if shutil.which("ip") is None:
        pytest.skip("no iproute2")
    try:
        ip("netns", "add", name)
    except subprocess.SubprocessError as reason:
        pytest.skip(f"no network namespaces: {reason}")
    try:
        try:
            ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", name)
            ip("addr", "add", f"{NEAR}/30", "dev", link)
            ip("link", "set", link, "up")
            ip("-n", name, "addr", "add", f"{FAR}/30", "dev", "far")
            ip("-n", name, "link", "set", "far", "up")
        except subprocess.SubprocessError as reason:
            pytest.skip(f"no pair of virtual cables: {reason}")
        yield name
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            ip("link", "del", link)
        ip("netns", "del", name)


def users_file(**permitted: str) -> str:
    return "".join(
        f'[[users]]\nname = "{name}"\npassword = "{password}"\n'
        for name, password in permitted.items()
    )


class Configured:
    """A server from a configuration with users, in a process; its log is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, listener: str, users: str) -> None:
        directory: list[Path] = []
        spawn = brokers._spawn

        def with_users(command: list[str], where: Path, environment: dict[str, str]) -> Any:
            path = where / "wherry.toml"
            path.write_text(path.read_text() + users)
            path.chmod(0o600)
            directory.append(where)
            return spawn(command, where, environment)

        monkeypatch.setattr(brokers, "_spawn", with_users)
        port = brokers.free_port()
        options = {
            "amqp.listeners": [f"{host}:{port}" for host in {"127.0.0.1", listener}],
            "log.level": "debug",
        }
        self.broker = brokers.start("wherry", port=port, options=options)
        self.directory = directory[0]


def test_guest_from_another_machine(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Configured(monkeypatch, NEAR, users_file(guest="guest", dora="dora"))
    with server.broker as broker:
        answers = subprocess.run(
            ["ip", "netns", "exec", namespace, sys.executable, "-c", ASK, NEAR, str(broker.port)],
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout
        assert answers.splitlines() == ["guest connection.close 403", "dora connection.open-ok 0"]
        # The peer's address counts, not the listener's.
        with Peer(NEAR, broker.port) as peer:
            assert peer.handshake().code == 403
        with connect("127.0.0.1", broker.port) as peer:
            peer.open_channel(1)


# With what.


def test_empty_passwords_and_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong, amqplain = SECRETS
    server = Configured(monkeypatch, "127.0.0.1", users_file(eve=right))
    with server.broker as broker:
        with connect(broker.host, broker.port, user="eve", password=right) as peer:
            peer.open_channel(1)
            peer.call(1, "queue.declare", queue="q", durable=True)
            peer.call(0, "connection.update-secret", new_secret=right, reason="expires")
            peer.raw(b"\xff" * 64)
            assert peer.read().code == 501
        for user, password in (("eve", wrong), ("eve", ""), ("", ""), ("", right), (right, "")):
            with Peer(broker.host, broker.port) as peer:
                answer = peer.handshake(user=user, password=password)
                assert (answer.name, answer.code) == ("connection.close", 403)
                assert not any(secret in answer.text for secret in SECRETS)
        # Words of a login in every place but their own, and cut off.
        for response in (f"eve\0{right}", f"\0eve\0{right}\0", right, f"\0{right}", ""):
            with Peer(broker.host, broker.port) as peer:
                assert start_ok(peer, "PLAIN", response.encode()) in (403, 0)
        table = codec.table({"LOGIN": "eve", "PASSWORD": amqplain})[4:]
        with Peer(broker.host, broker.port) as peer:
            assert start_ok(peer, "AMQPLAIN", table) == 403
        text = (server.directory / "output.log").read_text(errors="replace")
        assert text.count("refused") >= 5, text
        said = [secret for secret in SECRETS if secret in text.replace(f"login of '{right}'", "")]
        assert said == []
        command = Path(f"/proc/{broker.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{broker.pid}/environ").read_bytes()
        assert right.encode() not in command + environment


def start_ok(peer: Peer, mechanism: str, response: bytes) -> int:
    """The code of what refuses it; 0 for the end of the socket."""
    peer.raw(codec.PROTOCOL_HEADER)
    assert peer.read().name == "connection.start"
    answer = peer.call(
        0,
        "connection.start-ok",
        client_properties={"capabilities": {"authentication_failure_close": True}},
        mechanism=mechanism,
        response=response,
        locale="en_US",
    )
    assert answer.name in ("connection.close", "eof"), answer
    return int(answer.fields.get("code", 0))


def test_a_user_without_password_has_no_empty_one() -> None:
    users = wherry.server.UserStore()
    users.add("fay")
    for password in ("", "fay", "\0"):
        assert users.verify("fay", password) is None
    assert json.dumps(repr(users)).find("argon2") == -1
    with pytest.raises(wherry.InvalidArgument):
        users.add("gus", "")
    assert _users.PlainUsers({"hal": ""}).verify("hal", "") is None
