"""How long a broker with a large durable backlog takes to open, after a close and after SIGKILL.

The children of this script fill, open and close; it measures the disk and passes on what they say.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

import wherry
from harness import resident_bytes

PUBLISH_COUNT = 10_000
BODY = bytes(100)


async def fill(path: Path, messages: int, keys: int) -> dict[str, float]:
    drawn = random.Random(0)
    async with wherry.open(path) as broker:
        exchange = broker.exchange("amq.fanout")
        queue = await broker.declare_queue("backlog", group_by="routing-key" if keys else None)
        await queue.bind(exchange)
        start = time.perf_counter()
        for done in range(0, messages, PUBLISH_COUNT):
            count = min(PUBLISH_COUNT, messages - done)
            if keys:
                some = [(BODY, f"{drawn.randrange(keys)}") for _ in range(count)]
                await exchange.publish_many(some)
            else:
                await exchange.publish_many([BODY] * count, routing_key="")
        return {"fill_seconds": time.perf_counter() - start}


async def reopen(path: Path, messages: int, *, die: bool) -> dict[str, float]:
    start = time.perf_counter()
    async with wherry.open(path) as broker:
        seconds = time.perf_counter() - start
        figures = {
            "seconds": seconds,
            "resident_bytes": resident_bytes(),
            "resident_bytes_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        delivery = broker.queue("backlog").get_nowait()
        assert delivery.body == BODY
        delivery.nack()
        # Not `messages`: what was taken and given back counts too.
        assert broker.queue("backlog").statistics().ready == messages
        if die:
            print(json.dumps(figures), flush=True)
            os.kill(os.getpid(), 9)
    return figures


def child(*arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument(
        "--keys",
        type=int,
        default=0,
        help="message groups, with so many keys drawn evenly; 0: none",
    )
    parser.add_argument("--step", choices=["fill", "open", "open-and-die"])
    parser.add_argument("--path", type=Path)
    arguments = parser.parse_args()
    messages = arguments.messages
    if arguments.step == "fill":
        print(json.dumps(trio.run(fill, arguments.path, messages, arguments.keys)))
    elif arguments.step:
        die = arguments.step == "open-and-die"
        print(json.dumps(trio.run(lambda: reopen(arguments.path, messages, die=die))))
    else:
        with tempfile.TemporaryDirectory(prefix="wherry-bench-") as directory:
            place = [f"--path={directory}/bench.wherry", f"--messages={messages}"]
            filled = child("--step=fill", f"--keys={arguments.keys}", *place)
            disk = sum(
                file.stat().st_blocks * 512 for file in Path(directory).rglob("*") if file.is_file()
            )
            clean = child("--step=open-and-die", *place)
            killed = child("--step=open", *place)
        print(
            json.dumps(
                {
                    **filled,
                    "disk_bytes": disk,
                    "open_clean_seconds": clean["seconds"],
                    "open_killed_seconds": killed["seconds"],
                    "resident_bytes": killed["resident_bytes"],
                    "resident_bytes_max": killed["resident_bytes_max"],
                }
            )
        )


if __name__ == "__main__":
    main()
