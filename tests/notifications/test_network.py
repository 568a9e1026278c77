"""Pages are cut off, and find their way back by themselves; and what they may not do."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("hypercorn", reason="needs hypercorn and starlette: make example-install")
pytest.importorskip("selenium", reason="needs selenium: make example-install")

from browser import eventually
from example import EXAMPLE, application

from wire.brokers import free_port
from wire.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from example import Application

pytestmark = pytest.mark.timeout(120)


def test_a_cable_that_was_pulled_is_noticed_on_both_ends(
    tmp_path: Path, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    port = free_port()
    with (
        Proxy("127.0.0.1", port) as cable,
        # Heart-beats as often as the broker takes them: half a minute would be the same, later.
        application(
            tmp_path / "data",
            websocket_port=port,
            websocket_url=f"ws://127.0.0.1:{cable.port}/ws",
            heart_beat_seconds=2,
        ) as app,
    ):
        ada, bob = pages(app.url)
        ada.log_in("ada")
        eventually(ada.status, "Live")
        bob.log_in("bob")
        eventually(ada.people, {"bob": "online"})
        ada.follow("bob")
        eventually(lambda: app.program.store.follows(), [("ada", "bob")])

        cable.hold()
        eventually(ada.status, "Connecting …")
        eventually(bob.status, "Connecting …")
        eventually(lambda: app.mailbox("ada").consumers, 0)
        app.post("bob", "Nobody hears this now.")
        eventually(lambda: app.mailbox("ada").ready, 1)
        cable.release()
        eventually(ada.unread, 1)
        eventually(ada.status, "Live")
        eventually(ada.people, {"bob": "online 1 unread"})


def test_what_is_read_while_cut_off_is_read(
    app: Application, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    ada, bob = pages(app.url)
    bob.log_in("bob")
    ada.log_in("ada")
    eventually(ada.people, {"bob": "online"})
    ada.follow("bob")
    eventually(lambda: app.program.store.follows(), [("ada", "bob")])
    app.post("bob", "Read me.")
    app.post("bob", "Not me.")
    eventually(ada.unread, 2)
    # In one go, so that the page is not back before it was read.
    ada.run(
        "page.client.webSocket.close();"
        " page.client.onWebSocketClose = (event) => {"
        " page.onClose(event);"
        " page.view.read([...page.view.unread].slice(0, 1)); };"
    )
    eventually(lambda: app.mailbox("ada").acknowledged, 1)
    eventually(ada.feed, ["* bob: Not me.", "bob: Read me."])


@contextmanager
def program(directory: Path, http_port: int, websocket_port: int) -> Iterator[str]:
    """The program as people run it; killed (SIGKILL) at the end. Its URL."""
    command = [sys.executable, "-m", "notifications", "--directory", str(directory)]
    command += ["--http-port", str(http_port), "--websocket-port", str(websocket_port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=EXAMPLE.parent
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            match = re.search(r"http://[^/]+", process.stdout.readline())
            assert match is not None
            yield match[0]
        finally:
            process.send_signal(signal.SIGKILL)


def test_pages_come_back_to_a_program_that_was_killed(
    tmp_path: Path, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    where = tmp_path / "data", free_port(), free_port()
    with program(*where) as url:
        ada, bob = pages(url)
        bob.log_in("bob")
        ada.log_in("ada")
        eventually(ada.people, {"bob": "online"})
        ada.follow("bob")
        eventually(
            lambda: ada.run("return document.querySelectorAll('[aria-pressed=true]').length"), 1
        )
        bob.post("Before.")
        bob.post("Read before.")
        eventually(ada.unread, 2)
        ada.read("Read before.")
        eventually(ada.unread, 1)
    eventually(ada.status, "Connecting …")
    with program(*where):
        eventually(ada.status, "Live")
        eventually(bob.status, "Live")
        eventually(ada.people, {"bob": "online 1 unread"})
        bob.post("After.")
        eventually(ada.feed, ["* bob: After.", "bob: Read before.", "* bob: Before."])
        assert ada.unread() == 2


READ = """
const [destination, headers, done] = arguments;
const session = JSON.parse(sessionStorage.getItem('session'));
const client = new StompJs.Client({
  brokerURL: session.websocket,
  connectHeaders: { host: '/', login: session.name, passcode: session.token },
  reconnectDelay: 0,
  onConnect: () => {
    if (headers.send) client.publish({ destination, body: 'x', headers: { receipt: 'r' } });
    else client.subscribe(destination, () => {}, { id: 'x', receipt: 'r' });
    client.watchForReceipt('r', () => { client.deactivate(); done('allowed'); });
  },
  onStompError: (frame) => { client.deactivate(); done(frame.body || frame.headers.message); },
});
client.activate();
"""


FORBIDDEN = [
    ("/amq/queue/mailbox.bob", False),
    ("/queue/mailbox.bob", False),
    ("/exchange/posts/bob", False),
    ("/topic/anything", False),
    ("/queue/mailbox.bob", True),
    ("/amq/queue/mailbox.bob", True),
    ("/exchange/posts/bob", True),
    ("/exchange/presence", True),
    ("/exchange/pages/bob", False),
    ("/exchange/pages/%23", False),
    ("/exchange/pages/*", False),
    ("/exchange/pages", False),
    ("/exchange/pages/bob", True),
    ("/exchange/pages", True),
]


def test_a_browser_may_read_its_own_mailbox_and_nothing_else(
    app: Application, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    ada, bob = pages(app.url)
    bob.log_in("bob")
    ada.log_in("ada")
    eventually(ada.people, {"bob": "online"})
    assert ada.run_later(READ, "/amq/queue/mailbox.ada", {}) == "allowed"
    for send in (False, True):
        assert ada.run_later(READ, "/exchange/pages/ada", {"send": send}) == "allowed"
    for destination, send in FORBIDDEN:
        answer = ada.run_later(READ, destination, {"send": send})
        assert "refused" in answer, (destination, send)
