"""Policies by the embedded API, on an event loop and in threads. Their rules are the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import wherry
from helpers import settle, tasks
from wherry import blocking

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_policy_acts_on_what_is_there_and_what_comes() -> None:
    async with wherry.open() as broker:
        before = await broker.declare_queue("log.before")
        for _ in range(3):
            await broker.default_exchange.publish(b"x", "log.before")
        assert await broker.set_policy("short", r"^log\.", {"max-length": 2}) == []
        after = await broker.declare_queue("log.after")
        other = await broker.declare_queue("other")
        assert before.statistics().ready == 2
        for queue in (before, after):
            assert queue.policies() == wherry.QueuePolicies("short", None, {"max-length": 2})
        assert other.policies() == wherry.QueuePolicies(None, None, {})
        # As it was declared: declaring it again is no contradiction.
        await broker.declare_queue("log.before")
        assert await broker.delete_policy("short")
        assert before.policies().policy is None
        assert not await broker.delete_policy("short")


async def test_operator_policies_are_a_kind_of_their_own() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        await broker.set_policy("p", "", {"max-length": 9}, apply_to="queues", priority=-1)
        await broker.set_policy("p", "^q$", {"max-length": 5}, operator=True)
        [policy] = broker.policies()
        assert policy == wherry.Policy("p", "", {"max-length": 9}, "queues", -1)
        [operator] = broker.policies(operator=True)
        assert operator == wherry.Policy("p", "^q$", {"max-length": 5}, operator=True)
        assert queue.policies() == wherry.QueuePolicies("p", "p", {"max-length": 5})
        assert await broker.delete_policy("p")
        assert queue.policies() == wherry.QueuePolicies(None, "p", {"max-length": 5})
        assert await broker.delete_policy("p", operator=True)
        assert broker.policies() == broker.policies(operator=True) == []


async def test_the_policy_of_an_exchange() -> None:
    async with wherry.open() as broker:
        orders = await broker.declare_exchange("orders")
        lost = await broker.declare_exchange("lost", "fanout")
        queue = await broker.declare_queue("lost")
        await queue.bind(lost)
        assert orders.policy() is None
        definition = {"alternate-exchange": "lost"}
        await broker.set_policy("lost", "^orders$", definition, apply_to="exchanges")
        assert (orders.policy(), lost.policy()) == ("lost", None)
        await orders.publish(b"nobody's", "key")
        assert (await queue.get()).body == b"nobody's"


async def test_of_those_that_match_the_first_listed_acts() -> None:
    async with wherry.open() as broker:
        queue = await broker.declare_queue("q")
        for name, priority in (("b", 1), ("a", 1), ("low", 0)):
            await broker.set_policy(name, "q", {"max-length": 5}, priority=priority)
        assert [policy.name for policy in broker.policies()] == ["a", "b", "low"]
        assert queue.policies().policy == "a"


async def test_what_has_no_effect_is_told_and_what_cannot_be_is_refused() -> None:
    async with wherry.open() as broker:
        notes = await broker.set_policy("p", "^q", {"ha-mode": "all", "max-length": 1})
        assert "'ha-mode' has no effect: there is one node" in notes
        for pattern, definition, words in (
            ("(", {"max-length": 1}, "invalid pattern"),
            ("", {"max-lenght": 1}, "max-lenght"),
            ("", {"max-length": -1}, "max-length"),
        ):
            with pytest.raises(wherry.InvalidArgument, match=words):
                await broker.set_policy("wrong", pattern, definition)
        with pytest.raises(wherry.InvalidArgument, match="apply-to"):
            await broker.set_policy("wrong", "", {}, apply_to="exchange")  # type: ignore[arg-type]
        assert [policy.name for policy in broker.policies()] == ["p"]


async def test_policies_are_of_a_virtual_host_and_durable(tmp_path: Path) -> None:
    async with wherry.open(tmp_path) as broker:
        shop = await broker.add_virtual_host("shop")
        await shop.set_policy("p", "", {"max-length": 1})
        assert broker.policies() == []
    async with wherry.open(tmp_path) as broker:
        [policy] = broker.virtual_host("shop").policies()
        assert policy.definition == {"max-length": 1}


async def test_a_policy_that_is_cancelled_while_it_waits_is_in_force(tmp_path: Path) -> None:
    async with wherry.open(tmp_path) as broker, tasks() as running:
        task = running.start(broker.set_policy, "p", "", {"max-length": 1})
        while not broker.policies():
            await settle()
        task.cancel()
        await settle()
        assert [policy.name for policy in broker.policies()] == ["p"]


def test_policies_in_plain_threads(tmp_path: Path) -> None:
    with blocking.open(tmp_path) as broker:
        queue = broker.declare_queue("q")
        exchange = broker.declare_exchange("e")
        assert broker.set_policy("p", "", {"max-length": 2}, timeout=10) == []
        assert broker.set_policy("cap", "", {"max-length": 1}, operator=True) == []
        assert queue.policies() == wherry.QueuePolicies("p", "cap", {"max-length": 1})
        assert exchange.policy() == "p"
    with blocking.open(tmp_path) as broker:
        assert [policy.name for policy in broker.policies()] == ["p"]
        assert [policy.name for policy in broker.policies(operator=True)] == ["cap"]
        assert broker.delete_policy("p")
        assert broker.delete_policy("cap", operator=True, timeout=10)
        assert not broker.delete_policy("cap", operator=True)
        assert broker.queue("q").policies() == wherry.QueuePolicies(None, None, {})
