"""The servers under load: each started with its own directory and port on loopback, and stopped.

A server is a context manager that yields a `Running` once it answers in the protocol under load.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol as Interface

HOST = "127.0.0.1"
# A cold RabbitMQ on two busy cores needs up to half of this.
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
# The wrapper on the search path of Debian changes the user; this one runs as who calls it.
RABBITMQ = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"]


def environment() -> dict[str, str]:
    """For programs in Python. Packages are compiled, as pip leaves them, even where the interpreter
    is told not to write that.
    """
    found = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if sys.dont_write_bytecode:
        found["PYTHONPYCACHEPREFIX"] = (
            f"{tempfile.gettempdir()}/wherry-bench-bytecode-{os.getuid()}"
        )
    return found


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a server must answer before it counts as ready: `reply` is how the answer begins."""

    name: str
    greeting: bytes
    reply: bytes


AMQP = Protocol("amqp", b"AMQP\x00\x00\x09\x01", b"\x01")
STOMP = Protocol(
    "stomp",
    b"CONNECT\naccept-version:1.1\nhost:/\nlogin:guest\npasscode:guest\n\n\x00",
    b"CONNECTED",
)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections."""

    name: str
    port: int
    # The process whose memory and processor time count.
    pid: int
    # From the start of the process until it answered.
    ready_seconds: float
    # The generator's word for what it understands.
    protocol: str

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    def resident_bytes(self) -> int:
        """Memory of its own now, without mapped files; 0 if it has gone."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        return 0

    @property
    def uri(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}"


class Server(Interface):
    """Something that can be started, again and again."""

    name: str

    def missing(self) -> str | None:
        """Why it cannot be started here, or None."""

    def version(self) -> str: ...

    @contextmanager
    def start(self) -> Iterator[Running]: ...


