"""What RabbitMQ can import of our definitions.

Its import ends at the first thing that it does not take, with half of the file done. So what it
would refuse is left out, or made what comes nearest, and each of that has a line: nothing changes
silently. Asked of RabbitMQ 3.10.8; what only later versions or plugins take stays in the file, and
has a line, too.

A pure function on what `definitions.export_definitions` gave.
"""

from __future__ import annotations

from typing import Any

from wherry.server.users_hashes import ARGON2

__all__ = ["for_rabbitmq"]

# The hash of a user without a password is empty, whatever its algorithm.
_ALGORITHM = "rabbit_password_hashing_sha256"

_PLUGINS = {
    "x-delayed-message": "rabbitmq_delayed_message_exchange",
    "x-message-deduplication": "rabbitmq_message_deduplication",
}

# Arguments that RabbitMQ refuses on queues of this type; here all queues are of one kind.
_OF_OTHER_TYPES = {
    "classic": frozenset(
        {
            "x-delivery-limit",
            "x-dead-letter-strategy",
            "x-max-in-memory-bytes",
            "x-max-in-memory-length",
            "x-queue-leader-locator",
            "x-quorum-initial-group-size",
        }
    ),
    "quorum": frozenset(
        {"x-max-priority", "x-queue-master-locator", "x-queue-mode", "x-queue-version"}
    ),
}

# Ours: RabbitMQ keeps them and does nothing about them.
_OWN_ARGUMENTS = ("x-group-by", "x-retry-", "x-lease", "x-dedup-", "x-delayed-retry-")

# Ours: RabbitMQ refuses the policy.
_OWN_SETTINGS = ("retry-", "lease")

# Which it has, but not in operator policies.
_NOT_OF_OPERATORS = "overflow"

# RabbitMQ has them since 3.12.
_NARROW = frozenset({"classic_queues", "quorum_queues"})


def for_rabbitmq(definitions: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The definitions for `rabbitmqctl import_definitions`, and a line for each thing that will not
    be there as it is here.
    """
    notes: list[str] = []
    result = dict(definitions)
    result["users"] = [_user(user, notes) for user in definitions["users"]]
    result["policies"] = []
    for policy in definitions["policies"]:
        rule = _rule(policy, f"policy '{policy['name']}'", policy["vhost"], notes)
        if rule is not None:
            result["policies"].append(rule)
    result["parameters"] = []
    for parameter in definitions["parameters"]:
        value = parameter["value"]
        if parameter["component"] == "operator_policy":
            what = f"operator policy '{parameter['name']}'"
            value = _rule(value, what, parameter["vhost"], notes, _NOT_OF_OPERATORS)
        if value is not None:
            result["parameters"].append({**parameter, "value": value})
    result["exchanges"] = [_exchange(exchange, notes) for exchange in definitions["exchanges"]]
    result["queues"] = [_queue(queue, notes) for queue in definitions["queues"]]
    result["bindings"] = [_binding(binding, notes) for binding in definitions["bindings"]]
    return result, notes


def _user(user: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    if user["hashing_algorithm"] != ARGON2:
        return user
    notes.append(
        f"user '{user['name']}': without a password, since RabbitMQ does not know argon2's hashes:"
        " set one there with rabbitmqctl change_password"
    )
    return {**user, "password_hash": "", "hashing_algorithm": _ALGORITHM}


def _rule(
    rule: dict[str, Any], what: str, vhost: str, notes: list[str], *refused: str
) -> dict[str, Any] | None:
    """A policy; None if nothing is left of it."""
    label = f"{what} in virtual host '{vhost}'"
    settings = rule["definition"]
    own = [name for name in settings if name.startswith(_OWN_SETTINGS) or name in refused]
    kept = {name: value for name, value in settings.items() if name not in own}
    if own and not kept:
        notes.append(f"{label}: left out, since RabbitMQ has no {_names(own)} there")
        return None
    if own:
        notes.append(f"{label}: without {_names(own)}, which RabbitMQ does not have there")
    if rule["apply-to"] in _NARROW:
        notes.append(f"{label}: RabbitMQ knows 'apply-to' {rule['apply-to']} from 3.12 on")
    return {**rule, "definition": kept}


def _exchange(exchange: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    label = f"exchange '{exchange['name']}' in virtual host '{exchange['vhost']}'"
    plugin = _PLUGINS.get(exchange["type"])
    if plugin is not None:
        notes.append(f"{label}: needs RabbitMQ's plugin {plugin}")
    return {**exchange, "arguments": _arguments(exchange["arguments"], frozenset(), label, notes)}


def _queue(queue: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    label = f"queue '{queue['name']}' in virtual host '{queue['vhost']}'"
    refused = _OF_OTHER_TYPES.get(queue["type"], frozenset())
    return {**queue, "arguments": _arguments(queue["arguments"], refused, label, notes)}


def _arguments(
    arguments: dict[str, Any], refused: frozenset[str], label: str, notes: list[str]
) -> dict[str, Any]:
    own = [name for name in arguments if name.startswith(_OWN_ARGUMENTS)]
    if own:
        notes.append(f"{label}: {_names(own)} will have no effect")
    kept = {}
    for name, value in arguments.items():
        if name in refused:
            notes.append(f"{label}: without {name}, which RabbitMQ refuses on queues of its type")
        elif _has_void(value):
            notes.append(f"{label}: without {name}: RabbitMQ imports no void")
        else:
            kept[name] = value
    return kept


def _binding(binding: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    voids = [name for name, value in binding["arguments"].items() if _has_void(value)]
    if not voids:
        return binding
    # Left out it would match more, or less.
    notes.append(
        f"binding from '{binding['source']}' to '{binding['destination']}' in virtual host"
        f" '{binding['vhost']}': {_names(voids)} as text 'undefined': RabbitMQ imports no void"
    )
    arguments = {name: _undefined(value) for name, value in binding["arguments"].items()}
    return {**binding, "arguments": arguments}


def _has_void(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_void, value))
    if isinstance(value, dict):
        return any(map(_has_void, value.values()))
    return value is None


def _undefined(value: Any) -> Any:
    """With what RabbitMQ's own export writes for a void."""
    if isinstance(value, list):
        return [_undefined(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _undefined(inner) for name, inner in value.items()}
    return "undefined" if value is None else value


def _names(names: list[str]) -> str:
    return ", ".join(sorted(names))
