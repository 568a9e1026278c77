"""The program of `examples/notifications` in a thread of the tests."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from notifications.program import Program

    import wherry

EXAMPLE = Path(__file__).parent.parent.parent / "examples/notifications"
sys.path.insert(0, str(EXAMPLE.parent))

TTL_SECONDS = 3600.0


class Application:
    """The program in a thread of the tests."""

    def __init__(
        self, program: Program, clock: wherry.VirtualClock, token: trio.lowlevel.TrioToken
    ) -> None:
        self.program = program
        self._token = token
        self.url = program.url
        self.clock = clock

    def post(self, author: str, text: str) -> None:
        """As the API does it."""
        self.program.store.add_post(author, text, 0)
        self._token.run_sync_soon(self.program.outbox.wake)

    def mailbox(self, user: str) -> wherry.QueueStatistics:
        """What the broker says of a user's mailbox."""
        return self.program.broker.blocking.queue(f"mailbox.{user}").statistics()


@contextlib.contextmanager
def application(directory: Path, **settings: Any) -> Iterator[Application]:
    """Run the program on free ports. Mailboxes follow a clock that the test moves."""
    from notifications.program import Settings, running

    from wherry import VirtualClock

    clock = VirtualClock()
    ready = threading.Event()
    began: list[Any] = []
    outcome: list[BaseException] = []

    async def main() -> None:
        told = Settings(
            directory,
            mailbox_ttl_seconds=TTL_SECONDS,
            **{"http_port": 0, "websocket_port": 0, **settings},
        )
        async with running(told, clock=clock) as program:
            stop = trio.Event()
            began.extend((program, stop, trio.lowlevel.current_trio_token()))
            ready.set()
            await stop.wait()

    def in_thread() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            outcome.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=in_thread)
    thread.start()
    ready.wait()
    try:
        if began:
            yield Application(began[0], clock, began[2])
    finally:
        if began:
            _, stop, token = began
            with contextlib.suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(stop.set, trio_token=token)
        thread.join()
    if outcome:
        raise outcome[0]
