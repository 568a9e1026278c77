"""How the thread of a server waits for its next messages: by how they have come of late.

One by one and quickly: it stays awake, as waking takes as long as serving. By dozens: it sleeps, as
all of them share one waking. By tens of thousands a second, or as soon as it makes room for those
who send them: it sleeps, and when it is woken it lets whoever runs run on.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    # What `select.epoll.poll` takes and gives: seconds and how many at most; descriptors and masks.
    Poll = Callable[[float, int], list[tuple[int, int]]]

# Of the last waits that are remembered (8), so many must have been short for the next one to be a
# busy one. Few, as a stream of messages that come evenly has outliers; more than one or two, which
# any exchange of a few messages has.
_WAITS = 0xFF
_SHORT_WAITS_MIN = 4

# And not more messages than this may have come with each wait, in the mean. Where they come by
# dozens, waking up is shared by all of them, and the processor is better left to those who send and
# receive them: Java clients on two processors lost a third of their rate to a server that stayed
# awake for them.
_MESSAGES_PER_WAIT_MAX = 3.0
# How fast the mean follows, and how much a wait counts at most: a stop of the machine, after which
# there are hundreds at once, is forgotten after a few waits.
_MEAN_OVER_WAITS = 8
_MESSAGES_COUNTED_MAX = 16

# From so many messages a second on, in and out, the thread stands back, until there are only so
# many. At such rates a message waits for those before it longer than for a processor. Counted over
# spans of at least 20 ms.
_STAND_BACK_PER_SECOND = 60_000
_COME_FORTH_PER_SECOND = 30_000
_SPAN_NS = 20_000_000
_SPAN_SECONDS = _SPAN_NS / 1e9

# From fewer on if it is in the way: when it stayed awake so often, and in such a share of its
# tries, for a message that came at once when it had gone to sleep. Clients in Python that are
# sending as fast as they can, on as many processors as they are, show two hundred in 200 ms and a
# fifth; an even stream of as many messages thirty and a fiftieth.
_IN_THE_WAY_PER_SECOND = 10_000
_IN_VAIN_MIN = 100
_IN_VAIN_SHARE = 1 / 8
_WATCH_NS = 200_000_000
# It makes room for a second, and the next time for longer, if so many times the messages came then.
# Else others want the processors than those who send, and it waits longer before the next time.
_HELPED = 1.15
_ROOM_NS = 1_000_000_000
_ROOM_NS_MAX = 8_000_000_000
_REST_NS_MAX = 64_000_000_000


def _nothing() -> tuple[int, int]:
    return 0, 0


class Pace:
    """The waits of one thread, all called on it.

    Args:
        busy_wait_ns: how long a wait may be spent awake. 0: it always sleeps.
        clock: nanoseconds that only grow.
    """

    def __init__(
        self, busy_wait_ns: int = 0, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._busy_wait_ns = busy_wait_ns
        self._clock = clock
        # The last waits, a bit each: was it shorter than that?
        self._short_waits = 0
        # How many messages had come when asked last, and came with each wait in the mean.
        self._traffic: Callable[[], tuple[int, int]] = _nothing
        self._came = 0
        self._messages_per_wait = 0.0
        # When the present span began, and how many had come and gone by then.
        self._span_began = clock()
        self._span_passed = 0
        # How often it stayed awake in this span, and how often that was in the way.
        self._awake = 0
        self._in_vain = 0
        self._room = _Room(self._span_began)
        self._place = _Place()

    def count_with(self, traffic: Callable[[], tuple[int, int]]) -> None:
        """Ask this how many messages have come so far, and how many have gone."""
        self._traffic = traffic
        self._came, went = traffic()
        self._span_passed = self._came + went
        self._room = _Room(self._span_began, self._span_passed)

    def wait(self, poll: Poll, timeout: float, events_max: int) -> list[tuple[int, int]]:
        """`poll(timeout, events_max)`, in the way that fits.

        A processor that has gone to sleep takes long to wake (on virtual machines some 50 us there
        and back), as long as all that is done for a message. So while most waits turned out to be
        shorter than `busy_wait_ns`, and a message or two came with each, the next one begins with
        looking again and again for that time. Others of the process may run meanwhile: each look
        lets go of the interpreter.

        If it looked in vain, and something is there as soon as it sleeps, then the sender was
        waiting for this processor.
        """
        clock = self._clock
        busy_wait_ns = self._busy_wait_ns
        began = clock()
        came, went = self._traffic()
        new = min(came - self._came, _MESSAGES_COUNTED_MAX)
        self._came = came
        self._messages_per_wait += (new - self._messages_per_wait) / _MEAN_OVER_WAITS
        if began - self._span_began >= _SPAN_NS:
            self._end_span(began, came + went)
        events: list[tuple[int, int]] = []
        in_vain = False
        if self._place.is_back:
            events, timeout = self._wait_a_span(poll, timeout, events_max)
        elif (
            self._short_waits.bit_count() >= _SHORT_WAITS_MIN
            and self._messages_per_wait <= _MESSAGES_PER_WAIT_MAX
        ):
            self._awake += 1
            until = began + busy_wait_ns
            while not (events := poll(0, events_max)) and clock() < until:
                pass
            in_vain = not events
        if not events and timeout:
            events = poll(timeout, events_max)
        waited = clock() - began
        if in_vain and waited < 2 * busy_wait_ns:
            self._in_vain += 1
        self._short_waits = (self._short_waits << 1 | (waited < busy_wait_ns)) & _WAITS
        return events

    def _end_span(self, now: int, passed: int) -> None:
        rate = (passed - self._span_passed) * 1e9 / (now - self._span_began)
        make_room = self._room.judge(now, passed, rate, self._awake, self._in_vain)
        self._span_began, self._span_passed = now, passed
        self._awake = self._in_vain = 0
        if rate >= _STAND_BACK_PER_SECOND or make_room:
            self._place.stand_back()
        elif rate < _COME_FORTH_PER_SECOND:
            self._place.come_forth()

    def _wait_a_span(
        self, poll: Poll, timeout: float, events_max: int
    ) -> tuple[list[tuple[int, int]], float]:
        """The first span of a wait at the back, and how long to wait after it. When it is over the
        stream is, and the first message of the next one is not to wait behind others.
        """
        if timeout < 0:
            first, left = _SPAN_SECONDS, timeout
        else:
            first = min(timeout, _SPAN_SECONDS)
            left = timeout - first
        events = poll(first, events_max)
        if not events and left:
            self._place.come_forth()
        return events, left

    def close(self) -> None:
        """Leave the thread as it was."""
        self._place.come_forth()


class _Room:
    """Whether to make room for those who send, in a stream that is not fast: found out by trying.

    Args:
        now: of the monotonic clock, in ns.
        passed: how many messages have come and gone so far.
    """

    def __init__(self, now: int, passed: int = 0) -> None:
        # Since when it is watched, or room is made, and how many messages had passed by then.
        self._began = now
        self._passed = passed
        self._awake = 0
        self._in_vain = 0
        self._made = False
        self._rate_without = 0.0
        self._room_ns = _ROOM_NS
        self._rest_ns = _ROOM_NS
        self._rest_until = now

    def judge(self, now: int, passed: int, rate: float, awake: int, in_vain: int) -> bool:
        """Whether to make room in the next span.

        Args:
            rate: of the last span, messages a second.
            awake: in how many of its waits the thread stayed awake.
            in_vain: in how many of those that was in the way.
        """
        self._awake += awake
        self._in_vain += in_vain
        elapsed = now - self._began
        if self._made:
            if rate < _IN_THE_WAY_PER_SECOND:  # the stream is over
                self._watch(now, passed)
            elif elapsed >= self._room_ns:
                helped = self._rate(passed, elapsed) >= _HELPED * self._rate_without
                self._watch(now, passed)
                if helped:
                    self._room_ns = min(2 * self._room_ns, _ROOM_NS_MAX)
                    self._rest_ns = _ROOM_NS
                else:
                    self._room_ns = _ROOM_NS
                    self._rest_until = now + self._rest_ns
                    self._rest_ns = min(2 * self._rest_ns, _REST_NS_MAX)
        elif elapsed >= _WATCH_NS:
            in_the_way = self._in_vain >= max(_IN_VAIN_MIN, self._awake * _IN_VAIN_SHARE)
            self._rate_without = self._rate(passed, elapsed)
            self._watch(now, passed)
            self._made = (
                in_the_way
                and self._rate_without >= _IN_THE_WAY_PER_SECOND
                and now >= self._rest_until
            )
        return self._made

    def _watch(self, now: int, passed: int) -> None:
        self._began, self._passed = now, passed
        self._awake = self._in_vain = 0
        self._made = False

    def _rate(self, passed: int, elapsed: int) -> float:
        return (passed - self._passed) * 1e9 / elapsed


class _Place:
    """Where the calling thread stands among all that want a processor.

    Ordinarily (SCHED_OTHER) one that is woken takes the processor from whoever has it. A server
    does nothing else all day: on a machine whose processors are all busy each message that a client
    writes would put that client aside, for a server that finds just this message. A batch thread
    (SCHED_BATCH, sched(7)) is woken without that. It takes a free processor if there is one, and
    else its turn when the client has written what it had to.
    """

    def __init__(self) -> None:
        self.is_back = False
        # Those that are real-time or batch already are so by somebody's will.
        self._movable: bool | None = None

    def stand_back(self) -> None:
        if self._movable is None:
            self._movable = _is_ordinary()
        if self._movable and not self.is_back:
            self.is_back = self._movable = _move(os.SCHED_BATCH)

    def come_forth(self) -> None:
        if self.is_back:
            self.is_back = False
            self._movable = _move(os.SCHED_OTHER)


def _is_ordinary() -> bool:
    try:
        return os.sched_getscheduler(0) == os.SCHED_OTHER
    except OSError:  # a sandbox that does not have it
        return False


def _move(policy: int) -> bool:
    """Whether the calling thread has this policy now. Neither of the two needs a privilege."""
    try:
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except OSError:
        return False
    return True
