"""What of our definitions is for RabbitMQ; what it refuses was asked of 3.10.8."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from wherry.server.definitions_rabbitmq import for_rabbitmq

QUEUE = {"name": "q", "vhost": "/", "type": "classic", "durable": True, "auto_delete": False}
EXCHANGE = {
    "name": "e",
    "vhost": "/",
    "type": "topic",
    "durable": True,
    "auto_delete": False,
    "internal": False,
    "arguments": {},
}
BINDING = {
    "source": "e",
    "vhost": "/",
    "destination": "q",
    "destination_type": "queue",
    "routing_key": "",
}
POLICY = {"vhost": "/", "name": "p", "pattern": "", "apply-to": "all", "priority": 0}
USER = {"name": "u", "tags": [], "limits": {}}


def definitions(**kinds: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("users", "parameters", "policies", "queues", "exchanges", "bindings", "permissions")
    return {name: kinds.get(name, []) for name in names}


def test_what_rabbitmq_has_stays_as_it_is() -> None:
    user = {**USER, "password_hash": "x", "hashing_algorithm": "rabbit_password_hashing_sha512"}
    limits = {"component": "vhost-limits", "name": "limits", "vhost": "/", "value": {}}
    given = definitions(
        users=[user],
        queues=[
            {**QUEUE, "arguments": {"x-max-length": 3, "x-message-ttl": 5, "x-queue-mode": "lazy"}},
            {**QUEUE, "type": "quorum", "arguments": {"x-queue-type": "quorum"}},
        ],
        exchanges=[{**EXCHANGE, "arguments": {"alternate-exchange": "a"}}],
        bindings=[{**BINDING, "arguments": {"x-match": "any", "n": 1}}],
        policies=[{**POLICY, "definition": {"max-length": 3, "overflow": "drop-head"}}],
        parameters=[limits],
    )
    before = copy.deepcopy(given)
    assert for_rabbitmq(given) == (before, [])
    assert given == before


@pytest.mark.parametrize(
    ("kind", "entry", "expected", "note"),
    [
        (
            "users",
            {**USER, "password_hash": "$argon2id$", "hashing_algorithm": "argon2"},
            {"password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256"},
            "user 'u': without a password",
        ),
        (
            "queues",
            {**QUEUE, "arguments": {"x-delivery-limit": 3, "x-max-length": 1}},
            {"arguments": {"x-max-length": 1}},
            "queue 'q' in virtual host '/': without x-delivery-limit, which RabbitMQ refuses",
        ),
        (
            "queues",
            {**QUEUE, "type": "quorum", "arguments": {"x-max-priority": 3}},
            {"arguments": {}},
            "queue 'q' in virtual host '/': without x-max-priority",
        ),
        (
            "queues",
            {**QUEUE, "arguments": {"x-lease": 5, "x-group-by": "k"}},
            {"arguments": {"x-lease": 5, "x-group-by": "k"}},
            "queue 'q' in virtual host '/': x-group-by, x-lease will have no effect",
        ),
        (
            "queues",
            {**QUEUE, "arguments": {"mine": [1, {"t": None}], "rest": 1}},
            {"arguments": {"rest": 1}},
            "queue 'q' in virtual host '/': without mine: RabbitMQ imports no void",
        ),
        (
            "exchanges",
            {**EXCHANGE, "type": "x-delayed-message"},
            {"type": "x-delayed-message"},
            "exchange 'e' in virtual host '/': needs RabbitMQ's plugin rabbitmq_delayed_message",
        ),
        (
            "bindings",
            {**BINDING, "arguments": {"n": None, "x-match": "any"}},
            {"arguments": {"n": "undefined", "x-match": "any"}},
            "binding from 'e' to 'q' in virtual host '/': n as text 'undefined'",
        ),
        (
            "policies",
            {**POLICY, "definition": {"retry-attempts": 3, "max-length": 1}},
            {"definition": {"max-length": 1}},
            "policy 'p' in virtual host '/': without retry-attempts",
        ),
        (
            "policies",
            {**POLICY, "apply-to": "classic_queues", "definition": {"max-length": 1}},
            {"apply-to": "classic_queues"},
            "policy 'p' in virtual host '/': RabbitMQ knows 'apply-to' classic_queues from 3.12",
        ),
    ],
)
def test_what_it_has_not_has_a_line(
    kind: str, entry: dict[str, Any], expected: dict[str, Any], note: str
) -> None:
    result, notes = for_rabbitmq(definitions(**{kind: [entry]}))
    assert result[kind] == [{**entry, **expected}]
    (line,) = notes
    assert line.startswith(note)


def test_policies_of_which_nothing_is_left_are_left_out() -> None:
    rule = {"pattern": "", "apply-to": "all", "priority": 0}
    operator = {"component": "operator_policy", "vhost": "/", "name": "o"}
    result, notes = for_rabbitmq(
        definitions(
            policies=[{**POLICY, "definition": {"lease": 5}}],
            parameters=[{**operator, "value": {**rule, "definition": {"overflow": "drop-head"}}}],
        )
    )
    assert result["policies"] == result["parameters"] == []
    assert [note.split(",")[0] for note in notes] == [
        "policy 'p' in virtual host '/': left out",
        "operator policy 'o' in virtual host '/': left out",
    ]
