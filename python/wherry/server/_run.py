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
import threading
from typing import TYPE_CHECKING

from wherry import _core
from wherry.server._settings import broker_options, from_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.server._accounts import Users
    from wherry.server._loop import Loop
    from wherry.server._server import Runner, ThreadServer
    from wherry.server.config import Config

log = logging.getLogger("wherry.server")

_END = (signal.SIGINT, signal.SIGTERM)
_RELOAD = getattr(signal, "SIGHUP", None)


def run(
    config: Config,
    *,
    users: Users | None = None,
    ready: Callable[[ThreadServer], None] | None = None,
    beside: Callable[[ThreadServer], Callable[[], None]] | None = None,
) -> None:
    """Serve until a signal says otherwise. In the main thread, with no event loop there.

    Args:
        users: who may log in; those of the data directory and the configuration unless given.
        ready: called when the server listens, to say so.
        beside: called before that, to begin what runs as long as the server does, such as a control
            socket. What it returns is called, in a thread, before the server ends.

    Raises:
        What entering `wherry.serve` raises, and what `ready` and `beside` do.
    """
    raise_descriptor_limit()
    if users is None:
        from wherry.server._accounts import default_users

        users = default_users(config.directory, config)
    opening = _Opening(config)
    try:
        # Loaded while the journal is read.
        from wherry.server import _host

        if config.stomp.websocket_listeners or config.stomp.websocket_tls_listeners:
            # Else the first client would have all others wait for it.
            importlib.import_module("wherry.server._websocket")
        importlib.import_module("wherry.server._server")
        serving = _Serving(config, opening, users, ready, beside)
        _host.run(serving.main, busy_wait_us=config.busy_wait_us)
    finally:
        opening.close()


class _Opening:
    """A broker on its way to be open, in a thread: the disk can work meanwhile."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._engine: _core.Engine | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._open, name="wherry opening", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._engine = _core.Engine(self._config.directory, **broker_options(self._config))
        except BaseException as error:
            self._error = error

    def engine(self) -> _core.Engine:
        """Wait for it."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._engine is not None
        return self._engine

    def close(self) -> None:
        """Close what was opened."""
        self._thread.join()
        if self._engine is not None:
            self._engine.close()


class _Serving:
    """One run."""

    def __init__(
        self,
        config: Config,
        opening: _Opening,
        users: Users,
        ready: Callable[[ThreadServer], None] | None,
        beside: Callable[[ThreadServer], Callable[[], None]] | None,
    ) -> None:
        self._config = config
        self._opening = opening
        self._users = users
        self._ready = ready
        self._beside = beside
        self._server: ThreadServer | None = None
        self._told: Callable[[], None] | None = None

    async def main(self, loop: Loop) -> None:
        """From the first signal that could come to the last."""
        from wherry.server._server import ThreadServer

        ending = loop.event()
        self._told = ending.set
        loop.on_signals(_END if _RELOAD is None else (*_END, _RELOAD), self._signal)
        await loop.checkpoint()
        # A signal that comes while the journal is read is looked at afterwards.
        server = ThreadServer(self._opening.engine(), from_config(self._config), self._users)
        runner = server._start_here(loop)
        self._server = server
        try:
            end_beside = self._announce(server)
            loop.spawn(self._end_with, runner)
            await ending.wait()
            if end_beside is not None:
                await loop.in_thread(end_beside)
            await runner.stop(self._config.shutdown.drain_seconds)
        except Exception:
            await runner.stop(0)
            raise
        finally:
            server._finish()
        if runner.failure is not None:
            raise runner.failure

    def _announce(self, server: ThreadServer) -> Callable[[], None] | None:
        end_beside = None if self._beside is None else self._beside(server)
        if self._ready is not None:
            self._ready(server)
        return end_beside

    async def _end_with(self, runner: Runner) -> None:
        """A server that failed needs no signal."""
        await runner.stopped.wait()
        self._end()

    def _end(self) -> bool:
        """Begin to end; false when that has been begun."""
        told, self._told = self._told, None
        if told is not None:
            told()
        return told is not None

    def _signal(self, number: int) -> None:
        if number == _RELOAD:
            self._reload()
        elif not self._end():
            log.warning("told a second time to end: waiting for nobody")
            if self._server is not None:
                self._server.stop_now()

    def _reload(self) -> None:
        if self._server is None:
            return  # what it is about to read is new
        try:
            self._server.reload()
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
