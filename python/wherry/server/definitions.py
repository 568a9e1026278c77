"""Definitions in RabbitMQ's JSON: users, virtual hosts, permissions, limits, policies, exchanges,
queues, bindings; what `rabbitmqctl export_definitions` and RabbitMQ's management write, and our own
export.

Everything in such a file is imported, or has a line in the report that says why not. Importing
again changes nothing.

Users go to a `UserStore`, the rest through a `Topology`, so that neither a broker nor a network is
needed to test this. All functions block: from an event loop, call them in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from wherry._errors import InvalidArgument, WherryError
from wherry._types import Policy

if TYPE_CHECKING:
    from wherry.server.users import UserStore

__all__ = [
    "Binding",
    "Exchange",
    "Policy",
    "Queue",
    "Report",
    "Topology",
    "export_definitions",
    "import_definitions",
    "parse",
]

# A broker with a million queues exports about 200 MB.
FILE_BYTES_MAX = 512 << 20

# What a file says about itself.
IGNORED = frozenset(
    {
        "rabbit_version",
        "rabbitmq_version",
        "product_name",
        "product_version",
        "rabbitmq_definition_format",
        "explanation",
        "original_vhost_name",
        "original_cluster_name",
        "metadata",
    }
)

LABELS = {
    "users": "user",
    "vhosts": "virtual host",
    "permissions": "permissions",
    "topic_permissions": "topic permissions",
    "parameters": "parameter",
    "global_parameters": "global parameter",
    "policies": "policy",
    "queues": "queue",
    "exchanges": "exchange",
    "bindings": "binding",
}


# What has a virtual host in its label.
WITHIN = frozenset({"queues", "exchanges", "policies"})

# The engine keeps 64 bits of it.
POLICY_PRIORITY_MAX = (1 << 63) - 1

# The component of the parameters that are operator policies.
OPERATOR_POLICY = "operator_policy"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as declared."""

    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as declared."""

    name: str
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding, other than those of the default exchange."""

    source: str
    destination: str
    destination_type: str
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


class Topology(Protocol):
    """What an import or export needs of a broker. Refusals are `WherryError`s.

    Methods that change something may return before it is on stable storage; `sync` waits.
    """

    def virtual_hosts(self) -> Iterable[str]: ...
    def add_virtual_host(self, name: str) -> None: ...
    def exchanges(self, vhost: str) -> Iterable[Exchange]: ...
    def queues(self, vhost: str) -> Iterable[Queue]: ...
    def bindings(self, vhost: str) -> Iterable[Binding]: ...
    def policies(self, vhost: str) -> Iterable[Policy]: ...
    def set_policy(self, vhost: str, policy: Policy) -> list[str]: ...
    def declare_exchange(self, vhost: str, exchange: Exchange) -> None: ...
    def declare_queue(self, vhost: str, queue: Queue) -> None: ...
    def bind(self, vhost: str, binding: Binding) -> None: ...
    def sync(self) -> None: ...


@dataclass(slots=True)
class Report:
    """What an import did."""

    counts: dict[str, int] = field(default_factory=dict)
    """How many of each kind are there now because of the file."""
    problems: list[str] = field(default_factory=list)
    """What could not be honoured, a line each."""
    notes: list[str] = field(default_factory=list)
    """What is honoured in another way than in RabbitMQ, a line each."""

    def count(self, kind: str) -> None:
        """One more of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"imported": self.counts, "problems": self.problems, "notes": self.notes}


def parse(data: bytes) -> dict[str, Any]:
    """The definitions in a file.

    Raises:
        InvalidArgument: it is no such file.
    """
    if len(data) > FILE_BYTES_MAX:
        raise InvalidArgument(f"definitions of over {FILE_BYTES_MAX >> 20} MiB")
    try:
        definitions = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the definitions are not JSON: {error}") from None
    known = ("users", "vhosts", "queues", "exchanges", "bindings", "policies", "permissions")
    if not isinstance(definitions, dict) or not any(name in definitions for name in known):
        raise InvalidArgument(
            "these are no definitions: a JSON object with " + ", ".join(known) + " is expected"
        )
    for name, value in definitions.items():
        if name not in IGNORED and not isinstance(value, list):
            raise InvalidArgument(f"the definitions' '{name}' is not a list")
    return definitions


def pairs(value: Any) -> dict[str, Any]:
    """A JSON object; RabbitMQ also writes one as a list of pairs, and an empty one as []."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value):
        return {str(name): inner for name, inner in value}
    raise InvalidArgument("an object is expected")


