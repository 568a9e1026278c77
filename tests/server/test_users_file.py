"""The file of the user store: who may read it, what is refused, other processes, crashes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from wherry import StorageError
from wherry.server.users import UserFileError, UserStore


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
