"""A little language of STOMP frames that is driven into a broker, and what it answered, made
comparable.

A step is JSON: `[peer, command, headers, body]`, the last two if there are any; headers are an
object, or a list of pairs where one repeats. Beside the commands of STOMP there are `connect` (with
guest's login unless the headers say otherwise), `raw` (the text of bytes as they are), `hang-up`,
and for the peer `amqp` the methods of AMQP, with fields, properties and body.

What came back is a dictionary from peer to what it got in one step: `receipts`, sorted, because
nothing promises their place among messages; `messages`, by subscription and in order; `errors`;
`connected`. After each step every peer is passed by a round trip (an empty transaction), a few
times, so that what the step set off elsewhere has arrived too.

What a broker makes up is replaced by its order of appearance: `#1`, `#2` for the names of
deliveries (a step may use them), the names of queues that the broker chose.
"""

from __future__ import annotations

import re
import select
from typing import TYPE_CHECKING, Any

from wire.peer import Peer, Silence
from wire.stomp import StompPeer, encode

if TYPE_CHECKING:
    from wire.brokers import Broker
    from wire.peer import Event
    from wire.stomp import Frame

ROUNDS = 3

PAUSE_SECONDS = 0.15
"""RabbitMQ's queues, channels and connections are processes: how long nothing must come of one
before the step is taken for done.
"""

ARRIVED_SECONDS = 0.001
"""How long to wait for what has arrived already."""

_GENERATED = re.compile(
    r"(amq\.gen-|stomp-subscription-|amq\.rabbitmq\.reply-to\.|session-)[A-Za-z0-9_\-=.]+"
)

Seen = dict[str, dict[str, Any]]


