"""The program: broker, server, database, relay, presence and web server in one process, on trio."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import hypercorn.config
import hypercorn.trio
import trio

import wherry
from wherry.server.config import Amqp, Config, Stomp

from .accounts import Accounts
from .mailboxes import POSTS, Mailboxes
from .outbox import Outbox
from .presence import Presence
from .store import Store
from .web import Connect, Web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Settings:
    """What the program is told. Port 0 is any free one."""

    directory: Path
    host: str = "127.0.0.1"
    http_port: int = 8000
    websocket_port: int = 15674
    # Where browsers reach that port, if not beside the page.
    websocket_url: str | None = None
    # Sites whose pages may connect to it; those of this machine's address may anyway.
    origins: tuple[str, ...] = ()
    mailbox_ttl_seconds: float = 7 * DAY
    # A cut cable is noticed after twice as long; the broker takes 2 seconds and above.
    heart_beat_seconds: float = 10


@dataclass(frozen=True)
class Program:
    """A program that runs."""

    url: str
    websocket_url: str
    store: Store
    broker: wherry.Broker
    server: wherry.server.Server
    outbox: Outbox


@asynccontextmanager
async def running(
    settings: Settings, *, clock: wherry.VirtualClock | None = None
) -> AsyncIterator[Program]:
    """Run until the block is left. A clock is for tests: mailboxes follow it."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    store = await trio.to_thread.run_sync(Store, settings.directory / "notifications.sqlite3")
    try:
        accounts = Accounts(store)
        async with wherry.open(settings.directory / "broker", clock=clock) as broker:
            mailboxes = Mailboxes(broker, settings.mailbox_ttl_seconds)
            await mailboxes.restore(store)
            outbox = Outbox(store, broker.exchange(POSTS))
            presence = Presence(broker)
            async with serving(settings, broker, accounts) as server:
                connect = Connect(websocket(settings, server), settings.heart_beat_seconds)
                web = Web(store, accounts, mailboxes, outbox, presence, connect)
                async with trio.open_nursery() as background:
                    background.start_soon(outbox.run)
                    background.start_soon(presence.run)
                    async with http(settings, web) as url:
                        yield Program(url, server.websocket_url, store, broker, server, outbox)
                    background.cancel_scope.cancel()
    finally:
        store.close()


@asynccontextmanager
async def http(settings: Settings, web: Web) -> AsyncIterator[str]:
    """Serve the page and its API. Requests that are under way at the end are answered."""
    config = hypercorn.config.Config()
    config.bind = [f"{in_url(settings.host)}:{settings.http_port}"]
    config.graceful_timeout = 1
    # A page that polls keeps its connection, which is cheaper for both.
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    closing = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(
            hypercorn.trio.serve, web.application(), config, shutdown_trigger=closing.wait
        )
        urls: list[str] = await nursery.start(serve)
        try:
            yield urls[0]
        finally:
            closing.set()


def serving(settings: Settings, broker: wherry.Broker, accounts: Accounts) -> wherry.server.Serving:
    """The broker's own server, for the browsers: STOMP over WebSocket, and nothing else."""
    stomp = Stomp(
        listeners=(),
        websocket_listeners=(f"{in_url(settings.host)}:{settings.websocket_port}",),
        websocket_origins=settings.origins,
    )
    config = Config(amqp=Amqp(listeners=()), stomp=stomp)
    return wherry.serve(broker, users=accounts, config=config)


def websocket(settings: Settings, server: wherry.server.Server) -> Callable[[str], str]:
    """Where a page that was loaded from some host finds the broker: there, too, as a rule."""
    port = server.addresses[0][1]
    return lambda host: settings.websocket_url or f"ws://{in_url(host)}:{port}/ws"


def in_url(host: str) -> str:
    """As URLs have it: addresses of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
