"""The user store: logging in, the file, other processes, imported hashes, secrets."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import wherry
from wherry import InvalidArgument, StorageError
from wherry.server import users_hashes as hashes
from wherry.server import users_remembered
from wherry.server.config import InlinePermission, InlineUser
from wherry.server.permissions import (
    Permission,
    TopicPermission,
    UserAccess,
    VirtualHostLimits,
    check_pattern,
)
from wherry.server.users import UnknownUser, UserExists, UserFileError, UserIsFixed, UserStore


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the hashes that were checked; checking takes no time."""
    seen: list[str] = []

    def check(algorithm: str, password_hash: str, password: str) -> bool:
        seen.append(algorithm)
        return password != "" and password_hash == f"hash of {password}"

    monkeypatch.setattr(hashes, "check", check)
    monkeypatch.setattr(hashes, "check_hash", lambda algorithm, password_hash: None)
    monkeypatch.setattr(hashes, "hash_password", lambda password: f"hash of {password}")
    monkeypatch.setattr(
        hashes, "is_outdated", lambda algorithm, password_hash: algorithm != hashes.ARGON2
    )
    return seen


def rabbit(algorithm: str, password: str, salt: bytes = b"\x01\x02\x03\x04") -> str:
    digest = hashlib.new(algorithm, salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()


# Logging in


def test_a_fresh_store_has_guest() -> None:
    store = UserStore()
    everything = Permission("/", ".*", ".*", ".*")
    guest = UserAccess("guest", ("administrator",), (everything,))
    assert store.verify("guest", "guest") == guest
    assert store.verify("guest", "Guest") is None
    assert store.list() == (guest,)


def test_who_is_not_let_in() -> None:
    store = UserStore()
    store.add("nopassword")
    for name, password in [
        ("guest", ""),
        ("nopassword", ""),
        ("nopassword", "guest"),
        ("nobody", "guest"),
        ("", ""),
        ("guest", "x" * 2000),
        ("guest", "\udcff"),
        ("\udcff", "x"),
    ]:
        assert store.verify(name, password) is None, name


def test_a_password_is_hashed_with_argon2(tmp_path: Path) -> None:
    store = UserStore(tmp_path / "users.json")
    store.add("shop", "s3cret", tags=["monitoring"])
    assert store.verify("shop", "s3cret") == UserAccess("shop", ("monitoring",))
    assert store.verify("shop", "s3cret!") is None
    text = (tmp_path / "users.json").read_text()
    assert "s3cret" not in text
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in text


@pytest.mark.parametrize("algorithm", ["md5", "sha256", "sha512"])
def test_a_hash_of_rabbitmq_is_replaced_at_the_first_login(tmp_path: Path, algorithm: str) -> None:
    store = UserStore(tmp_path / "users.json")
    name = f"rabbit_password_hashing_{algorithm}"
    store.add("old", password_hash=rabbit(algorithm, "s3cret"), hashing_algorithm=name)
    assert store.verify("old", "wrong") is None
    assert store.records()[1].hashing_algorithm == name
    assert store.verify("old", "s3cret") is not None
    again = UserStore(tmp_path / "users.json")
    assert again.records()[1].hashing_algorithm == hashes.ARGON2
    assert again.verify("old", "s3cret") is not None


def test_the_hash_that_rabbitmq_documents() -> None:
    # From RabbitMQ's page on passwords: salt 908D C60A, password "test12".
    known = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    assert hashes.check("rabbit_password_hashing_sha256", known, "test12")
    assert not hashes.check("rabbit_password_hashing_sha256", known, "test13")


def test_every_check_costs_one_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []

    class Hasher:
        def verify(self, password_hash: str, password: bytes) -> bool:
            verified.append(password_hash)
            return True

    monkeypatch.setattr(hashes, "_hasher", Hasher)
    own = "$argon2id$own"
    cases = [
        (hashes.ARGON2, own, "x"),
        ("rabbit_password_hashing_sha256", rabbit("sha256", "x"), "x"),
        ("rabbit_password_hashing_sha256", rabbit("sha256", "x"), "y"),
        ("", "", "x"),
        (hashes.ARGON2, own, ""),
        (hashes.ARGON2, "", "x"),
    ]
    assert [hashes.check(*case) for case in cases] == [True, True, False, False, False, False]
    assert len(verified) == len(cases)


def test_an_unknown_user_costs_a_check(checks: list[str]) -> None:
    store = UserStore()
    store.verify("nobody", "x")
    store.verify("guest", "x")
    assert checks == ["", hashes.ARGON2]


def test_a_right_password_is_remembered_for_a_while(checks: list[str]) -> None:
    clock = Clock()
    store = UserStore(now=clock)
    store.add("shop", "right")
    for _ in range(3):
        assert store.verify("shop", "right") is not None
    assert len(checks) == 1
    for _ in range(2):
        assert store.verify("shop", "wrong") is None
    assert len(checks) == 3
    clock.seconds = users_remembered.REMEMBERED_SECONDS
    store.verify("shop", "right")
    assert len(checks) == 4


def test_what_is_remembered_goes_with_the_password(checks: list[str]) -> None:
    store = UserStore()
    store.add("shop", "one")
    assert store.verify("shop", "one") is not None
    store.set_password("shop", "two")
    assert store.verify("shop", "one") is None
    assert store.verify("shop", "two") is not None
    store.delete("shop")
    assert store.verify("shop", "two") is None


def test_what_is_remembered_is_bounded(checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_remembered, "REMEMBERED_MAX", 2)
    store = UserStore()
    for name in "abc":
        store.add(name, name)
        store.verify(name, name)
    checks.clear()
    for name in "bc":
        store.verify(name, name)
    assert checks == []
    store.verify("a", "a")
    assert len(checks) == 1
    assert len(store._remembered) == 2


def test_so_many_are_checked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = UserStore(verifications_max=2)
    inside = threading.Barrier(3, timeout=10)
    leave = threading.Event()
    running = 0
    most = 0
    lock = threading.Lock()

    def check(*_: str) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if not leave.is_set():
            inside.wait()
            leave.wait(10)
        with lock:
            running -= 1
        return False

    monkeypatch.setattr(hashes, "check", check)
    threads = [threading.Thread(target=store.verify, args=("a", "b")) for _ in range(6)]
    for thread in threads:
        thread.start()
    inside.wait()  # two are in there, and this thread
    leave.set()
    for thread in threads:
        thread.join(10)
    assert most == 2


# Users of the configuration


def test_users_of_the_configuration(tmp_path: Path) -> None:
    fixed = [
        InlineUser(name="shop", password="right", permissions=(InlinePermission(vhost="v"),)),
        InlineUser(name="hashed", password_hash=hashes.hash_password("right")),
    ]
    store = UserStore(tmp_path / "users.json", fixed=fixed)
    assert [user.name for user in store.list()] == ["hashed", "shop"]
    for name in ("shop", "hashed"):
        assert store.verify(name, "right") is not None
        assert store.verify(name, "wrong") is None
        assert store.verify(name, "") is None
    assert store.list()[1].permissions == (Permission("v", ".*", ".*", ".*"),)
    for change in (
        lambda: store.delete("shop"),
        lambda: store.set_password("shop", "x"),
        lambda: store.set_tags("shop", ()),
        lambda: store.put("shop"),
    ):
        with pytest.raises(UserIsFixed, match="part of the configuration"):
            change()
    with pytest.raises(UserExists):
        store.add("shop", "x")
    # Without them guest does not come into being later.
    assert UserStore(tmp_path / "users.json").list() == ()


def test_a_user_of_the_configuration_hides_one_of_the_file(tmp_path: Path) -> None:
    UserStore(tmp_path / "users.json").add("shop", "of the file")
    store = UserStore(
        tmp_path / "users.json", fixed=[InlineUser(name="shop", password="of the configuration")]
    )
    assert store.verify("shop", "of the file") is None
    assert store.verify("shop", "of the configuration") is not None
    assert [user.name for user in store.list()] == ["guest", "shop"]


def test_what_is_wrong_with_a_user_of_the_configuration_is_said() -> None:
    with pytest.raises(InvalidArgument, match="user 'a' of the configuration: the password hash"):
        UserStore(fixed=[InlineUser(name="a", password_hash="no")])
    bad = InlinePermission(write="(")
    with pytest.raises(InvalidArgument, match="user 'a' of the configuration: "):
        UserStore(fixed=[InlineUser(name="a", password="x", permissions=(bad,))])


# Changing


def test_permissions_tags_and_limits(checks: list[str], tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    store = UserStore(path)
    store.add("shop", "x")
    store.set_permission("shop", "v", "", "^shop-", ".*")
    store.set_permission("shop", "/", ".*", ".*", ".*")
    store.set_permission("shop", "/", "a", "b", "c")
    store.set_topic_permission("shop", "/", "amq.topic", r"^{username}\.", r"^{vhost}\.")
    store.set_tags("shop", ["monitoring", "own tag"])
    store.set_limits("shop", max_connections=3, max_channels=0)
    store.set_vhost_limits("v", max_connections=7, max_queues=9)
    shop = UserAccess(
        "shop",
        ("monitoring", "own tag"),
        (Permission("/", "a", "b", "c"), Permission("v", "", "^shop-", ".*")),
        (TopicPermission("/", "amq.topic", r"^{username}\.", r"^{vhost}\."),),
        3,
        0,
    )
    for one in (store, UserStore(path)):
        table = one.snapshot()
        assert table.users[1] == shop
        assert table.vhost_limits == (VirtualHostLimits("v", 7, 9),)
    assert store.snapshot().as_dict()["users"][1]["permissions"][0]["write"] == "b"

    store.clear_permission("shop", "v")
    store.clear_topic_permission("shop", "/", "other")
    assert len(store.list()[1].topic_permissions) == 1
    store.clear_topic_permission("shop", "/")
    store.set_vhost_limits("v")
    assert store.list()[1].permissions == (Permission("/", "a", "b", "c"),)
    assert store.list()[1].topic_permissions == ()
    assert store.snapshot().vhost_limits == ()
    store.forget_vhost("/")
    assert all(user.permissions == () for user in UserStore(path).list())


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.add("", "x"),
        lambda store: store.add("a" * 256, "x"),
        lambda store: store.add("a\n", "x"),
        lambda store: store.add("a", ""),
        lambda store: store.add("a", "x" * 1025),
        lambda store: store.add("a", "x", password_hash="y"),
        lambda store: store.add("a", password_hash="y"),
        lambda store: store.add("a", "x", tags=["a,b"]),
        lambda store: store.add("a", "x", tags=["t"] * 33),
        lambda store: store.set_password("guest", ""),
        lambda store: store.set_permission("guest", "", "", "", ""),
        lambda store: store.set_permission("guest", "/", "(", "", ""),
        lambda store: store.set_topic_permission("guest", "/", "e", "[", ""),
        lambda store: store.set_limits("guest", max_channels=-1),
        lambda store: store.set_vhost_limits("v", max_queues=-1),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(change: Any, tmp_path: Path) -> None:
    store = UserStore(tmp_path / "users.json")
    before = (tmp_path / "users.json").read_bytes()
    with pytest.raises(InvalidArgument):
        change(store)
    assert (tmp_path / "users.json").read_bytes() == before


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("argon2", "$argon2id$nonsense"),
        ("argon2", "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43),
        ("argon2", "$argon2id$v=19$m=1024,t=1000,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43),
        ("rabbit_password_hashing_sha256", "not base64!"),
        ("rabbit_password_hashing_sha256", base64.b64encode(b"short").decode()),
        ("crypt", "x"),
    ],
)
def test_a_hash_that_is_none_is_refused_and_not_repeated(algorithm: str, value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        UserStore().add("a", password_hash=value, hashing_algorithm=algorithm)
    assert value not in str(caught.value)


def test_users_that_are_not_there() -> None:
    store = UserStore()
    with pytest.raises(UserExists, match="'guest'"):
        store.add("guest", "x")
    for change in (
        lambda: store.delete("nobody"),
        lambda: store.set_password("nobody", "x"),
        lambda: store.set_permission("nobody", "/", "", "", ""),
    ):
        with pytest.raises(UnknownUser, match="wherry users add nobody"):
            change()


@pytest.mark.parametrize("pattern", ["", ".*", "^a|b$", r"^\w+\.\d{3}$", "(?i)x", "[^*]"])
def test_patterns(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a" * 5000, "(?=x)", r"(a)\1", "(?<!x)y"])
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        check_pattern(pattern)


def test_changes_together_are_one_change(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    store = UserStore(path)
    heard: list[int] = []
    store.on_change(lambda: heard.append(len(store.snapshot().users)))
    with store.together():
        store.add("a")
        store.set_permission("a", "/", "", "", "")
        with pytest.raises(UserExists):
            store.add("a")
        assert [user.name for user in UserStore(path).list()] == ["guest"]
    assert heard == [2]

    def fail() -> None:
        with store.together():
            store.delete("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [user.name for user in UserStore(path).list()] == ["a", "guest"]
    store.delete("a")
    assert heard == [2, 1]


def test_callbacks_hear_of_changes_only(tmp_path: Path) -> None:
    store = UserStore(tmp_path / "users.json")
    heard: list[int] = []
    store.on_change(lambda: heard.append(len(store.snapshot().users)))
    store.set_tags("guest", ["administrator"])
    assert heard == []
    store.add("a")
    store.delete("a")
    assert heard == [2, 1]


# The file and other processes


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = UserStore(tmp_path / "data" / "users.json")
    store.add("a", "b")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
    assert modes == {"users.json": 0o600, "users.lock": 0o600}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    UserStore(path)
    path.chmod(0o640)
    with pytest.raises(UserFileError, match=r"-rw-r-----.*chmod 600"):
        UserStore(path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    UserStore(tmp_path / "real.json")
    (tmp_path / "users.json").symlink_to(tmp_path / "real.json")
    with pytest.raises(UserFileError, match="symbolic link"):
        UserStore(tmp_path / "users.json")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "users.json")
    with pytest.raises(UserFileError, match="not a regular file"):
        UserStore(tmp_path / "users.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 2}',
        '{"version": 1, "users": [{"name": "s3cret"}]}',
        '{"version": 1, "users": [], "more": 1}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UserFileError, match=r"users\.json (is damaged|has version)") as caught:
        UserStore(path)
    assert "s3cret" not in str(caught.value)
    assert path.read_text() == text


def test_a_user_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    UserStore(path)
    content = json.loads(path.read_text())
    content["users"] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(UserFileError, match="a user is in it twice"):
        UserStore(path)


def test_two_stores_see_each_other(checks: list[str], tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    server, tool = UserStore(path), UserStore(path)
    heard: list[str] = []
    server.on_change(lambda: heard.append("change"))
    assert server.refresh() is False
    tool.add("shop", "x")
    assert server.verify("shop", "x") is not None
    assert heard == ["change"]
    assert server.refresh() is False
    # A change keeps what another process changed meanwhile.
    server.add("other", "y")
    tool.add("third", "z")
    names = ["guest", "other", "shop", "third"]
    assert [user.name for user in UserStore(path).list()] == names
    assert tool.exists("other")
    assert not tool.exists("nobody")


def test_a_file_that_becomes_unreadable_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users.json"
    store = UserStore(path)
    path.write_text("{")
    for _ in range(3):
        assert store.refresh() is False
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert store.verify("guest", "guest") is not None
    with pytest.raises(UserFileError):
        store.add("a", "b")
    assert path.read_text() == "{"
    path.unlink()
    store.refresh()
    assert "is gone" in caplog.records[1].getMessage()


def test_a_file_that_goes_is_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "users.json"
    store = UserStore(path)
    path.unlink()
    for _ in range(3):
        assert store.refresh() is False
    assert ["is gone" in record.getMessage() for record in caplog.records] == [True]
    assert store.verify("guest", "guest") is not None


def test_to_read_again_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    with wherry.serve(tmp_path, port=0) as server:
        server.reload()
        good = tmp_path / "good.json"
        path.rename(good)
        path.write_text("{")
        for _ in range(2):  # though it is logged once
            with pytest.raises(UserFileError, match="its former users stay"):
                server.reload()
        good.rename(path)  # as it was
        server.reload()
        path.unlink()
        with pytest.raises(UserFileError, match="is gone"):
            server.reload()


def test_many_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    UserStore(path)
    code = (
        "import sys; from pathlib import Path; from wherry.server.users import UserStore\n"
        "store = UserStore(Path(sys.argv[1]))\n"
        "for n in range(20): store.add(f'{sys.argv[2]}-{n}')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)])
        for number in range(3)
    ]
    store = UserStore(path)
    for n in range(20):
        store.add(f"here-{n}")
    assert [process.wait(25) for process in processes] == [0, 0, 0]
    assert len(store.list()) == 81


def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users.json"
    store = UserStore(path)

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(StorageError, match="No space left"):
            store.add("a", "b")
    assert [user.name for user in store.list()] == ["guest"]
    assert [user.name for user in UserStore(path).list()] == ["guest"]
    store.add("a", "b")
    assert [user.name for user in UserStore(path).list()] == ["a", "guest"]


def test_both_names_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = UserStore(tmp_path / "users.json")
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        steps.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def traced_replace(old: Path, new: Path) -> None:
        steps.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    store.add("a")
    assert steps == ["sync users.json.new", "replace", f"sync {tmp_path.name}"]


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    store = UserStore(tmp_path / "users.json", fixed=[InlineUser(name="fixed", password="s3cret")])
    store.add("a", "s3cret")
    assert store.verify("fixed", "s3cret") is not None
    for value in (store, store.records(), store._users, store._fixed, store._fixed_passwords):
        assert "s3cret" not in repr(value)
        assert "argon2" not in repr(value)
