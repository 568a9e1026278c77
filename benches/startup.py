"""How soon a server is there, and how long an import takes.

`make bench-startup`, or see --help. What the words mean, and the figures: README.md.

A start counts from just before the process is made until a client that has been trying from the
first moment on has its answer in the protocol (AMQP's connection.start): a socket that listens
while nobody reads it is not ready. A second client comes at the moment at which the server says
that it is there, and its wait is measured too: what is left to be done then would show in it.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "network"))

from servers import AMQP, HOST, environment, free_ports

from harness import machine

READY_SECONDS_MAX = 30.0
# Between two tries of the client that is there from the first moment on.
_TRY_SECONDS = 0.0005
STATEMENTS = (
    "import wherry",
    "import wherry; wherry.open, wherry.Exchange, wherry.Queue",
    "import wherry; wherry.serve, wherry.server.ThreadServer",
    "import wherry.blocking",
    "from wherry import *",
    "import trio",
)
ENVIRONMENT = environment()


@dataclass(frozen=True, slots=True)
class Start:
    """One start, in seconds since just before the process was made."""

    answered: float
    """The client that had been trying was answered."""
    told: float
    """The server said where it listens."""
    answer: float
    """How long the client that came then waited for its answer."""
    processor: float
    """Processor time of the server until both were answered."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="all with `chrt -f 10`, so that others on the machine do not count; needs root",
    )
    parser.add_argument("--only", choices=["starts", "imports"])
    parser.add_argument("options", nargs="*", help="of `wherry serve`, behind --")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    print(machine())
    print(f"\n{arguments.rounds} rounds, medians (lowest - highest)\n")
    print("| | ms |\n|---|---:|")
    if arguments.only != "imports":
        starts(arguments.rounds, arguments.options)
    if arguments.only != "starts":
        imports(arguments.rounds)


def starts(rounds: int, options: list[str]) -> None:
    found: dict[str, list[Start]] = {"in a new directory": [], "in one it had before": []}
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory(prefix="wherry-bench-") as root:
            for those in found.values():
                those.append(start(Path(root) / "data", options))
    for which, those in found.items():
        del those[0]  # it may have had bytecode to write
        show(f"`wherry serve` {which}: a client was answered", [one.answered for one in those])
        show("it said that it is there", [one.told for one in those])
        show("a client that came then waited", [one.answer for one in those])
        show("processor time until then", [one.processor for one in those])


def start(directory: Path, options: list[str]) -> Start:
    port, other_port = free_ports(2)
    program = Path(sys.executable).with_name("wherry")
    command = [str(program), "serve", "--directory", str(directory), "--host", HOST]
    command += ["--port", str(port), "--stomp-port", str(other_port), *options]
    answers: list[float] = []
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        client = threading.Thread(target=lambda: answers.append(answered_at(port)))
        client.start()
        assert process.stdout is not None
        process.stdout.readline()
        told = time.perf_counter()
        answer = answered_at(port) - told
        client.join()
        processor = processor_seconds(process.pid)
    finally:
        process.terminate()
        process.communicate()
    return Start(answers[0] - begun, told - begun, answer, processor)


def processor_seconds(pid: int) -> float:
    """Of its threads that are there, to the nanosecond: what /proc/PID/stat has are hundredths."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def answered_at(port: int) -> float:
    """The moment of the answer, after as many tries as it takes."""
    deadline = time.perf_counter() + READY_SECONDS_MAX
    while time.perf_counter() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=5) as peer:
            peer.sendall(AMQP.greeting)
            if peer.recv(512).startswith(AMQP.reply):
                return time.perf_counter()
        time.sleep(_TRY_SECONDS)
    raise RuntimeError("the server did not get ready")


def imports(rounds: int) -> None:
    """What a statement takes beyond starting the interpreter."""
    times: dict[str, list[float]] = {statement: [] for statement in ("pass", *STATEMENTS)}
    for _ in range(rounds + 1):
        for statement, found in times.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)
            found.append(time.perf_counter() - begun)
    for found in times.values():
        del found[0]  # it may have had bytecode to write
    bare = statistics.median(times["pass"])
    show("the interpreter itself", times["pass"])
    for statement in STATEMENTS:
        show(f"`{statement}`, beyond that", [seconds - bare for seconds in times[statement]])


def show(name: str, seconds: list[float]) -> None:
    middle, low, high = (1000 * f(seconds) for f in (statistics.median, min, max))
    print(f"| {name} | {middle:.1f} ({low:.1f} - {high:.1f}) |", flush=True)


if __name__ == "__main__":
    main()
