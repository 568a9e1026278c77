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


def test_the_newest_page_of_a_user_gets_the_mail(app: Application, two: tuple[Any, Any]) -> None:
    ada, bob = two
    # The same person at two machines: here Bob logs out and Ada logs in at his.
    bob.log_out()
    eventually(ada.people, {"bob": "offline"})
    bob.log_in("ada")
    eventually(lambda: app.mailbox("ada").consumers, 2)
    app.post("bob", "Whoever sees this")
    eventually(bob.unread, 1)
    assert ada.unread() == 0
    bob.leave()
    eventually(ada.unread, 1)


def test_a_page_that_polls_sees_the_same_later(
    app: Application, pages: Callable[[str], tuple[Any, Any]]
) -> None:
    ada, bob = pages(app.url)
    bob.log_in("bob")
    eventually(bob.status, "Live")
    ada.log_in("ada", "/poll.html")
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
