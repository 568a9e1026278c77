"""pika, its blocking connection."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pika
import pika.exceptions

from python_clients.api import WAIT_SECONDS_MAX, Closed, Declared, Message, Nacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pika.adapters.blocking_connection import BlockingChannel

name = "pika"

FIELDS = [
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (
        pika.exceptions.ChannelClosedByBroker,
        pika.exceptions.ConnectionClosedByBroker,
    ) as error:
        raise Closed(error.reply_code, error.reply_text) from error
    except pika.exceptions.NackError as error:
        raise Nacked from error


def _message(method: Any, properties: pika.BasicProperties, body: bytes) -> Message:
    values = {field: getattr(properties, field) for field in FIELDS}
    return Message(
        body,
        method.delivery_tag,
        method.redelivered,
        method.exchange,
        method.routing_key,
        {field: value for field, value in values.items() if value is not None},
    )


class Channel:
    def __init__(self, connection: pika.BlockingConnection) -> None:
        self.connection = connection
        self.channel: BlockingChannel = connection.channel()
        self.returned: list[tuple[int, str, bytes]] = []
        self.cancelled: list[str] = []
        self.received: list[Message] = []
        self.channel.add_on_return_callback(
            lambda _, method, __, body: self.returned.append(
                (method.reply_code, method.reply_text, body)
            )
        )
        self.channel.add_on_cancel_callback(
            lambda frame: self.cancelled.append(frame.method.consumer_tag)
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
            ).method
        return Declared(answer.queue, answer.message_count, answer.consumer_count)

    def declare_exchange(
        self, name: str, kind: str, *, arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            self.channel.exchange_declare(name, kind, arguments=arguments)

    def bind(
        self, queue: str, exchange: str, key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            self.channel.queue_bind(queue, exchange, key, arguments=arguments)

    def delete_queue(self, name: str) -> None:
        with _translated():
            self.channel.queue_delete(name)

    def purge(self, name: str) -> int:
        return int(self.channel.queue_purge(name).method.message_count)

    def confirm(self) -> None:
        self.channel.confirm_delivery()

    def publish(
        self, exchange: str, key: str, body: bytes, *, mandatory: bool = False, **properties: Any
    ) -> None:
        with _translated():
            try:
                self.channel.basic_publish(
                    exchange, key, body, pika.BasicProperties(**properties), mandatory=mandatory
                )
            except pika.exceptions.UnroutableError as error:
                for one in error.messages:
                    self.returned.append((one.method.reply_code, one.method.reply_text, one.body))

    def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        with _translated():
            method, properties, body = self.channel.basic_get(queue, auto_ack=no_ack)
        return None if method is None else _message(method, properties, body)

    def qos(self, count: int) -> None:
        self.channel.basic_qos(prefetch_count=count)

    def consume(
        self, queue: str, *, no_ack: bool = False, arguments: dict[str, Any] | None = None
    ) -> str:
        with _translated():
            return str(
                self.channel.basic_consume(
                    queue,
                    lambda _, method, properties, body: self.received.append(
                        _message(method, properties, body)
                    ),
                    auto_ack=no_ack,
                    arguments=arguments,
                )
            )

    def next(self, seconds: float = WAIT_SECONDS_MAX) -> Message:
        deadline = time.monotonic() + seconds
        with _translated():
            while not self.received and time.monotonic() < deadline:
                self.connection.process_data_events(min(0.2, seconds))
        if not self.received:
            raise TimeoutError
        return self.received.pop(0)

    def cancel(self, tag: str) -> None:
        self.channel.basic_cancel(tag)

    def ack(self, message: Message, *, multiple: bool = False) -> None:
        self.channel.basic_ack(message.tag, multiple=multiple)

    def nack(self, message: Message, *, multiple: bool = False, requeue: bool = True) -> None:
        self.channel.basic_nack(message.tag, multiple=multiple, requeue=requeue)

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
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                host, port, heartbeat=heartbeat, blocked_connection_timeout=10
            )
        )

    def channel(self) -> Channel:
        return Channel(self.connection)

    def idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.connection.process_data_events(left)

    def is_open(self) -> bool:
        return bool(self.connection.is_open)

    def close(self) -> None:
        with contextlib.suppress(pika.exceptions.AMQPError):
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
    """pika reconnects by hand: its documentation's loop."""
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
                # A round trip, so that the ack has arrived before the cut.
                channel.declare_queue(queue, passive=True)
                bodies.append(message.body)
                if len(bodies) == 1:
                    cut()
        except pika.exceptions.AMQPConnectionError:
            pass
        finally:
            connection.close()
    return bodies
