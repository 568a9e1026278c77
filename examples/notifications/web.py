"""The page and its HTTP API: log in, post, follow, history; and what the page that polls asks for.

What is pushed does not come through here: the page has a WebSocket to the broker for that.
"""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .accounts import NAME, PASSWORD_LENGTH_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .accounts import Accounts
    from .mailboxes import Mailboxes
    from .outbox import Outbox
    from .presence import Presence
    from .store import Store

    T = TypeVar("T")

HERE = Path(__file__).parent
STOMP_JS = HERE / "node_modules/@stomp/stompjs/bundles/stomp.umd.min.js"

POST_LENGTH_MAX = 500
# The longest post in JSON, and a little.
BODY_BYTES_MAX = 8 * 1024

POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)


@dataclass(frozen=True)
class Connect:
    """What a page must know to connect to the broker."""

    # For a page that was loaded from this host.
    url: Callable[[str], str]
    heart_beat_seconds: float


class Web:
    """The application's handlers."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        mailboxes: Mailboxes,
        outbox: Outbox,
        presence: Presence,
        connect: Connect,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._mailboxes = mailboxes
        self._outbox = outbox
        self._presence = presence
        self._connect = connect

    def application(self) -> Starlette:
        """For an ASGI server."""
        return Starlette(
            routes=[
                Route("/api/login", self.log_in, methods=["POST"]),
                Route("/api/logout", self.log_out, methods=["POST"]),
                Route("/api/state", self.state),
                Route("/api/posts", self.history),
                Route("/api/posts", self.post, methods=["POST"]),
                Route("/api/following/{author}", self.follow, methods=["PUT", "DELETE"]),
                Route("/api/poll", self.poll),
                Route("/vendor/stomp.js", self.stomp_js),
                Mount("/", StaticFiles(directory=HERE / "static", html=True)),
            ],
            middleware=[Middleware(Headers)],
            exception_handlers={HTTPException: refusal},
        )

    # Logging in

    async def log_in(self, request: Request) -> Response:
        """A name that is new makes a new user."""
        wanted = await body_of(request)
        name, password = wanted.get("name"), wanted.get("password")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise HTTPException(422, "A name is 1 to 32 of the letters a to z, 0 to 9 and _.")
        if not isinstance(password, str) or not 1 <= len(password) <= PASSWORD_LENGTH_MAX:
            raise HTTPException(422, f"A password has 1 to {PASSWORD_LENGTH_MAX} letters.")
        token = await in_thread(self._accounts.log_in, name, password)
        if token is None:
            raise HTTPException(401, "This name is taken, and that is not its password.")
        await self._mailboxes.open(name)
        return JSONResponse(
            {
                "name": name,
                "token": token,
                "websocket": self._connect.url(request.url.hostname or "127.0.0.1"),
                "heartBeat": self._connect.heart_beat_seconds * 1000,
            }
        )

    async def log_out(self, request: Request) -> Response:
        """The token counts no more."""
        await in_thread(self._accounts.log_out, token_of(request))
        return Response(status_code=204)

    async def _user(self, request: Request) -> str:
        user = await in_thread(self._accounts.user_of, token_of(request))
        if user is None:
            raise HTTPException(401, "Please log in.")
        return user

    # Reading

    async def state(self, request: Request) -> Response:
        """What a page shows when it (re)connects; from then on it hears of changes."""
        user = await self._user(request)
        followed = await in_thread(self._store.followed_by, user)
        everybody = await in_thread(self._store.users)
        posts = await in_thread(self._store.feed, user)
        online, changes = self._presence.online()
        people = [
            {"name": name, "online": name in online, "followed": name in followed}
            for name in everybody
            if name != user
        ]
        return JSONResponse(
            {"people": people, "changes": changes, "posts": [post.as_dict() for post in posts]}
        )

    async def history(self, request: Request) -> Response:
        """Older posts than `before`."""
        user = await self._user(request)
        before = number_of(request, "before")
        posts = await in_thread(lambda: self._store.feed(user, before=before))
        return JSONResponse({"posts": [post.as_dict() for post in posts]})

    async def poll(self, request: Request) -> Response:
        """For the page that asks again and again: posts after `after`, and who is online."""
        user = await self._user(request)
        after = number_of(request, "after")
        posts = await in_thread(lambda: self._store.feed(user, after=after))
        followed = await in_thread(self._store.followed_by, user)
        online, _ = self._presence.online()
        return JSONResponse(
            {
                "posts": [post.as_dict() for post in posts],
                "online": sorted(online & followed),
                "followed": sorted(followed),
            }
        )

    # Writing

    async def post(self, request: Request) -> Response:
        """It is in the database, and in the outbox, when this is answered."""
        user = await self._user(request)
        text = (await body_of(request)).get("text")
        if not isinstance(text, str) or not 1 <= len(text.strip()) <= POST_LENGTH_MAX:
            raise HTTPException(422, f"A post has 1 to {POST_LENGTH_MAX} letters.")
        post = await in_thread(self._store.add_post, user, text.strip(), time.time())
        self._outbox.wake()
        return JSONResponse(post.as_dict(), 201)

    async def follow(self, request: Request) -> Response:
        """PUT follows, DELETE does not any more. Both may be repeated."""
        user, author = await self._user(request), request.path_params["author"]
        if author == user:
            raise HTTPException(422, "You see your own posts anyway.")
        if await in_thread(self._store.password_hash, author) is None:
            raise HTTPException(404, f"There is nobody called {author}.")
        if request.method == "PUT":
            # The row first: what a crash leaves between the two, `Mailboxes.restore` puts right.
            await in_thread(self._store.follow, user, author)
            await self._mailboxes.follow(user, author)
        else:
            await self._mailboxes.unfollow(user, author)
            await in_thread(self._store.unfollow, user, author)
        return Response(status_code=204)

    async def stomp_js(self, request: Request) -> Response:
        """The STOMP client, as npm installed it."""
        if not STOMP_JS.exists():
            raise HTTPException(404, f"{STOMP_JS} is missing: run `npm ci` in {HERE}.")
        return FileResponse(STOMP_JS, media_type="text/javascript")


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """The database and the checking of passwords block."""
    return await trio.to_thread.run_sync(function, *arguments)


def token_of(request: Request) -> str:
    """What the page got when it logged in."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, "Please log in.")
    return token


def number_of(request: Request, name: str) -> int:
    """A number in the query."""
    text = request.query_params.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise HTTPException(422, f"'{name}' is the number of a post.")
    return int(text)


async def body_of(request: Request) -> dict[str, Any]:
    """A JSON object of a limited size."""
    body = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise HTTPException(413, "That is too long.")
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise HTTPException(422, "A JSON object is expected.")
    return value


async def refusal(request: Request, error: Exception) -> Response:
    """What the page shows to its user."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


class Headers:
    """Tells browsers to load nothing from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"same-origin"),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)