def words(value: Any) -> list[str]:
    """Tags: a list, or text with commas."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidArgument("tags are a list of texts, or a text with commas")
    return value


class _Import:
    def __init__(
        self,
        definitions: dict[str, Any],
        topology: Topology,
        users: UserStore | None,
        default_vhost: str,
    ) -> None:
        self.definitions = definitions
        self.topology = topology
        self.users = users
        self.default_vhost = default_vhost
        self.report = Report()

    def run(self) -> Report:
        self.each("vhosts", self.virtual_host)
        known = set(self.topology.virtual_hosts())
        for kind in ("policies", "exchanges", "queues", "bindings"):
            for entry in self.entries(kind):
                if self.vhost(entry) not in known:
                    known.add(self.vhost(entry))
                    self.attempt(kind, self.add_virtual_host, {"name": self.vhost(entry)})
        self.each("parameters", self.operator_policy)
        self.each("policies", self.policy)
        self.each("exchanges", self.exchange)
        self.each("queues", self.queue)
        self.each("bindings", self.binding)
        if self.users is None:
            if any(self.definitions.get(kind) for kind in ("users", "permissions")):
                self.report.notes.append("users, permissions and limits were left out")
        else:
            with self.users.together():
                self.each("users", self.user)
                self.each("permissions", self.permission)
                self.each("topic_permissions", self.topic_permission)
                self.each("vhosts", self.virtual_host_limits)
                self.each("parameters", self.parameter_limits)
        self.each("parameters", self.parameter)
        self.each("global_parameters", self.global_parameter)
        for name in self.definitions:
            if name not in LABELS and name not in IGNORED:
                self.report.problems.append(f"'{name}': there is no such thing in Wherry")
        self.topology.sync()
        return self.report

    # One entry after the other, each with its own line of the report if it fails

    def entries(self, kind: str) -> Iterator[dict[str, Any]]:
        return (entry for entry in self.definitions.get(kind, ()) if isinstance(entry, dict))

    def each(self, kind: str, function: Callable[[dict[str, Any]], None]) -> None:
        for number, entry in enumerate(self.definitions.get(kind, ())):
            if isinstance(entry, dict):
                self.attempt(kind, function, entry)
            else:
                self.report.problems.append(f"{kind}[{number}]: is not an object")

    def attempt(
        self, kind: str, function: Callable[[dict[str, Any]], None], entry: dict[str, Any]
    ) -> None:
        try:
            function(entry)
        except KeyError as error:
            self.problem(kind, entry, f"'{error.args[0]}' is missing")
        except WherryError as error:
            self.problem(kind, entry, str(error))

    def problem(self, kind: str, entry: dict[str, Any], text: str) -> None:
        self.report.problems.append(f"{self.label(kind, entry)}: {text}")

    def label(self, kind: str, entry: dict[str, Any]) -> str:
        what = LABELS[kind]
        there = f" in virtual host '{self.vhost(entry)}'"
        if kind == "bindings":
            return f"binding from '{entry.get('source')}' to '{entry.get('destination')}'{there}"
        if kind in ("permissions", "topic_permissions"):
            return f"{what} of '{entry.get('user')}'{there}"
        if kind == "parameters" and entry.get("component") != OPERATOR_POLICY:
            return f"parameter '{entry.get('name')}' of {entry.get('component')}{there}"
        if kind == "parameters" and entry.get("component") == OPERATOR_POLICY:
            return f"operator policy '{entry.get('name')}'{there}"
        return f"{what} '{entry.get('name')}'" + (there if kind in WITHIN else "")

    def vhost(self, entry: dict[str, Any]) -> str:
        return str(entry.get("vhost", self.default_vhost))

    # The topology

    def add_virtual_host(self, entry: dict[str, Any]) -> None:
        self.topology.add_virtual_host(str(entry["name"]))
        self.report.count("virtual hosts")

    def virtual_host(self, entry: dict[str, Any]) -> None:
        self.add_virtual_host(entry)
        metadata = pairs(entry.get("metadata") or {})
        kind = metadata.get("default_queue_type") or entry.get("default_queue_type")
        if kind not in (None, "undefined", "classic"):
            text = f"its default queue type {kind}: queues without x-queue-type are classic ones"
            self.problem("vhosts", entry, text)
        if entry.get("tracing"):
            self.problem("vhosts", entry, "there is no tracing in Wherry")

    def policy(self, entry: dict[str, Any]) -> None:
        self.set_policy("policies", entry, entry, operator=False)

    def operator_policy(self, entry: dict[str, Any]) -> None:
        if entry.get("component") == OPERATOR_POLICY:
            self.set_policy("parameters", entry, pairs(entry.get("value")), operator=True)

    def set_policy(
        self, kind: str, entry: dict[str, Any], value: dict[str, Any], *, operator: bool
    ) -> None:
        priority = value.get("priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise InvalidArgument("a priority is a whole number")
        if abs(priority) > POLICY_PRIORITY_MAX:
            raise InvalidArgument(f"a priority of {priority}: at most {POLICY_PRIORITY_MAX}")
        if not isinstance(value.get("apply-to", "all"), str):
            raise InvalidArgument("'apply-to' is text")
        policy = Policy(
            name=str(entry["name"]),
            pattern=str(value.get("pattern", "")),
            definition=pairs(value.get("definition", {})),
            apply_to=value.get("apply-to", "all"),
            priority=priority,
            operator=operator,
        )
        for note in self.topology.set_policy(self.vhost(entry), policy):
            self.report.notes.append(f"{self.label(kind, entry)}: {note}")
        self.report.count("operator policies" if operator else "policies")

    def exchange(self, entry: dict[str, Any]) -> None:
        name, vhost = str(entry["name"]), self.vhost(entry)
        if name == "" or name.startswith("amq."):
            return
        exchange = Exchange(
            name=name,
            type=str(entry["type"]),
            durable=bool(entry.get("durable", True)),
            auto_delete=bool(entry.get("auto_delete", False)),
            internal=bool(entry.get("internal", False)),
            arguments=pairs(entry.get("arguments", {})),
        )
        self.topology.declare_exchange(vhost, exchange)
        self.report.count("exchanges")

    def queue(self, entry: dict[str, Any]) -> None:
        name, vhost = str(entry["name"]), self.vhost(entry)
        arguments = pairs(entry.get("arguments", {}))
        if entry.get("type") in ("quorum", "stream"):
            arguments.setdefault("x-queue-type", entry["type"])
        queue = Queue(
            name=name,
            durable=bool(entry.get("durable", True)),
            auto_delete=bool(entry.get("auto_delete", False)),
            arguments=arguments,
        )
        self.topology.declare_queue(vhost, queue)
        self.report.count("queues")

    def binding(self, entry: dict[str, Any]) -> None:
        if entry["source"] == "":
            return  # every queue is bound to the default exchange
        binding = Binding(
            source=str(entry["source"]),
            destination=str(entry["destination"]),
            destination_type=str(entry.get("destination_type", "queue")),
            routing_key=str(entry.get("routing_key", "")),
            arguments=pairs(entry.get("arguments", {})),
        )
        self.topology.bind(self.vhost(entry), binding)
        self.report.count("bindings")

    # Users

    def user(self, entry: dict[str, Any]) -> None:
        assert self.users is not None
        limits = pairs(entry.get("limits", {}))
        algorithm = entry.get("hashing_algorithm") or "rabbit_password_hashing_sha256"
        self.users.put(
            str(entry["name"]),
            tags=words(entry.get("tags")),
            password_hash=str(entry.get("password_hash") or ""),
            hashing_algorithm=str(algorithm),
            max_connections=_limit(limits.pop("max-connections", None)),
            max_channels=_limit(limits.pop("max-channels", None)),
        )
        self.report.count("users")
        for other in limits:
            self.problem("users", entry, f"there is no limit '{other}' in Wherry")

    def permission(self, entry: dict[str, Any]) -> None:
        assert self.users is not None
        patterns = (str(entry.get(name, "")) for name in ("configure", "write", "read"))
        self.users.set_permission(str(entry["user"]), self.vhost(entry), *patterns)
        self.report.count("permissions")

    def topic_permission(self, entry: dict[str, Any]) -> None:
        assert self.users is not None
        rest = (str(entry.get(name, "")) for name in ("exchange", "write", "read"))
        self.users.set_topic_permission(str(entry["user"]), self.vhost(entry), *rest)
        self.report.count("topic permissions")

    def virtual_host_limits(self, entry: dict[str, Any]) -> None:
        self.set_limits("vhosts", entry, str(entry.get("name")), entry.get("limits", {}))

    def parameter_limits(self, entry: dict[str, Any]) -> None:
        if entry.get("component") == "vhost-limits":
            self.set_limits("parameters", entry, self.vhost(entry), entry.get("value", {}))

    def set_limits(self, kind: str, entry: dict[str, Any], vhost: str, value: Any) -> None:
        assert self.users is not None
        limits = pairs(value)
        if not limits:
            return
        self.users.set_vhost_limits(
            vhost,
            max_connections=_limit(limits.pop("max-connections", None)),
            max_queues=_limit(limits.pop("max-queues", None)),
        )
        for other in limits:
            self.problem(kind, entry, f"there is no limit '{other}' in Wherry")

    # The rest

    def parameter(self, entry: dict[str, Any]) -> None:
        component = entry.get("component")
        if component not in (OPERATOR_POLICY, "vhost-limits"):
            self.problem("parameters", entry, f"there is no {component} in Wherry")

    def global_parameter(self, entry: dict[str, Any]) -> None:
        name, value = entry.get("name"), entry.get("value")
        if name == "cluster_name":
            text = f"cluster_name '{value}': set it with cluster_name in wherry.toml"
            self.report.notes.append(text)
        elif name not in ("internal_cluster_id", "cluster_tags"):
            self.problem("global_parameters", entry, "there are no global parameters in Wherry")


def _limit(value: Any) -> int | None:
    """A limit of RabbitMQ's: negative is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument("a limit is a number")
    return None if value < 0 else value