class RabbitMQ:
    """The RabbitMQ that is installed, with a node, directories and a port mapper of its own."""

    name = "RabbitMQ"

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def _command(self) -> str | None:
        return next((found for path in RABBITMQ if (found := shutil.which(path))), None)

    def missing(self) -> str | None:
        if self._command() is None:
            return "rabbitmq-server is not installed"
        return None if shutil.which("epmd") else "epmd (Erlang's port mapper) is not on the path"

    def version(self) -> str:
        command = Path(self._command() or "").with_name("rabbitmqctl")
        if not command.exists():
            return "RabbitMQ"
        with tempfile.TemporaryDirectory(prefix="wherry-bench-") as home:
            done = subprocess.run(
                [command, "version"],
                env={**os.environ, "HOME": home},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        return f"RabbitMQ {done.stdout.strip()}"

    @contextmanager
    def start(self) -> Iterator[Running]:
        port, other_port, mapper_port, distribution_port = free_ports(4)
        amqp_port = port if self._protocol is AMQP else other_port
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-bench-")))
            lines = [f"listeners.tcp.1 = {HOST}:{amqp_port}"]
            lines += ["log.file.level = error", "log.console = false"]
            plugins = "rabbitmq_consistent_hash_exchange"
            if self._protocol is STOMP:
                lines.append(f"stomp.listeners.tcp.1 = {HOST}:{port}")
                plugins = "rabbitmq_stomp"
            (root / "rabbitmq.conf").write_text("\n".join([*lines, ""]))
            (root / "plugins").write_text(f"[{plugins}].\n")
            environment = {
                **os.environ,
                "HOME": str(root),
                "RABBITMQ_NODENAME": f"wherry-bench-{port}@localhost",
                "RABBITMQ_MNESIA_BASE": str(root / "data"),
                "RABBITMQ_LOG_BASE": str(root / "log"),
                "RABBITMQ_CONFIG_FILE": str(root / "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(root / "plugins"),
                "RABBITMQ_DIST_PORT": str(distribution_port),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                    "-kernel inet_dist_use_interface {127,0,0,1}"
                ),
                "ERL_EPMD_PORT": str(mapper_port),
                "ERL_EPMD_ADDRESS": HOST,
            }
            # Started here, or Erlang would leave a daemon behind.
            stack.enter_context(process(["epmd", "-port", str(mapper_port)], environment, root))
            _await_port(mapper_port)
            begun = time.perf_counter()
            command = self._command()
            assert command is not None
            started = stack.enter_context(process([command], environment, root))
            ready_seconds = await_ready(started, self._protocol, port, begun, root)
            pid = _descendant(started.pid, "beam.smp") or started.pid
            # The script around it does not pass signals on.
            stack.callback(_stop_pid, pid)
            yield Running(self.name, port, pid, ready_seconds, self._protocol.name)


class Wherry:
    """`wherry serve` of the interpreter that runs this; each confirm after a sync.

    Args:
        command: what to run instead; `{directory}` and `{port}` in it are filled in.
    """

    name = "Wherry"

    def __init__(self, protocol: Protocol, command: str | None = None) -> None:
        self._protocol = protocol
        default = [sys.executable, "-m", "wherry", "serve", "--directory", "{directory}"]
        self._words = shlex.split(command) if command else [*default, "--host", HOST]
        if not command:
            amqp, stomp = ("{port}", "{other_port}")
            if protocol is STOMP:
                amqp, stomp = stomp, amqp
            self._words += ["--port", amqp, "--stomp-port", stomp]
        self._is_default = command is None

    def missing(self) -> str | None:
        if not self._is_default:
            return None
        done = subprocess.run(
            [sys.executable, "-m", "wherry", "serve", "--help"],
            capture_output=True,
            check=False,
            env=environment(),  # and what has to be compiled is, before a start is measured
            timeout=60,
        )
        return None if done.returncode == 0 else "this wherry has no `serve` command"

    def version(self) -> str:
        return f"Wherry {metadata.version('wherry')}"

    @contextmanager
    def start(self) -> Iterator[Running]:
        port, other_port = free_ports(2)
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-bench-")))
            places = {"directory": str(root / "data")}
            places |= {"port": str(port), "other_port": str(other_port)}
            command = [word.format(**places) for word in self._words]
            begun = time.perf_counter()
            started = stack.enter_context(process(command, environment(), root))
            ready_seconds = await_ready(started, self._protocol, port, begun, root)
            yield Running(self.name, port, started.pid, ready_seconds, self._protocol.name)


class CoilMQ:
    """CoilMQ of the interpreter that runs this, with its defaults: everything in memory."""

    name = "CoilMQ"

    def missing(self) -> str | None:
        return None if find_spec("coilmq") else "coilmq is not installed"

    def version(self) -> str:
        return f"CoilMQ {metadata.version('coilmq')}"

    @contextmanager
    def start(self) -> Iterator[Running]:
        (port,) = free_ports(1)
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-bench-")))
            command = [sys.executable, "-m", "coilmq.start", "--host", HOST, "--port", str(port)]
            begun = time.perf_counter()
            started = stack.enter_context(process(command, environment(), root))
            ready_seconds = await_ready(started, STOMP, port, begun, root)
            yield Running(self.name, port, started.pid, ready_seconds, STOMP.name)


class Relay:
    """No broker: a mode of the generator that speaks AMQP and passes frames on. What it takes, the
    machine and the load take.
    """

    name = "relay"

    def __init__(self, program: Path) -> None:
        self._program = program

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "a relay of frames"

    @contextmanager
    def start(self) -> Iterator[Running]:
        (port,) = free_ports(1)
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-bench-")))
            command = [str(self._program), "relay", "--port", str(port)]
            begun = time.perf_counter()
            started = stack.enter_context(process(command, environment(), root))
            ready_seconds = await_ready(started, AMQP, port, begun, root)
            yield Running(self.name, port, started.pid, ready_seconds, AMQP.name)


@contextmanager
def process(
    command: list[str], environment: dict[str, str], root: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is asked to end, and then made to."""
    with (root / "output").open("ab") as output:
        started = subprocess.Popen(
            command,
            env=environment,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def await_ready(
    started: subprocess.Popen[bytes], protocol: Protocol, port: int, begun: float, root: Path
) -> float:
    """Seconds from `begun` until `port` answers in the protocol."""
    while (seconds := time.perf_counter() - begun) < READY_SECONDS_MAX:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=5) as peer:
            peer.sendall(protocol.greeting)
            if peer.recv(64).startswith(protocol.reply):
                return time.perf_counter() - begun
        if started.poll() is not None:
            break
        time.sleep(0.002 if seconds < 1 else 0.02)
    told = (root / "output").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the server did not get ready:\n{told}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; all held at once, so that they differ."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            holder = stack.enter_context(socket.socket())
            holder.bind((HOST, 0))
            ports.append(int(holder.getsockname()[1]))
        return ports


def _await_port(port: int) -> None:
    deadline = time.perf_counter() + 10
    while time.perf_counter() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.01)


def _stop_pid(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.perf_counter() + STOP_SECONDS_MAX
    while time.perf_counter() < deadline:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.05)
                continue
        return


def _descendant(pid: int, name: str) -> int | None:
    """The process called `name` below `pid`."""
    parents: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            head, _, tail = stat.read_text().rpartition(")")
            number, _, found = head.partition(" (")
            parents[int(number)] = (int(tail.split()[1]), found)
    for candidate, (_, called) in parents.items():
        ancestor = candidate
        while called == name and ancestor in parents:
            if ancestor == pid:
                return candidate
            ancestor = parents[ancestor][0]
    return None
