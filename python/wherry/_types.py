"""Plain values: what users give (`Retry`) and what they are shown (statistics, messages).

Making so many dataclasses takes longer than loading the rest of the package, so whoever needs one
imports this when it does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

if sys.version_info >= (3, 11):
    from typing import Unpack as Unpack
elif TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack

# A receipt is an int that only `broker.confirmed` needs to understand.
Receipt = int

ExchangeType = Literal["direct", "topic", "headers", "fanout"]
Durability = Literal["always", "interval", "never"]
AppliesTo = Literal["queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all"]
Overflow = Literal["drop-head", "reject-publish", "reject-publish-dlx"]


class PublishOptions(TypedDict, total=False):
    """The keyword arguments of every form of publish. `Exchange.publish` explains them."""

    headers: dict[str, Any] | None
    persistent: bool
    priority: int | None
    expiration: float | None
    delay: float | None
    deliver_at: datetime | float | None
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    content_type: str | None
    content_encoding: str | None
    type: str | None
    app_id: str | None
    user_id: str | None
    timestamp: datetime | float | None
    mandatory: bool


class QueueOptions(TypedDict, total=False):
    """The keyword arguments of `declare_queue`, which explains them."""

    durable: bool
    exclusive: bool
    auto_delete: bool
    group_by: str | None
    retry: Retry | None
    max_priority: int | None
    message_ttl: float | None
    expires: float | None
    max_length: int | None
    max_length_bytes: int | None
    overflow: Overflow
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    delivery_limit: int | None
    single_active_consumer: bool
    lease: float | None
    dedup: Dedup | None


@dataclass(frozen=True, slots=True)
class Retry:
    """What a queue does with a message whose handling failed (an exception left `async with
    delivery:`).

    The broker's timer waits, not the consumer: no task sleeps and no prefetch is used up. In a
    queue with `group_by` the message's group waits with it, so that order is kept.
    """

    attempts: int = 5
    """Deliveries in all, the first one included. After the last one the message is dead-lettered,
    or dropped.
    """
    first: float = 0.2
    """Seconds before the second attempt."""
    factor: float = 2.0
    """Growth of an exponential delay: `first`, `first * factor`, `first * factor**2`, ..."""
    maximum: float | None = None
    """No delay is longer than this many seconds."""
    jitter: bool = False
    """Draw each delay evenly between zero and its value, so that messages that failed together come
    back apart.
    """
    kind: Literal["constant", "linear", "exponential"] = "exponential"
    """How delays grow."""
    dead_letter: str | None = None
    """Name of the queue for messages out of attempts; made, durable, if it does not exist."""


@dataclass(frozen=True, slots=True)
class Dedup:
    """A window of deduplication: a message whose id is in it is accepted and confirmed, and not
    stored again. Ids of persistent messages in durable queues and exchanges survive a restart.
    """

    window: float | None = None
    """Seconds that an id is remembered."""
    size: int | None = None
    """So many ids are remembered, the newest ones. With both, whichever is over first."""
    header: str | None = None
    """The header, or property, with the id; `x-dedup-id` unless given. A message without one is
    never a duplicate.
    """


class ConsumerCount(NamedTuple):
    """How many consumers a queue has now."""

    queue: str
    """Its name."""
    consumers: int
    """How many there are, those of `get` not counted; 0 too for a queue that was deleted."""


@dataclass(frozen=True, slots=True)
class Properties:
    """All that travels with a body, in Python's types. What was not published is None."""

    headers: dict[str, Any] = field(default_factory=dict)
    """The application's own fields."""
    persistent: bool = True
    """It survives a restart, in a durable queue."""
    priority: int | None = None
    """Level in a priority queue, higher first."""
    expiration: float | None = None
    """Time to live in seconds."""
    message_id: str | None = None
    """The publisher's id of the message."""
    correlation_id: str | None = None
    """The id of the request that it answers."""
    reply_to: str | None = None
    """Where an answer is wanted."""
    content_type: str | None = None
    """MIME type of the body."""
    content_encoding: str | None = None
    """Encoding of the body."""
    type: str | None = None
    """The publisher's name for the kind of message."""
    app_id: str | None = None
    """The publishing application."""
    user_id: str | None = None
    """The publishing user."""
    timestamp: datetime | None = None
    """The publisher's time, in whole seconds, UTC."""


@dataclass(frozen=True, slots=True)
class Death:
    """One line of a dead letter's history."""

    queue: str
    """The queue it died in."""
    reason: str
    """`rejected`, `expired`, `maxlen` or `delivery_limit`."""
    count: int
    """How often it died there for this reason."""
    exchange: str
    """The exchange it had been published to."""
    routing_keys: tuple[str, ...]
    """The routing keys it had been published with."""
    time: datetime | None
    """When it died there first, in UTC."""

    @classmethod
    def _of(cls, entry: Mapping[str, Any]) -> Death:
        """Of one entry of the `x-death` header; a peer may have left anything out."""
        keys = entry.get("routing-keys")
        return cls(
            queue=entry.get("queue", ""),
            reason=entry.get("reason", ""),
            count=entry.get("count", 1),
            exchange=entry.get("exchange", ""),
            routing_keys=tuple(keys) if isinstance(keys, list) else (),
            time=entry.get("time"),
        )


