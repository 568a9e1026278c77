"""Definitions in and out of a broker in this process: a server's, or a data directory that nobody
else has open.

All methods block for as long as the journal needs. May be used from any one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from wherry import _core
from wherry._errors import Busy, InvalidArgument
from wherry.server.definitions import Binding, Exchange, Policy, Queue

__all__ = ["EngineTopology"]


class EngineTopology:
    """The `definitions.Topology` of an engine."""

    def __init__(self, engine: _core.Engine) -> None:
        self._engine = engine
        self._hosts: dict[str, _core.VirtualHost] = {}

    def _host(self, vhost: str) -> _core.VirtualHost:
        host = self._hosts.get(vhost)
        if host is None:
            host = self._hosts[vhost] = _core.VirtualHost(self._engine, vhost)
        return host

    def _do(self, operation: Callable[..., int], *arguments: Any, **named: Any) -> None:
        while not self._try(partial(operation, *arguments, **named)):
            self._engine.wait_space(None)

    def _try(self, operation: Callable[[], int]) -> bool:
        try:
            operation()
        except Busy:
            return False
        return True

    def virtual_hosts(self) -> list[str]:
        """The names of the virtual hosts."""
        return self._engine.virtual_hosts()

    def add_virtual_host(self, name: str) -> None:
        """Makes sure that there is one."""
        self._do(self._engine.add_virtual_host, name)

    def exchanges(self, vhost: str) -> Iterator[Exchange]:
        """All exchanges, the predeclared ones too, by name."""
        host = self._host(vhost)
        for name in sorted(host.exchanges()):
            yield Exchange(**_core.describe_exchange(host, name))

    def queues(self, vhost: str) -> Iterator[Queue]:
        """All queues but exclusive ones, by name."""
        host = self._host(vhost)
        for name in sorted(host.queues()):
            found = _core.describe_queue(host, name)
            if not found.pop("exclusive"):
                yield Queue(**found)

    def bindings(self, vhost: str) -> Iterator[Binding]:
        """All bindings but those of the default exchange and to exclusive queues."""
        host = self._host(vhost)
        queues = {queue.name for queue in self.queues(vhost)}
        for name in sorted(host.exchanges()):
            exchange = _core.Exchange(host, name)
            for kind, destination, key, arguments in sorted(exchange._bindings(), key=str):
                if name != "" and (kind == "exchange" or destination in queues):
                    yield Binding(name, destination, kind, key, arguments)

    def declare_exchange(self, vhost: str, exchange: Exchange) -> None:
        """As `exchange.declare` would."""
        self._do(
            _core.declare_exchange_from_arguments,
            self._host(vhost),
            exchange.name,
            type=exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=exchange.arguments,
        )

    def declare_queue(self, vhost: str, queue: Queue) -> None:
        """As `queue.declare` would."""
        self._do(
            _core.declare_queue_from_arguments,
            self._host(vhost),
            queue.name,
            durable=queue.durable,
            auto_delete=queue.auto_delete,
            arguments=queue.arguments,
        )

    def bind(self, vhost: str, binding: Binding) -> None:
        """As `queue.bind` or `exchange.bind` would."""
        host = self._host(vhost)
        if binding.destination_type not in ("queue", "exchange"):
            raise InvalidArgument(f"a destination of type '{binding.destination_type}'")
        to_queue = binding.destination_type == "queue"
        self._do(
            host.bind_queue if to_queue else host.bind_exchange,
            binding.destination,
            binding.source,
            binding.routing_key,
            binding.arguments,
        )

    def policies(self, vhost: str) -> Iterator[Policy]:
        """All policies and operator policies, by name."""
        for found in sorted(_core.policies(self._host(vhost)), key=lambda one: str(one["name"])):
            yield Policy(**found)

    def set_policy(self, vhost: str, policy: Policy) -> list[str]:
        """Sets it, in place of the one of its name; what of it has no effect."""
        host = self._host(vhost)
        notes: list[str] = []

        def operation() -> int:
            nonlocal notes
            notes, receipt = _core.set_policy(
                host,
                policy.name,
                policy.pattern,
                policy.definition,
                apply_to=policy.apply_to,
                priority=policy.priority,
                operator=policy.operator,
            )
            return receipt

        self._do(operation)
        return notes

    def sync(self) -> None:
        """Waits until all of it is on stable storage."""
        self._engine.wait_durable(self._engine.barrier(), None)
