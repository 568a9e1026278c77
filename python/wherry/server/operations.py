"""What an operator asks of a broker: listings, purging, policies, virtual hosts, definitions.

Works on an engine in this process: a server's (through `control`), or a data directory that nobody
else has open (`wherry queues --directory`). Each operation takes and returns what JSON has.

All of it blocks. One object for one thread at a time.
"""

from __future__ import annotations

import contextlib
import inspect
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wherry import _core
from wherry._errors import InvalidArgument, UnknownExchange, UnknownQueue
from wherry.server.definitions import Policy, export_definitions, import_definitions
from wherry.server.definitions_engine import EngineTopology

if TYPE_CHECKING:
    from wherry._types import AppliesTo
    from wherry.server.users import UserStore

__all__ = ["Operations", "Plain"]

Plain = Any  # what JSON has


def version() -> str:
    """Wherry's version."""
    from importlib.metadata import version as version_of

    return version_of("wherry")


class Operations:
    """The operations on one engine.

    Args:
        engine: the broker.
        users: its users; None leaves them out of definitions.
    """

    def __init__(self, engine: _core.Engine, users: UserStore | None) -> None:
        self._engine = engine
        self._users = users
        self._commands: Mapping[str, Callable[..., Plain]] = {
            "status": self.status,
            "queues": self.queues,
            "exchanges": self.exchanges,
            "bindings": self.bindings,
            "consumers": self.consumers,
            "purge": self.purge,
            "delete_queue": self.delete_queue,
            "policies": self.policies,
            "set_policy": self.set_policy,
            "delete_policy": self.delete_policy,
            "vhosts": self.virtual_hosts,
            "add_vhost": self.add_virtual_host,
            "delete_vhost": self.delete_virtual_host,
            "export": self.export,
            "import": self.import_,
        }

    def do(self, command: str, arguments: Mapping[str, Plain]) -> Plain:
        """Carry out a command by name.

        Raises:
            InvalidArgument: there is none, or its arguments are others.
            WherryError: it was refused.
        """
        function = self._commands.get(command)
        if function is None:
            raise InvalidArgument(
                f"there is no command '{command}'; use " + ", ".join(self._commands)
            )
        try:
            inspect.signature(function).bind(**arguments)
            return function(**arguments)
        except TypeError as error:
            raise InvalidArgument(f"{command}: {error}") from error

    def _host(self, vhost: str) -> _core.VirtualHost:
        return _core.VirtualHost(self._engine, vhost)

    def _durable(self, receipt: int) -> None:
        self._engine.wait_durable(receipt, None)

    def status(self) -> Plain:
        """Numbers of the whole broker."""
        numbers = self._engine.statistics()
        return {"version": version(), "python": platform.python_version(), **numbers}

    def _each(
        self,
        vhost: str | None,
        names: Callable[[_core.VirtualHost], list[str]],
        show: Callable[[_core.VirtualHost, str], Iterable[dict[str, Plain]]],
    ) -> list[dict[str, Plain]]:
        """What `show` says of all that have these names, in one virtual host or in all, by name."""
        found: list[dict[str, Plain]] = []
        for host_name in [vhost] if vhost is not None else sorted(self._engine.virtual_hosts()):
            host = self._host(host_name)
            for name in sorted(names(host)):
                # Else it was deleted since it was listed.
                with contextlib.suppress(UnknownQueue, UnknownExchange):
                    found += ({"vhost": host_name, **one} for one in show(host, name))
        return found

    def queues(self, vhost: str | None = None) -> Plain:
        """All queues, of one virtual host or of all, by name."""
        return self._each(vhost, _core.VirtualHost.queues, _queue)

    def exchanges(self, vhost: str | None = None) -> Plain:
        """All exchanges, of one virtual host or of all, by name."""
        return self._each(vhost, _core.VirtualHost.exchanges, _exchange)

    def bindings(self, vhost: str | None = None) -> Plain:
        """All bindings, of one virtual host or of all, by the names of their exchanges. The first
        are those of the default exchange, whose name is empty: of each queue, by its name.
        """
        return self._each(vhost, _core.VirtualHost.exchanges, _bindings)

    def consumers(self, vhost: str | None = None) -> Plain:
        """All consumers, of one virtual host or of all, by the names of their queues."""
        return self._each(vhost, _core.VirtualHost.queues, _consumers)

    def purge(self, queue: str, vhost: str = "/") -> Plain:
        """Drop the ready messages of a queue; how many."""
        count, receipt = _core.Queue(self._host(vhost), queue)._purge()
        self._durable(receipt)
        return {"purged": count}

    def delete_queue(
        self, queue: str, vhost: str = "/", if_unused: bool = False, if_empty: bool = False
    ) -> Plain:
        """Delete a queue; how many messages were ready in it."""
        count, receipt = self._host(vhost).delete_queue(queue, if_unused, if_empty)
        self._durable(receipt)
        return {"messages": count}

    def policies(self, vhost: str | None = None, operator: bool = False) -> Plain:
        """The policies, or the operator policies, of one virtual host or of all; of those that
        match a queue the first one acts.
        """
        hosts = sorted(self._engine.virtual_hosts()) if vhost is None else [vhost]
        return [
            {"vhost": name, **policy}
            for name in hosts
            for policy in _core.policies(self._host(name))
            if policy["operator"] is operator
        ]

    def set_policy(
        self,
        name: str,
        pattern: str,
        definition: Plain,
        vhost: str = "/",
        apply_to: AppliesTo = "all",
        priority: int = 0,
        operator: bool = False,
    ) -> Plain:
        """Set a policy, in place of the one of its name; what of it has no effect."""
        if not isinstance(definition, dict):
            raise InvalidArgument("a policy's definition is a JSON object")
        policy = Policy(name, pattern, definition, apply_to, priority, operator)
        topology = EngineTopology(self._engine)
        notes = topology.set_policy(vhost, policy)
        topology.sync()
        return {"notes": notes}

    def delete_policy(self, name: str, vhost: str = "/", operator: bool = False) -> Plain:
        """Take a policy away; whether there was one."""
        there, receipt = _core.clear_policy(self._host(vhost), name, operator=operator)
        self._durable(receipt)
        return {"deleted": there}

    def virtual_hosts(self) -> Plain:
        """Their names."""
        return sorted(self._engine.virtual_hosts())

    def add_virtual_host(self, vhost: str) -> Plain:
        """Make sure that there is one."""
        self._durable(self._engine.add_virtual_host(vhost))
        return {}

    def delete_virtual_host(self, vhost: str) -> Plain:
        """Delete one with all that is in it, and what users may do there."""
        self._durable(self._engine.delete_virtual_host(vhost))
        if self._users is not None:
            self._users.forget_vhost(vhost)
        return {}

    def export(self, users: bool = True) -> Plain:
        """Definitions of everything."""
        return export_definitions(EngineTopology(self._engine), self._users if users else None)

    def import_(self, definitions: Plain, users: bool = True, default_vhost: str = "/") -> Plain:
        """Make what the definitions name; a report."""
        if not isinstance(definitions, dict):
            raise InvalidArgument("definitions are a JSON object")
        report = import_definitions(
            definitions,
            EngineTopology(self._engine),
            self._users if users else None,
            default_vhost=default_vhost,
        )
        return report.as_dict()


