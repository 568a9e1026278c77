"""aio-pika over aiormq, on an event loop that runs while a call waits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aio_pika
import aiormq.exceptions
from aio_pika.exceptions import DeliveryError

from python_clients.api import WAIT_SECONDS_MAX, Closed, Declared, Message, Nacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

name = "aio-pika"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except aiormq.exceptions.DeliveryError as error:
        if error.message is None or error.message.delivery is None:
            raise Nacked from error
        raise
    except (aiormq.exceptions.AMQPChannelError, aiormq.exceptions.AMQPConnectionError) as error:
        code, text = getattr(error, "reply_code", 0), getattr(error, "reply_text", "") or str(error)
        raise Closed(code or _code(error, text), text) from error


def _code(error: Exception, text: str) -> int:
    """aiormq keeps the number in the class of its exception."""
    for kind, code in (
        (aiormq.exceptions.ChannelAccessRefused, 403),
        (aiormq.exceptions.ChannelNotFoundEntity, 404),
        (aiormq.exceptions.ChannelLockedResource, 405),
        (aiormq.exceptions.ChannelPreconditionFailed, 406),
    ):
        if isinstance(error, kind):
            return code
    return 0


def _message(native: Any) -> Message:
    # `header.properties` is what came over the wire; aio-pika's own attributes are converted.
    wire = native.header.properties if hasattr(native, "header") else native.properties
    values = {key: value for key, value in wire if value is not None}
    renamed = {"message_type": "type"}
    return Message(
        native.body,
        native.delivery_tag,
        bool(native.redelivered),
        native.exchange,
        native.routing_key,
        {renamed.get(key, key): value for key, value in values.items()},
        native,
    )


class Channel:
    def __init__(self, connection: Connection, *, confirms: bool = False) -> None:
        self.owner = connection
        self.run = connection.run
        self.returned: list[tuple[int, str, bytes]] = []
        self.cancelled: list[str] = []
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.queues: dict[str, Any] = {}
        self._open(confirms)

    def _open(self, confirms: bool) -> None:
        self.channel = self.run(self.owner.connection.channel, publisher_confirms=confirms)
        self.channel.return_callbacks.add(
            lambda _, message: self.returned.append(
                (message.reply_code, message.reply_text, message.body)
                if hasattr(message, "reply_code")
                else (312, "NO_ROUTE", message.body)
            )
        )

    def _queue(self, name: str) -> Any:
        return self.run(self.channel.get_queue, name, ensure=False)

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
            queue = self.run(
                self.channel.declare_queue,
                name or None,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                passive=passive,
                arguments=arguments,
            )
        result = queue.declaration_result
        return Declared(queue.name, result.message_count, result.consumer_count)

    def declare_exchange(
        self, name: str, kind: str, *, arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            self.run(self.channel.declare_exchange, name, kind, arguments=arguments)

    def bind(
        self, queue: str, exchange: str, key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        with _translated():
            self.run(self._queue(queue).bind, exchange, key, arguments=arguments)

    def delete_queue(self, name: str) -> None:
        with _translated():
            self.run(self._queue(name).delete, if_unused=False, if_empty=False)

    def purge(self, name: str) -> int:
        return int(self.run(self._queue(name).purge).message_count)

    def confirm(self) -> None:
        self.run(self.channel.close)
        self._open(True)

    def publish(
        self, exchange: str, key: str, body: bytes, *, mandatory: bool = False, **properties: Any
    ) -> None:
        async def publish() -> None:
            target = (
                await self.channel.get_exchange(exchange, ensure=False)
                if exchange
                else self.channel.default_exchange
            )
            expiration = properties.pop("expiration", None)
            if expiration is not None:
                properties["expiration"] = int(expiration) / 1000
            await target.publish(aio_pika.Message(body, **properties), key, mandatory=mandatory)

        with _translated():
            try:
                self.run(publish)
            except DeliveryError as error:
                if error.message is None:
                    raise
                # In confirm mode a returned message is raised as well as given to the callback.

    def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        with _translated():
            message = self.run(self._queue(queue).get, no_ack=no_ack, fail=False)
        return None if message is None else _message(message)

    def qos(self, count: int) -> None:
        self.run(self.channel.set_qos, prefetch_count=count)

    def consume(
        self, queue: str, *, no_ack: bool = False, arguments: dict[str, Any] | None = None
    ) -> str:
        async def arrived(message: Any) -> None:
            self.received.put_nowait(_message(message))

        async def consume() -> str:
            underlay = await self.channel.get_underlay_channel()
            underlay.closing.add_done_callback(lambda _: None)
            target = await self.channel.get_queue(queue, ensure=False)
            tag = await target.consume(arrived, no_ack=no_ack, arguments=arguments)
            self.queues[tag] = target
            return str(tag)

        with _translated():
            return self.run(consume)

    def next(self, seconds: float = WAIT_SECONDS_MAX) -> Message:
        try:
            return self.run(asyncio.wait_for, self.received.get(), seconds)
        except asyncio.TimeoutError:
            raise TimeoutError from None

    def cancel(self, tag: str) -> None:
        self.run(self.queues.pop(tag).cancel, tag)

    def ack(self, message: Message, *, multiple: bool = False) -> None:
        if message.native.processed:
            # aio-pika's message allows one answer; a rolled back one must be given again.
            self.run(self.run(self._underlay).basic_ack, message.tag, multiple=multiple)
        else:
            self.run(message.native.ack, multiple=multiple)

    def nack(self, message: Message, *, multiple: bool = False, requeue: bool = True) -> None:
        self.run(message.native.nack, multiple=multiple, requeue=requeue)

    def reject(self, message: Message, *, requeue: bool = False) -> None:
        self.run(message.native.reject, requeue=requeue)

    async def _underlay(self) -> Any:
        return await self.channel.get_underlay_channel()

    def recover(self) -> None:
        self.run(self.run(self._underlay).basic_recover, requeue=True)

    def tx_select(self) -> None:
        self.run(self.run(self._underlay).tx_select)

    def tx_commit(self) -> None:
        self.run(self.run(self._underlay).tx_commit)

    def tx_rollback(self) -> None:
        self.run(self.run(self._underlay).tx_rollback)

    def close(self) -> None:
        self.run(self.channel.close)


class Connection:
    def __init__(self, host: str, port: int, heartbeat: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.connection = self.run(
            aio_pika.connect, f"amqp://guest:guest@{host}:{port}/?heartbeat={heartbeat}"
        )

    def run(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call and await on the loop: aio-pika wants to be on it already when it is called."""

        async def run() -> Any:
            return await call(*args, **options)

        return self.loop.run_until_complete(run())

    def channel(self) -> Channel:
        return Channel(self)

    def idle(self, seconds: float) -> None:
        self.run(asyncio.sleep, seconds)

    def is_open(self) -> bool:
        return not self.connection.is_closed

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.run(self.connection.close)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                self.run(asyncio.wait_for, task, 1)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


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
    """`connect_robust`, which restores channels and consumers by itself."""

    async def main() -> list[bytes]:
        bodies: list[bytes] = []
        connection = await aio_pika.connect_robust(
            f"amqp://guest:guest@{host}:{port}/", reconnect_interval=0.1
        )
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        target = await channel.declare_queue(queue)
        first, last = asyncio.Event(), asyncio.Event()

        async def arrived(message: Any) -> None:
            # Whether the ack arrived before the cut nobody knows: the message may
            # come a second time.
            with contextlib.suppress(aiormq.exceptions.AMQPError, ConnectionError):
                await message.ack()
            bodies.append(message.body)
            first.set()
            if message.body == b"2":
                last.set()

        await target.consume(arrived)
        await asyncio.wait_for(first.wait(), WAIT_SECONDS_MAX)
        cut()
        await asyncio.wait_for(last.wait(), WAIT_SECONDS_MAX)
        # It may be in the middle of connecting again, which its close() does not expect.
        with contextlib.suppress(Exception):
            await connection.close()
        return bodies

    return asyncio.run(main())