def import_definitions(
    definitions: dict[str, Any],
    topology: Topology,
    users: UserStore | None,
    *,
    default_vhost: str = "/",
) -> Report:
    """Makes everything that the definitions name. What exists already and is the same stays; what
    exists in another form stays and is reported; nothing is deleted.

    Args:
        definitions: what `parse` gave.
        topology: where virtual hosts, exchanges, queues and bindings go.
        users: where users and permissions go; None leaves them out.
        default_vhost: the virtual host of what names none, in an export of a single one.

    Raises:
        WherryError: the broker or the user file cannot be used at all.
    """
    return _Import(definitions, topology, users, default_vhost).run()


def export_definitions(topology: Topology, users: UserStore | None) -> dict[str, Any]:
    """Everything, in RabbitMQ's form; messages, exclusive queues and predeclared exchanges are not
    in it. Users of the configuration are not in it either.
    """
    result: dict[str, Any] = {
        "users": [],
        "vhosts": [],
        "permissions": [],
        "topic_permissions": [],
        "parameters": [],
        "policies": [],
        "queues": [],
        "exchanges": [],
        "bindings": [],
    }
    for vhost in sorted(topology.virtual_hosts()):
        result["vhosts"].append({"name": vhost})
        for policy in topology.policies(vhost):
            _export_policy(vhost, policy, result)
        for exchange in topology.exchanges(vhost):
            if exchange.name == "" or exchange.name.startswith("amq."):
                continue
            result["exchanges"].append(
                {
                    "name": exchange.name,
                    "vhost": vhost,
                    "type": exchange.type,
                    "durable": exchange.durable,
                    "auto_delete": exchange.auto_delete,
                    "internal": exchange.internal,
                    "arguments": exchange.arguments,
                }
            )
        for queue in topology.queues(vhost):
            arguments = queue.arguments
            result["queues"].append(
                {
                    "name": queue.name,
                    "vhost": vhost,
                    "type": arguments.get("x-queue-type", "classic"),
                    "durable": queue.durable,
                    "auto_delete": queue.auto_delete,
                    "arguments": arguments,
                }
            )
        for binding in topology.bindings(vhost):
            result["bindings"].append(
                {
                    "source": binding.source,
                    "vhost": vhost,
                    "destination": binding.destination,
                    "destination_type": binding.destination_type,
                    "routing_key": binding.routing_key,
                    "arguments": binding.arguments,
                }
            )
    if users is not None:
        _export_users(users, result)
    return result


