"""The extension module. Long descriptions are on the public classes; see `wherry` and
`wherry.blocking`.
"""

import os
from collections.abc import Awaitable, Callable, Generator, Iterable
from datetime import datetime
from types import GenericAlias
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, final

from typing_extensions import Self, disjoint_base

from wherry._types import (
    BrowsedMessage,
    Death,
    Dedup,
    Durability,
    ExchangeType,
    Overflow,
    Properties,
    Retry,
    ScheduledMessage,
)
from wherry.server.permissions import AccessTable

__all__ = [
    "BlockingConsumer",
    "Clock",
    "Completed",
    "Consumer",
    "ConsumerWatch",
    "Delivery",
    "Engine",
    "Exchange",
    "Fifo",
    "FrontEnd",
    "Message",
    "Port",
    "PriorityFifo",
    "Queue",
    "Session",
    "Transaction",
    "VirtualClock",
    "VirtualHost",
    "clear_policy",
    "describe_exchange",
    "describe_queue",
    "policies",
    "set_policy",
    "verify_journal",
    "check_pattern",
    "declare_exchange_from_arguments",
    "declare_queue_from_arguments",
    "decode_users",
    "encode_users",
    "user_file_version",
]

_T = TypeVar("_T", covariant=True)
_Item = TypeVar("_Item")

@final
class Completed(Generic[_T]):
    """An awaitable that is finished already."""

    def __await__(self) -> Generator[Any, Any, _T]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> None: ...

@final
class Clock:
    """The real time, as the broker sees it."""

    def now(self) -> float:
        """Unix seconds."""

