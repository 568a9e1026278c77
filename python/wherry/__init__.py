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

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry import blocking
    from wherry._batch import Batch
    from wherry._broker import Broker, open
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
        Policy,
        Properties,
        PublishOptions,
        QueueOptions,
        QueuePolicies,
        QueueStatistics,
        Receipt,
        Retry,
        ScheduledMessage,
    )
    from wherry._virtual_host import VirtualHost
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
    "Policy",
    "QueuePolicies",
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

# Names are loaded when they are used: a program pays for what it needs of the package, and a server
# for none of the API for programs.
_MODULES = {
    "Batch": "_batch",
    "Broker": "_broker",
    "VirtualHost": "_virtual_host",
    "open": "_broker",
    "Batches": "_consumer",
    "Consumer": "_consumer",
    "Clock": "_core",
    "Delivery": "_core",
    "Fifo": "_core",
    "Message": "_core",
    "PriorityFifo": "_core",
    "Transaction": "_core",
    "VirtualClock": "_core",
    "AccessRefused": "_errors",
    "BrokerClosed": "_errors",
    "Busy": "_errors",
    "DirectoryLocked": "_errors",
    "DiskFull": "_errors",
    "InvalidArgument": "_errors",
    "JournalCorrupt": "_errors",
    "JournalFailed": "_errors",
    "MessageTooLarge": "_errors",
    "PreconditionFailed": "_errors",
    "PublishRejected": "_errors",
    "QueueEmpty": "_errors",
    "ResourceLocked": "_errors",
    "StorageError": "_errors",
    "UnknownDelivery": "_errors",
    "UnknownExchange": "_errors",
    "UnknownQueue": "_errors",
    "UnknownVirtualHost": "_errors",
    "Unroutable": "_errors",
    "WherryError": "_errors",
    "WrongLoop": "_errors",
    "Exchange": "_exchange",
    "Queue": "_queue",
    "serve": "_serve",
    "Binding": "_types",
    "BrokerStatistics": "_types",
    "BrowsedMessage": "_types",
    "ConsumerCount": "_types",
    "Death": "_types",
    "Dedup": "_types",
    "ExchangeStatistics": "_types",
    "JournalStatistics": "_types",
    "Policy": "_types",
    "Properties": "_types",
    "PublishOptions": "_types",
    "QueueOptions": "_types",
    "QueuePolicies": "_types",
    "QueueStatistics": "_types",
    "Receipt": "_types",
    "Retry": "_types",
    "ScheduledMessage": "_types",
    "ConsumerWatch": "_watch",
}

# Modules that are names of the package.
_SUBMODULES = ("blocking", "server", "testing")


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return importlib.import_module(f"wherry.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'wherry' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(f"wherry.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
