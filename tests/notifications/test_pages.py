"""Two people at two browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("hypercorn", reason="needs hypercorn and starlette: make example-install")
pytest.importorskip("selenium", reason="needs selenium: make example-install")

from browser import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from example import Application

# Chromium takes its time to start where two cores do everything else, too.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def two(app: Application, pages: Callable[[str], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Ada, who follows Bob, and Bob; both live."""
    ada, bob = pages(app.url)
    ada.log_in("ada")
    bob.log_in("bob")
    eventually(ada.people, {"bob": "online"})
    eventually(bob.people, {"ada": "online"})
    ada.follow("bob")
    eventually(lambda: app.program.store.follows(), [("ada", "bob")])
    eventually(ada.status, "Live")
    eventually(bob.status, "Live")
    return ada, bob


def test_a_post_is_pushed_to_who_follows(app: Application, two: tuple[Any, Any]) -> None:
    ada, bob = two
    asked = ada.requests()
    bob.post("The first one.")
    bob.post("<b>The second</b> & last one.")
    eventually(ada.unread, 2)
    assert ada.feed() == ["* bob: <b>The second</b> & last one.", "* bob: The first one."]
    assert ada.people() == {"bob": "online 2 unread"}
    assert ada.title() == "(2) Wherry notes"
    assert bob.unread() == 0
    assert bob.feed() == ["bob: <b>The second</b> & last one.", "bob: The first one."]

    ada.read("The first one.")
    eventually(ada.unread, 1)
    assert ada.people() == {"bob": "online 1 unread"}
    eventually(lambda: app.mailbox("ada").acknowledged, 1)
    assert ada.requests() == asked, "nothing was asked for: it was pushed"


def test_who_was_away_finds_what_was_missed(app: Application, two: tuple[Any, Any]) -> None:
    ada, bob = two
    ada.leave()
    eventually(bob.people, {"ada": "offline"})
    bob.post("While you were away.")
    bob.post("And then this.")
    eventually(lambda: app.mailbox("ada").ready, 2)

    ada.open()
    eventually(ada.unread, 2)
    eventually(bob.people, {"ada": "online"})
    ada.read("While you were away.")
    eventually(lambda: app.mailbox("ada").acknowledged, 1)
    ada.leave()
    ada.open()
    eventually(ada.unread, 1)
    eventually(ada.feed, ["* bob: And then this.", "bob: While you were away."])


def test_a_mailbox_forgets_when_the_time_is_over(app: Application, two: tuple[Any, Any]) -> None:
    ada, bob = two
    ada.leave()
    eventually(bob.people, {"ada": "offline"})
    bob.post("Old news.")
    eventually(lambda: app.mailbox("ada").ready, 1)
    app.clock.advance(minutes=59)
    assert app.mailbox("ada").ready == 1
    bob.post("Fresh news.")
    eventually(lambda: app.mailbox("ada").ready, 2)
    app.clock.advance(minutes=2)
    assert app.mailbox("ada").ready == 1

    ada.open()
    # The feed is the archive; what is unread is what the mailbox kept.
    eventually(ada.feed, ["* bob: Fresh news.", "bob: Old news."])
    assert ada.unread() == 1


def test_who_does_not_follow_any_more_gets_nothing_more(
    app: Application, two: tuple[Any, Any]
) -> None:
    ada, bob = two
    ada.follow("bob")
    eventually(lambda: app.program.store.follows(), [])
    bob.post("To nobody.")
    eventually(lambda: app.program.store.unsent(1), [])
    assert app.mailbox("ada").ready + app.mailbox("ada").unacked == 0
    assert ada.feed() == []


@pytest.fixture
def older_and_newer(app: Application, two: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two pages of Ada, at two machines; the older one had two posts before the newer came."""
    older, newer = two
    app.post("bob", "First")
    app.post("bob", "Second")
    eventually(older.unread, 2)
    # Here Bob logs out and Ada logs in at his.
    newer.log_out()
    eventually(older.people, {"bob": "offline 2 unread"})
    newer.log_in("ada")
    eventually(newer.unread, 2)
    eventually(older.unread, 2)
    return older, newer


def held(page: Any) -> int:
    """Unread messages that the page has from the mailbox itself."""
    return int(page.run("return page.mail.size"))


def test_pages_of_one_user_show_the_same(
    app: Application, older_and_newer: tuple[Any, Any]
) -> None:
    older, newer = older_and_newer
    assert (held(older), held(newer)) == (0, 2), "the newest page has the mail"
    app.post("bob", "Third")
    for page in older_and_newer:
        eventually(page.feed, ["* bob: Third", "* bob: Second", "* bob: First"])
    # Read at one is read at the other, and in the mailbox.
    older.read("First")
    eventually(newer.unread, 2)
    eventually(lambda: app.mailbox("ada").acknowledged, 1)
    newer.read("Second")
    eventually(older.unread, 1)
    eventually(lambda: app.mailbox("ada").acknowledged, 2)
    eventually(older.people, {"bob": "offline 1 unread"})
    assert older.feed() == newer.feed() == ["* bob: Third", "bob: Second", "bob: First"]


def test_when_the_newest_page_closes_the_next_has_the_mail(
    app: Application, older_and_newer: tuple[Any, Any]
) -> None:
    older, newer = older_and_newer
    newer.leave()
    eventually(lambda: held(older), 2)
    assert older.unread() == 2
    older.read("First")
    eventually(lambda: app.mailbox("ada").acknowledged, 1)
    newer.open()
    eventually(newer.feed, ["* bob: Second", "bob: First"])
    eventually(lambda: (held(older), held(newer)), (0, 1))
    eventually(older.unread, 1)


def test_what_an_older_page_reads_while_it_is_cut_off_is_read(
    app: Application, older_and_newer: tuple[Any, Any]
) -> None:
    older, _ = older_and_newer
    # In one go, so that the page is not back before it was read.
    older.run(
        "page.client.webSocket.close();"
        " page.client.onWebSocketClose = (event) => {"
        " page.onClose(event);"
        " page.view.read([...page.view.unread].slice(0, 1)); };"
    )
    for page in older_and_newer:
        eventually(page.unread, 1)
    eventually(lambda: app.mailbox("ada").acknowledged, 1)


def test_a_page_that_polls_sees_the_same_later(
    app: Application, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    ada, bob = pages(app.url)
    bob.log_in("bob")
    eventually(bob.status, "Live")
    ada.log_in("ada", "/?poll")
    ada.run("document.querySelector('#seconds').value = '1'")
    eventually(ada.people, {"bob": "online"})
    ada.follow("bob")
    eventually(lambda: app.program.store.follows(), [("ada", "bob")])
    asked = ada.requests()
    bob.post("Polled.")
    eventually(ada.feed, ["* bob: Polled."])
    assert ada.unread() == 1
    bob.leave()
    eventually(ada.people, {"bob": "offline 1 unread"})
    assert ada.requests() > asked
    assert app.mailbox("ada").ready == 1, "this page does not read the mailbox"


def test_a_wrong_password_is_told(
    app: Application, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    ada, bob = pages(app.url)
    ada.log_in("ada")
    eventually(ada.status, "Live")
    bob.log_in("ada", password="wrong")
    eventually(bob.error, "This name is taken, and that is not its password.")


def test_pictures_can_be_taken(two: tuple[Any, Any], tmp_path: Path) -> None:
    ada, _ = two
    ada.picture(tmp_path / "ada.png")
    assert (tmp_path / "ada.png").stat().st_size > 10_000
