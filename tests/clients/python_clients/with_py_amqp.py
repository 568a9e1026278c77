"""py-amqp, what Celery and kombu speak through."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import amqp
from amqp.exceptions import AMQPError, MessageNacked

from python_clients.api import WAIT_SECONDS_MAX, Closed, Declared, Message, Nacked, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

name = "py-amqp"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except MessageNacked as error:
        raise Nacked from error
    except AMQPError as error:
        raise Closed(error.reply_code or 0, str(error.reply_text)) from error


def _message(message: amqp.Message) -> Message:
    info = message.delivery_info
    properties = dict(message.properties)
    headers = properties.pop("application_headers", None)
    if headers is not None:
        properties["headers"] = headers
    body = message.body
    return Message(
        body.encode() if isinstance(body, str) else bytes(body),
        info["delivery_tag"],
        bool(info["redelivered"]),
        info["exchange"],
        info["routing_key"],
        properties,
        message,
    )


class Channel:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.channel = connection.channel()
        # Bodies are bytes here, whatever their content-encoding says.
        self.channel.auto_decode = False
        self.returned: list[tuple[int, str, bytes]] = []
        self.cancelled: list[str] = []
        self.received: list[Message] = []
        self.confirming = False
        self.channel.events["basic_return"].add(
            lambda error, _exchange, _key, message: self.returned.append(
                (error.reply_code, error.reply_text, bytes(message.body))
            )
        )

    def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        passive: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> Declared:
        with _translated():
            answer = self.channel.queue_declare(
                name,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments,
            )
        return Declared(*answer)

    def declare_exchange(
        self, name: str, kind: str, *, arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            self.channel.exchange_declare(name, kind, auto_delete=False, arguments=arguments)

    def bind(
        self, queue: str, exchange: str, key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            self.channel.queue_bind(queue, exchange, key, arguments=arguments)

    def delete_queue(self, name: str) -> None:
        with _translated():
            self.channel.queue_delete(name)

    def purge(self, name: str) -> int:
        return int(self.channel.queue_purge(name))

    def confirm(self) -> None:
        self.confirming = True

    def publish(
        self, exchange: str, key: str, body: bytes, *, mandatory: bool = False, **properties: Any
    ) -> None:
        headers = properties.pop("headers", None)
        if headers is not None:
            properties["application_headers"] = headers
        send = self.channel.basic_publish_confirm if self.confirming else self.channel.basic_publish
        with _translated():
            send(amqp.Message(body, **properties), exchange, key, mandatory=mandatory)

    def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        with _translated():
            message = self.channel.basic_get(queue, no_ack=no_ack)
        return None if message is None else _message(message)

    def qos(self, count: int) -> None:
        self.channel.basic_qos(0, count, False)

    def consume(
        self, queue: str, *, no_ack: bool = False, arguments: dict[str, Any] | None = None
    ) -> str:
        with _translated():
            return str(
                self.channel.basic_consume(
                    queue,
                    no_ack=no_ack,
                    callback=lambda message: self.received.append(_message(message)),
                    on_cancel=self.cancelled.append,
                    arguments=arguments,
                )
            )

    def next(self, seconds: float = WAIT_SECONDS_MAX) -> Message:
        deadline = time.monotonic() + seconds
        with _translated():
            while not self.received and time.monotonic() < deadline:
                with contextlib.suppress(socket.timeout):
                    self.connection.drain_events(timeout=min(0.2, seconds))
        if not self.received:
            raise TimeoutError
        return self.received.pop(0)

    def cancel(self, tag: str) -> None:
        self.channel.basic_cancel(tag)

    def ack(self, message: Message, *, multiple: bool = False) -> None:
        self.channel.basic_ack(message.tag, multiple=multiple)

    def nack(self, message: Message, *, multiple: bool = False, requeue: bool = True) -> None:
        raise Unsupported("py-amqp has no basic.nack to send")

    def reject(self, message: Message, *, requeue: bool = False) -> None:
        self.channel.basic_reject(message.tag, requeue=requeue)

    def recover(self) -> None:
        self.channel.basic_recover(requeue=True)

    def tx_select(self) -> None:
        self.channel.tx_select()

    def tx_commit(self) -> None:
        self.channel.tx_commit()

    def tx_rollback(self) -> None:
        self.channel.tx_rollback()

    def close(self) -> None:
        self.channel.close()


class Connection:
    def __init__(self, host: str, port: int, heartbeat: int) -> None:
        self.connection = amqp.Connection(f"{host}:{port}", heartbeat=heartbeat)
        self.connection.connect()

    def channel(self) -> Channel:
        return Channel(self.connection)

    def idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(socket.timeout):
                self.connection.drain_events(timeout=0.2)
            self.connection.heartbeat_tick()

    def is_open(self) -> bool:
        return bool(self.connection.connected)

    def close(self) -> None:
        with contextlib.suppress(AMQPError, OSError):
            self.connection.close()


def connect(host: str, port: int, *, heartbeat: int = 0) -> Connection:
    return Connection(host, port, heartbeat)


def direct_reply(connection: Connection, queue: str, body: bytes) -> bytes:
    asking, answering = connection.channel(), connection.channel()
    asking.consume("amq.rabbitmq.reply-to", no_ack=True)
    asking.publish("", queue, body, reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    answering.consume(queue)
    request = answering.next()
    answering.publish("", request.properties["reply_to"], request.body[::-1], correlation_id="7")
    return asking.next().body


def survive(host: str, port: int, queue: str, cut: Any) -> list[bytes]:
    bodies: list[bytes] = []
    while len(bodies) < 2:
        connection = Connection(host, port, 0)
        try:
            channel = connection.channel()
            channel.qos(1)
            channel.consume(queue)
            while len(bodies) < 2:
                message = channel.next()
                channel.ack(message)
                channel.declare_queue(queue, passive=True)
                bodies.append(message.body)
                if len(bodies) == 1:
                    cut()
        except (OSError, Closed):
            pass
        finally:
            connection.close()
    return bodies
