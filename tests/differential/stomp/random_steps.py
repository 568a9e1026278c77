"""Random sequences of frames, from a seed: three clients at a few queues, topics and exchanges.

The generator keeps no model of a broker. Which messages a client holds is known when the sequence
runs (`random_run.py`), so that an acknowledgement names one of them by its place: `$held3`. Steps
that make no sense then, such as one of a client that an error has closed, are left out on both
sides. What sequences leave out on purpose is in `differences.py`, `RANDOM`.
"""

from __future__ import annotations

import random
from typing import Any

Step = list[Any]

PEERS = ["a", "b", "c"]
VERSIONS = ["1.0", "1.1", "1.2"]

QUEUES = ["@q1", "@q2", "@q3", "@dead"]
"""The first is that of `/queue/@q1`; the second and third have arguments."""

SHARED = ["/queue/@q1", "/queue/@q1", "/amq/queue/@q2", "/amq/queue/@q3", "/amq/queue/@dead"]
OWN = [
    *("/topic/@t.a", "/topic/@t.*", "/topic/@t.#", "/topic/@#"),
    *("/exchange/amq.direct/@k", "/exchange/amq.topic/@t.a", "/exchange/amq.fanout"),
]
TARGETS = [
    *SHARED,
    *("@q1", "/topic/@t.a", "/topic/@t.a.b", "/topic/@t"),
    *("/exchange/amq.direct/@k", "/exchange/amq.direct/@q2", "/exchange/amq.fanout"),
]
TRANSACTIONS = ["t", "u"]

