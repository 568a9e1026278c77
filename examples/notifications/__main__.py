"""`python -m notifications`, beside this directory: run the example until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import signal
from pathlib import Path

import trio

from .program import DAY, Settings, running


async def main(settings: Settings) -> None:
    """Run until a signal says otherwise."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with running(settings) as program:
            print(f"the broker listens on {program.websocket_url}", flush=True)
            print(f"open {program.url}/ in two browsers; Ctrl-C ends it", flush=True)
            async for _ in signals:
                break


def settings_of(arguments: list[str] | None = None) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="notifications", description="Notifications, pushed by a broker in the program."
    )
    parser.add_argument("--directory", type=Path, default=Path("notifications.data"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--websocket-port", type=int, default=15674, help="of the broker")
    parser.add_argument(
        "--websocket-url", help="where browsers reach that port, if not beside the page"
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        help="the page's own address as browsers see it, if that is not this machine's",
    )
    parser.add_argument(
        "--mailbox-ttl", type=float, default=7 * DAY, help="seconds that a post waits in a mailbox"
    )
    given = parser.parse_args(arguments)
    return Settings(
        directory=given.directory,
        host=given.host,
        http_port=given.http_port,
        websocket_port=given.websocket_port,
        websocket_url=given.websocket_url,
        origins=tuple(given.origin),
        mailbox_ttl_seconds=given.mailbox_ttl,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    trio.run(main, settings_of())
