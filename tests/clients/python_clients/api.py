"""What a scenario asks of a client: blocking calls, one thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

WAIT_SECONDS_MAX = 10.0
"""How long a message or an answer may take before the scenario fails."""


class Unsupported(Exception):
    """This client has no such call."""


class Closed(Exception):
    """The channel or connection was closed: the server's code (0 if it just went away) and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Nacked(Exception):
    """A confirm said no."""


class Cancelled(Exception):
    """The server ended a consumer, by a client that tells so by an exception; the text is the
    tag.
    """


@dataclass
class Message:
    """A delivery or the answer to get. `properties` has what was set only, `headers` among it."""

    body: bytes
    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: dict[str, Any] = field(default_factory=dict)
    native: Any = None

    @property
    def headers(self) -> dict[str, Any]:
        headers: dict[str, Any] = self.properties.get("headers") or {}
        return headers


@dataclass
class Declared:
    name: str
    messages: int
    consumers: int


class Channel(Protocol):
    returned: list[tuple[int, str, bytes]]
    """Code, text and body of each message that came back."""
    cancelled: list[str]
    """Tags of consumers that the server ended."""

    def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        passive: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> Declared: ...
    def declare_exchange(
        self, name: str, kind: str, *, arguments: dict[str, Any] | None = None
    ) -> None: ...
    def bind(
        self, queue: str, exchange: str, key: str = "", arguments: dict[str, Any] | None = None
    ) -> None: ...
    def delete_queue(self, name: str) -> None: ...
    def purge(self, name: str) -> int: ...
    def confirm(self) -> None: ...
    def publish(
        self, exchange: str, key: str, body: bytes, *, mandatory: bool = False, **properties: Any
    ) -> None:
        """In confirm mode returns when it is confirmed; raises `Nacked`."""

    def get(self, queue: str, *, no_ack: bool = False) -> Message | None: ...
    def qos(self, count: int) -> None: ...
    def consume(
        self, queue: str, *, no_ack: bool = False, arguments: dict[str, Any] | None = None
    ) -> str: ...
    def next(self, seconds: float = WAIT_SECONDS_MAX) -> Message:
        """The next delivery to any consumer of this channel; `TimeoutError`."""

    def cancel(self, tag: str) -> None: ...
    def ack(self, message: Message, *, multiple: bool = False) -> None: ...
    def nack(self, message: Message, *, multiple: bool = False, requeue: bool = True) -> None: ...
    def reject(self, message: Message, *, requeue: bool = False) -> None: ...
    def recover(self) -> None: ...
    def tx_select(self) -> None: ...
    def tx_commit(self) -> None: ...
    def tx_rollback(self) -> None: ...
    def close(self) -> None: ...


class Connection(Protocol):
    def channel(self) -> Channel: ...
    def idle(self, seconds: float) -> None:
        """Let the client do its own work (heartbeats) for this long."""

    def is_open(self) -> bool: ...
    def close(self) -> None:
        """Never raises, also when the connection is gone."""


class Client(Protocol):
    name: str

    def connect(self, host: str, port: int, *, heartbeat: int = 0) -> Connection: ...
    def direct_reply(self, connection: Connection, queue: str, body: bytes) -> bytes:
        """Ask through `amq.rabbitmq.reply-to`; another channel of `connection` answers
        with the body reversed.
        """

    def survive(self, host: str, port: int, queue: str, cut: Any) -> list[bytes]:
        """Consume `queue` with what the client offers for reconnecting; `cut()` is called
        after the first message.
        """
