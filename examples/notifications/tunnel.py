"""STOMP over WebSocket: from a page, through the web server that served it, to the broker.

The page needs one port only, and one certificate, whatever it is served with. Bytes go through as
they are; the broker asks for the login, and speaks for itself.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio
from starlette.websockets import WebSocketDisconnect

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

PROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")

CHUNK = 64 * 1024


class Tunnel:
    """Leads WebSockets to a port of the broker."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def lead(self, websocket: WebSocket) -> None:
        """Until either end has enough."""
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(next((one for one in PROTOCOLS if one in offered), None))
        async with (
            await trio.open_tcp_stream(self._host, self._port) as stream,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(to_broker, websocket, stream, nursery.cancel_scope)
            nursery.start_soon(to_page, websocket, stream, nursery.cancel_scope)


async def to_broker(
    websocket: WebSocket, stream: trio.SocketStream, ended: trio.CancelScope
) -> None:
    """What the page says."""
    with contextlib.suppress(WebSocketDisconnect, trio.BrokenResourceError):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                break
            await stream.send_all(message.get("bytes") or (message.get("text") or "").encode())
    ended.cancel()


async def to_page(websocket: WebSocket, stream: trio.SocketStream, ended: trio.CancelScope) -> None:
    """What the broker says."""
    with contextlib.suppress(WebSocketDisconnect, trio.BrokenResourceError):
        while data := await stream.receive_some(CHUNK):
            await websocket.send_bytes(bytes(data))
        await websocket.close()
    ended.cancel()