@final
class VirtualClock:
    """A clock for tests: it stands still until `advance` moves it."""

    def __new__(cls, start: datetime | float | None = None) -> Self: ...
    def now(self) -> float:
        """Unix seconds."""

    def advance(
        self, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Moves time forward and lets everything happen that was due, in order of its own time."""

@final
class Engine:
    """An opened broker. Private: use `wherry.open` or `wherry.blocking.open`."""

    def __new__(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "always",
        sync_interval: float = 0.05,
        clock: VirtualClock | None = None,
        segment_bytes: int = ...,
        memory_bytes_max: int | None = None,
        on_corruption: Literal["refuse", "salvage"] = "refuse",
        progress: Callable[[int, int], object] | None = None,
    ) -> Self: ...
    def attach(self, port: Port) -> None:
        """Gives the wake-ups of this broker to a loop. Once."""

    @property
    def clock(self) -> Clock | VirtualClock:
        """The broker's clock."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""

    def durable(self) -> int:
        """Everything up to this receipt is on stable storage."""

    def set_memory_bytes_max(self, bytes: int) -> None:
        """Changes how many bytes messages waiting in memory may take; at once, and until the broker
        is closed.
        """

    def barrier(self) -> int:
        """A receipt for everything done so far."""

    def is_durable(self, receipt: int) -> bool:
        """True when the receipt is durable; false while it is on its way."""

    def wait_durable(self, receipt: int, timeout: float | None = None) -> bool:
        """Blocks until the receipt is durable; false when `timeout` seconds passed first."""

    def wait_space(self, timeout: float | None = None) -> bool:
        """Blocks until there may be room for a refused publish; false when `timeout` seconds
        passed first.
        """

    def virtual_hosts(self) -> list[str]:
        """The names of the virtual hosts."""

    def add_virtual_host(self, name: str) -> int:
        """Adds a virtual host; a receipt."""

    def delete_virtual_host(self, name: str) -> int:
        """Deletes a virtual host with all that is in it; a receipt."""

    def statistics(self) -> dict[str, Any]:
        """The numbers of `BrokerStatistics`, by field name."""

    def obstacle(self) -> tuple[str, str] | None:
        """Why the journal cannot grow for now, and what would let it."""

    def close(self) -> None:
        """Syncs what is left, ends the hidden threads and wakes whoever waits. Blocks; may be
        repeated.
        """

@final
class Port:
    """One event loop's end of the wake-ups. Used by `wherry._waits` only."""

    def __new__(cls, owner: object) -> Self: ...
    def fileno(self) -> int:
        """The descriptor that becomes readable."""

    def clear(self) -> None:
        """Makes the descriptor unreadable again."""

    def signal(self) -> None:
        """Raises the descriptor, whatever is ready."""

    def next_token(self) -> int:
        """A token that nobody has, for a session."""

    def take_ready(self) -> list[int]:
        """The tokens notified since the last call, each at least once."""

    def want_commits(self, wanted: bool) -> None:
        """Asks for token 0 when the journal gets on. Look at `durable()` *after* this call."""

@final
class VirtualHost:
    """A virtual host's control plane. Private: the public `VirtualHost` classes hold one."""

    def __new__(cls, engine: Engine, name: str) -> Self: ...
    @property
    def name(self) -> str:
        """Its name."""

    def declare_exchange(
        self,
        name: str,
        type: ExchangeType = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        alternate_exchange: str | None = None,
        dedup: Dedup | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> int:
        """Declares an exchange; a receipt."""

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        group_by: str | None = None,
        retry: Retry | None = None,
        max_priority: int | None = None,
        message_ttl: float | None = None,
        expires: float | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        overflow: Overflow = "drop-head",
        dead_letter_exchange: str | None = None,
        dead_letter_routing_key: str | None = None,
        delivery_limit: int | None = None,
        single_active_consumer: bool = False,
        lease: float | None = None,
        dedup: Dedup | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> tuple[str, int]:
        """Declares a queue; its name and a receipt."""

    def exchanges(self) -> list[str]:
        """The names of the exchanges."""

    def queues(self) -> list[str]:
        """The names of the queues."""

    def delete_exchange(self, name: str, if_unused: bool) -> int:
        """Deletes an exchange; a receipt."""

    def delete_queue(self, name: str, if_unused: bool, if_empty: bool) -> tuple[int, int]:
        """Deletes a queue; the number of its ready messages and a receipt."""

    def bind_queue(
        self, queue: str, exchange: str, key: str, arguments: dict[str, Any] | None = None
    ) -> int:
        """Binds a queue to an exchange; a receipt."""

    def unbind_queue(
        self, queue: str, exchange: str, key: str, arguments: dict[str, Any] | None = None
    ) -> int:
        """Takes such a binding away; a receipt."""

    def bind_exchange(
        self, destination: str, source: str, key: str, arguments: dict[str, Any] | None = None
    ) -> int:
        """Binds an exchange to another one that gives it messages; a receipt."""

    def unbind_exchange(
        self, destination: str, source: str, key: str, arguments: dict[str, Any] | None = None
    ) -> int:
        """Takes such a binding away; a receipt."""

    def transaction(self) -> Transaction:
        """Starts a transaction."""

@final
class Message:
    """A message for `publish_many`: a body, a routing key and the options of `Exchange.publish`."""

    def __new__(
        cls,
        body: bytes | bytearray | memoryview,
        routing_key: str = "",
        *,
        headers: dict[str, Any] | None = None,
        persistent: bool = True,
        priority: int | None = None,
        expiration: float | None = None,
        delay: float | None = None,
        deliver_at: datetime | float | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        type: str | None = None,
        app_id: str | None = None,
        user_id: str | None = None,
        timestamp: datetime | float | None = None,
        mandatory: bool = False,
    ) -> Self: ...
    @property
    def body(self) -> bytes:
        """The body."""

    @property
    def routing_key(self) -> str:
        """The routing key."""

@disjoint_base
class Exchange:
    """The part of an exchange that does not wait. Base of `wherry.Exchange` and
    `wherry.blocking.Exchange`.
    """

    def __new__(cls, host: VirtualHost, name: str) -> Self: ...
    @property
    def name(self) -> str:
        """Its name; empty for the default exchange."""

    @property
    def type(self) -> ExchangeType:
        """How it routes: `direct`, `topic`, `headers` or `fanout`."""

    def publish_nowait(
        self,
        body: bytes | bytearray | memoryview,
        routing_key: str = "",
        *,
        headers: dict[str, Any] | None = None,
        persistent: bool = True,
        priority: int | None = None,
        expiration: float | None = None,
        delay: float | None = None,
        deliver_at: datetime | float | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        type: str | None = None,
        app_id: str | None = None,
        user_id: str | None = None,
        timestamp: datetime | float | None = None,
        mandatory: bool = False,
    ) -> int:
        """Publishes without waiting for the disk; a receipt for `broker.confirmed`."""

    def publish_many_nowait(
        self,
        messages: Iterable[Message | tuple[bytes, str] | bytes],
        routing_key: str = "",
    ) -> int:
        """Publishes a batch without waiting for the disk; one receipt for all of it.

        It is not a transaction: after an error those before it are published; `published` of the
        exception says how many.
        """

    def _publish_part(
        self, messages: Iterable[Message | tuple[bytes, str] | bytes], routing_key: str
    ) -> tuple[int, int]: ...
    def _bindings(self) -> list[tuple[Literal["queue", "exchange"], str, str, dict[str, Any]]]: ...
    def _policy(self) -> dict[str, Any]: ...
    def _statistics(self) -> dict[str, Any]: ...

@disjoint_base
class Queue:
    """What a queue does without waiting. Base of `wherry.Queue` and `wherry.blocking.Queue`."""

    def __new__(cls, host: VirtualHost, name: str) -> Self: ...
    @property
    def name(self) -> str:
        """Its name."""

    def get_nowait(self, no_ack: bool = False) -> Delivery:
        """Takes the next message, or raises `QueueEmpty`."""

    def get_many_nowait(self, max: int, no_ack: bool = False) -> list[Delivery]:
        """Takes up to `max` messages; an empty list when there is none."""

    def _browse(self, limit: int, offset: int) -> list[BrowsedMessage]: ...
    def _purge(self) -> tuple[int, int]: ...
    def _move(self, to: Queue, limit: int | None = None) -> tuple[int, int]: ...
    def _scheduled(self) -> list[ScheduledMessage]: ...
    def _cancel_scheduled(self, id: int) -> tuple[bool, int]: ...
    def _policies(self) -> dict[str, Any]: ...
    def _consumers(self) -> list[dict[str, Any]]: ...
    def _statistics(self) -> dict[str, Any]: ...

@disjoint_base
class Consumer:
    """The part of a consumer that does not wait. Base of `wherry.Consumer`."""

    def __new__(
        cls,
        queue: Queue,
        port: Port,
        *,
        prefetch: int = 0,
        no_ack: bool = False,
        priority: int = 0,
        exclusive: bool = False,
        tag: str | None = None,
        hidden: bool = False,
    ) -> Self: ...
    @property
    def tag(self) -> str:
        """Its name, chosen by the broker unless given."""

    @property
    def prefetch(self) -> int:
        """How many deliveries may be unacknowledged at a time; 0 is no limit. May be set at any
        time.
        """

    @prefetch.setter
    def prefetch(self, value: int) -> None: ...
    @property
    def unacked(self) -> int:
        """How many deliveries are unacknowledged now."""

    def take_nowait(self, max: int = 100) -> list[Delivery]:
        """Takes up to `max` messages without waiting."""

    def ack_up_to(self, delivery: Delivery) -> None:
        """Acknowledges this delivery and every earlier one of this consumer."""

    def ack_many(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledges these deliveries, all or none."""

    def nack_many(self, deliveries: Iterable[Delivery], requeue: bool = True) -> None:
        """Returns these deliveries to their places, or drops (dead-letters) them, all or none."""

    def _fail_many(self, deliveries: Iterable[Delivery]) -> None: ...
    def _release_many(self, deliveries: Iterable[Delivery]) -> None: ...
    @property
    def _token(self) -> int: ...
    def _arm(self) -> bool: ...
    def _disarm(self) -> None: ...
    def _cancel(self) -> None: ...
    def _turned(self) -> None: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[Delivery]: ...

@disjoint_base
class BlockingConsumer(Consumer):
    """A consumer for plain threads. Base of `wherry.blocking.Consumer`."""

    def __new__(
        cls,
        queue: Queue,
        *,
        prefetch: int = 0,
        no_ack: bool = False,
        priority: int = 0,
        exclusive: bool = False,
        tag: str | None = None,
        hidden: bool = False,
    ) -> Self: ...
    def take(self, max: int = 100, timeout: float | None = None) -> list[Delivery]:
        """Takes up to `max` messages, waiting for the first one."""

    def _take_more(self, deliveries: list[Delivery], max: int, seconds: float) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Delivery: ...

@final
class ConsumerWatch:
    """What the public `ConsumerWatch` classes stand on. With a port for an event loop, without one
    for plain threads.
    """

    def __new__(cls, host: VirtualHost, port: Port | None = None) -> Self: ...
    def take_nowait(self, max: int) -> list[tuple[str, int]]:
        """Up to `max` queues whose number of consumers has changed, and what it is now."""

    def wait_take(self, max: int, timeout: float | None) -> list[tuple[str, int]]:
        """As `take_nowait`, waiting for the first one on a plain thread; an empty list when
        `timeout` seconds passed.
        """

    @property
    def _token(self) -> int: ...
    def _arm(self) -> bool: ...
    def _disarm(self) -> None: ...
    def _cancel(self) -> None: ...

@final
class Delivery:
    """One hand-out of a message to one consumer. It belongs to you until it is settled."""

    @property
    def body(self) -> bytes:
        """The message's body. Made when first read."""

    @property
    def headers(self) -> dict[str, Any]:
        """The message's headers, as a new dict."""

    @property
    def properties(self) -> Properties:
        """All properties of the message, as a `wherry.Properties`."""

    @property
    def exchange(self) -> str:
        """The exchange it was published to; empty for the default exchange."""

    @property
    def routing_key(self) -> str:
        """The routing key it was published with."""

    @property
    def queue(self) -> str:
        """The name of the queue it was taken from."""

    @property
    def delivery_tag(self) -> int:
        """Its number among the deliveries of its consumer, from 1."""

    @property
    def position(self) -> int:
        """Its place in the queue; requeued, it goes back there."""

    @property
    def priority(self) -> int:
        """As published; 0 when the publisher gave none. A queue takes what is above its
        `max_priority` as that."""

    @property
    def redelivered(self) -> bool:
        """It was handed out before."""

    @property
    def delivery_count(self) -> int:
        """How many earlier attempts there were."""

    @property
    def deaths(self) -> list[Death]:
        """Why and where the message was dead-lettered, the latest first; empty if it never was."""

    @property
    def persistent(self) -> bool:
        """It survives a restart, in a durable queue."""

    @property
    def published(self) -> float:
        """When the broker took it, in Unix seconds."""

    @property
    def message_id(self) -> str | None:
        """The publisher's id of the message."""

    @property
    def correlation_id(self) -> str | None:
        """The publisher's id of the request that it answers."""

    @property
    def reply_to(self) -> str | None:
        """Where the publisher wants an answer."""

    @property
    def content_type(self) -> str | None:
        """The body's MIME type."""

    @property
    def content_encoding(self) -> str | None:
        """The body's encoding."""

    @property
    def type(self) -> str | None:
        """The publisher's name for the kind of message."""

    @property
    def app_id(self) -> str | None:
        """The publishing application."""

    @property
    def user_id(self) -> str | None:
        """The publishing user."""

    @property
    def timestamp(self) -> datetime | None:
        """The publisher's time, in whole seconds."""

    @property
    def expiration(self) -> float | None:
        """Its time to live in seconds, as published."""

    def ack(self) -> None:
        """Done: the message leaves the queue for good. Does not wait for the disk."""

    def nack(self, requeue: bool = True) -> None:
        """Not done: the message returns to its own place, or is dead-lettered or dropped."""

    def reject(self, requeue: bool = False) -> None:
        """Refused: the message is dead-lettered, or dropped if the queue has no dead-letter
        exchange.
        """

    def extend(self, seconds: float) -> None:
        """Makes the lease end `seconds` from now."""

    def __enter__(self) -> Self: ...
    def __exit__(self, exc_type: object, _exc_value: object, _traceback: object) -> None: ...
    def __aenter__(self) -> Completed[Self]: ...
    def __aexit__(
        self, exc_type: object, _exc_value: object, _traceback: object
    ) -> Completed[None]: ...

@final
class Transaction:
    """Publishes and acknowledgements carried out together, as one record of the journal."""

    def publish(
        self,
        exchange: Exchange,
        body: bytes | bytearray | memoryview,
        routing_key: str = "",
        *,
        headers: dict[str, Any] | None = None,
        persistent: bool = True,
        priority: int | None = None,
        expiration: float | None = None,
        delay: float | None = None,
        deliver_at: datetime | float | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        type: str | None = None,
        app_id: str | None = None,
        user_id: str | None = None,
        timestamp: datetime | float | None = None,
        mandatory: bool = False,
    ) -> None:
        """Adds a publish. Arguments are those of `Exchange.publish`, after the exchange."""

    def ack(self, delivery: Delivery) -> None:
        """Adds an acknowledgement."""

    def nack(self, delivery: Delivery, requeue: bool = True) -> None:
        """Adds a negative acknowledgement."""

    def _commit(self) -> int: ...
    def _rollback(self) -> None: ...

@final
class Fifo(Generic[_Item]):
    """A lock-free first-in-first-out queue of any Python objects, for any number of threads."""

    def __new__(cls) -> Self: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    def put(self, item: _Item) -> None:
        """Appends an object."""

    def get_nowait(self) -> _Item:
        """Takes the oldest object."""

    def put_many(self, items: Iterable[_Item]) -> None:
        """Appends the objects of an iterable, next to each other."""

    def get_many(self, max: int) -> list[_Item]:
        """Takes up to `max` objects, oldest first; an empty list when there is none."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...

@final
class PriorityFifo(Generic[_Item]):
    """A lock-free priority queue of any Python objects, for any number of threads."""

    def __new__(cls, levels: int) -> Self: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    @property
    def levels(self) -> int:
        """The number of levels."""

    def put(self, item: _Item, priority: int = 0) -> None:
        """Appends an object to its level; higher levels leave first."""

    def get_nowait(self) -> _Item:
        """Takes the oldest object of the highest level that has one."""

    def put_many(self, items: Iterable[_Item], priority: int = 0) -> None:
        """Appends the objects of an iterable to one level, next to each other."""

    def get_many(self, max: int) -> list[_Item]:
        """Takes up to `max` objects in the order of `get_nowait`; an empty list when there is
        none.
        """

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...

def verify_journal(
    path: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None
) -> dict[str, Any]:
    """Reads a journal that nobody has open, changes nothing, and tells what is in it."""

def describe_queue(host: VirtualHost, name: str) -> dict[str, Any]:
    """How a queue was declared: durable, auto_delete, exclusive, arguments."""

def set_policy(
    host: VirtualHost,
    name: str,
    pattern: str,
    definition: dict[str, Any],
    *,
    apply_to: str = "all",
    priority: int = 0,
    operator: bool = False,
) -> tuple[list[str], int]:
    """Sets a policy; what of it has no effect, a line each, and a receipt."""

def clear_policy(host: VirtualHost, name: str, *, operator: bool = False) -> tuple[bool, int]:
    """Clears a policy; whether there was one, and a receipt."""

def policies(host: VirtualHost) -> list[dict[str, Any]]:
    """All policies, those that act first first."""

def describe_exchange(host: VirtualHost, name: str) -> dict[str, Any]:
    """How an exchange was declared: type, durable, auto_delete, internal, arguments."""

@final
class FrontEnd:
    """What all sessions of one server share. Used by `wherry.server` only."""

    def __new__(
        cls,
        engine: Engine,
        limits: dict[str, int],
        *,
        cluster_name: str,
        platform: str,
        stomp_virtual_host: str,
        host_names: list[str],
        mechanisms: list[str] | None = None,
    ) -> Self: ...
    def attach(self, port: Port) -> None:
        """Gives the journal's progress to a loop, as token 0."""

    def detach(self) -> None:
        """Stops that."""

    def set_access(self, table: AccessTable) -> None:
        """Puts users and permissions in force."""

    def memory_full(self) -> bool:
        """Whether messages waiting in memory are over the limit."""

    def set_alarms(self, *, memory: bool, disk: bool) -> None:
        """Says what is short. The server resumes its sessions after it."""

    def traffic(self) -> tuple[int, int]:
        """How many messages came from clients, published or acknowledged, and how many went to
        them.
        """

    def counters(self) -> dict[str, int]:
        """What the sessions did since the server started, by name."""

    def refuse_confirms(self, count: int) -> None:
        """The next `count` confirms are nacks."""

    def deliver_twice(self, count: int) -> None:
        """The next `count` deliveries are followed by duplicates."""

@final
class Session:
    """One connection's session, of whatever protocol: bytes in, bytes out, and a status that says
    what to do next. Used by `wherry.server` only, on the thread of its loop.
    """

    OUTPUT: ClassVar[int]
    PAUSE_READING: ClassVar[int]
    CLOSE: ClassVar[int]
    AUTHENTICATE: ClassVar[int]
    WAITS_FOR_DISK: ClassVar[int]
    WAITS_FOR_ROOM: ClassVar[int]

    def __new__(
        cls,
        front: FrontEnd,
        port: Port,
        token: int,
        protocol: Literal["amqp", "stomp"],
        *,
        host: str,
        port_number: int,
        loopback: bool,
        certificate_name: str | None,
        tls: bool,
    ) -> Self: ...
    @property
    def user(self) -> str | None:
        """Who logged in, once somebody did."""

    @property
    def virtual_host(self) -> str | None:
        """The virtual host, once it is open."""

    def receive(self, buffer: bytes | bytearray, count: int) -> int:
        """The first `count` bytes of the buffer came in; a status."""

    def take_output(self, budget: int) -> tuple[bytes | memoryview | None, int]:
        """About `budget` bytes to send, or None; and a status."""

    def resume(self) -> int:
        """Tries again what had to wait; a status."""

    def credentials(self) -> tuple[str, str, bytes] | None:
        """Mechanism, user and password to verify, if any."""

    def authenticated(self, user: str) -> int:
        """The credentials are good, for this user; a status."""

    def refused(self) -> int:
        """The credentials are not good; a status."""

    def tick(self, now: float) -> int:
        """About once a second, with the loop's clock; a status."""

    def shut_down(self, text: str) -> int:
        """Tells the client to go; a status."""

    def lost(self) -> None:
        """The socket is gone: everything is given back. May be repeated."""

    def info(self) -> dict[str, Any]:
        """What there is to know about the connection."""

    def channels(self) -> list[dict[str, Any]]:
        """What there is to know about each open channel: number, confirm, transactional, prefetch,
        global_prefetch, unacked, unconfirmed, consumers (their numbers).
        """

def check_pattern(pattern: str) -> None:
    """Raises InvalidArgument for a regular expression that permissions cannot use."""

def declare_queue_from_arguments(
    host: VirtualHost,
    name: str,
    *,
    durable: bool,
    auto_delete: bool,
    arguments: dict[str, Any],
) -> int:
    """Declares a queue as `queue.declare` does; a receipt."""

def declare_exchange_from_arguments(
    host: VirtualHost,
    name: str,
    *,
    type: str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: dict[str, Any],
) -> int:
    """Declares an exchange as `exchange.declare` does; a receipt."""

_Four: TypeAlias = tuple[str, str, str, str]
_UserFields: TypeAlias = tuple[
    str, str, str, list[str], list[_Four], list[_Four], int | None, int | None
]

def user_file_version(data: bytes) -> int | None:
    """The version in a user file. Raises InvalidArgument when it is not JSON, or has none that is a
    number.
    """

def decode_users(
    data: bytes,
) -> tuple[list[_UserFields], list[tuple[str, int | None, int | None]]]:
    """The fields of each user, and of each virtual host with limits, in the order of the classes'
    fields. Raises InvalidArgument, whose text repeats nothing of the file.
    """

def encode_users(users: Any) -> bytes:
    """The content of a user file."""
