"""The scenarios of STOMP through @stomp/stompjs: in Node over TCP and WebSocket, and in a browser.

The program or page runs once, and each scenario is reported as a test. `make clients-install`
fetches the libraries; the browser is Chromium: `make chromium-install`.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stomp_scenarios import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wire.brokers import Broker

NODE = Path(__file__).parent / "node"

PROGRAM_SECONDS_MAX = 90

pytestmark = pytest.mark.timeout(PROGRAM_SECONDS_MAX + 30)

CLIENTS = {
    "stompjs-tcp-1.0": ("tcp", "1.0"),
    "stompjs-tcp-1.1": ("tcp", "1.1"),
    "stompjs-tcp-1.2": ("tcp", "1.2"),
    "stompjs-ws-1.1": ("ws", "1.1"),
    "stompjs-ws-1.2": ("ws", "1.2"),
    "stompjs-chromium": ("browser", "1.2"),
}
"""Client -> how it reaches the server, and the version it asks for."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Control(http.server.SimpleHTTPRequestHandler):
    """Serves the page and what it needs; takes its lines, and the wish to have the broker killed
    and started again.
    """

    def __init__(self, broker: Broker, lines: queue.Queue[str], *arguments: Any) -> None:
        self.broker, self.lines = broker, lines
        super().__init__(*arguments, directory=str(NODE))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if self.path == "/restart":
            self.broker.kill_and_restart()
        else:
            self.lines.put(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def control(broker: Broker) -> Iterator[tuple[str, queue.Queue[str]]]:
    lines: queue.Queue[str] = queue.Queue()
    handler = functools.partial(Control, broker, lines)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", lines
        server.shutdown()
        thread.join()


def in_node(broker: Broker, way: str, version: str) -> tuple[list[str], str]:
    port = broker.stomp_port if way == "tcp" else broker.web_port
    with control(broker) as (address, _):
        where = [broker.host, str(port), str(broker.port), f"{address}/restart"]
        command = ["node", str(NODE / "stompjs.js"), version, way, *where]
        try:
            done = subprocess.run(
                [*command, f"{uuid.uuid4().hex[:8]}.", broker.kind],
                capture_output=True,
                text=True,
                timeout=PROGRAM_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return (late.stdout or b"").decode().splitlines(), "it took too long"
    return done.stdout.splitlines(), done.stderr


def in_browser(broker: Broker, version: str) -> tuple[list[str], str]:
    given = {
        "url": f"ws://{broker.host}:{broker.web_port}/ws",
        "version": version,
        "prefix": f"{uuid.uuid4().hex[:8]}.",
        "kind": broker.kind,
    }
    got: list[str] = []
    with control(broker) as (address, lines), tempfile.TemporaryDirectory() as profile:
        page = f"{address}/stomp-page.html?{urllib.parse.urlencode(given)}"
        # Tests may run as root, as whom Chromium has no sandbox. Nothing foreign is loaded.
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [str(CHROMIUM), *flags, page],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while line := lines.get(timeout=PROGRAM_SECONDS_MAX):
                got.append(line)
        except queue.Empty:
            return got, "the page got no further"
        finally:
            browser.terminate()
            browser.wait(10)
    return got, ""


@pytest.fixture(scope="module")
def results(stomp_broker: Broker) -> Callable[[str], dict[str, Any]]:
    """Run a client once; its lines by scenario."""
    known: dict[str, dict[str, Any]] = {}

    def run(client: str) -> dict[str, Any]:
        if client not in known:
            way, version = CLIENTS[client]
            if not (NODE / "node_modules/@stomp/stompjs").exists():
                pytest.skip("stompjs is not installed: make clients-install")
            if way == "browser":
                if CHROMIUM is None:
                    pytest.skip("there is no Chromium: make chromium-install")
                lines, errors = in_browser(stomp_broker, version)
            else:
                lines, errors = in_node(stomp_broker, way, version)
            read = [json.loads(line) for line in lines if line.startswith("{")]
            known[client] = {"errors": errors, **{line["scenario"]: line for line in read}}
        return known[client]

    return run


@pytest.mark.parametrize("scenario", NAMES)
@pytest.mark.parametrize("client", CLIENTS)
def test_scenario(client: str, scenario: str, results: Callable[[str], dict[str, Any]]) -> None:
    lines = results(client)
    assert scenario in lines, f"the program did not get there: {lines['errors'][-2000:]}"
    if "skip" in lines[scenario]:
        pytest.skip(lines[scenario]["skip"])
    assert lines[scenario]["ok"], lines[scenario]["error"]
