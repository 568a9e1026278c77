"""`wherry publish` and `wherry consume`: an AMQP client for shells and scripts.

They speak to any AMQP 0-9-1 server, through pika: pure Python, nothing else to install, its URLs
and TLS options are documented, and its blocking connection answers heartbeats while it waits.
(py-amqp, the other maintained one, brings a promise library and leaves heartbeats to the caller.)
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pika
    from pika.adapters.blocking_connection import BlockingChannel

DEFAULT_URL = "amqp://guest:guest@localhost:5672/%2F"

url_option = click.option(
    "--url",
    envvar="WHERRY_URL",
    default=DEFAULT_URL,
    show_default="amqp://guest:guest@localhost:5672/%2F",
    help="The server: amqp(s)://user:password@host:port/vhost. On machines with other users give it"
    " as WHERRY_URL: they can see command lines.",
)


@contextlib.contextmanager
def _channel(url: str) -> Iterator[tuple[pika.BlockingConnection, BlockingChannel]]:
    """A channel; what goes wrong with it becomes a line without the URL's password."""
    import pika
    from pika import exceptions

    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, LookupError):
        raise click.BadParameter(
            "that is no URL of the form amqp://user:password@host:port/vhost", param_hint="--url"
        ) from None
    where = f"{parameters.host}:{parameters.port}"
    try:
        connection = pika.BlockingConnection(parameters)
    except exceptions.ProbableAuthenticationError:
        raise click.ClickException(f"{where}: user or password is wrong") from None
    except exceptions.ProbableAccessDeniedError as error:
        raise click.ClickException(f"{where}: {_reason(error)}") from None
    except (exceptions.AMQPConnectionError, OSError) as error:
        reason = _reason(error)
        if "[SSL: WRONG_VERSION_NUMBER]" in reason:
            raise click.ClickException(
                f"{where} answers, but not in TLS: is its port for TLS another one,"
                " or is the URL to begin with amqp:// ?"
            ) from None
        raise click.ClickException(
            f"no AMQP server answers at {where}: {reason}. `wherry serve` starts one"
        ) from None
    try:
        try:
            yield connection, connection.channel()
        finally:
            # Else to close it would be the error that is seen, and not why it is closed.
            if connection.is_open:
                connection.close()
    except (exceptions.AMQPChannelError, exceptions.AMQPConnectionError) as error:
        raise click.ClickException(_reason(error)) from None


def _reason(error: BaseException) -> str:
    text = getattr(error, "reply_text", None)
    if text:
        return f"{error.reply_code} {text}"  # type: ignore[attr-defined]
    inner = error.args[0] if error.args else None
    while isinstance(inner, BaseException):
        error, inner = inner, (inner.args[0] if inner.args else None)
    found = getattr(error, "exception", None)
    return (
        _reason(found) if isinstance(found, BaseException) else (str(error) or type(error).__name__)
    )


def _bodies(messages: tuple[str, ...], lines: bool) -> Iterator[bytes]:
    if messages:
        yield from (message.encode() for message in messages)
    elif lines:
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n").removesuffix(b"\r")
    else:
        yield sys.stdin.buffer.read()


def _headers(texts: tuple[str, ...]) -> dict[str, Any] | None:
    headers: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", param_hint="--header")
        try:
            headers[name] = json.loads(value)
        except ValueError:
            headers[name] = value
    return headers or None


