"""Wherry: a message broker that you can pip install.

    async with wherry.open("orders.wherry") as broker:
        orders = await broker.declare_exchange("orders", "topic")
        stock = await broker.declare_queue("stock")
        await stock.bind(orders, "order.*.placed")
        await orders.publish(b"...", "order.eu.placed")
        async with stock.consume() as deliveries:
            async for delivery in deliveries:
                async with delivery:
                    ...

It runs on trio and asyncio; `wherry.blocking` is the same for plain threads. `wherry.serve` lets
AMQP 0-9-1 clients in; `wherry.testing` is a broker for tests.
"""

import importlib
from types import ModuleType

from wherry import blocking
from wherry._batch import Batch
from wherry._broker import Broker, VirtualHost, open
from wherry._consumer import Batches, Consumer
from wherry._core import (
    Clock,
    Delivery,
    Fifo,
    Message,
    PriorityFifo,
    Transaction,
    VirtualClock,
)
from wherry._errors import (
    AccessRefused,
    BrokerClosed,
    Busy,
    DirectoryLocked,
    DiskFull,
    InvalidArgument,
    JournalCorrupt,
    JournalFailed,
    MessageTooLarge,
    PreconditionFailed,
    PublishRejected,
    QueueEmpty,
    ResourceLocked,
    StorageError,
    UnknownDelivery,
    UnknownExchange,
    UnknownQueue,
    UnknownVirtualHost,
    Unroutable,
    WherryError,
    WrongLoop,
)
from wherry._exchange import Exchange
from wherry._queue import Queue
from wherry._serve import serve
from wherry._types import (
    Binding,
    BrokerStatistics,
    BrowsedMessage,
    ConsumerCount,
    Death,
    Dedup,
    ExchangeStatistics,
    JournalStatistics,
    Properties,
    PublishOptions,
    QueueOptions,
    QueueStatistics,
    Receipt,
    Retry,
    ScheduledMessage,
)
from wherry._watch import ConsumerWatch

__all__ = [
    # Opening
    "open",
    "blocking",
    "serve",
    # The broker
    "Broker",
    "VirtualHost",
    "Exchange",
    "Queue",
    "Consumer",
    "ConsumerWatch",
    "Delivery",
    "Batch",
    "Batches",
    "Transaction",
    # Values
    "Message",
    "Retry",
    "Dedup",
    "Properties",
    "PublishOptions",
    "QueueOptions",
    "Receipt",
    "BrowsedMessage",
    "ScheduledMessage",
    "Death",
    "Binding",
    "ConsumerCount",
    "BrokerStatistics",
    "ExchangeStatistics",
    "JournalStatistics",
    "QueueStatistics",
    # Time
    "Clock",
    "VirtualClock",
    # Bare structures
    "Fifo",
    "PriorityFifo",
    # Errors
    "WherryError",
    "AccessRefused",
    "BrokerClosed",
    "Busy",
    "DirectoryLocked",
    "DiskFull",
    "InvalidArgument",
    "JournalCorrupt",
    "JournalFailed",
    "MessageTooLarge",
    "PreconditionFailed",
    "PublishRejected",
    "QueueEmpty",
    "ResourceLocked",
    "StorageError",
    "UnknownDelivery",
    "UnknownExchange",
    "UnknownQueue",
    "UnknownVirtualHost",
    "Unroutable",
    "WrongLoop",
]


def __getattr__(name: str) -> ModuleType:
    # Loaded when they are used: most programs need neither.
    if name in ("server", "testing"):
        return importlib.import_module(f"wherry.{name}")
    raise AttributeError(f"module 'wherry' has no attribute '{name}'")
