"""`wherry.serve` as it is imported with the package: the server is loaded when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    import ssl

    from wherry import blocking
    from wherry._broker import Broker
    from wherry.server import TLS, Serving, Users
    from wherry.server.config import Config


def serve(
    target: str | os.PathLike[str] | Broker | blocking.Broker | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    stomp_port: int | None = None,
    websocket_port: int | None = None,
    tls: TLS | ssl.SSLContext | None = None,
    users: Users | None = None,
    config: Config | None = None,
    drain_seconds: float | None = None,
) -> Serving:
    """Serve AMQP 0-9-1, and STOMP if asked to: `async with wherry.serve("orders.wherry") as server`
    under trio and asyncio, `with wherry.serve() as server:` in plain threads. Under trio it runs on
    that loop, else in a thread of its own.

    Leaving the block tells the clients to go, waits a little for them, and closes. `async with`
    lets the loop run meanwhile. `with` on a thread that runs an event loop does not wait, since
    clients on that loop could not answer.

    Args:
        target: directory of the journal; None is a broker in memory; or a broker that is open,
            which stays open. `server.broker` is the embedded API on the same queues.
        host: address to listen on; a name stands for all its addresses. 127.0.0.1 unless given or
            configured.
        port: 5672 unless given or configured, 5671 with `tls`; 0 lets the system choose.
        stomp_port: speak STOMP, too, on this port of the same address, with TLS if there is `tls`;
            0 lets the system choose. Usually 61613, 61614 with TLS. Unless given, STOMP is spoken
            only if it is configured, and `host` and `port` are not given.
        websocket_port: the same for STOMP over WebSocket, at the path `/ws`. Usually 15674.
        tls: speak TLS there: a `wherry.server.TLS`, or a context of your own.
        users: who may log in. Unless given: the file `users.json` in the directory; in memory
            `guest` with password `guest`, from this machine only.
        config: a configuration, as `wherry serve` reads it. Arguments given here win.
        drain_seconds: how long to wait for clients at the end.

    Raises (when entered):
        OSError: an address cannot be listened on, a certificate cannot be read.
        ValueError: settings that contradict each other.
        WrongLoop: `async with` outside trio and asyncio.
        What `wherry.open` raises.
    """
    from wherry.server._serving import Serving

    return Serving(
        target,
        host=host,
        port=port,
        stomp_port=stomp_port,
        websocket_port=websocket_port,
        tls=tls,
        users=users,
        config=config,
        drain_seconds=drain_seconds,
    )
