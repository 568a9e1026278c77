"""The broker of a test: started and stopped by a `with` block, looked into by the test."""

from __future__ import annotations

import contextlib
import time
import urllib.parse
from itertools import count
from typing import TYPE_CHECKING, Any, final

from wherry._core import VirtualClock
from wherry._types import QueueStatistics
from wherry.server._serving import Serving
from wherry.testing._faults import Faults
from wherry.testing._users import PlainUsers

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from types import TracebackType

    from wherry import blocking
    from wherry._types import BrowsedMessage
    from wherry.server import TLS
    from wherry.server._server import ThreadServer

USER = PASSWORD = "guest"

# Between two looks of `wait_idle`. Short beside what a test waits for, long beside a look.
_LOOK_SECONDS = 0.001


@contextlib.contextmanager
def broker(
    path: str | os.PathLike[str] | None = None,
    *,
    virtual_time: bool = False,
    tls: TLS | None = None,
    limits: dict[str, int] | None = None,
    handshakes_max: int | None = None,
    memory_bytes_max: int | None = None,
) -> Iterator[TestBroker]:
    """A broker for a test: `with wherry.testing.broker() as broker:`.

    It listens for AMQP, for STOMP and for STOMP over WebSocket, each on a free port of 127.0.0.1,
    in a thread of its own; `guest` with password `guest` may do everything.

    Args:
        path: directory of a journal, for tests of restarts; None is in memory.
        virtual_time: time-to-live, delays, retries and leases follow `broker.clock`, which stands
            still until `broker.clock.advance(...)`. Heartbeats follow real time.
        tls: speak TLS.
        limits: limits of the server that differ from the defaults, by name (docs/configuration.md).
        handshakes_max: connections that may be in their handshake at a time.
        memory_bytes_max: as for `wherry.open`.
    """
    options: dict[str, Any] = {"memory_bytes_max": memory_bytes_max}
    if virtual_time:
        options["clock"] = VirtualClock()
    users = PlainUsers({USER: PASSWORD})
    serving = Serving(
        path,
        host="127.0.0.1",
        port=0,
        stomp_port=0,
        websocket_port=0,
        tls=tls,
        users=users,
        config=None,
        drain_seconds=0,
        open_options=options,
        limits=limits,
        handshakes_max=handshakes_max,
    )
    with serving as server:
        yield TestBroker(server, users)


class _Looks:
    """What a test may look at in a virtual host."""

    _blocking: blocking.VirtualHost

    def queues(self) -> dict[str, QueueStatistics]:
        """The queues and their numbers, by name."""
        return {name: self._blocking.queue(name).statistics() for name in self._blocking.queues()}

    def messages(self, queue: str, limit: int = 1000) -> list[BrowsedMessage]:
        """The messages that are ready in a queue, in the order of delivery. Nothing is taken.

        Raises:
            UnknownQueue: there is none of this name.
        """
        return self._blocking.queue(queue).browse(limit)


@final
class TestVirtualHost(_Looks):
    """A virtual host of a test: `broker.virtual_host()`. As a `with` block it is deleted at the
    end.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, broker: TestBroker, name: str) -> None:
        self._broker = broker
        self._blocking = broker.broker.virtual_host(name)
        self.name = name
        self.amqp_url = broker.url(name)

    @property
    def host(self) -> str:
        """Where the broker listens."""
        return self._broker.host

    @property
    def port(self) -> int:
        """The port for AMQP there."""
        return self._broker.port

    @property
    def stomp_port(self) -> int:
        """The port for STOMP there. The virtual host is the `host` header of CONNECT."""
        return self._broker.stomp_port

    @property
    def blocking(self) -> blocking.VirtualHost:
        """The embedded API, for plain threads."""
        return self._blocking

    def wait_idle(self, timeout: float = 5.0) -> None:
        """As `TestBroker.wait_idle`."""
        self._broker.wait_idle(timeout)

    def delete(self) -> None:
        """Delete it with everything in it; its connections are closed. May be repeated."""
        self._broker._delete_virtual_host(self.name)

    def __enter__(self) -> TestVirtualHost:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.delete()


@final
class TestBroker(_Looks):
    """A broker of a test. Made by `wherry.testing.broker()`. All methods may be called from any
    thread.
    """

    __test__ = False

    def __init__(self, server: ThreadServer, users: PlainUsers) -> None:
        self._users = users
        self._numbers = count(1)
        self._blocking = server.broker
        self.server = server
        (self.host, self.port), (_, self.stomp_port), (_, self.websocket_port) = server.addresses
        self.faults = Faults(server)
        self.amqp_url = self.url("/")
        self.stomp_url = server.stomp_url
        self.websocket_url = server.websocket_url

    @property
    def broker(self) -> blocking.Broker:
        """The embedded API on the same queues, for plain threads."""
        return self.server.broker

    @property
    def clock(self) -> Any:
        """Its clock; with `virtual_time` it has `advance(seconds, minutes, hours, days)`."""
        return self.server.broker.clock

    def url(self, virtual_host: str, user: str = USER, password: str = PASSWORD) -> str:
        """What a client connects to."""
        scheme = self.server.urls[0].partition(":")[0]
        quoted = [urllib.parse.quote(text, safe="") for text in (user, password, virtual_host)]
        return f"{scheme}://{quoted[0]}:{quoted[1]}@{self.host}:{self.port}/{quoted[2]}"

    def virtual_host(self, name: str | None = None) -> TestVirtualHost:
        """A new virtual host for one test: what happens there is seen by nobody else. Takes well
        under a millisecond.
        """
        name = f"test-{next(self._numbers)}" if name is None else name
        self.broker.add_virtual_host(name)
        self._users.permit(name, USER)
        self._apply()
        return TestVirtualHost(self, name)

    def add_user(self, name: str, password: str) -> None:
        """A user who may go nowhere yet: see `permit`."""
        self._users.add(name, password)
        self._apply()

    def permit(
        self,
        user: str,
        virtual_host: str = "/",
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
    ) -> None:
        """Let a user into a virtual host; the patterns are regular expressions over names.

        Raises:
            ValueError: there is no such user.
        """
        self._users.permit(virtual_host, user, configure, write, read)
        self._apply()

    def _apply(self) -> None:
        self.server._hub.front.set_access(self._users.snapshot())

    def _delete_virtual_host(self, name: str) -> None:
        from wherry._errors import UnknownVirtualHost

        self.faults.drop_connections(name)
        with contextlib.suppress(UnknownVirtualHost):
            self.broker.delete_virtual_host(name)
        self._users.forget_vhost(name)
        self._apply()

    def is_idle(self) -> bool:
        """Whether there is nothing to do: no message ready or unacknowledged, no publish
        unconfirmed, nothing on its way in a socket. Messages scheduled for later do not count.
        """
        return self.server._call(self.server._hub.is_idle)

    def wait_idle(self, timeout: float = 5.0) -> None:
        """Wait until there is nothing to do; see `is_idle`.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: there is still something to do; the message says what.
        """
        deadline = time.monotonic() + timeout
        while not self.is_idle():
            if not time.monotonic() < deadline:  # neither is NaN in the future
                busy = self.server._call(self.server._hub.busy)
                raise TimeoutError(f"the broker is not idle after {timeout} s: {'; '.join(busy)}")
            time.sleep(_LOOK_SECONDS)
