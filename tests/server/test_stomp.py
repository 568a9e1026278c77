"""STOMP over TCP and TLS, with stomp.py: what it shares with AMQP, what the server does for it."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import stomp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.testing import TestBroker

WAIT_SECONDS_MAX = 10
VERSIONS = {
    "1.0": stomp.Connection10,
    "1.1": stomp.Connection11,
    "1.2": stomp.Connection12,
}


class Told(stomp.ConnectionListener):  # type: ignore[misc]
    """What a client was told, to be waited for."""

    def __init__(self) -> None:
        self.frames: queue.Queue[Any] = queue.Queue()

    def on_message(self, frame: Any) -> None:
        self.frames.put(frame)

    on_error = on_receipt = on_message

    def on_disconnected(self) -> None:
        self.frames.put(None)

    def next(self, command: str) -> Any:
        frame = self.frames.get(timeout=WAIT_SECONDS_MAX)
        assert frame is not None, "disconnected"
        assert frame.cmd == command, frame
        return frame

    def closed(self) -> None:
        assert self.frames.get(timeout=WAIT_SECONDS_MAX) is None

    def nothing(self) -> None:
        assert self.frames.empty(), self.frames.get()


@contextmanager
def client(
    host: str,
    port: int,
    version: str = "1.2",
    *,
    user: str = "guest",
    password: str = "guest",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[tuple[Any, Told]]:
    """A connected stomp.py client, and what it was told."""
    connection = VERSIONS[version]([(host, port)], reconnect_attempts_max=1, **options)
    told = Told()
    connection.set_listener("told", told)
    connection.connect(user, password, wait=True, headers=headers or {})
    try:
        yield connection, told
    finally:
        if connection.is_connected():
            connection.disconnect()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_sends_and_gets(broker: TestBroker, version: str) -> None:
    with client(broker.host, broker.stomp_port, version) as (connection, told):
        connection.subscribe("/queue/q", id="1")
        connection.send("/queue/q", "né:\nw", headers={"a": "b"}, receipt="r")
        seen = {frame.cmd: frame for frame in (told.frames.get(timeout=5) for _ in range(2))}
        assert seen["RECEIPT"].headers["receipt-id"] == "r"
        assert seen["MESSAGE"].body == "né:\nw"
        assert seen["MESSAGE"].headers["a"] == "b"
        listed = broker.server.connections()
        assert [one["protocol"] for one in listed] == [f"STOMP {version}"]
        assert listed[0]["user"] == "guest"
        assert listed[0]["listener"] == broker.stomp_url
    broker.wait_idle()
