"""The HTTP API refuses what it must, in words for the user; and the database behind it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("hypercorn", reason="needs hypercorn and starlette: make example-install")

from example import application
from notifications.accounts import Accounts, access_of
from notifications.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from example import Application


class Client:
    """Speaks HTTP with the program."""

    def __init__(self, app: Application) -> None:
        self._url = app.url
        self.token = ""

    def ask(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> Any:
        """Status and JSON."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def log_in(self, name: str, password: str = "x") -> Client:
        status, answer = self.ask("POST", "/api/login", {"name": name, "password": password})
        assert status == 200
        self.token = answer["token"]
        return self


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Ada", "password": "x"},
        {"name": "a.b", "password": "x"},
        {"name": "", "password": "x"},
        {"name": "a" * 33, "password": "x"},
        {"name": "ada", "password": ""},
        {"name": "ada", "password": "x" * 201},
        {"name": 7, "password": 7},
        [],
    ],
)
def test_who_cannot_log_in_is_told_why(app: Application, body: object) -> None:
    status, answer = Client(app).ask("POST", "/api/login", body)
    assert status == 422
    assert answer["error"]
    assert app.program.store.users() == []


def test_a_session_ends_with_logging_out(app: Application) -> None:
    client = Client(app)
    assert client.ask("GET", "/api/state")[0] == 401
    client.log_in("ada")
    assert client.ask("GET", "/api/state")[0] == 200
    assert client.ask("POST", "/api/logout") == (204, None)
    assert client.ask("GET", "/api/state")[0] == 401
    assert Client(app).ask("POST", "/api/login", {"name": "ada", "password": "y"})[0] == 401


def test_what_cannot_be_posted_or_followed_is_refused(app: Application) -> None:
    ada = Client(app).log_in("ada")
    assert ada.ask("POST", "/api/posts", {"text": "  "})[0] == 422
    assert ada.ask("POST", "/api/posts", {"text": "x" * 501})[0] == 422
    assert ada.ask("POST", "/api/posts", raw=b"{")[0] == 422
    assert ada.ask("POST", "/api/posts", raw=b"x" * 10_000)[0] == 413
    assert ada.ask("PUT", "/api/following/ada")[0] == 422
    assert ada.ask("PUT", "/api/following/nobody")[0] == 404
    assert ada.ask("GET", "/api/posts?before=x")[0] == 422
    assert ada.ask("GET", "/api/poll")[0] == 422
    assert ada.ask("GET", "/nowhere")[0] == 404
    assert app.program.store.feed("ada") == []


def test_history_comes_in_pages(app: Application) -> None:
    ada = Client(app).log_in("ada")
    for n in range(60):
        app.post("ada", str(n))
    _, state = ada.ask("GET", "/api/state")
    assert [post["text"] for post in state["posts"]] == [str(n) for n in range(59, 9, -1)]
    _, older = ada.ask("GET", f"/api/posts?before={state['posts'][-1]['id']}")
    assert [post["text"] for post in older["posts"]] == [str(n) for n in range(9, -1, -1)]
    _, news = ada.ask("GET", f"/api/poll?after={state['posts'][0]['id']}")
    assert news == {"posts": [], "online": [], "followed": []}


def test_tokens_are_not_kept_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "x.sqlite3")
    accounts = Accounts(store)
    changes: list[None] = []
    accounts.on_change(lambda: changes.append(None))
    token = accounts.log_in("ada", "x")
    assert token is not None
    assert len(changes) == 1
    assert accounts.verify("ada", token) == access_of("ada")
    assert accounts.snapshot().users == (access_of("ada"),)
    assert accounts.verify("bob", token) is None
    assert accounts.verify("ada", "x") is None, "the password is not for the broker"
    assert accounts.log_in("ada", "y") is None
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    monkeypatch.setattr("notifications.accounts.SESSION_SECONDS", -1)
    over = accounts.log_in("ada", "x")
    assert over is not None
    assert accounts.user_of(over) is None
    store.close()


def test_a_new_user_is_added_to_what_the_broker_knows(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite3")
    for name in ("ada", "eve"):
        store.add_user(name, "")
    accounts = Accounts(store)
    before = accounts.snapshot().users
    accounts.log_in("bob", "x")
    after = accounts.snapshot().users
    assert after == tuple(access_of(name) for name in ("ada", "bob", "eve"))
    assert [user for user in after if user.name != "bob"] == list(before)
    assert after[0] is before[0], "nothing is made anew for the others"
    store.close()


def test_a_page_finds_the_broker_where_it_was_loaded_from(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with application(tmp_path / "data", host="::1") as app:
        assert app.url.startswith("http://[::1]:")
        answer = Client(app).ask("POST", "/api/login", {"name": "ada", "password": "x"})[1]
        assert answer["websocket"] == app.program.websocket_url
        assert answer["websocket"].startswith("ws://[::1]:")
