"""Random sequences of steps, from a seed: a few queues, exchanges, channels and two connections
that get in each other's way.

The generator keeps no model of a broker. It knows what it has said so far, so that most steps make
sense, and says nonsense now and then. What it leaves out is in `differences.py`, `RANDOM`.
"""

from __future__ import annotations

import random
from typing import Any

Step = list[Any]

QUEUES = ["@q1", "@q2", "@q3", "@dead"]
EXCHANGES = ["@direct", "@topic", "@fanout", "@headers"]
KEYS = ["a", "a.b", "a.b.c", "b", ""]
PATTERNS = ["a", "a.*", "a.#", "#", "*.b", "b", "*", ""]
CHANNELS = [("a", 1), ("a", 2), ("b", 1)]

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@dead"}

QUEUE_ARGUMENTS: list[dict[str, Any]] = [
    {},
    {},
    DEAD,
    {"x-dead-letter-exchange": "@fanout"},
    {"x-max-length": 3},
    {"x-max-length": 2, **DEAD},
    {"x-max-length": 3, "x-overflow": "reject-publish"},
    {"x-max-priority": 4},
    {"x-single-active-consumer": True},
    {"x-message-ttl": 3_600_000},
    {"x-max-length-bytes": 40},
    {"x-max-priority": 4, **DEAD},
    {"x-max-priority": 4, "x-max-length": 3, "x-overflow": "reject-publish-dlx", **DEAD},
    {"x-single-active-consumer": True, "x-max-priority": 1, **DEAD},
    {"x-single-active-consumer": True, "x-max-length": 4, **DEAD},
]


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.consumers: list[tuple[str, int, str]] = []
        self.tags = dict.fromkeys(CHANNELS, 0)
        self.bodies = 0
        self.next_tag = 0
        self.transactional: set[tuple[str, int]] = set()

    def sequence(self, count: int) -> list[Step]:
        steps: list[Step] = [["a", 0, "connect", {}], ["b", 0, "connect", {}]]
        steps += [[peer, channel, "open", {}] for peer, channel in CHANNELS]
        for channel in CHANNELS:
            # A channel of each kind in most runs; all confirmed ones keep the run in step.
            kind = self.random.choices(["confirm.select", "tx.select"], [8, 1])[0]
            steps.append([*channel, kind, {}])
            if kind == "tx.select":
                self.transactional.add(channel)
        for kind, exchange in zip(("direct", "topic", "fanout", "headers"), EXCHANGES, strict=True):
            fields: dict[str, Any] = {"exchange": exchange, "type": kind}
            if self.random.random() < 0.3:
                alternate = self.random.choice(EXCHANGES)
                fields["arguments"] = {"alternate-exchange": alternate}
            steps.append(["a", 1, "exchange.declare", fields])
        for queue in QUEUES:
            arguments = self.random.choice(QUEUE_ARGUMENTS) if queue != "@dead" else {}
            steps.append(["a", 1, "queue.declare", {"queue": queue, "arguments": arguments}])
        while len(steps) < count:
            steps.append(self.step())
        return steps

    def step(self) -> Step:
        choice = self.random.choices(
            [
                self.publish,
                self.get,
                self.settle,
                self.bind,
                self.consume,
                self.cancel,
                self.declare,
                self.delete,
                self.purge,
                self.recover,
                self.transaction,
                self.reopen,
                self.nonsense,
            ],
            [30, 12, 20, 8, 5, 3, 3, 1, 1, 2, 3, 3, 1],
        )[0]
        return choice()

    def channel(self) -> tuple[str, int]:
        return self.random.choice(CHANNELS)

    def publish(self) -> Step:
        self.bodies += 1
        properties: dict[str, Any] = {}
        if self.random.random() < 0.3:
            properties["priority"] = self.random.randrange(6)
        if self.random.random() < 0.2:
            properties["headers"] = {"n": self.random.randrange(2)}
        if self.random.random() < 0.1:
            properties["delivery_mode"] = 2
        if self.random.random() < 0.05:
            properties["expiration"] = "3600000"
        if self.random.random() < 0.1:
            copies = self.random.choice(["CC", "BCC"])
            properties.setdefault("headers", {})[copies] = [self.random.choice(QUEUES)]
        exchange = self.random.choice(["", "", *EXCHANGES])
        key = self.random.choice(KEYS) if exchange else self.random.choice(QUEUES)
        return [
            *self.channel(),
            "basic.publish",
            {"exchange": exchange, "routing_key": key, "mandatory": self.random.random() < 0.2},
            properties,
            f"m{self.bodies}",
        ]

    def get(self) -> Step:
        fields = {"queue": self.random.choice(QUEUES), "no_ack": self.random.random() < 0.3}
        return [*self.channel(), "basic.get", fields]

    def settle(self) -> Step:
        channel = self.channel()
        self.tags[channel] += self.random.random() < 0.7
        tag = max(1, self.tags[channel] + self.random.choice([0, 0, 0, -1, 1]))
        method = self.random.choice(["basic.ack", "basic.ack", "basic.nack", "basic.reject"])
        fields: dict[str, Any] = {"delivery_tag": tag}
        if method != "basic.reject" and self.random.random() < 0.3:
            fields["multiple"] = True
            fields["delivery_tag"] = self.random.choice([tag, 0])
        if method != "basic.ack":
            fields["requeue"] = self.random.random() < 0.5
        return [*channel, method, fields]

    def bind(self) -> Step:
        method = self.random.choice(["queue.bind", "queue.bind", "queue.bind", "queue.unbind"])
        exchange = self.random.choice(EXCHANGES)
        fields: dict[str, Any] = {
            "queue": self.random.choice(QUEUES),
            "exchange": exchange,
            "routing_key": self.random.choice(PATTERNS),
        }
        if exchange == "@headers":
            fields["arguments"] = {"x-match": self.random.choice(["all", "any"]), "n": 1}
        if self.random.random() < 0.1:
            # Every path to a queue counts once, also over a cycle.
            ends = self.random.sample(EXCHANGES, 2)
            return [
                *self.channel(),
                "exchange.bind",
                {"destination": ends[0], "source": ends[1], "routing_key": fields["routing_key"]},
            ]
        return [*self.channel(), method, fields]

    def consume(self) -> Step:
        self.next_tag += 1
        channel, tag = self.channel(), f"c{self.next_tag}"
        self.consumers.append((*channel, tag))
        fields: dict[str, Any] = {
            "queue": self.random.choice(QUEUES),
            "consumer_tag": tag,
            "no_ack": self.random.random() < 0.2,
        }
        if self.random.random() < 0.1:
            fields["exclusive"] = True
        if self.random.random() < 0.3:
            fields["arguments"] = {"x-priority": self.random.choice([-1, 1, 5])}
        return [*channel, "basic.consume", fields]

    def cancel(self) -> Step:
        if not self.consumers:
            return self.qos()
        peer, channel, tag = self.consumers.pop(self.random.randrange(len(self.consumers)))
        return [peer, channel, "basic.cancel", {"consumer_tag": tag}]

    def qos(self) -> Step:
        fields = {
            "prefetch_count": self.random.choice([0, 1, 2, 5]),
            "global_": self.random.random() < 0.3,
        }
        return [*self.channel(), "basic.qos", fields]

    def declare(self) -> Step:
        if self.random.random() < 0.6:
            return self.qos()
        fields: dict[str, Any] = {
            "queue": self.random.choice(QUEUES),
            "arguments": self.random.choice(QUEUE_ARGUMENTS),
        }
        if self.random.random() < 0.2:
            fields["auto_delete"] = True
        return [*self.channel(), "queue.declare", fields]

    def delete(self) -> Step:
        fields = {
            "queue": self.random.choice(QUEUES),
            "if_unused": self.random.random() < 0.4,
            "if_empty": self.random.random() < 0.4,
        }
        return [*self.channel(), "queue.delete", fields]

    def purge(self) -> Step:
        return [*self.channel(), "queue.purge", {"queue": self.random.choice(QUEUES)}]

    def recover(self) -> Step:
        return [*self.channel(), "basic.recover", {"requeue": True}]

    def transaction(self) -> Step:
        if not self.transactional:
            return self.publish()
        channel = self.random.choice(sorted(self.transactional))
        return [*channel, self.random.choice(["tx.commit", "tx.commit", "tx.rollback"]), {}]

    def reopen(self) -> Step:
        """A channel that an error closed comes back; on an open one nothing is done."""
        channel = self.channel()
        self.tags[channel] = 0
        return [*channel, "reopen", {}]

    def nonsense(self) -> Step:
        return self.random.choice(
            [
                [*self.channel(), "queue.declare", {"queue": "@absent", "passive": True}],
                [*self.channel(), "basic.consume", {"queue": "@absent"}],
                [*self.channel(), "basic.cancel", {"consumer_tag": "never"}],
                [*self.channel(), "exchange.delete", {"exchange": "@absent"}],
                [*self.channel(), "basic.ack", {"delivery_tag": 999}],
                [*self.channel(), "channel.close", {"code": 200}],
            ]
        )