QUEUE_ARGUMENTS: list[dict[str, Any]] = [
    {},
    {},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@dead"},
    {"x-max-length": 3},
    {"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "@dead"},
    {"x-max-priority": 4},
    {"x-single-active-consumer": True},
    {"x-message-ttl": 3_600_000},
    {"x-max-length-bytes": 12},
]


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # Of acknowledging subscriptions: a client has one kind only (`RANDOM`).
        self.modes = {peer: self.chosen("client", "client-individual") for peer in PEERS}
        self.bodies = 0
        self.receipts = 0

    def chosen(self, *of: Any) -> Any:
        return self.random.choice(of)

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def sequence(self, count: int) -> list[Step]:
        steps: list[Step] = [self.connect(peer) for peer in PEERS]
        for queue in QUEUES:
            plain = queue in ("@q1", "@dead")
            arguments = {} if plain else self.chosen(*QUEUE_ARGUMENTS)
            fields = {"queue": queue, "durable": True, "arguments": arguments}
            steps.append(["amqp", "queue.declare", fields])
        while len(steps) < count:
            steps.append(self.step())
        return steps

    def step(self) -> Step:
        choice = self.random.choices(
            [
                self.send,
                self.subscribe,
                self.settle,
                self.unsubscribe,
                self.transaction,
                self.request,
                self.answer,
                self.reconnect,
                self.nonsense,
            ],
            [30, 14, 25, 3, 12, 2, 3, 3, 2],
        )[0]
        return choice()

    def peer(self) -> str:
        return self.random.choice(PEERS)

    def connect(self, peer: str) -> Step:
        return [peer, "connect", {"accept-version": self.chosen(*VERSIONS)}]

    def frame(self, command: str, headers: dict[str, Any], *body: str) -> Step:
        """Of any client, with a receipt in half of all cases."""
        if self.happens(0.5):
            self.receipts += 1
            headers["receipt"] = f"r{self.receipts}"
        return [self.peer(), command, headers, *body]

    def in_transaction(self, headers: dict[str, Any]) -> dict[str, Any]:
        if self.happens(0.4):
            headers["transaction"] = "$open"
        return headers

    def content(self, destination: str) -> tuple[dict[str, Any], str]:
        self.bodies += 1
        drawn = (
            ("persistent", "true", 0.3),
            ("priority", str(self.random.randrange(6)), 0.2),
            ("n", self.chosen("1", "two words", "", "ü"), 0.2),
            ("expiration", "3600000", 0.05),
            ("content-type", "text/plain", 0.1),
            ("correlation-id", f"c{self.bodies}", 0.1),
        )
        headers: dict[str, Any] = {"destination": destination}
        headers |= {name: value for name, value, often in drawn if self.happens(often)}
        return headers, f"m{self.bodies}"

    def send(self) -> Step:
        headers, body = self.content(self.chosen(*TARGETS))
        return self.frame("SEND", self.in_transaction(headers), body)

    def request(self) -> Step:
        headers, body = self.content(self.chosen(*SHARED))
        headers["reply-to"] = f"/temp-queue/{self.chosen('x', 'y')}"
        return self.frame("SEND", headers, body)

    def answer(self) -> Step:
        headers, body = self.content("$reply")
        return self.frame("SEND", self.in_transaction(headers), body)

    def subscribe(self) -> Step:
        headers: dict[str, Any] = {"id": str(self.random.randrange(4))}
        if self.happens(0.7):
            headers["destination"] = self.chosen(*SHARED)
        else:
            headers["destination"] = self.chosen(*OWN)
            if self.happens(0.15):
                headers |= {"durable": "true", "auto-delete": "false"}
        step = self.frame("SUBSCRIBE", headers)
        if self.happens(0.7):
            headers["ack"] = self.modes[step[0]]
            headers["prefetch-count"] = str(self.chosen(1, 2, 3, 10))
        elif self.happens(0.5):
            headers["ack"] = "auto"
        return step

    def unsubscribe(self) -> Step:
        headers = {"id": "$subscribed"}
        if self.happens(0.3):
            headers["durable"] = "true"
        return self.frame("UNSUBSCRIBE", headers)

    def settle(self) -> Step:
        headers: dict[str, Any] = {"id": f"$held{self.chosen(0, 0, 0, 1, 2)}"}
        command = self.chosen("ACK", "ACK", "NACK")
        if command == "NACK" and self.happens(0.5):
            headers["requeue"] = "false"
        return self.frame(command, self.in_transaction(headers))

    def transaction(self) -> Step:
        command = self.chosen("BEGIN", "BEGIN", "COMMIT", "COMMIT", "ABORT")
        name = self.chosen(*TRANSACTIONS) if command == "BEGIN" else "$open"
        return self.frame(command, {"transaction": name})

    def reconnect(self) -> Step:
        """A client comes back, or comes anew."""
        peer = self.peer()
        if self.happens(0.3):
            return [peer, "hang-up"]
        if self.happens(0.3):
            return [peer, "DISCONNECT", {"receipt": "bye"}]
        return self.connect(peer)

    def nonsense(self) -> Step:
        command, headers = self.chosen(
            ("NONSENSE", {}),
            ("SEND", {}),
            ("SEND", {"destination": "/exchange/@absent/k"}),
            ("SEND", {"destination": "/amq/queue/@absent"}),
            ("SEND", {"destination": "/topic/a/b"}),
            ("SEND", {"destination": "/queue/@q1", "transaction": "never"}),
            ("SEND", {"destination": "/queue/@q1", "priority": "x"}),
            ("SUBSCRIBE", {"id": "9"}),
            ("SUBSCRIBE", {"id": "9", "destination": "/amq/queue/@absent"}),
            ("SUBSCRIBE", {"id": "9", "destination": "/exchange/@absent/k"}),
            ("SUBSCRIBE", {"id": "9", "destination": "/queue/@dead", "x-max-length": "7"}),
            ("SEND", {"destination": "/queue/@q2"}),
            ("SUBSCRIBE", {"id": "9", "destination": "/queue/@q1", "ack": "never"}),
            ("UNSUBSCRIBE", {"id": "99"}),
            ("ACK", {"id": "$settled", "message-id": "$settled"}),
            ("NACK", {"id": "$settled", "message-id": "$settled"}),
            ("ACK", {"id": "nonsense", "message-id": "nonsense"}),
            ("ACK", {}),
            ("BEGIN", {}),
            ("COMMIT", {"transaction": "never"}),
            ("ABORT", {"transaction": "never"}),
            ("CONNECT", {"login": "guest", "passcode": "guest"}),
            ("raw", "SEND\ndestination:/queue/@q1\nno colon\n\n\0"),
        )
        if command == "raw":
            return [self.peer(), command, headers]
        return self.frame(command, dict(headers))
