"""Who may do what: every method against every set of permissions, with RabbitMQ's answers.

The rules are those of RabbitMQ's documentation (access control, topic authorization). To ask
RabbitMQ itself, set WHERRY_TEST_BROKER to `rabbitmq@HOST:PORT` of one that has `USERS` (with their
names for passwords) and the topic permissions of `TOPIC_USER`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import wherry.testing
from hostile.guarded import Guarded
from wire import brokers
from wire.peer import Event, Peer, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC_USER = "topic"
TOPIC_KEYS = r"^mine\."

# What each may do with every name: c(onfigure), w(rite), r(ead).
GRANTS = {
    "none": "",
    "c": "c",
    "w": "w",
    "r": "r",
    "cw": "cw",
    "cr": "cr",
    "wr": "wr",
    "cwr": "cwr",
    TOPIC_USER: "cwr",
}
USERS = {
    name: tuple(".*" if letter in grant else "" for letter in "cwr")
    for name, grant in GRANTS.items()
} | {"narrow": ("^own-", "^(own-|obj-y|amq[.]default$)", "^(own-|obj-x)")}


@dataclass(frozen=True)
class Case:
    """A method, what it takes, and what answers it then. `keys` are tried by the topic user."""

    method: str
    needs: str
    answer: str
    fields: dict[str, Any] = field(default_factory=dict)
    keyed: bool = False


def arguments(name: str, exchange: str) -> dict[str, Any]:
    return {"arguments": {name: exchange}}


AE = arguments("alternate-exchange", "obj-y")
DLX = arguments("x-dead-letter-exchange", "obj-y")
BIND_Q = {"queue": "obj-q", "exchange": "obj-x", "routing_key": "k"}
BIND_T = {"queue": "obj-q", "exchange": "obj-t"}
BIND_X = {"destination": "obj-y", "source": "obj-x", "routing_key": "k"}
BIND_TX = {"destination": "obj-y", "source": "obj-t"}
TO_T = {"exchange": "obj-t"}

CASES = {
    "exchange.declare": Case(
        "exchange.declare", "c", "exchange.declare-ok", {"exchange": "new-x", "type": "direct"}
    ),
    "exchange.declare of what is there": Case(
        "exchange.declare", "c", "exchange.declare-ok", {"exchange": "obj-x", "type": "direct"}
    ),
    "exchange.declare, alternate exchange": Case(
        "exchange.declare",
        "cwr",
        "exchange.declare-ok",
        {"exchange": "new-x", "type": "direct", **AE},
    ),
    "exchange.declare, passive": Case(
        "exchange.declare", "", "exchange.declare-ok", {"exchange": "obj-x", "passive": True}
    ),
    "exchange.delete": Case("exchange.delete", "c", "exchange.delete-ok", {"exchange": "obj-x"}),
    "exchange.bind": Case("exchange.bind", "wr", "exchange.bind-ok", BIND_X),
    "exchange.unbind": Case("exchange.unbind", "wr", "exchange.unbind-ok", BIND_X),
    "exchange.bind, topic": Case("exchange.bind", "wr", "exchange.bind-ok", BIND_TX, keyed=True),
    "exchange.unbind, topic": Case(
        "exchange.unbind", "wr", "exchange.unbind-ok", BIND_TX, keyed=True
    ),
    "queue.declare": Case("queue.declare", "c", "queue.declare-ok", {"queue": "new-q"}),
    "queue.declare of what is there": Case(
        "queue.declare", "c", "queue.declare-ok", {"queue": "obj-q"}
    ),
    "queue.declare, server's name": Case("queue.declare", "c", "queue.declare-ok", {"queue": ""}),
    "queue.declare, server's name, exclusive": Case(
        "queue.declare", "c", "queue.declare-ok", {"queue": "", "exclusive": True}
    ),
    "queue.declare, dead letters": Case(
        "queue.declare", "cwr", "queue.declare-ok", {"queue": "new-q", **DLX}
    ),
    "queue.declare, server's name, dead letters": Case(
        "queue.declare", "cwr", "queue.declare-ok", {"queue": "", **DLX}
    ),
    "queue.declare, passive": Case(
        "queue.declare", "", "queue.declare-ok", {"queue": "obj-q", "passive": True}
    ),
    "queue.delete": Case("queue.delete", "c", "queue.delete-ok", {"queue": "obj-q"}),
    "queue.purge": Case("queue.purge", "r", "queue.purge-ok", {"queue": "obj-q"}),
    "queue.bind": Case("queue.bind", "wr", "queue.bind-ok", BIND_Q),
    "queue.unbind": Case("queue.unbind", "wr", "queue.unbind-ok", BIND_Q),
    "queue.bind, topic": Case("queue.bind", "wr", "queue.bind-ok", BIND_T, keyed=True),
    "queue.unbind, topic": Case("queue.unbind", "wr", "queue.unbind-ok", BIND_T, keyed=True),
    "basic.publish": Case("basic.publish", "w", "basic.ack", {"exchange": "obj-x"}),
    "basic.publish, default exchange": Case(
        "basic.publish", "w", "basic.ack", {"routing_key": "obj-q"}
    ),
    "basic.publish, topic": Case("basic.publish", "w", "basic.ack", TO_T, keyed=True),
    "basic.get": Case("basic.get", "r", "basic.get-empty", {"queue": "obj-q"}),
    "basic.consume": Case("basic.consume", "r", "basic.consume-ok", {"queue": "obj-q"}),
    "basic.qos": Case("basic.qos", "", "basic.qos-ok", {"prefetch_count": 1}),
    "basic.cancel": Case("basic.cancel", "", "basic.cancel-ok", {"consumer_tag": "none"}),
    "basic.recover": Case("basic.recover", "", "basic.recover-ok", {"requeue": True}),
    "confirm.select": Case("confirm.select", "", "confirm.select-ok"),
    "tx.select": Case("tx.select", "", "tx.select-ok"),
}


@pytest.fixture(scope="module")
def broker() -> Iterator[Any]:
    """One in this process, whose users are ours to change."""
    if brokers.CHOICE != "wherry":
        yield brokers.start(brokers.CHOICE)
        return
    with wherry.testing.broker() as started:
        guarded = Guarded(started)
        for name, patterns in USERS.items():
            guarded.user(name, *patterns)
        guarded.topic(TOPIC_USER, "obj-t", TOPIC_KEYS, TOPIC_KEYS)
        yield guarded


@pytest.fixture
def owner(broker: Any) -> Iterator[Peer]:
    with connect(broker.host, broker.port) as peer:
        peer.open_channel(1)
        yield peer


def login(broker: Any, user: str) -> Peer:
    peer = connect(broker.host, broker.port, user=user, password=user)
    peer.open_channel(1)
    return peer


def prepare(owner: Peer) -> None:
    """The names of the table, as if nothing had been done with them."""
    for name in ("new-q", "obj-q"):
        owner.call(1, "queue.delete", queue=name)
    for name in ("new-x", "obj-x"):
        owner.call(1, "exchange.delete", exchange=name)
    assert owner.call(1, "queue.declare", queue="obj-q").name == "queue.declare-ok"
    for name, kind in (("obj-x", "direct"), ("obj-y", "fanout"), ("obj-t", "topic")):
        answer = owner.call(1, "exchange.declare", exchange=name, type=kind)
        assert answer.name == "exchange.declare-ok", answer


def attempt(peer: Peer, case: Case, **changes: str) -> Event:
    """The answer, on a channel that is open again afterwards."""
    fields = {**case.fields, **changes}
    if case.method == "basic.publish":
        assert peer.call(1, "confirm.select").name == "confirm.select-ok"
        peer.publish(1, fields.pop("exchange", ""), fields.pop("routing_key", "mine.a"))
        answer = peer.expect(1)
    else:
        answer = peer.call(1, case.method, **fields)
    if answer.name == "channel.close":
        peer.send(1, "channel.close-ok")
        peer.open_channel(1)
    return answer


def refused(answer: Event) -> bool:
    if answer.name != "channel.close" or answer.code != 403:
        return False
    assert answer.text.startswith("ACCESS_REFUSED - access to "), answer
    return True


@pytest.mark.parametrize("user", GRANTS)
def test_matrix(user: str, broker: Any, owner: Peer) -> None:
    wrong = []
    for name, case in CASES.items():
        prepare(owner)
        with login(broker, user) as peer:
            changes = {"routing_key": "mine.a"} if case.keyed else {}
            answer = attempt(peer, case, **changes)
        allowed = set(case.needs) <= set(GRANTS[user])
        if not (answer.name == case.answer if allowed else refused(answer)):
            wrong.append((name, "allowed" if allowed else "refused", answer))
    assert wrong == []


@pytest.mark.parametrize("key", ["theirs.a", "#", "*.a", "", "a.mine.b", "minex", "#.mine.#"])
def test_topic_keys_of_others(key: str, broker: Any, owner: Peer) -> None:
    """A binding key is compared as it is written: a wildcard that covers more is not one's own."""
    prepare(owner)
    with login(broker, TOPIC_USER) as peer:
        for name, case in CASES.items():
            if case.keyed:
                assert refused(attempt(peer, case, routing_key=key)), (name, key)
    with login(broker, "cwr") as peer:
        for name, case in CASES.items():
            if case.keyed:
                assert attempt(peer, case, routing_key=key).name == case.answer, (name, key)


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_topic_keys_in_headers(header: str, broker: Any, owner: Peer) -> None:
    """Keys that a message brings in its headers are keys too. (RabbitMQ 3.10 does not look.)"""
    if brokers.CHOICE != "wherry":
        pytest.skip("stricter than RabbitMQ 3.10")
    prepare(owner)
    owner.call(1, "queue.bind", queue="obj-q", exchange="obj-t", routing_key="theirs.a")
    with login(broker, TOPIC_USER) as peer:
        peer.call(1, "confirm.select")
        peer.publish(1, "obj-t", "mine.a", b"m", {"headers": {header: ["mine.b", "theirs.a"]}})
        assert refused(peer.expect(1))
        peer.send(1, "channel.close-ok")
        peer.open_channel(1)
        peer.call(1, "confirm.select")
        peer.publish(1, "obj-t", "mine.a", b"m", {"headers": {header: ["mine.b"]}})
        assert peer.expect(1).name == "basic.ack"
    assert owner.call(1, "basic.get", queue="obj-q", no_ack=True).name == "basic.get-empty"