@dataclass(frozen=True, slots=True)
class BrowsedMessage:
    """A ready message that was looked at and stays where it is."""

    body: bytes
    """The body."""
    exchange: str
    """The exchange it was published to."""
    routing_key: str
    """The routing key it was published with."""
    properties: Properties
    """All else that travels with it."""
    position: int
    """Its place in the queue."""
    priority: int
    """Its level; 0 in a queue without priorities."""
    redelivered: bool
    """It was handed out before."""
    delivery_count: int
    """How many attempts there were."""

    @property
    def headers(self) -> dict[str, Any]:
        """The headers."""
        return self.properties.headers


@dataclass(frozen=True, slots=True)
class ScheduledMessage:
    """A message that is not due yet: published with a delay, or waiting for its next attempt."""

    id: int
    """For `cancel_scheduled`."""
    due: float
    """When it becomes ready, in Unix seconds of the broker's clock."""
    retry: bool
    """It waits for its next attempt, after a failed one."""
    body: bytes
    """The body."""
    exchange: str
    """The exchange it was published to."""
    routing_key: str
    """The routing key it was published with."""
    properties: Properties
    """All else that travels with it."""

    @property
    def headers(self) -> dict[str, Any]:
        """The headers."""
        return self.properties.headers


@dataclass(frozen=True, slots=True)
class Binding:
    """One way out of an exchange."""

    destination: str
    """Name of the queue or exchange it leads to."""
    destination_type: Literal["queue", "exchange"]
    """Which of the two."""
    routing_key: str
    """Key or pattern."""
    arguments: dict[str, Any]
    """What a headers exchange compares."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, or an operator policy: settings for all queues and exchanges whose names match."""

    name: str
    """Its name, one of its kind in a virtual host."""
    pattern: str
    """A regular expression that is searched for in names."""
    definition: dict[str, Any]
    """The settings, by RabbitMQ's names and in its units."""
    apply_to: AppliesTo = "all"
    """What it acts on."""
    priority: int = 0
    """Of those that match the one with the highest acts; of equal ones the first by name."""
    operator: bool = False
    """It is an operator's: a limit beside the policies that users set."""


@dataclass(frozen=True, slots=True)
class QueuePolicies:
    """The policies that act on one queue."""

    policy: str | None
    """Name of the policy; None if none matches."""
    operator_policy: str | None
    """Name of the operator policy; None if none matches."""
    definition: dict[str, Any]
    """What the two say together; how that meets the declaration see `Broker.set_policy`."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Numbers of one queue. Those about now are a snapshot; those about the past count since the
    broker was opened.
    """

    ready: int
    """Messages that can be taken now."""
    unacked: int
    """Messages that were handed out and not settled."""
    scheduled: int
    """Messages that are not due yet."""
    ready_bytes: int
    """Bytes of the ready messages."""
    consumers: int
    """Consumers, without those that wait in `get`."""
    published: int
    """Messages that came in."""
    delivered: int
    """Messages handed out."""
    acknowledged: int
    """Messages acknowledged."""
    redelivered: int
    """Messages handed out again."""
    requeued: int
    """Messages that returned to their places."""
    expired: int
    """Messages whose time to live ended here."""
    dead_lettered: int
    """Messages that left for a dead-letter exchange."""
    dropped: int
    """Messages that a limit pushed out."""
    rejected: int
    """Publishes refused by a limit."""
    groups: int
    """Message groups with messages in this queue."""
    oldest_published: float | None
    """When the oldest ready message was published, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class ExchangeStatistics:
    """Numbers of one exchange since the broker was opened."""

    published: int
    """Messages that came in."""
    routed: int
    """Copies that went to queues."""
    unroutable: int
    """Messages that no binding took."""
    bindings: int
    """Bindings now."""


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """Numbers of the journal of a broker with a directory, since it was opened."""

    durability: Durability
    """When a confirm is given, as chosen in `open`."""
    records: int
    """Records written."""
    appended_bytes: int
    """Bytes claimed by publishers."""
    written_bytes: int
    """Bytes handed to the operating system."""
    durable_bytes: int
    """Bytes on stable storage."""
    syncs: int
    """How often the disk was told to keep what was written."""
    last_sync: float
    """How long the last one took, in seconds."""
    segments: int
    """Files of the journal in use."""
    segments_bytes: int
    """Length of them."""
    free_segments: int
    """Files kept for reuse."""
    staging_bytes: int
    """Bytes that wait to be written."""
    disk_full: bool
    """Publishing is refused until there is room on the disk."""
    obstacle: str | None
    """Why the journal cannot grow for now, so that publishing is refused: no room on the disk, no
    descriptors, no permission. It is tried again at least every second."""
    failed: str | None
    """Why nothing is confirmed any more, if so."""


@dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """Numbers of a whole broker."""

    queues: int
    """Queues, in all virtual hosts."""
    exchanges: int
    """Exchanges, in all virtual hosts."""
    virtual_hosts: int
    """Virtual hosts."""
    ready: int
    """Ready messages."""
    unacked: int
    """Messages handed out and not settled."""
    scheduled: int
    """Messages that are not due yet."""
    timers: int
    """Deadlines that are waited for."""
    memory_bytes: int
    """Bytes of messages waiting in memory, with what they cost beside their bodies."""
    memory_bytes_max: int | None
    """Publishing waits while `memory_bytes` is above this. None: no limit, as the machine does not
    say what it has."""
    journal: JournalStatistics | None
    """None when the broker is in memory."""
