"""kombu's own objects (Exchange, Queue, Producer, Consumer) over its py-amqp transport."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import kombu
from amqp.exceptions import AMQPError, ConsumerCancelled, MessageNacked

from python_clients.api import (
    WAIT_SECONDS_MAX,
    Cancelled,
    Closed,
    Declared,
    Message,
    Nacked,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

name = "kombu"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except MessageNacked as error:
        raise Nacked from error
    except ConsumerCancelled as error:
        raise Cancelled(str(error.reply_text)) from error
    except AMQPError as error:
        raise Closed(error.reply_code or 0, str(error.reply_text)) from error


def _message(message: Any) -> Message:
    info = message.delivery_info
    properties = dict(message.properties)
    properties.pop("application_headers", None)
    if message.headers:
        properties["headers"] = message.headers
    properties["content_type"] = message.content_type
    properties["content_encoding"] = message.content_encoding
    body = message.body
    return Message(
        body.encode() if isinstance(body, str) else bytes(body),
        message.delivery_tag,
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
        self.returned: list[tuple[int, str, bytes]] = []
        self.cancelled: list[str] = []
        self.received: list[Message] = []
        self.consumers: dict[str, Any] = {}
        self.producer = kombu.Producer(self.channel, auto_declare=False, on_return=self._on_return)

    def _on_return(self, error: Any, _exchange: str, _key: str, message: Any) -> None:
        body = message.body
        self.returned.append(
            (error.reply_code, error.reply_text, body if isinstance(body, bytes) else body.encode())
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
        queue = kombu.Queue(
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            queue_arguments=arguments,
        )(self.channel)
        with _translated():
            if passive:
                return Declared(*self.channel.queue_declare(name, passive=True))
            return Declared(*queue.queue_declare())

    def declare_exchange(
        self, name: str, kind: str, *, arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            kombu.Exchange(name, kind, durable=False, arguments=arguments)(self.channel).declare()

    def bind(
        self, queue: str, exchange: str, key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            kombu.Queue(queue)(self.channel).bind_to(exchange, key, arguments=arguments)

    def delete_queue(self, name: str) -> None:
        with _translated():
            kombu.Queue(name)(self.channel).delete()

    def purge(self, name: str) -> int:
        return int(kombu.Queue(name)(self.channel).purge())

    def confirm(self) -> None:
        raise Unsupported("kombu confirms by a transport option of the whole connection")

    def publish(
        self, exchange: str, key: str, body: bytes, *, mandatory: bool = False, **properties: Any
    ) -> None:
        content_type = properties.pop("content_type", "application/data")
        content_encoding = properties.pop("content_encoding", "binary")
        if "expiration" in properties:
            # kombu takes seconds.
            properties["expiration"] = int(properties["expiration"]) / 1000
        if isinstance(properties.get("timestamp"), float):
            properties["timestamp"] = int(properties["timestamp"])
        with _translated():
            self.producer.publish(
                body,
                routing_key=key,
                exchange=exchange,
                mandatory=mandatory,
                delivery_mode=properties.pop("delivery_mode", 1),
                content_type=content_type,
                content_encoding=content_encoding,
                **properties,
            )

    def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        with _translated():
            message = kombu.Queue(queue)(self.channel).get(no_ack=no_ack)
        return None if message is None else _message(message)

    def qos(self, count: int) -> None:
        self.channel.basic_qos(0, count, False)

    def consume(
        self, queue: str, *, no_ack: bool = False, arguments: dict[str, Any] | None = None
    ) -> str:
        consumer = kombu.Consumer(
            self.channel,
            [kombu.Queue(queue, no_declare=True, consumer_arguments=arguments)],
            no_ack=no_ack,
            auto_declare=False,
            on_message=lambda message: self.received.append(_message(message)),
            accept=None,
        )
        with _translated():
            consumer.consume()
        (tag,) = consumer._active_tags.values()
        self.consumers[tag] = consumer
        return str(tag)

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
        self.consumers.pop(tag).cancel()

    def ack(self, message: Message, *, multiple: bool = False) -> None:
        if message.native.acknowledged:
            # kombu's message allows one answer; a rolled back one must be given again.
            self.channel.basic_ack(message.tag, multiple)
        else:
            message.native.ack(multiple)

    def nack(self, message: Message, *, multiple: bool = False, requeue: bool = True) -> None:
        raise Unsupported("kombu has no basic.nack to send")

    def reject(self, message: Message, *, requeue: bool = False) -> None:
        message.native.reject(requeue=requeue)

    def recover(self) -> None:
        with kombu.Consumer(self.channel, auto_declare=False) as consumer:
            consumer.recover(requeue=True)

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
        self.connection = kombu.Connection(
            hostname=host,
            port=port,
            userid="guest",
            password="guest",
            transport="pyamqp",
            heartbeat=heartbeat,
        )
        self.connection.connect()

    def channel(self) -> Channel:
        return Channel(self.connection)

    def idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(socket.timeout):
                self.connection.drain_events(timeout=0.2)
            self.connection.heartbeat_check()

    def is_open(self) -> bool:
        return bool(self.connection.connected)

    def close(self) -> None:
        with contextlib.suppress(AMQPError, OSError):
            self.connection.release()


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
    """`kombu.mixins.ConsumerMixin`, which reconnects by itself."""
    from kombu.mixins import ConsumerMixin

    bodies: list[bytes] = []

    class Worker(ConsumerMixin):  # type: ignore[misc]
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
            channel.basic_qos(0, 1, False)
            return [
                consumer(
                    [kombu.Queue(queue, no_declare=True)],
                    on_message=self.on_message,
                    auto_declare=False,
                )
            ]

        def on_message(self, message: Any) -> None:
            # Whether the ack arrived before the cut nobody knows: the message may
            # come a second time.
            message.ack()
            bodies.append(bytes(message.body))
            if len(bodies) == 1:
                cut()
            self.should_stop = bodies[-1] == b"2"

    with kombu.Connection(hostname=host, port=port, transport="pyamqp") as connection:
        Worker(connection).run()
    return bodies
