"""A well-behaved client beside an attack: publishes, gets it back, and keeps how long each took."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from wire import stomp
from wire.peer import connect

if TYPE_CHECKING:
    from wire.brokers import Broker

PAUSE_SECONDS = 0.002
"""Between two round trips: the attack needs the cores too."""

MEDIAN_SECONDS_MAX = 1.0
"""Of its round trips, which take a millisecond or two beside most attacks, and 36 at worst. One
may be unlucky on a busy machine; half of them are not.
"""


class Bystander:
    """Round trips in a thread of its own while the block runs; leaving it raises if one failed."""

    def __init__(self, broker: Broker) -> None:
        self._connect(broker)
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # At least one whole round trip after the attack.
        enough = len(self.seconds) + 2
        deadline = time.monotonic() + 15
        while len(self.seconds) < enough and self._thread.is_alive():
            assert time.monotonic() < deadline, "the bystander got no answer"
            time.sleep(PAUSE_SECONDS)
        self._over.set()
        self._thread.join(15)
        self._close()
        if self._failure is not None:
            raise self._failure
        assert self.median < MEDIAN_SECONDS_MAX, "the attack holds others up"

    @property
    def median(self) -> float:
        return sorted(self.seconds)[len(self.seconds) // 2]

    @property
    def p99(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0

    def _run(self) -> None:
        try:
            while not self._over.wait(PAUSE_SECONDS):
                started = time.monotonic()
                body = b"%f" % started
                self._round_trip(body)
                self.seconds.append(time.monotonic() - started)
        except BaseException as failure:
            self._failure = failure

    def _connect(self, broker: Broker) -> None:
        self._peer = connect(broker.host, broker.port)
        self._peer.open_channel(1)
        self._queue = self._peer.call(1, "queue.declare", exclusive=True).queue

    def _round_trip(self, body: bytes) -> None:
        self._peer.publish(1, "", self._queue, body)
        answer = self._peer.call(1, "basic.get", queue=self._queue, no_ack=True)
        assert answer.body == body, answer

    def _close(self) -> None:
        self._peer.close()


class StompBystander(Bystander):
    """The same in STOMP."""

    def _connect(self, broker: Broker) -> None:
        self._stomp = stomp.connect(broker.host, broker.stomp_port)
        self._stomp.call("SUBSCRIBE", {"id": "beside", "destination": "/topic/beside"})

    def _round_trip(self, body: bytes) -> None:
        self._stomp.send("SEND", {"destination": "/topic/beside"}, body)
        answer = self._stomp.read()
        assert (answer.command, answer.body) == ("MESSAGE", body), answer

    def _close(self) -> None:
        self._stomp.close()
