"""Every exception that Wherry raises. One fact, one class; each message says what to do."""

from __future__ import annotations


class WherryError(Exception):
    """The base of all of them. A call that raised one has changed nothing, unless its documentation
    says otherwise.
    """

    published: int = 0
    """Of a batch: how many of its messages, from the first on, were published before it."""


class UnknownExchange(WherryError):
    """There is no exchange of this name in the virtual host."""


class UnknownQueue(WherryError):
    """There is no queue of this name in the virtual host, or it was deleted while somebody waited
    for it.
    """


class UnknownVirtualHost(WherryError):
    """There is no virtual host of this name."""


class UnknownDelivery(WherryError):
    """The delivery is settled already, its lease ran out, or its consumer is gone: the message is
    not yours any more.
    """


class PreconditionFailed(WherryError):
    """It exists with other properties, or is in use, or is not empty."""


class InvalidArgument(WherryError, ValueError):
    """An argument that can never be right: a bad pattern, a negative time, a header of a type that
    has no place.
    """


class MessageTooLarge(WherryError):
    """The message is over the broker's limit."""


class Unroutable(WherryError):
    """`mandatory=True` was asked for, and no queue is bound for the routing key."""


class PublishRejected(WherryError):
    """A queue declared with `overflow="reject-publish"` is at its limit.

    Other queues that the message was routed to have taken it, as in RabbitMQ. None has in a
    transaction, or where duplicates are known on its way.
    """


class Busy(WherryError):
    """The call would have to wait for the disk. Only `*_nowait` calls raise it; the others wait."""


class QueueEmpty(WherryError):
    """No message is ready."""


class AccessRefused(WherryError):
    """The name is reserved (`amq.`), or the exchange is internal."""


class ResourceLocked(WherryError):
    """The queue is exclusive to somebody else."""


class BrokerClosed(WherryError):
    """The broker was closed, before the call or while it waited."""


class JournalFailed(WherryError):
    """A write or sync failed: nothing is confirmed any more. What was confirmed before is safe."""


class JournalCorrupt(WherryError):
    """The journal on disk is damaged where it must not be."""


class DirectoryLocked(WherryError):
    """Another broker, in this or another process, has the directory open."""


class DiskFull(WherryError):
    """There is no room for another journal segment, on the disk or in the quota. Consuming and
    acknowledging go on, and free some.
    """


class StorageError(WherryError, OSError):
    """The operating system refused a file operation.

    A publish raises it while the journal cannot grow for another reason than a full disk (too many
    open files, no permission, no memory). It can be tried again: the journal does so as well.
    """


class WrongLoop(WherryError, RuntimeError):
    """The broker was opened on another event loop. From other threads use `broker.blocking`."""
