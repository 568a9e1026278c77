"""What polling costs, beside being told: `python -m notifications.compare`, beside this directory.

The same people follow the same authors, who write the same posts at the same pace. In one run they
have a WebSocket each and are told; in the others each asks the HTTP API every so many seconds over
a connection that stays open, which is the cheapest way to poll. The program runs in a process of
its own, in a new directory for each run; this process is all the browsers. Counted are requests,
bytes on all sockets in both directions, the processor time of the program, and how long after it
was written a post was seen. The first line is memory: what a mailbox costs that nobody reads.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
import psutil
import trio
import wsproto
import wsproto.events

from .accounts import hash_of
from .store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FOLLOWED = 20
HEART_BEAT_MS = 10_000


@dataclass
class Count:
    """What one run has cost."""

    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    delays: list[float] = field(default_factory=list)
    expected: int = 0
    waiting: int = 0
    ready: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)

    def is_ready(self) -> None:
        """A reader is connected."""
        self.waiting -= 1
        if self.waiting == 0:
            self.ready.set()

    def seen(self, post: dict[str, Any]) -> None:
        """A reader got a post."""
        self.delays.append(time.time() - post["at"])
        if len(self.delays) == self.expected:
            self.done.set()


class Wire:
    """A connection whose bytes are counted."""

    def __init__(self, stream: trio.SocketStream, count: Count) -> None:
        self._stream = stream
        self._count = count
        self._sending = trio.Lock()

    async def send(self, data: bytes) -> None:
        """All of it."""
        async with self._sending:
            self._count.sent_bytes += len(data)
            await self._stream.send_all(data)

    async def receive(self) -> bytes:
        """Some."""
        data = bytes(await self._stream.receive_some(65536))
        self._count.received_bytes += len(data)
        return data


@asynccontextmanager
async def connect(port: int, count: Count) -> AsyncIterator[Wire]:
    """To the program."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Wire(stream, count)