def _export_policy(vhost: str, policy: Policy, result: dict[str, Any]) -> None:
    rule = {
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "priority": policy.priority,
        "definition": policy.definition,
    }
    named = {"vhost": vhost, "name": policy.name}
    if policy.operator:
        result["parameters"].append({**named, "component": OPERATOR_POLICY, "value": rule})
    else:
        result["policies"].append({**named, **rule})


def _export_users(users: UserStore, result: dict[str, Any]) -> None:
    for user in users.records():
        limits = {"max-connections": user.max_connections, "max-channels": user.max_channels}
        result["users"].append(
            {
                "name": user.name,
                "password_hash": user.password_hash,
                "hashing_algorithm": user.hashing_algorithm,
                "tags": list(user.tags),
                "limits": {name: limit for name, limit in limits.items() if limit is not None},
            }
        )
        for permission in user.permissions:
            result["permissions"].append(
                {
                    "user": user.name,
                    "vhost": permission.vhost,
                    "configure": permission.configure,
                    "write": permission.write,
                    "read": permission.read,
                }
            )
        for topic in user.topic_permissions:
            result["topic_permissions"].append(
                {
                    "user": user.name,
                    "vhost": topic.vhost,
                    "exchange": topic.exchange,
                    "write": topic.write,
                    "read": topic.read,
                }
            )
    for limits_of in users.snapshot().vhost_limits:
        value = {"max-connections": limits_of.max_connections, "max-queues": limits_of.max_queues}
        result["parameters"].append(
            {
                "component": "vhost-limits",
                "name": "limits",
                "vhost": limits_of.vhost,
                "value": {name: limit for name, limit in value.items() if limit is not None},
            }
        )
