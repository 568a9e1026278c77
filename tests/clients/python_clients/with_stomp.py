"""stomp.py: versions 1.0, 1.1 and 1.2 over TCP, and 1.2 over WebSocket."""

from __future__ import annotations

import contextlib
import itertools
import queue
from dataclasses import dataclass
from typing import Any

import stomp
from stomp.exception import ConnectFailedException

from python_clients.api import WAIT_SECONDS_MAX, Closed


@dataclass
class Frame:
    headers: dict[str, str]
    body: bytes


class Listener(stomp.ConnectionListener):  # type: ignore[misc]
    """Frames as they come, in queues that can be waited on; None is the end."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Frame | None] = queue.Queue()
        self.receipts: queue.Queue[Frame | None] = queue.Queue()
        self.errors: queue.Queue[Frame | None] = queue.Queue()
        self.connected: queue.Queue[Frame | None] = queue.Queue()

    def on_connected(self, frame: Any) -> None:
        self.connected.put(plain(frame))

    def on_message(self, frame: Any) -> None:
        self.messages.put(plain(frame))

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(plain(frame))

    def on_error(self, frame: Any) -> None:
        self.errors.put(plain(frame))

    def on_disconnected(self) -> None:
        for waiting in (self.messages, self.receipts, self.errors):
            waiting.put(None)


def plain(frame: Any) -> Frame:
    return Frame(dict(frame.headers), frame.body or b"")


def taken(waiting: queue.Queue[Frame | None], what: str) -> Frame:
    try:
        frame = waiting.get(timeout=WAIT_SECONDS_MAX)
    except queue.Empty:
        raise TimeoutError(what) from None
    if frame is None:
        raise Closed(0, f"the connection ended while waiting for a {what}")
    return frame


class Connection:
    connected: Frame

    def __init__(self, client: Any, version: str) -> None:
        self.client = client
        self.version = version
        self.listener = Listener()
        client.set_listener("scenario", self.listener)
        self._receipts = itertools.count(1)

    def receipt(self, send: Any, *arguments: Any, **headers: Any) -> None:
        """Call with a receipt, and wait for it."""
        wanted = f"r-{next(self._receipts)}"
        send(*arguments, receipt=wanted, **headers)
        got = taken(self.listener.receipts, "receipt")
        assert got.headers["receipt-id"] == wanted

    def send(self, destination: str, body: Any = b"m", headers: Any = None, **more: str) -> None:
        """And wait for the receipt."""
        self.receipt(self.client.send, destination, body, headers=headers, **more)

    def subscribe(self, destination: str, id: str = "1", ack: str = "auto", **more: Any) -> None:
        headers = {name.replace("_", "-"): str(item) for name, item in more.items()}
        self.receipt(self.client.subscribe, destination, id, ack, headers)

    def unsubscribe(self, id: str = "1", **headers: str) -> None:
        self.receipt(self.client.unsubscribe, id=id, headers=headers)

    def next(self) -> Frame:
        return taken(self.listener.messages, "message")

    def error(self) -> Frame:
        return taken(self.listener.errors, "error")

    def settle(self, command: str, frame: Frame, *, wait: bool = True, **headers: str) -> None:
        """ACK or NACK, and wait for the receipt. That of one in a transaction comes with COMMIT."""
        wanted = f"r-{next(self._receipts)}"
        more = {"receipt": wanted, **headers}
        if self.version == "1.2":
            more["id"] = frame.headers["ack"]
        else:
            more["message-id"] = frame.headers["message-id"]
        if self.version == "1.1":
            more["subscription"] = frame.headers["subscription"]
        self.client.send_frame(command, more)
        if not wait:
            return
        assert taken(self.listener.receipts, "receipt").headers["receipt-id"] == wanted

    def ack(self, frame: Frame, **headers: str) -> None:
        self.settle("ACK", frame, **headers)

    def nack(self, frame: Frame, **headers: str) -> None:
        self.settle("NACK", frame, **headers)

    def is_open(self) -> bool:
        return bool(self.client.is_connected())

    def ended(self) -> None:
        """Wait until the server has closed."""
        with contextlib.suppress(Closed):
            while True:
                taken(self.listener.messages, "message")

    def disconnect(self) -> None:
        """With a receipt, and wait for it. stomp.py tells of the end first."""
        self.client.disconnect(receipt="bye")
        with contextlib.suppress(Closed):
            taken(self.listener.receipts, "receipt")
            raise AssertionError("the connection goes on")
        assert taken(self.listener.receipts, "receipt").headers["receipt-id"] == "bye"

    def close(self) -> None:
        """Never raises, also when the connection is gone."""
        try:
            self.client.remove_listener("scenario")
            self.client.disconnect()
        except Exception:
            pass
        self.client.transport.stop()


class Client:
    def __init__(self, version: str, *, web: bool = False) -> None:
        self.name = "stomp.py"
        self.version = version
        self.web = web

    def connect(
        self,
        host: str,
        port: int,
        *,
        login: str = "guest",
        passcode: str = "guest",
        beats_ms: tuple[int, int] = (0, 0),
    ) -> Connection:
        made: dict[str, Any] = {
            "auto_decode": False,
            "host_and_ports": [(host, port)],
            "reconnect_attempts_max": 1,
        }
        if self.version != "1.0":
            made |= {"vhost": "/", "heartbeats": beats_ms}
        if self.web:
            client = stomp.WSStompConnection(ws_path="/ws", binary_mode=True, **made)
        else:
            kind = {
                "1.0": stomp.Connection10,
                "1.1": stomp.Connection11,
                "1.2": stomp.Connection12,
            }[self.version]
            client = kind(**made)
        connection = Connection(client, self.version)
        try:
            client.connect(login, passcode, wait=True)
        except ConnectFailedException:
            client.transport.stop()
            raise Closed(0, connection.error().headers.get("message", "")) from None
        connection.connected = taken(connection.listener.connected, "CONNECTED")
        return connection


CLIENTS = {
    "stomp.py-1.0": Client("1.0"),
    "stomp.py-1.1": Client("1.1"),
    "stomp.py-1.2": Client("1.2"),
    "stomp.py-ws": Client("1.2", web=True),
}
