"""A little language of steps that is driven into a broker, and what the broker answered to each,
made comparable.

A step is JSON: `[peer, channel, method, fields]`, for `basic.publish` also
`[..., properties, body]`. Besides the methods of AMQP there are `connect` (fields: the
handshake's), `open`, `reopen` (if closed), `raw` (hex bytes, no answer waited for if
`"wait": false`) and `hang-up`.

An observation is a dictionary from "peer/channel" to that channel's events of one step, in order.
Between channels AMQP promises no order, so none is compared. After each step every open channel of
every peer is passed by a round trip (a passive declare of `amq.direct`), three times, so that what
the step set off in other queues and channels has arrived too.

What a broker makes up is replaced: generated names by their order of appearance, times in
`x-death` by 0.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from wire.peer import Peer, Silence

if TYPE_CHECKING:
    from wire.brokers import Broker
    from wire.peer import Event

ROUNDS = 3
"""A step may make one queue publish into another (dead letters), which answers a third channel."""

PAUSE_SECONDS = 0.05
"""Where no round trip is possible: how long nothing must come."""

_GENERATED = re.compile(r"(amq\.gen-|amq\.ctag-|amq\.rabbitmq\.reply-to\.)[^\s']+")


class Run:
    """One sequence of steps on one broker. `names` in steps that begin with `@` get a prefix
    of this run.
    """

    def __init__(self, host: str, port: int, prefix: str) -> None:
        self.host = host
        self.port = port
        self.prefix = prefix
        self.peers: dict[str, Peer] = {}
        self.channels: dict[str, set[int]] = {}
        self.unconfirmed: dict[tuple[str, int], list[int]] = {}
        self.published: dict[tuple[str, int], int] = {}
        self.generated: dict[str, str] = {}
        self.last_reply_to = ""
        self.declared: set[tuple[str, str]] = set()
        self.skip_closed = False
        """Leave steps on a closed channel out, which would close the connection."""

    def close(self) -> None:
        """Remove what was declared under this run's names, whatever state the peers are in."""
        for peer in self.peers.values():
            peer.close()
        if not self.declared:
            return
        with Peer(self.host, self.port) as janitor:
            janitor.handshake()
            for channel, (kind, name) in enumerate(sorted(self.declared), 1):
                janitor.open_channel(channel)
                # An exclusive queue may still be about to go: then this is refused, and it goes.
                janitor.call(channel, f"{kind}.delete", **{kind: name})

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, step: list[Any]) -> dict[str, list[Any]]:
        peer_name, channel, method, fields, *content = self._expand(step)
        seen: dict[str, list[Any]] = {}
        if method == "connect":
            peer = self.peers[peer_name] = Peer(self.host, self.port)
            self.channels[peer_name] = set()
            event = peer.handshake(**fields)
            self._note(seen, peer_name, event)
            return seen
        peer = self.peers[peer_name]
        if peer.ended:
            return {f"{peer_name}/{channel}": [["gone"]]}
        if method == "hang-up":
            peer.close()
            peer.ended = True
            self.channels[peer_name] = set()
        elif method == "raw":
            peer.raw(bytes.fromhex(fields["hex"]))
            if not fields.get("wait", True):
                return seen
            self._drain(seen, peer_name)
        elif method == "reopen" and channel in self.channels[peer_name]:
            pass
        elif method in ("open", "reopen"):
            peer.send(channel, "channel.open")
            self.channels[peer_name].add(channel)
        elif content:
            if channel not in self.channels[peer_name] and self.skip_closed:
                return {}
            properties, body = content
            if (peer_name, channel) in self.unconfirmed:
                number = self.published[peer_name, channel] = self.published[peer_name, channel] + 1
                self.unconfirmed[peer_name, channel].append(number)
            peer.publish(
                channel,
                fields.pop("exchange", ""),
                fields.pop("routing_key", ""),
                body.encode(),
                properties,
                **fields,
            )
        elif channel and channel not in self.channels[peer_name] and self.skip_closed:
            return {}
        else:
            if method in ("queue.declare", "exchange.declare"):
                kind = method.partition(".")[0]
                if not fields.get("passive") and fields.get(kind, "").startswith(self.prefix):
                    self.declared.add((kind, fields[kind]))
            if method == "confirm.select":
                self.unconfirmed.setdefault((peer_name, channel), [])
                self.published.setdefault((peer_name, channel), 0)
            peer.send(channel, method, **fields)
            if method == "exchange.declare" and not fields.get("no_wait"):
                # Or the round trip below would take its answer for its own.
                self._wait(seen, peer_name, channel, {"exchange.declare-ok"})
            if method == "tx.commit":
                # RabbitMQ refuses what comes before it has answered.
                self._wait(seen, peer_name, channel, {"tx.commit-ok"})
            if method in ("channel.close", "connection.close"):
                self._wait(seen, peer_name, channel, {method + "-ok"})
                self.unconfirmed.pop((peer_name, channel), None)
                if method == "connection.close":
                    self.channels[peer_name] = set()
                self.channels[peer_name].discard(channel)
        self._settle(seen, peer_name, channel)
        self._finish(seen)
        return seen

    def counts(self, queues: list[str]) -> dict[str, Any]:
        """Ready messages and consumers of each queue, or the code that says why not; by a
        peer of its own.
        """
        if "control" not in self.peers:
            self.peers["control"] = Peer(self.host, self.port)
            self.peers["control"].handshake()
            self.peers["control"].open_channel(1)
        control = self.peers["control"]
        seen: dict[str, Any] = {}
        # Twice: RabbitMQ answers a declare before messages that stand in line for the queue.
        for queue in queues * 2:
            answer = control.call(1, "queue.declare", queue=self._expand(queue), passive=True)
            if answer.name == "queue.declare-ok":
                seen[queue] = [answer.message_count, answer.consumer_count]
            else:
                seen[queue] = answer.fields.get("code", answer.name)
                control.send(1, "channel.close-ok")
                control.open_channel(1)
        return seen

    def names(self) -> list[str]:
        """The queues that were declared under names of this run."""
        return [name for kind, name in sorted(self.declared) if kind == "queue"]

    def _expand(self, item: Any) -> Any:
        if isinstance(item, list):
            return [self._expand(one) for one in item]
        if isinstance(item, dict):
            return {self._expand(key): self._expand(one) for key, one in item.items()}
        if isinstance(item, str):
            if item == "@reply-to":
                return self.last_reply_to
            if item.startswith("@"):
                return self.prefix + item[1:]
        return item

    # Waiting.

    def _settle(self, seen: dict[str, list[Any]], first_peer: str, first_channel: int) -> None:
        for _ in range(ROUNDS):
            order = sorted(
                (name, channel) for name, channels in self.channels.items() for channel in channels
            )
            order.sort(key=lambda at: at != (first_peer, first_channel))
            for name, channel in order:
                peer = self.peers[name]
                if channel in self.channels[name] and not peer.ended:
                    peer.send(channel, "exchange.declare", exchange="amq.direct", passive=True)
                    self._wait(seen, name, channel, {"exchange.declare-ok"}, keep=False)
            if first_channel == 0:
                self._drain(seen, first_peer)

    def _wait(
        self,
        seen: dict[str, list[Any]],
        name: str,
        channel: int,
        wanted: set[str],
        *,
        keep: bool = True,
    ) -> None:
        """Note events until the wanted answer on this channel, or its end."""
        peer = self.peers[name]
        while channel in self.channels[name] or channel == 0 or keep:
            try:
                event = peer.read()
            except Silence:
                seen.setdefault(f"{name}/{channel}", []).append(["no answer"])
                self.channels[name].discard(channel)
                return
            if event.channel == channel and event.name in wanted:
                if keep:
                    self._note(seen, name, event)
                return
            self._note(seen, name, event)
            if peer.ended or event.name in ("eof", "connection.close"):
                return
            if event.name == "channel.close" and "channel.close-ok" not in wanted:
                return

    def _drain(self, seen: dict[str, list[Any]], name: str) -> None:
        peer = self.peers[name]
        while not peer.ended:
            try:
                event = peer.read(PAUSE_SECONDS)
            except Silence:
                return
            self._note(seen, name, event)

    # Noting.

    def _note(self, seen: dict[str, list[Any]], name: str, event: Event) -> None:
        peer = self.peers[name]
        key = f"{name}/{event.channel}"
        match event.name:
            case "heartbeat":
                return
            case "channel.close":
                self.channels[name].discard(event.channel)
                self.unconfirmed.pop((name, event.channel), None)
                peer.send(event.channel, "channel.close-ok")
            case "connection.close":
                self.channels[name] = set()
                peer.send(0, "connection.close-ok")
                peer.close()
                peer.ended = True
            case "eof":
                self.channels[name] = set()
                if any(one[0] in ("eof", "connection.close-ok") for one in seen.get(key, [])):
                    return
            case "basic.ack" | "basic.nack":
                seen.setdefault(key, []).append(
                    ["confirm", event.name == "basic.ack", self._confirmed(name, event)]
                )
                return
            case "connection.start" | "connection.tune":
                return
        noted: list[Any] = [event.name]
        if event.fields:
            noted.append(self._plain(event.fields))
        if event.body is not None:
            reply_to = (event.properties or {}).get("reply_to", "")
            if reply_to.startswith("amq.rabbitmq.reply-to."):
                self.last_reply_to = reply_to
            noted.append(self._plain(event.properties))
            noted.append(event.body.decode(errors="replace"))
        seen.setdefault(key, []).append(noted)

    def _confirmed(self, name: str, event: Event) -> list[int]:
        waiting = self.unconfirmed.get((name, event.channel), [])
        tags = (
            [tag for tag in waiting if tag <= event.delivery_tag]
            if event.multiple
            else [event.delivery_tag]
        )
        for tag in tags:
            if tag in waiting:
                waiting.remove(tag)
        return tags

    def _finish(self, seen: dict[str, list[Any]]) -> None:
        """Confirms of a step in one entry, sorted, at the end: neither their order nor
        their place is promised.
        """
        for key, events in seen.items():
            confirms = [one for one in events if one[0] == "confirm"]
            if confirms:
                rest = [one for one in events if one[0] != "confirm"]
                for positive in (True, False):
                    tags = sorted(tag for one in confirms if one[1] is positive for tag in one[2])
                    if tags:
                        rest.append(["confirmed" if positive else "refused", tags])
                seen[key] = rest

    def _plain(self, item: Any, key: str = "") -> Any:
        if isinstance(item, dict):
            return {k: self._plain(v, k) for k, v in item.items()}
        if isinstance(item, list):
            if key == "time" and item[0] == "T":
                return ["T", 0]
            return [self._plain(one) for one in item]
        if isinstance(item, str):
            text = item.replace(self.prefix, "@") if self.prefix else item
            return _GENERATED.sub(self._made_up, text)
        return item

    def _made_up(self, found: re.Match[str]) -> str:
        whole, kind = found.group(0), found.group(1)
        if whole not in self.generated:
            number = 1 + sum(1 for one in self.generated.values() if one.startswith(kind))
            self.generated[whole] = f"{kind}{number}"
        return self.generated[whole]


def prefix() -> str:
    """Of one length always: RabbitMQ cuts texts that are too long for a short string."""
    return f"{uuid.uuid4().hex[:8]}."


def run_all(broker: Broker, prefix: str, steps: list[list[Any]]) -> list[dict[str, list[Any]]]:
    """Observations, one a step."""
    with Run(broker.host, broker.port, prefix) as run:
        return [run.step(step) for step in steps]