def _queue(host: _core.VirtualHost, name: str) -> list[dict[str, Plain]]:
    queue = _core.Queue(host, name)
    declared = _core.describe_queue(host, name)
    return [{**declared, **queue._policies(), **queue._statistics()}]


def _exchange(host: _core.VirtualHost, name: str) -> list[dict[str, Plain]]:
    exchange = _core.Exchange(host, name)
    declared = _core.describe_exchange(host, name)
    return [{**declared, **exchange._policy(), **exchange._statistics()}]


def _bindings(host: _core.VirtualHost, name: str) -> list[dict[str, Plain]]:
    bindings: Iterable[tuple[str, str, str, dict[str, Any]]]
    if name:
        bindings = _core.Exchange(host, name)._bindings()
    else:
        bindings = (("queue", queue, queue, {}) for queue in host.queues())
    found = (
        {
            "source": name,
            "destination": destination,
            "destination_type": kind,
            "routing_key": routing_key,
            "arguments": arguments,
        }
        for kind, destination, routing_key, arguments in bindings
    )
    columns = ("destination_type", "destination", "routing_key")
    return sorted(found, key=lambda one: [str(one[column]) for column in columns])


def _consumers(host: _core.VirtualHost, name: str) -> list[dict[str, Plain]]:
    return [{"queue": name, **one} for one in _core.Queue(host, name)._consumers()]
