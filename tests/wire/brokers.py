"""A broker to test, in a process of its own on loopback: Wherry, or RabbitMQ to compare with.

`start("wherry")`, `start("rabbitmq")`, or `start("127.0.0.1:5672")` for one that runs already.
Every broker that is started here gets an empty directory and a free port, and is ended with its
whole process group by `stop`. With `stomp=` it listens for STOMP as well, and for STOMP over
WebSocket at the path `/ws`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

READY_SECONDS_MAX = 60.0
"""RabbitMQ needs about 6 s on an idle machine; both cores may be busy with other tests."""

STOP_SECONDS_MAX = 10.0

CHOICE = os.environ.get("WHERRY_TEST_BROKER", "wherry")
"""Which broker the suites run against: `wherry`, `rabbitmq`, or one that runs: `HOST:PORT`,
`rabbitmq@HOST:PORT`; with its ports of STOMP and WebSocket `HOST:PORT+PORT+PORT`.
"""

RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Unavailable(Exception):
    """This broker cannot be started here; the text says why, for `pytest.skip`."""


@dataclass
class Tls:
    """Files of PEM. A broker that is given them listens for TLS on port 5671 and asks for no
    client's.
    """

    certificate: Path
    key: Path
    authority: Path


@dataclass
class Stomp:
    """Where to listen for STOMP; 0 is any free port. With TLS also on 61614."""

    port: int = 0
    web_port: int = 0


@dataclass
class Broker:
    """A broker that accepts connections at `host`:`port` (guest/guest, virtual host `/`)."""

    kind: str
    host: str
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    directory: Path | None = None
    tls_port: int = 0
    """Where it speaks TLS, for who asked for that in its options."""
    stomp_port: int = 0
    web_port: int = 0
    """Of STOMP over WebSocket."""
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}/%2f"

    @property
    def control(self) -> Path:
        """Wherry's control socket."""
        assert self.directory is not None, "it was not started here"
        return self.directory / "control.sock"

    @property
    def pid(self) -> int:
        """The process that serves; 0 if it was not started here."""
        return self.processes[-1].pid if self.processes else 0

    def log(self) -> str:
        """What the broker wrote, for a failing test's report."""
        if self.directory is None:
            return ""
        return (self.directory / "output.log").read_text(errors="replace")[-4000:]

    def kill_and_restart(self) -> None:
        """End the broker as a power failure would, and start it again on what it had on disk."""
        assert self.directory is not None, "it was not started here"
        process = self.processes.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.processes.append(_spawn(self.command, self.directory, self.environment))
        _wait(self)

    def stop(self) -> None:
        """End the processes that were started for it and remove its directory."""
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    choice: str = CHOICE,
    *,
    port: int = 0,
    options: dict[str, object] | None = None,
    tls: Tls | None = None,
    stomp: Stomp | None = None,
    durable: bool = False,
) -> Broker:
    """Start the broker `choice` names and wait until it accepts; `Unavailable` if it is not here.

    `options` are keys of Wherry's configuration file, such as `{"limits.handshake_seconds": 1}`.
    Wherry keeps its data in memory unless it is to be `durable`.
    """
    if choice == "wherry":
        durable = durable or bool(os.environ.get("WHERRY_TEST_DURABLE"))
        return _start_wherry(port, options or {}, tls, stomp, durable=durable)
    if choice == "rabbitmq":
        return _start_rabbitmq(port, tls, stomp)
    kind, _, address = choice.rpartition("@")
    host, _, text = address.rpartition(":")
    ports = [int(one) for one in text.split("+")]
    if stomp is not None and len(ports) != 3:
        raise Unavailable("name its ports of AMQP, STOMP and WebSocket: HOST:PORT+PORT+PORT")
    broker = Broker(kind or "wherry", host, ports[0])
    broker.stomp_port, broker.web_port = [*ports, 0, 0][1:3]
    return broker


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_rabbitmq(port: int, tls: Tls | None, stomp: Stomp | None) -> Broker:
    if not RABBITMQ_SERVER.exists():
        raise Unavailable("rabbitmq-server is not installed")
    port = port or free_port()
    directory = Path(tempfile.mkdtemp(prefix="wherry-rabbitmq-"))
    epmd_port = free_port()
    configuration = (
        f"loopback_users.guest = true\nlog.console = false\nlisteners.tcp.1 = 127.0.0.1:{port}\n"
    )
    if tls is not None:
        # Who wants TLS has the standard ports to itself, and wants them on both loopback addresses.
        configuration += (
            f"listeners.tcp.2 = ::1:{port}\n"
            "listeners.ssl.1 = 127.0.0.1:5671\n"
            "listeners.ssl.2 = ::1:5671\n"
            f"ssl_options.cacertfile = {tls.authority}\n"
            f"ssl_options.certfile = {tls.certificate}\n"
            f"ssl_options.keyfile = {tls.key}\n"
            "ssl_options.verify = verify_none\n"
        )
    plugins = ""
    stomp_port = web_port = 0
    if stomp is not None:
        if not any(RABBITMQ_SERVER.parents[1].glob("lib/*/plugins/rabbitmq_web_stomp-*")):
            raise Unavailable("RabbitMQ's plugins for STOMP are not installed")
        plugins = "rabbitmq_stomp, rabbitmq_web_stomp"
        stomp_port, web_port = stomp.port or free_port(), stomp.web_port or free_port()
        configuration += (
            f"stomp.listeners.tcp.1 = 127.0.0.1:{stomp_port}\n"
            f"web_stomp.tcp.listener = 127.0.0.1:{web_port}\n"
        )
        if tls is not None:
            configuration += "stomp.listeners.ssl.1 = 127.0.0.1:61614\n"
    (directory / "rabbitmq.conf").write_text(configuration)
    (directory / "enabled_plugins").write_text(f"[{plugins}].")
    environment = dict(
        os.environ,
        HOME=str(directory),
        ERL_EPMD_PORT=str(epmd_port),
        ERL_EPMD_ADDRESS="127.0.0.1",
        RABBITMQ_NODENAME=f"wherry-{port}@localhost",
        RABBITMQ_DIST_PORT=str(free_port()),
        RABBITMQ_CONFIG_FILE=str(directory / "rabbitmq.conf"),
        RABBITMQ_CONF_ENV_FILE=str(directory / "absent"),
        RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "enabled_plugins"),
        RABBITMQ_MNESIA_BASE=str(directory / "mnesia"),
        RABBITMQ_LOG_BASE=str(directory / "log"),
        # Idle schedulers must not spin: the clients need the cores.
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none "
        "-kernel inet_dist_use_interface {127,0,0,1}",
    )
    # A port mapper of its own, or one would be left behind on the port that all nodes share.
    epmd = _spawn(
        [_epmd(), "-port", str(epmd_port), "-address", "127.0.0.1"], directory, environment
    )
    broker = Broker("rabbitmq", "127.0.0.1", port, [epmd], directory)
    broker.stomp_port, broker.web_port = stomp_port, web_port
    return _run(broker, [str(RABBITMQ_SERVER)], environment)


