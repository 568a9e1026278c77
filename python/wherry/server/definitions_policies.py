"""RabbitMQ's policies, applied to the queues and exchanges of an import.

In RabbitMQ a policy is a rule: it acts on what matches its pattern, now and later, and of several
the one with the highest priority acts alone. Here it is applied once, at import, as if the queue
had been declared with the matching arguments; the report says so. Which one acts, and what becomes
of a queue that has the argument too, is RabbitMQ's rule: the lower of two numbers counts, and of
other values the queue's own. An operator policy's lower number wins over both.

Clients go on declaring such a queue without these arguments. So that this is not a conflict, the
original values are kept beside the new ones, in the argument `x-policy`; the engine does not
compare what is named there.

Patterns are matched in Rust, in linear time, as those of permissions are; one that takes a
look-around or a back reference is reported as a problem.

Source of the rules: RabbitMQ's documentation on policies, and its answers (3.10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry import _core
from wherry._errors import InvalidArgument

if TYPE_CHECKING:
    from wherry.server.definitions import Report

__all__ = ["POLICY_ARGUMENT", "Policies"]

POLICY_ARGUMENT = "x-policy"

QUEUE_KEYS = {
    "message-ttl": "x-message-ttl",
    "expires": "x-expires",
    "max-length": "x-max-length",
    "max-length-bytes": "x-max-length-bytes",
    "overflow": "x-overflow",
    "dead-letter-exchange": "x-dead-letter-exchange",
    "dead-letter-routing-key": "x-dead-letter-routing-key",
    "dead-letter-strategy": "x-dead-letter-strategy",
    "delivery-limit": "x-delivery-limit",
}
EXCHANGE_KEYS = {"alternate-exchange": "alternate-exchange"}

# The lower of policy and argument counts.
NUMBERS = frozenset({"message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit"})

QUORUM_ONLY = frozenset({"delivery-limit", "dead-letter-strategy"})

# Settings of clusters, of memory and of disk that have no counterpart, and need none.
WITHOUT_EFFECT = {
    "queue-mode": "messages of durable queues wait on disk anyway",
    "queue-version": "there is one kind of storage",
    "queue-master-locator": "there is one node",
    "queue-leader-locator": "there is one node",
    "max-in-memory-length": "messages of durable queues wait on disk anyway",
    "max-in-memory-bytes": "messages of durable queues wait on disk anyway",
}

APPLIES_TO = {
    "all": ("classic", "quorum", "exchange"),
    "queues": ("classic", "quorum"),
    "classic_queues": ("classic",),
    "quorum_queues": ("quorum",),
    "streams": (),
    "exchanges": ("exchange",),
}


@dataclass(slots=True)
class _Policy:
    name: str
    vhost: str
    pattern: _core.Pattern
    kinds: tuple[str, ...]
    priority: int
    definition: dict[str, Any]
    operator: bool
    used: int = 0

    def __str__(self) -> str:
        kind = "operator policy" if self.operator else "policy"
        return f"{kind} '{self.name}' in virtual host '{self.vhost}'"


class Policies:
    """The policies of one import. What they do and what they cannot goes into the report."""

    def __init__(self, definitions: dict[str, Any], default_vhost: str, report: Report) -> None:
        self._report = report
        self._policies: list[_Policy] = []
        for entry in definitions.get("policies", ()):
            self._add(entry, default_vhost, operator=False)
        for entry in definitions.get("parameters", ()):
            if isinstance(entry, dict) and entry.get("component") == "operator_policy":
                value = entry.get("value")
                flat = {**entry, **(value if isinstance(value, dict) else {})}
                self._add(flat, default_vhost, operator=True)
        # Of equal priorities RabbitMQ takes any; here it is the first by name.
        self._policies.sort(key=lambda policy: (-policy.priority, policy.name))

    def _add(self, entry: Any, default_vhost: str, *, operator: bool) -> None:
        from wherry.server.definitions import pairs

        if not isinstance(entry, dict):
            self._report.problems.append("policies: an entry is not an object")
            return
        name, vhost = str(entry.get("name")), str(entry.get("vhost", default_vhost))
        try:
            kinds = APPLIES_TO.get(entry.get("apply-to", "all"))
            if kinds is None:
                raise ValueError(f"it applies to '{entry.get('apply-to')}', which is not known")
            policy = _Policy(
                name=name,
                vhost=vhost,
                pattern=_core.Pattern(str(entry.get("pattern", ""))),
                kinds=kinds,
                priority=int(entry.get("priority", 0)),
                definition=pairs(entry.get("definition", {})),
                operator=operator,
            )
        except (ValueError, TypeError, InvalidArgument) as error:
            kind = "operator policy" if operator else "policy"
            self._report.problems.append(f"{kind} '{name}' in virtual host '{vhost}': {error}")
            return
        for key in policy.definition:
            if key in WITHOUT_EFFECT:
                self._report.notes.append(f"{policy}: {key}: {WITHOUT_EFFECT[key]}")
            elif key not in QUEUE_KEYS and key not in EXCHANGE_KEYS:
                self._report.problems.append(f"{policy}: there is no '{key}' in Wherry")
        self._policies.append(policy)

    def _matching(self, vhost: str, name: str, kind: str, *, operator: bool) -> _Policy | None:
        for policy in self._policies:
            if (
                policy.operator is operator
                and policy.vhost == vhost
                and kind in policy.kinds
                and policy.pattern.matches(name)
            ):
                policy.used += 1
                return policy
        return None

    def exchange_arguments(
        self, vhost: str, name: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments of an exchange with what its policy adds."""
        policy = self._matching(vhost, name, "exchange", operator=False)
        if policy is None:
            return arguments
        added = {
            argument: policy.definition[key]
            for key, argument in EXCHANGE_KEYS.items()
            if key in policy.definition and argument not in arguments
        }
        return _with_policy(arguments, added)

    def queue_arguments(self, vhost: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a queue with what its policies make of them."""
        kind = str(arguments.get("x-queue-type", "classic"))
        effective: dict[str, Any] = {}
        for operator in (False, True):
            policy = self._matching(vhost, name, kind, operator=operator)
            for key, value in policy.definition.items() if policy else ():
                if key not in QUEUE_KEYS or (key in QUORUM_ONLY and kind != "quorum"):
                    continue
                both = key in effective and key in NUMBERS
                effective[key] = min(effective[key], value) if both else value
        changed = {}
        for key, value in effective.items():
            argument = QUEUE_KEYS[key]
            own = arguments.get(argument)
            if own is None or (key in NUMBERS and _number(own) and value < own):
                changed[argument] = value
        return _with_policy(arguments, changed)

    def conclude(self) -> None:
        """Says what policies do not do."""
        for policy in self._policies:
            honoured = (QUEUE_KEYS.keys() | EXCHANGE_KEYS.keys()) & policy.definition.keys()
            if honoured:
                self._report.notes.append(
                    f"{policy}: applied to {policy.used} of the queues and exchanges in the file;"
                    " it is not kept as a rule for later ones"
                )


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _with_policy(arguments: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    if not changed:
        return arguments
    original = {name: arguments.get(name) for name in changed}
    return {**arguments, **changed, POLICY_ARGUMENT: original}
