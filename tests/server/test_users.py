"""The user store: logging in, changes, imported hashes, secrets. Its file: test_users_file.py."""

from __future__ import annotations

import base64
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from wherry import InvalidArgument
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
from wherry.server.users import UnknownUser, UserExists, UserIsFixed, UserStore


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


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


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    store = UserStore(tmp_path / "users.json", fixed=[InlineUser(name="fixed", password="s3cret")])
    store.add("a", "s3cret")
    assert store.verify("fixed", "s3cret") is not None
    for value in (store, store.records(), store._users, store._fixed, store._fixed_passwords):
        assert "s3cret" not in repr(value)
        assert "argon2" not in repr(value)