@click.command()
@url_option
@click.option("-q", "--queue", help="Publish to this queue, by the default exchange.")
@click.option("-e", "--exchange", help="Publish to this exchange.")
@click.option("-k", "--key", default="", help="The routing key, with --exchange.")
@click.option("-m", "--message", "messages", multiple=True, help="A body; may be repeated.")
@click.option("--lines", is_flag=True, help="Each line of standard input is a message.")
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="A header; the value is JSON, or else text. x-delay=5000 delivers in five seconds.",
)
@click.option("--content-type", help="The content type.")
@click.option("--priority", type=click.IntRange(0, 255), help="The priority.")
@click.option("--expiration", type=click.IntRange(min=0), help="Milliseconds until it expires.")
@click.option("--correlation-id", help="The correlation id.")
@click.option("--reply-to", help="The queue for an answer.")
@click.option("--message-id", help="The message id.")
@click.option("--type", "type_", help="The type property.")
@click.option("--transient", is_flag=True, help="It need not survive a restart.")
@click.option("--declare", is_flag=True, help="Declare the queue, durable, if it does not exist.")
def publish(
    url: str,
    queue: str | None,
    exchange: str | None,
    key: str,
    messages: tuple[str, ...],
    lines: bool,
    headers: tuple[str, ...],
    transient: bool,
    declare: bool,
    **properties: Any,
) -> None:
    """Publish messages, and wait until the server has confirmed them. Without --message the body is
    standard input.

    Ends with status 1 if a message reached no queue or was refused.

    \b
    Examples:
      wherry publish --queue hello --declare -m world
      wherry publish --exchange amq.topic --key orders.eu < order.json
      seq 1000 | wherry publish --queue numbers --declare --lines
    """
    import pika

    if (queue is None) == (exchange is None):
        raise click.UsageError("name either --queue or --exchange")
    if key and queue is not None:
        raise click.UsageError("--key goes with --exchange")
    if declare and queue is None:
        raise click.UsageError("--declare goes with --queue")
    expiration = properties.pop("expiration")
    given = pika.BasicProperties(
        headers=_headers(headers),
        delivery_mode=1 if transient else 2,
        expiration=None if expiration is None else str(expiration),
        type=properties.pop("type_"),
        **properties,
    )
    with _channel(url) as (connection, channel):
        if declare:
            _declare(connection, str(queue))
        published = _publish(
            channel,
            exchange or "",
            key if queue is None else queue,
            given,
            _bodies(messages, lines),
        )
    click.echo(f"{published} published and confirmed", err=True)


def _declare(connection: pika.BlockingConnection, queue: str) -> None:
    from pika import exceptions

    try:
        # On a channel of its own: if the queue exists in another form, that one is closed.
        with connection.channel() as channel:
            channel.queue_declare(queue, passive=True)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code != 404:
            raise
        with connection.channel() as channel:
            channel.queue_declare(queue, durable=True)


def _publish(
    channel: BlockingChannel,
    exchange: str,
    key: str,
    properties: pika.BasicProperties,
    bodies: Iterator[bytes],
) -> int:
    from pika import exceptions

    channel.confirm_delivery()
    published = 0
    try:
        for body in bodies:
            channel.basic_publish(exchange, key, body, properties, mandatory=True)
            published += 1
    except exceptions.UnroutableError:
        what = (
            f"queue '{key}' does not exist"
            if exchange == ""
            else (f"no queue is bound to exchange '{exchange}' for routing key '{key}'")
        )
        raise click.ClickException(f"{what}; {published} were published before") from None
    except exceptions.NackError:
        raise click.ClickException(
            f"the server refused the message; {published} were published before"
        ) from None
    return published


@click.command()
@url_option
@click.option("-n", "--count", type=click.IntRange(min=1), help="End after so many messages.")
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait for more messages when the queue is empty, or end.",
)
@click.option(
    "--keep", is_flag=True, help="Leave the messages in the queue: return them at the end."
)
@click.option("--json", "as_json_", is_flag=True, help="A line of JSON a message, with properties.")
@click.option("--prefetch", type=click.IntRange(1, 65_535), default=100, show_default=True)
@click.argument("queue")
def consume(
    url: str,
    count: int | None,
    wait: bool,
    keep: bool,
    as_json_: bool,
    prefetch: int,
    queue: str,
) -> None:
    """Print the messages of QUEUE, a line each, until Ctrl-C. A message is acknowledged when it was
    printed.

    \b
    Examples:
      wherry consume hello
      wherry consume --no-wait --json orders | jq .headers
      wherry consume --keep --no-wait --count 10 orders
    """
    with _channel(url) as (_, channel):
        channel.basic_qos(prefetch_count=0 if keep else prefetch)
        if wait:
            deliveries = channel.consume(queue)
        else:
            deliveries = iter(lambda: channel.basic_get(queue), (None, None, None))
        for seen, (method, properties, body) in enumerate(deliveries, 1):
            if method is None or properties is None or body is None:
                break
            _print(method, properties, body, as_json_)
            if not keep:
                channel.basic_ack(method.delivery_tag)
            if seen == count:
                break
        # Closing the channel gives back what was not acknowledged.


def _print(method: Any, properties: pika.BasicProperties, body: bytes, as_json_: bool) -> None:
    if not as_json_:
        sys.stdout.buffer.write(body + b"\n")
        sys.stdout.buffer.flush()
        return
    entry: dict[str, Any] = {
        "exchange": method.exchange,
        "routing_key": method.routing_key,
        "redelivered": method.redelivered,
        **{name: value for name, value in vars(properties).items() if value is not None},
    }
    try:
        entry["body"] = body.decode()
    except UnicodeDecodeError:
        entry["body_base64"] = base64.b64encode(body).decode()
    click.echo(json.dumps(entry, ensure_ascii=False, default=str))