class Http:
    """Requests over one connection that stays open."""

    def __init__(self, wire: Wire, count: Count, token: str) -> None:
        self._wire = wire
        self._count = count
        self._machine = h11.Connection(h11.CLIENT)
        # As many as a browser sends, roughly.
        self._headers = [
            ("Host", "127.0.0.1:8000"),
            ("Authorization", f"Bearer {token}"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Accept-Language", "en-US,en;q=0.9"),
        ]

    async def ask(self, method: str, path: str, body: bytes = b"") -> Any:
        """The answer's JSON."""
        self._count.requests += 1
        headers = [*self._headers, ("Content-Length", str(len(body)))] if body else self._headers
        request = h11.Request(method=method, target=path, headers=headers)
        data = self._machine.send(request) or b""
        data += self._machine.send(h11.Data(data=body)) or b""
        data += self._machine.send(h11.EndOfMessage()) or b""
        await self._wire.send(data)
        answer = b""
        while True:
            event = self._machine.next_event()
            if event is h11.NEED_DATA:
                self._machine.receive_data(await self._wire.receive())
            elif isinstance(event, h11.Response):
                if event.status_code >= 300:
                    raise RuntimeError(f"{method} {path} was answered with {event.status_code}")
            elif isinstance(event, h11.Data):
                answer += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._machine.start_next_cycle()
                return json.loads(answer)


async def reader_that_polls(port: int, name: str, token: str, seconds: float, count: Count) -> None:
    """Asks every so many seconds; the readers are not in step."""
    newest = 0
    async with connect(port, count) as wire:
        http = Http(wire, count, token)
        count.is_ready()
        await trio.sleep(random.random() * seconds)
        while True:
            answer = await http.ask("GET", f"/api/poll?after={newest}")
            for post in reversed(answer["posts"]):
                newest = max(newest, post["id"])
                count.seen(post)
            await trio.sleep(seconds)


def frame(command: str, **headers: str) -> bytes:
    """One of STOMP."""
    lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n\0".encode()


class Told:
    """A reader with a WebSocket."""

    def __init__(self, wire: Wire, count: Count) -> None:
        self._wire = wire
        self._count = count
        self._machine = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._text = ""

    async def open(self, port: int) -> None:
        """The handshake."""
        self._count.requests += 1
        request = wsproto.events.Request(
            host=f"127.0.0.1:{port}", target="/ws", subprotocols=["v12.stomp"]
        )
        await self._wire.send(self._machine.send(request))
        async for event in self._events():
            if isinstance(event, wsproto.events.AcceptConnection):
                return
            raise RuntimeError(f"the WebSocket was answered with {event}")

    async def send(self, data: bytes) -> None:
        """A frame."""
        message = wsproto.events.TextMessage(data=data.decode())
        await self._wire.send(self._machine.send(message))

    async def _events(self) -> AsyncIterator[wsproto.events.Event]:
        while True:
            for event in self._machine.events():
                yield event
            self._machine.receive_data(await self._wire.receive() or None)

    async def frames(self) -> AsyncIterator[tuple[str, dict[str, str], str]]:
        """Command, headers and body."""
        async for event in self._events():
            if isinstance(event, wsproto.events.Ping):
                await self._wire.send(self._machine.send(event.response()))
            elif isinstance(event, wsproto.events.CloseConnection):
                raise RuntimeError(f"the broker closed: {event.reason}")
            elif isinstance(event, wsproto.events.TextMessage | wsproto.events.BytesMessage):
                data = event.data if isinstance(event.data, str) else bytes(event.data).decode()
                self._text += data
                while "\0" in self._text:
                    text, _, self._text = self._text.partition("\0")
                    head, _, body = text.lstrip("\n").partition("\n\n")
                    command, *lines = head.split("\n")
                    yield command, dict(line.split(":", 1) for line in lines), body


async def reader_that_is_told(
    port: int, name: str, token: str, seconds: float, count: Count
) -> None:
    """Does what the page does."""
    async with connect(port, count) as wire, trio.open_nursery() as nursery:
        told = Told(wire, count)
        await told.open(port)
        beat = f"{HEART_BEAT_MS},{HEART_BEAT_MS}"
        await told.send(
            frame(
                "CONNECT",
                accept_version="1.2",
                host="/",
                login=name,
                passcode=token,
                heart_beat=beat,
            )
        )
        async for command, headers, body in told.frames():
            if command == "CONNECTED":
                nursery.start_soon(beats, told)
                await told.send(frame("SUBSCRIBE", id="presence", destination="/exchange/presence"))
                await told.send(
                    frame(
                        "SUBSCRIBE",
                        id="mailbox",
                        destination=f"/amq/queue/mailbox.{name}",
                        ack="client-individual",
                        receipt="ready",
                    )
                )
            elif command == "RECEIPT":
                count.is_ready()
            elif command == "MESSAGE" and headers["subscription"] == "mailbox":
                await told.send(frame("ACK", id=headers["ack"]))
                count.seen(json.loads(body))
            elif command == "ERROR":
                raise RuntimeError(f"{headers} {body}")


async def beats(told: Told) -> None:
    """Heart-beats, as promised."""
    while True:
        await trio.sleep(HEART_BEAT_MS / 1000)
        await told.send(b"\n")


@dataclass(frozen=True)
class Crowd:
    """Who there is."""

    names: list[str]
    tokens: list[str]
    authors: list[str]
    expected: int


def crowd(store: Store, people: int, posts: int) -> Crowd:
    """The same people for every run, written into the database."""
    choice = random.Random(7)
    names = [f"user{n:05}" for n in range(people)]
    tokens = [secrets.token_urlsafe(32) for _ in names]
    until = time.time() + 3600
    followers: dict[str, int] = dict.fromkeys(names, 0)
    for name, token in zip(names, tokens, strict=True):
        store.add_user(name, "")
        store.start_session(hash_of(token), name, 0, until)
    for name in names:
        for author in choice.sample(names, min(FOLLOWED, people)):
            if author != name:
                store.follow(name, author)
                followers[author] += 1
    authors = [choice.choice(names) for _ in range(posts)]
    return Crowd(names, tokens, authors, sum(followers[author] for author in authors))


@asynccontextmanager
async def program(directory: Path) -> AsyncIterator[tuple[psutil.Process, int, int]]:
    """The program in a process of its own, and its ports for HTTP and WebSocket."""
    command = [sys.executable, "-m", "notifications", "--directory", str(directory)]
    command += ["--http-port", "0", "--websocket-port", "0"]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    try:
        assert process.stdout is not None
        said = b""
        while said.count(b"\n") < 2:
            some = await process.stdout.receive_some()
            if not some:
                raise RuntimeError("the program did not start")
            said += some
        websocket, http = re.findall(rb"://[^/]*:(\d+)", said)
        yield psutil.Process(process.pid), int(http), int(websocket)
    finally:
        process.terminate()
        await process.wait()


@dataclass(frozen=True)
class Row:
    """What a run has cost in all."""

    what: str
    requests: int
    kilobytes: float
    cpu_seconds: float
    delay_median: float
    delay_99: float


async def run(
    what: str, reader: Callable[..., Any], interval: float, options: argparse.Namespace
) -> Row:
    """One way of reading."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "notifications.sqlite3")
        all_people = crowd(store, options.people, options.posts)
        store.close()
        count = Count(expected=all_people.expected, waiting=options.people)
        writing = Count()
        async with (
            program(Path(directory)) as (process, http, websocket),
            trio.open_nursery() as nursery,
        ):
            port = websocket if reader is reader_that_is_told else http
            for name, token in zip(all_people.names, all_people.tokens, strict=True):
                nursery.start_soon(reader, port, name, token, interval, count)
            await count.ready.wait()
            # From here on, and for the same time in every run: that everybody comes, and everybody
            # hears of that, is another matter.
            await trio.sleep(interval)
            received_bytes = -1
            while interval == 0 and received_bytes != count.received_bytes:
                received_bytes = count.received_bytes
                await trio.sleep(1)
            count.requests = count.sent_bytes = count.received_bytes = 0
            before = sum(process.cpu_times()[:2])
            end = trio.current_time() + options.seconds
            tokens = dict(zip(all_people.names, all_people.tokens, strict=True))
            for author in all_people.authors:
                async with connect(http, writing) as wire:
                    body = json.dumps({"text": "something that many will read " * 3}).encode()
                    await Http(wire, writing, tokens[author]).ask("POST", "/api/posts", body)
                await trio.sleep(options.seconds / (len(all_people.authors) + 1))
            await trio.sleep_until(end)
            cpu = sum(process.cpu_times()[:2]) - before
            cost = (count.requests, (count.sent_bytes + count.received_bytes) / 1000)
            # Who asks rarely may not have seen the last posts yet.
            with trio.fail_after(3 * interval + 10):
                await count.done.wait()
            nursery.cancel_scope.cancel()
    delays = sorted(count.delays)
    return Row(
        what,
        *cost,
        cpu,
        statistics.median(delays),
        delays[int(len(delays) * 0.99)],
    )


MEMORY = """
import sys, tempfile, psutil, trio, wherry
from notifications.mailboxes import Mailboxes

async def main(count):
    with tempfile.TemporaryDirectory() as directory:
        async with wherry.open(directory) as broker:
            mailboxes = Mailboxes(broker, 3600)
            class Nobody:
                users = follows = lambda self: []
            await mailboxes.restore(Nobody())
            await mailboxes.open("first")
            resident = psutil.Process().memory_info().rss
            async with trio.open_nursery() as nursery:
                async def some(numbers):
                    for n in numbers:
                        await mailboxes.open(f"user{n:07}")
                        await mailboxes.follow(f"user{n:07}", f"user{n % 1000:07}")
                for part in range(100):
                    nursery.start_soon(some, range(part, count, 100))
            print((psutil.Process().memory_info().rss - resident) / count)

trio.run(main, int(sys.argv[1]))
"""


def mailbox_bytes(count: int) -> float:
    """Memory of a mailbox that nobody reads, with one binding, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(count)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


async def main(options: argparse.Namespace) -> None:
    """Print the table."""
    each = mailbox_bytes(options.mailboxes)
    print(
        f"{options.mailboxes:,} durable mailboxes, each bound to an author:"
        f" {each * options.mailboxes / 1e6:.0f} MB, {each:.0f} bytes each"
    )
    print(
        f"{options.people:,} people following {FOLLOWED} each, {options.posts} posts"
        f" in {options.seconds:.0f} s:\n"
    )
    print("| | requests | kB on the wire | processor s | seen after, median | 99% |")
    print("|---|---:|---:|---:|---:|---:|")
    runs: list[tuple[str, Callable[..., Any], float]] = [("pushed", reader_that_is_told, 0)]
    runs += [(f"polled every {s:g} s", reader_that_polls, s) for s in options.polls]
    for what, reader, interval in runs:
        row = await run(what, reader, interval, options)
        print(
            f"| {row.what} | {row.requests:,} | {row.kilobytes:,.0f} | {row.cpu_seconds:.2f} |"
            f" {row.delay_median * 1000:,.0f} ms | {row.delay_99 * 1000:,.0f} ms |",
            flush=True,
        )


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="compare", description="Pushing beside polling.")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--posts", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60, help="of each run")
    parser.add_argument("--polls", type=float, nargs="*", default=[1, 5, 30], metavar="SECONDS")
    parser.add_argument("--mailboxes", type=int, default=100_000)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    trio.run(main, options_of())
