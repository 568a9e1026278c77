"""`wherry serve`, beneath its command line: runs a server from a configuration until a signal ends
it.

SIGINT (Ctrl-C) and SIGTERM end it in order: no new connections, clients are told to go, what they
had is given back, the journal is synced. A second one waits for nobody. SIGHUP reads certificates
and users again.
"""

from __future__ import annotations

import importlib
import logging
import signal
from typing import TYPE_CHECKING

import trio

from wherry.server._serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from wherry.server._accounts import Users
    from wherry.server._server import Server
    from wherry.server.config import Config

log = logging.getLogger("wherry.server")

_END = (signal.SIGINT, signal.SIGTERM)
_RELOAD = getattr(signal, "SIGHUP", None)


async def run(
    config: Config,
    *,
    users: Users | None = None,
    ready: Callable[[Server], None] | None = None,
    beside: Callable[[Server], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal says otherwise. On trio, in the main thread.

    Args:
        users: who may log in; those of the data directory and the configuration unless given.
        ready: called when the server listens, to say so.
        beside: run as long as the server does, such as a control socket; cancelled before it ends.

    Raises:
        What entering `wherry.serve` raises, and what `beside` does.
    """
    raise_descriptor_limit()
    if config.stomp.websocket_listeners or config.stomp.websocket_tls_listeners:
        # Else the first client would have all others wait for it.
        importlib.import_module("wherry.server._websocket")
    watched = _END if _RELOAD is None else (*_END, _RELOAD)
    with trio.open_signal_receiver(*watched) as signals:
        async with Serving(
            None,
            host=None,
            port=None,
            tls=None,
            users=users,
            config=config,
            drain_seconds=None,
        ) as server:
            if ready is not None:
                ready(server)
            async with trio.open_nursery() as nursery:
                if beside is not None:
                    nursery.start_soon(beside, server)
                nursery.start_soon(_end_with, server, nursery.cancel_scope)
                async for number in signals:
                    if number in _END:
                        break
                    _reload(server)
                nursery.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hurry, server, signals)
                await server.aclose()
                nursery.cancel_scope.cancel()


async def _end_with(server: Server, scope: trio.CancelScope) -> None:
    """A server that failed needs no signal."""
    try:
        await server.wait_closed()
    finally:
        scope.cancel()


async def _hurry(server: Server, signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number in _END:
            log.warning("told a second time to end: waiting for nobody")
            server.stop_now()


def _reload(server: Server) -> None:
    try:
        server.reload()
    except Exception as error:
        log.error("reload failed, what was there before stays: %s", error)
    else:
        log.info("certificates and users were read again")


def raise_descriptor_limit() -> None:
    """Let the process have as many descriptors as it is allowed to: each connection takes one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.info("the limit of descriptors stays %d: %s", soft, error)