def test_answers_do_not_tell_what_exists(broker: Any, owner: Peer) -> None:
    """Who may not do it gets one answer for what is there and what is not."""
    prepare(owner)
    with login(broker, "none") as peer:
        for name, case in CASES.items():
            if not case.needs:
                continue
            names = {
                key: value.replace("obj-", "absent-")
                for key, value in case.fields.items()
                if isinstance(value, str)
            }
            there, absent = attempt(peer, case), attempt(peer, case, **names)
            assert refused(there), (name, there)
            assert refused(absent), (name, absent)
            # Names of the server's choice are drawn anew.
            if case.fields.get("queue") != "":
                assert there.text.replace("obj-", "absent-") == absent.text


TARGETS = {
    "dead letters to another's": (
        "queue.declare",
        {"queue": "own-q", **arguments("x-dead-letter-exchange", "obj-x")},
        "exchange 'obj-x'",
    ),
    "alternate is another's": (
        "exchange.declare",
        {"exchange": "own-x", "type": "fanout", **arguments("alternate-exchange", "obj-x")},
        "exchange 'obj-x'",
    ),
    "dead letters to a queue that one may not make": (
        "queue.declare",
        {
            "queue": "own-q",
            "arguments": {"x-retry-attempts": 1, "x-retry-dead-letter": "theirs-q"},
        },
        "queue 'theirs-q'",
    ),
    "dead letters of a queue that one may not read": (
        "queue.declare",
        {"queue": "", **arguments("x-dead-letter-exchange", "obj-y")},
        "queue 'amq.gen",
    ),
    "binding another's queue": (
        "queue.bind",
        {"queue": "obj-q", "exchange": "obj-x", "routing_key": ""},
        "queue 'obj-q'",
    ),
    "binding from another's exchange": (
        "exchange.bind",
        {"destination": "obj-y", "source": "obj-t", "routing_key": "#"},
        "exchange 'obj-t'",
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_needs_its_own_permission(name: str, broker: Any, owner: Peer) -> None:
    method, fields, what = TARGETS[name]
    if brokers.CHOICE != "wherry" and "x-retry-attempts" in fields.get("arguments", {}):
        pytest.skip("no retries there")
    prepare(owner)
    with login(broker, "narrow") as peer:
        answer = attempt(peer, Case(method, "", ""), **fields)
        assert refused(answer)
        assert what in answer.text
        # And nothing was made.
        made = fields.get("queue") or fields.get("exchange", "")
        if made.startswith("own-"):
            kind, _, _ = method.partition(".")
            found = attempt(peer, Case(f"{kind}.declare", "", "", {kind: made, "passive": True}))
            assert found.code == 404


# Exclusive queues of others: what RabbitMQ answers to those who may do everything else.
LOCKED = {
    "passive declare": ("queue.declare", {"passive": True}),
    "declare": ("queue.declare", {}),
    "declare exclusive": ("queue.declare", {"exclusive": True}),
    "delete": ("queue.delete", {}),
    "purge": ("queue.purge", {}),
    "bind": ("queue.bind", {"exchange": "amq.direct"}),
    "unbind": ("queue.unbind", {"exchange": "amq.direct"}),
    "get": ("basic.get", {}),
    "consume": ("basic.consume", {}),
}


@pytest.mark.parametrize("name", LOCKED)
def test_exclusive_queue_of_another(name: str, broker: Any, owner: Peer) -> None:
    method, fields = LOCKED[name]
    case = Case(method, "", "", fields)
    owner.call(1, "confirm.select")
    owner.call(1, "queue.declare", queue="locked", exclusive=True)
    owner.call(1, "queue.bind", queue="locked", exchange="amq.direct")
    owner.publish(1, "", "locked", b"m")
    owner.until("basic.ack")
    with login(broker, "cwr") as peer:
        answer = attempt(peer, case, queue="locked")
        assert (answer.name, answer.code) == ("channel.close", 405), answer
        assert "1" not in answer.text.replace("127.0.0.1", ""), "says how much is in it"
    with login(broker, "none") as peer:
        # A permission that is missing says nothing about whose the queue is.
        answer = attempt(peer, case, queue="locked")
        assert answer.code == 405 if "passive" in fields else refused(answer)
    assert owner.call(1, "basic.get", queue="locked", no_ack=True).body == b"m"


def test_the_same_user_is_another_connection(broker: Any, owner: Peer) -> None:
    owner.call(1, "queue.declare", queue="locked", exclusive=True)
    with connect(broker.host, broker.port) as other:
        other.open_channel(1)
        assert other.call(1, "basic.get", queue="locked").code == 405
    assert owner.call(1, "queue.declare", queue="locked", exclusive=True).message_count == 0


def test_passive_declare_tells_only_what_rabbitmq_tells(broker: Any, owner: Peer) -> None:
    """Name and counts, as in RabbitMQ 3.10, which asks for no permission; no kind, no arguments."""
    prepare(owner)
    with login(broker, "none") as peer:
        found = peer.call(1, "queue.declare", queue="obj-q", passive=True)
        assert found.fields == {"queue": "obj-q", "message_count": 0, "consumer_count": 0}
        found = peer.call(1, "exchange.declare", exchange="obj-x", type="topic", passive=True)
        assert found.fields == {}
        # Being told of it opens nothing: the queue declared last is checked as if it were named.
        peer.call(1, "queue.declare", queue="obj-q", passive=True)
        for method in ("basic.get", "basic.consume", "queue.purge", "queue.delete"):
            assert refused(peer.call(1, method))
            peer.send(1, "channel.close-ok")
            peer.open_channel(1)
            peer.call(1, "queue.declare", queue="obj-q", passive=True)
        for fields in ({"queue": "absent-q"}, {"queue": "amq.gen-absent"}):
            answer = attempt(peer, Case("queue.declare", "", "", {**fields, "passive": True}))
            assert answer.code == 404
