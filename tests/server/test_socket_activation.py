"""Listening sockets that come from whoever started the server, as systemd hands them over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from processes import clean_environment

from wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors")

# What systemd does between fork and exec.
LAUNCHER = """
import os, sys
os.environ["LISTEN_PID"] = os.environ.get("OTHER_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "wherry", "serve", *sys.argv[1:]])
"""


class Activated:
    def __init__(self, handed: socket.socket, *options: str, **environment: str) -> None:
        def to_three() -> None:
            os.dup2(handed.fileno(), 3)

        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, "--memory", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            close_fds=False,
            preexec_fn=to_three,
            env=clean_environment(LISTEN_FDS="1", **environment),
        )

    def listening(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str]:
        self.process.terminate()
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.fixture
def handed() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        yield listening


def greeting(client: socket.socket) -> bytes:
    client.settimeout(20)
    return client.recv(1)


def test_clients_wait_for_a_server_that_starts_and_one_that_starts_again(
    handed: socket.socket,
) -> None:
    address = handed.getsockname()
    for _ in range(2):
        with socket.create_connection(address) as early:
            early.sendall(codec.PROTOCOL_HEADER)
            server = Activated(handed, "--port", str(address[1]))
            try:
                assert greeting(early) == b"\x01"
                assert server.listening() == f"listening on amqp://127.0.0.1:{address[1]}/\n"
            finally:
                assert server.end()[0] == 0


def test_a_socket_for_all_addresses_is_one_for_both_families(tmp_path: Path) -> None:
    with socket.create_server(
        ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16
    ) as handed:
        port = handed.getsockname()[1]
        server = Activated(handed, "--host", "*", "--port", str(port))
        try:
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family) as client:
                    client.connect((host, port))
                    client.sendall(codec.PROTOCOL_HEADER)
                    assert greeting(client) == b"\x01"
        finally:
            assert server.end()[0] == 0


@pytest.mark.parametrize("other", ["1", ""])
def test_sockets_of_another_process_are_not_ours(other: str, handed: socket.socket) -> None:
    """They came down to it by accident: a shell that systemd started, started it."""
    port = handed.getsockname()[1]
    server = Activated(handed, "--port", str(port), OTHER_PID=other)
    _, errors = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors


def test_sockets_that_are_not_asked_for_are_left_alone(handed: socket.socket) -> None:
    server = Activated(handed, "--port", "0")
    try:
        assert server.listening().startswith("listening on amqp://127.0.0.1:")
        descriptor = os.readlink(f"/proc/{server.process.pid}/fd/3")
        assert descriptor.startswith("socket:")
    finally:
        assert server.end()[0] == 0