class Run:
    """One sequence of steps on one broker. `@` in steps stands for a prefix of this run."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.broker = broker
        self.prefix = prefix
        self.peers: dict[str, StompPeer] = {}
        self.logged_in: set[str] = set()
        self.amqp: Peer | None = None
        self.queues: set[str] = set()
        self.generated: dict[str, str] = {}
        self.deliveries: dict[str, str] = {}
        self.amqp_tags: list[int] = []
        self.syncs = 0
        self.pause_seconds = PAUSE_SECONDS

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was declared under this run's names."""
        for peer in self.peers.values():
            peer.close()
        if self.amqp is not None:
            self.amqp.close()
        with Peer(self.broker.host, self.broker.port) as janitor:
            janitor.handshake()
            for channel, name in enumerate(sorted(self.queues), 1):
                janitor.open_channel(channel)
                janitor.call(channel, "queue.delete", queue=name)

    def step(self, step: list[Any]) -> Seen:
        name, command, *more = self._expand(step)
        seen: Seen = {}
        if name == "amqp":
            self._amqp(seen, command, *more)
        elif command in ("connect", "raw"):
            self._speak(seen, name, command, *more)
        else:
            peer = self.peers[name]
            if command == "hang-up":
                peer.close()
                peer.ended = True
            else:
                body = more[1].encode() if len(more) > 1 else b""
                headers = more[0] if more else {}
                pairs = headers.items() if isinstance(headers, dict) else headers
                self._remember(dict(pairs))
                peer.send(command, [(key, value) for key, value in pairs], body)
        self._settle(seen)
        # In the order of their names: who was seen first is a matter of chance, and numbers what
        # is named here.
        for _, one in sorted(seen.items()):
            self._finish(one)
        return seen

    def _finish(self, noted: dict[str, Any]) -> None:
        """Order is promised within a subscription only, and among receipts not at all."""
        noted.get("receipts", []).sort()
        messages = noted.get("messages", [])
        messages.sort(key=lambda message: message[0].get("subscription", ""))
        for message in messages:
            self._deliver(message[0])
            message[0] = self._plain(message[0])

    def _speak(self, seen: Seen, name: str, command: str, *more: Any) -> None:
        if command == "raw":
            if name not in self.peers:
                self.peers[name] = StompPeer(self.broker.host, self.broker.stomp_port)
            self.peers[name].raw(more[0].encode("latin-1"))
            if "CONNECT" in more[0] or "STOMP\n" in more[0]:
                self._connected(seen, name)
            return
        peer = self.peers[name] = StompPeer(self.broker.host, self.broker.stomp_port)
        headers = {"login": "guest", "passcode": "guest", **(more[0] if more else {})}
        headers = {key: value for key, value in headers.items() if value is not None}
        peer.raw(encode("CONNECT", headers))
        self._connected(seen, name)

    def _connected(self, seen: Seen, name: str) -> None:
        peer = self.peers[name]
        try:
            frame = peer.read()
        except Silence:
            seen.setdefault(name, {})["silent"] = True
            peer.ended = True
            return
        if frame.command == "CONNECTED":
            peer.version = frame.headers["version"]
            self.logged_in.add(name)
        self._note(seen, name, frame)

    # AMQP.

    def _amqp(
        self,
        seen: Seen,
        method: str,
        fields: dict[str, Any],
        properties: dict[str, Any] | None = None,
        body: str = "",
    ) -> None:
        if self.amqp is None:
            self.amqp = Peer(self.broker.host, self.broker.port)
            self.amqp.handshake()
            self.amqp.open_channel(1)
            self.amqp.call(1, "confirm.select")
        if properties is not None:
            exchange, key = fields.get("exchange", ""), fields.get("routing_key", "")
            self.amqp.publish(1, exchange, key, body.encode(), properties)
            self._amqp_note(seen, self.amqp.expect(1))
            return
        if method == "queue.declare" and not fields.get("passive"):
            self.queues.add(fields["queue"])
        if method == "basic.get":
            # What a SEND has put into a queue is there, but RabbitMQ may be about to say so.
            for _ in range(20):
                answer = self.amqp.call(1, method, **fields)
                if answer.name != "basic.get-empty":
                    break
                self._settle({}, rounds=1)
        else:
            answer = self.amqp.call(1, method, **fields)
        if answer.name == "channel.close":
            self.amqp.send(1, "channel.close-ok")
            self.amqp.open_channel(1)
            self.amqp.call(1, "confirm.select")
        self._amqp_note(seen, answer)

    def _amqp_note(self, seen: Seen, event: Event) -> None:
        noted: list[Any] = [event.name]
        fields = {
            key: item
            for key, item in event.fields.items()
            if key not in ("delivery_tag", "message_count", "multiple", "consumer_tag")
            or (event.name == "queue.declare-ok" and key == "message_count")
        }
        noted.append(self._plain(fields))
        if event.body is not None:
            noted += [self._plain(event.properties), event.body.decode(errors="replace")]
        seen.setdefault("amqp", {}).setdefault("events", []).append(noted)

    # Waiting.

    def _settle(self, seen: Seen, rounds: int = ROUNDS) -> None:
        for _ in range(rounds):
            for name, peer in self.peers.items():
                if not peer.ended and name in self.logged_in:
                    self._round(seen, name)
        # Before the login there is no round trip.
        rabbitmq = self.broker.kind == "rabbitmq"
        self._drain(seen, [one for one in self.peers if rabbitmq or one not in self.logged_in])

    def _round(self, seen: Seen, name: str) -> None:
        peer = self.peers[name]
        self.syncs += 1
        receipt = f"sync-{self.syncs}"
        for command, more in (("BEGIN", {}), ("ABORT", {"receipt": receipt})):
            peer.raw(encode(command, {"transaction": receipt, **more}))
        while not peer.ended:
            try:
                frame = peer.read()
            except Silence:
                seen.setdefault(name, {})["silent"] = True
                peer.ended = True
                return
            if frame.headers.get("receipt-id") == receipt:
                return
            self._note(seen, name, frame)
            if frame.command == "eof":
                return

    def _drain(self, seen: Seen, names: list[str]) -> None:
        """Whatever comes until none of them has got anything for `pause_seconds`."""
        while True:
            for name in names:
                self._read_all(seen, name)
            sockets = [self.peers[one].socket for one in names if not self.peers[one].ended]
            # RabbitMQ may have to hear of the end of the last one.
            if not names or not select.select(sockets, [], [], self.pause_seconds)[0]:
                return

    def _read_all(self, seen: Seen, name: str) -> None:
        """What has arrived."""
        peer = self.peers[name]
        while not peer.ended:
            try:
                frame = peer.read(ARRIVED_SECONDS)
            except Silence:
                return
            self._note(seen, name, frame)

    # Noting.

    def _note(self, seen: Seen, name: str, frame: Frame) -> None:
        noted = seen.setdefault(name, {})
        headers = frame.headers
        match frame.command:
            case "RECEIPT":
                noted.setdefault("receipts", []).append(self._plain(headers["receipt-id"]))
            case "eof":
                noted["closed"] = True
            case "CONNECTED":
                headers.pop("session", None)
                headers.pop("server", None)
                noted["connected"] = headers
            case "ERROR":
                text = self._plain(frame.body.decode(errors="replace"))
                noted.setdefault("errors", []).append([self._plain(headers), text])
            case _:
                text = self._plain(frame.body.decode(errors="replace"))
                noted.setdefault("messages", []).append([headers, text])

    def _deliver(self, headers: dict[str, str]) -> None:
        for key in ("message-id", "ack"):
            given = headers.get(key)
            if given is None:
                continue
            known = {item: short for short, item in self.deliveries.items()}
            if given not in known:
                known[given] = f"#{len(self.deliveries) + 1}"
                self.deliveries[known[given]] = given
            headers[key] = known[given]
        if "reply-to" in headers:
            self.generated.setdefault(headers["reply-to"], "$reply-to")

    def _remember(self, headers: dict[str, Any]) -> None:
        for key in ("destination", "x-queue-name"):
            name = str(headers.get(key, "")).rpartition("/")[2]
            if name.startswith(self.prefix):
                self.queues.add(name)

    # Names.

    def _expand(self, item: Any) -> Any:
        if isinstance(item, list):
            return [self._expand(one) for one in item]
        if isinstance(item, dict):
            return {self._expand(key): self._expand(one) for key, one in item.items()}
        if isinstance(item, str):
            if item in self.deliveries:
                return self.deliveries[item]
            if item == "$reply-to":
                return next(name for name, short in self.generated.items() if short == item)
            return item if "@@" in item else item.replace("@", self.prefix)
        return item

    def _plain(self, item: Any, key: str = "") -> Any:
        if isinstance(item, dict):
            return {self._plain(k): self._plain(v, k) for k, v in item.items()}
        if isinstance(item, list):
            if key == "time" and item[0] == "T":
                return ["T", 0]
            return [self._plain(one) for one in item]
        if isinstance(item, str):
            if item in self.generated and self.generated[item] == "$reply-to":
                return "$reply-to"
            text = item.replace(self.prefix, "@")
            return _GENERATED.sub(self._made_up, text)
        return item

    def _made_up(self, found: re.Match[str]) -> str:
        whole, kind = found.group(0), found.group(1)
        if whole not in self.generated:
            number = 1 + sum(1 for one in self.generated.values() if one.startswith(kind))
            self.generated[whole] = f"{kind}{number}"
        return self.generated[whole]


def run_all(broker: Broker, prefix: str, steps: list[list[Any]]) -> list[Seen]:
    """What was seen, one a step."""
    with Run(broker, prefix) as run:
        return [run.step(step) for step in steps]
