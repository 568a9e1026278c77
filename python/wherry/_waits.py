"""Who waits for what, on one event loop: the Python end of the engine's wake-ups.

The engine names consumers by token; token 0 is the journal's progress. Wake-ups come in through
`drain`, which the loop calls when the port's descriptor can be read, and which an engine call made
on the loop's own thread calls on its way out. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from wherry import _core
from wherry._errors import Busy, WherryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry._loop import Loop, Waiter

T = TypeVar("T")

_COMMITS = 0


class _Confirm:
    """A task that waits until a receipt is durable. `waiter` is None once it was cancelled."""

    __slots__ = ("receipt", "waiter")

    def __init__(self, receipt: int, waiter: Waiter) -> None:
        self.receipt = receipt
        self.waiter: Waiter | None = waiter


class Waits:
    """The waiting tasks of one broker on its loop."""

    __slots__ = (
        "__weakref__",
        "_confirms",
        "_for_space",
        "_parked",
        "check",
        "engine",
        "loop",
        "port",
        "turn",
    )

    def __init__(self, loop: Loop, engine: _core.Engine) -> None:
        self.loop = loop
        self.engine = engine
        self.check = loop.check
        self.turn = loop.turn
        # One task per consumer as a rule; several may share one.
        self._parked: dict[int, list[Waiter]] = {}
        # Ordered by receipt.
        self._confirms: deque[_Confirm] = deque()
        self._for_space: list[Waiter] = []
        loop.protect(Waits.drain)
        self.port = _core.Port(self)
        engine.attach(self.port)
        loop.watch(self.port.fileno(), self._readable)

    # Wake-ups

    def drain(self) -> None:
        """Wake whoever the engine named. Never raises: the event loop would end with it."""
        try:
            for token in self.port.take_ready():
                if token == _COMMITS:
                    self._wake_confirmed()
                else:
                    self._wake_parked(token)
        except Exception:
            sys.excepthook(*sys.exc_info())

    def _readable(self) -> None:
        self.port.clear()
        self.drain()

    def _wake_parked(self, token: int) -> None:
        for waiter in self._parked.pop(token, ()):
            waiter.wake()

    def _wake_confirmed(self) -> None:
        durable = self.engine.durable()
        confirms = self._confirms
        while confirms and (confirms[0].receipt <= durable or confirms[0].waiter is None):
            waiter = confirms.popleft().waiter
            if waiter is not None:
                waiter.wake()
        if confirms and self._never_durable(confirms[0].receipt):
            self._wake_all_confirms()
        for waiter in self._for_space:
            waiter.wake()
        self._for_space.clear()
        if not confirms:
            self.port.want_commits(False)

    def _never_durable(self, receipt: int) -> bool:
        try:
            self.engine.is_durable(receipt)
        except WherryError:
            return True
        return False

    def _wake_all_confirms(self) -> None:
        while self._confirms:
            waiter = self._confirms.popleft().waiter
            if waiter is not None:
                waiter.wake()

    # Waiting

    async def ready(
        self, consumer: _core.Consumer | _core.ConsumerWatch, seconds: float | None = None
    ) -> None:
        """Wait until the consumer (or watch) may have something, or `seconds` passed. Then take,
        whatever happened.
        """
        if consumer._arm():
            await self.loop.checkpoint()
            return
        waiter = self.loop.waiter()
        token = consumer._token
        self._parked.setdefault(token, []).append(waiter)
        woken = False
        try:
            woken = await waiter.wait(seconds)
        finally:
            if not woken:
                self._unpark(consumer, token, waiter)

    def _unpark(
        self, consumer: _core.Consumer | _core.ConsumerWatch, token: int, waiter: Waiter
    ) -> None:
        """This task does not wait any more, and was not told of anything."""
        others = self._parked.get(token)
        if others is not None and waiter in others:
            others.remove(waiter)
            if others:
                # They share the consumer's one request: let them look and ask again.
                self._wake_parked(token)
            else:
                del self._parked[token]
        consumer._disarm()

    async def durable(self, receipt: int) -> None:
        """Wait until the receipt is durable."""
        if receipt == 0 or self.engine.is_durable(receipt):
            return
        while True:
            # First ask to be told, then look, then wait: a commit between the look and the wait is
            # told.
            self.port.want_commits(True)
            if self.engine.is_durable(receipt):
                await self.loop.turn()
                return
            confirm = _Confirm(receipt, self.loop.waiter())
            self._insert(confirm)
            woken = False
            try:
                assert confirm.waiter is not None
                woken = await confirm.waiter.wait()
            finally:
                if not woken:
                    confirm.waiter = None
            if self.engine.is_durable(receipt):
                return

    def _insert(self, confirm: _Confirm) -> None:
        confirms = self._confirms
        index = len(confirms)
        # Receipts are nearly always asked for in order.
        while index and confirms[index - 1].receipt > confirm.receipt:
            index -= 1
        confirms.insert(index, confirm)

    async def when_space(self, operation: Callable[[], T]) -> T:
        """Do what was refused as Busy, as soon as the disk has caught up."""
        while True:
            # First ask to be told, then try, then wait: room that comes between is told.
            self.port.want_commits(True)
            try:
                return operation()
            except Busy:
                pass
            waiter = self.loop.waiter()
            self._for_space.append(waiter)
            try:
                await waiter.wait()
            finally:
                if waiter in self._for_space:
                    self._for_space.remove(waiter)

    # The end

    async def close(self) -> None:
        """Wake everybody, for the last time, and stop watching. The engine is closed."""
        self.drain()
        for token in list(self._parked):
            self._wake_parked(token)
        self._wake_all_confirms()
        for waiter in self._for_space:
            waiter.wake()
        self._for_space.clear()
        await self.loop.unwatch()