def _epmd() -> str:
    found = shutil.which("epmd")
    if found is None:
        raise Unavailable("epmd, which rabbitmq-server needs, is not installed")
    return found


def _start_wherry(
    port: int,
    options: dict[str, object],
    tls: Tls | None,
    stomp: Stomp | None,
    *,
    durable: bool,
) -> Broker:
    directory = Path(tempfile.mkdtemp(prefix="wherry-server-"))
    port = port or free_port()
    settings: dict[str, object] = {
        "amqp.listeners": [f"127.0.0.1:{port}"],
        "stomp.listeners": [],
        "control.socket": str(directory / "control.sock"),
        # Clients that a failing test leaves behind must not hold up the end.
        "shutdown.drain_seconds": 0.5,
    }
    if tls is not None:
        settings |= {
            "amqp.listeners": [f"127.0.0.1:{port}", f"[::1]:{port}"],
            "amqp.tls_listeners": ["127.0.0.1:5671", "[::1]:5671"],
            "tls.certificate": str(tls.certificate),
            "tls.key": str(tls.key),
            "tls.ca": str(tls.authority),
        }
    stomp_port = web_port = 0
    if stomp is not None:
        stomp_port, web_port = stomp.port or free_port(), stomp.web_port or free_port()
        settings |= {
            "stomp.listeners": [f"127.0.0.1:{stomp_port}"],
            "stomp.websocket_listeners": [f"127.0.0.1:{web_port}"],
        }
        if tls is not None:
            settings["stomp.tls_listeners"] = ["127.0.0.1:61614"]
    if durable:
        settings["directory"] = str(directory / "data")
    settings |= options
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (directory / "wherry.toml").write_text("\n".join(lines) + "\n")
    broker = Broker("wherry", "127.0.0.1", port, [], directory)
    broker.stomp_port, broker.web_port = stomp_port, web_port
    command = [sys.executable, "-m", "wherry", "serve", "--config", "wherry.toml"]
    return _run(broker, command, dict(os.environ))


def _run(broker: Broker, command: list[str], environment: dict[str, str]) -> Broker:
    assert broker.directory is not None
    broker.command, broker.environment = command, environment
    broker.processes.append(_spawn(command, broker.directory, environment))
    return _wait(broker)


def _spawn(
    command: list[str], directory: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (directory / "output.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(broker: Broker) -> Broker:
    # What each port must answer something to: a wrong greeting will do.
    waiting = {broker.port: b"AMQP\x00\x00\x09\x01"}
    if broker.stomp_port:
        waiting[broker.stomp_port] = b"NO\n\n\0"
    if broker.web_port:
        waiting[broker.web_port] = b"NO / HTTP/1.1\r\n\r\n"
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        if broker.processes[-1].poll() is not None:
            break
        for port, greeting in list(waiting.items()):
            with (
                contextlib.suppress(OSError),
                socket.create_connection((broker.host, port), 1) as s,
            ):
                s.settimeout(5)
                s.sendall(greeting)
                if s.recv(1):
                    del waiting[port]
        if not waiting:
            return broker
        time.sleep(0.1)
    log = broker.log()
    broker.stop()
    raise RuntimeError(f"{broker.kind} did not start:\n{log}")


def stop_with_sigterm() -> None:
    """Leave every `with` when this process is told to end, or its brokers would stay behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def main() -> None:
    """Serve until standard input ends: `python -m wire.brokers rabbitmq 5700`."""
    stop_with_sigterm()
    with start(sys.argv[1], port=int(sys.argv[2])) as broker:
        print(f"ready {broker.host}:{broker.port}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
