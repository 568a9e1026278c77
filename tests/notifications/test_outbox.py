"""From the database to the mailboxes: nothing is lost and nothing is doubled, whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

pytest.importorskip("hypercorn", reason="needs hypercorn and starlette: make example-install")

from notifications.outbox import BATCH, Outbox
from notifications.program import Settings, running
from notifications.store import Store

import wherry

if TYPE_CHECKING:
    from notifications.program import Program
    from notifications.store import Post

CRASHING = Path(__file__).parent / "crashing.py"


def followers(directory: Path) -> None:
    """Ada follows Bob."""
    directory.mkdir()
    store = Store(directory / "notifications.sqlite3")
    for name in ("ada", "bob"):
        store.add_user(name, "")
    store.follow("ada", "bob")
    store.close()


def settings(directory: Path) -> Settings:
    return Settings(directory, http_port=0, websocket_port=0)


async def sent(program: Program) -> list[str]:
    """What is in Ada's mailbox when the outbox is empty."""
    with trio.fail_after(20):
        await program.outbox.drained()
    assert program.store.unsent(1) == []
    messages = program.broker.queue("mailbox.ada").browse(10_000)
    return [json.loads(message.body)["text"] for message in messages]


@pytest.mark.parametrize(
    "place", [pytest.param("publish", id="after-commit"), pytest.param("mark", id="after-confirm")]
)
@pytest.mark.only("trio")
async def test_a_crash_loses_and_doubles_nothing(place: str, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    followers(directory)
    killed = await trio.run_process(
        [sys.executable, str(CRASHING), str(directory), place],
        check=False,
        stderr=subprocess.STDOUT,
    )
    assert killed.returncode == -signal.SIGKILL
    store = Store(directory / "notifications.sqlite3")
    assert len(store.unsent(10)) == 1, "it is not marked"
    store.close()
    async with running(settings(directory)) as program:
        assert await sent(program) == ["before the crash"]
        program.store.add_post("bob", "after it", 2.0)
        program.outbox.wake()
        assert await sent(program) == ["before the crash", "after it"]


@pytest.mark.only("trio")
async def test_a_failure_that_passes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.outbox.RETRY_SECONDS", 0)
    publish = Outbox.publish
    failures = iter((wherry.DiskFull("no space"), wherry.Busy("no room")))

    async def failing(self: Outbox, posts: list[Post]) -> None:
        await publish(self, posts)  # worse than not: it arrived, and the relay does not know
        for failure in failures:
            raise failure

    monkeypatch.setattr(Outbox, "publish", failing)
    followers(tmp_path / "data")
    async with running(settings(tmp_path / "data")) as program:
        program.store.add_post("bob", "once", 1.0)
        program.outbox.wake()
        assert await sent(program) == ["once"]


@pytest.mark.only("trio")
async def test_many_posts_come_in_order(tmp_path: Path) -> None:
    followers(tmp_path / "data")
    count = 2 * BATCH + 7
    async with running(settings(tmp_path / "data")) as program:
        for n in range(count):
            program.store.add_post("bob", str(n), n)
        program.store.add_post("ada", "not to herself", 0)
        program.outbox.wake()
        assert await sent(program) == [str(n) for n in range(count)]


def test_a_post_and_its_row_in_the_outbox_are_one_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite3")
    store.add_user("bob", "")
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.add_post("nobody", "x", 0)
    assert store.unsent(10) == []
    post = store.add_post("bob", "x", 0)
    assert store.unsent(10) == [post] == store.feed("bob")
    store.mark_sent([post])
    assert store.unsent(10) == []
    store.close()
