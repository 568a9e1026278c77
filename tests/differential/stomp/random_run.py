"""Random sequences made to make sense while they run.

What a step needs to know of what came before it - which messages a client holds, whether it is
there at all - is read off what both brokers said, which is the same until they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.stomp.steps import Run, Seen
from wire.peer import Peer
from wire.stomp import connect

if TYPE_CHECKING:
    from wire.brokers import Broker
    from wire.stomp import Frame

PAUSE_SECONDS = 0.08
"""Shorter than for what is recorded: a difference must come twice to count."""


class Client:
    """What one connection of a client is known to have."""

    def __init__(self, version: str) -> None:
        self.id_header = "id" if version == "1.2" else "message-id"
        self.modes: dict[str, str] = {}
        """Of the subscriptions that it has."""
        self.acknowledges_all = False
        """It has had a subscription in mode `client`."""
        self.held: list[tuple[str, str]] = []
        """Subscription and name of what it may settle."""
        self.settled: list[str] = []
        self.open: dict[str, list[tuple[str, str]]] = {}
        """Transactions, and what was settled in each."""


class RandomRun(Run):
    def __init__(self, broker: Broker, prefix: str) -> None:
        super().__init__(broker, prefix)
        self.pause_seconds = PAUSE_SECONDS
        self.clients: dict[str, Client] = {}
        self.reply_to = ""
        self.durable: set[tuple[str, str]] = set()
        self.control: Peer | None = None

    def __exit__(self, *exception: object) -> None:
        if self.control is not None:
            self.control.close()
        for peer in self.peers.values():
            peer.close()
        for name, destination in sorted(self.durable):
            # A client of its own for each: an error closes it.
            with connect(self.broker.host, self.broker.stomp_port) as janitor:
                headers = {"id": name, "durable": "true", "auto-delete": "false"}
                janitor.call("SUBSCRIBE", {**headers, "destination": destination})
                janitor.call("UNSUBSCRIBE", {"id": name, "durable": "true"})
        super().__exit__(*exception)

    def step(self, step: list[Any]) -> Seen:
        name, command, *more = step
        if name == "amqp":
            return super().step(step)
        if command == "connect":
            self._leave(name)
        elif name not in self.clients:
            # Whom an error has closed comes back with its next step.
            version = self.peers[name].version if name in self.peers else "1.2"
            return super().step([name, "connect", {"accept-version": version}])
        elif more and isinstance(more[0], dict):
            headers = self._meant(self.clients[name], command, dict(more[0]))
            if headers is None:
                return {}
            step = [name, command, headers, *more[1:]]
        seen = super().step(step)
        if command in ("hang-up", "DISCONNECT"):
            self._leave(name)
        for gone in [one for one, what in seen.items() if "errors" in what or "closed" in what]:
            # RabbitMQ goes on behind some errors; nobody should.
            self._leave(gone)
            after: Seen = {}
            self._settle(after)
            self._add(seen, after)
        return seen

    def _add(self, seen: Seen, after: Seen) -> None:
        """What came of the end of a client is of the same step."""
        for name, what in sorted(after.items()):
            self._finish(what)
            noted = seen.setdefault(name, {})
            for kind, items in what.items():
                if isinstance(items, list):
                    noted.setdefault(kind, []).extend(items)
                else:
                    noted[kind] = items
            noted.get("messages", []).sort(key=lambda one: one[0].get("subscription", ""))

    def counts(self, queues: list[str]) -> dict[str, Any]:
        """Ready messages and consumers of each queue, by a peer of its own."""
        if self.control is None:
            self.control = Peer(self.broker.host, self.broker.port)
            self.control.handshake()
            self.control.open_channel(1)
        seen: dict[str, Any] = {}
        # Twice: RabbitMQ answers a declare before messages that stand in line for the queue.
        for queue in queues * 2:
            answer = self.control.call(1, "queue.declare", queue=self._expand(queue), passive=True)
            if answer.name == "queue.declare-ok":
                seen[queue] = [answer.message_count, answer.consumer_count]
            else:
                seen[queue] = answer.fields.get("code", answer.name)
                self.control.send(1, "channel.close-ok")
                self.control.open_channel(1)
        return seen

    def _leave(self, name: str) -> None:
        self.clients.pop(name, None)
        if name in self.peers:
            self.peers[name].close()
            self.peers[name].ended = True

    # What steps mean.

    def _meant(
        self, client: Client, command: str, headers: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The headers of a step with what they stand for; none if it makes no sense now."""
        if headers.get("transaction") == "$open":
            # One that is; what needs none does without.
            del headers["transaction"]
            if not client.open and command in ("COMMIT", "ABORT"):
                return None
            if client.open:
                headers["transaction"] = min(client.open)
        transaction = headers.get("transaction")
        if transaction not in (None, "never"):
            if command == "BEGIN":
                if transaction in client.open:
                    return None
                client.open[transaction] = []
            elif transaction not in client.open:
                return None
        if command == "COMMIT":
            client.open.pop(transaction, None)
        if command == "ABORT":
            client.held += client.open.pop(transaction, [])
        if headers.get("destination") == "$reply":
            if not self.reply_to:
                return None
            headers["destination"] = self.reply_to
        if command == "SUBSCRIBE":
            return self._subscribing(client, headers)
        if headers.get("id") == "$subscribed":
            if not client.modes:
                return None
            headers["id"] = min(client.modes)
        if command == "UNSUBSCRIBE" and client.modes.pop(headers["id"], None):
            client.held = [one for one in client.held if one[0] != headers["id"]]
        if command in ("ACK", "NACK"):
            return self._settling(client, headers)
        return headers

    def _subscribing(self, client: Client, headers: dict[str, Any]) -> dict[str, Any] | None:
        mode = headers.get("ack", "auto")
        if headers.get("id") in client.modes and headers["id"] != "0":
            return None  # an error, which one id is enough for
        if mode == "client":
            if client.acknowledges_all:
                return None
            client.acknowledges_all = True
        if headers.get("durable"):
            self.durable.add((headers["id"], self._expand(headers["destination"])))
        if "id" in headers:
            client.modes.setdefault(headers["id"], mode)
        return headers

    def _settling(self, client: Client, headers: dict[str, Any]) -> dict[str, Any] | None:
        given = str(headers.pop("id", ""))
        headers.pop("message-id", None)
        if given == "$settled":
            if not client.settled:
                return None
            given = client.settled[-1]
        elif given.startswith("$held"):
            if not client.held:
                return None
            place = int(given.removeprefix("$held")) % len(client.held)
            # No order is promised between subscriptions.
            client.held.sort(key=lambda one: (one[0], int(one[1].rpartition("@@")[2])))
            subscription, name = client.held[place]
            every = client.modes.get(subscription) == "client"
            taken = [
                one
                for at, one in enumerate(client.held)
                if at == place or (every and at < place and one[0] == subscription)
            ]
            client.held = [one for one in client.held if one not in taken]
            if "transaction" in headers:
                headers.pop("receipt", None)
                client.open[headers["transaction"]] += taken
            else:
                client.settled += [one[1] for one in taken]
            given = name
        return {client.id_header: given, **headers} if given else headers

    # What comes.

    def _connected(self, seen: Seen, name: str) -> None:
        super()._connected(seen, name)
        if "connected" in seen.get(name, {}):
            self.clients[name] = Client(self.peers[name].version)

    def _note(self, seen: Seen, name: str, frame: Frame) -> None:
        client = self.clients.get(name)
        if frame.command == "MESSAGE" and client is not None:
            subscription = frame.headers["subscription"]
            if client.modes.get(subscription, "auto") != "auto":
                client.held.append((subscription, frame.headers["message-id"]))
            reply_to = frame.headers.get("reply-to", "")
            if reply_to.startswith("/reply-queue/"):
                self.reply_to = reply_to
        super()._note(seen, name, frame)
