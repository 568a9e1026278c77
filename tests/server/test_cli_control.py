"""The control socket, and what can be asked of a broker through it."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from wherry import InvalidArgument, UnknownQueue, WherryError, _core, blocking
from wherry.server import control
from wherry.server.control import ControlClient, ControlServer, ControlUnavailable
from wherry.server.operations import Operations
from wherry.server.users import UserStore


class Access:
    """A server with a broker and without connections."""

    def __init__(self) -> None:
        self.broker = blocking.open().__enter__()
        self.users = UserStore()
        self.closed: list[tuple[int, str]] = []
        self.reloads = 0

    @property
    def engine(self) -> _core.Engine:
        return self.broker._engine

    def connections(self) -> list[dict[str, Any]]:
        return [{"id": 1, "user": "guest"}]

    def close_connection(self, id: int, reason: str) -> bool:
        self.closed.append((id, reason))
        return id == 1

    def reload(self) -> None:
        self.reloads += 1
        if self.reloads > 1:
            raise OSError("the certificate is gone")


@pytest.fixture
def access() -> Any:
    access = Access()
    yield access
    access.broker.close()


@pytest.fixture
def path(access: Access, tmp_path: Path) -> Any:
    """A control socket."""
    path = tmp_path / "control.sock"
    before = threading.active_count()
    server = ControlServer(access, path)
    yield path
    server.close()
    assert threading.active_count() == before
    assert not path.exists()


def test_commands(path: Path, access: Access) -> None:
    queue = access.broker.declare_queue("q", max_length=5)
    for number in range(3):
        access.broker.default_exchange.publish(b"x" * number, "q")
    with ControlClient(path) as client:
        (found,) = client.do("queues", {"vhost": "/"})
        assert (found["vhost"], found["name"], found["ready"]) == ("/", "q", 3)
        assert found["arguments"] == {"x-max-length": 5}
        assert client.do("purge", {"queue": "q"}) == {"purged": 3}
        assert queue.statistics().ready == 0
        assert client.do("status", {})["queues"] == 1
        assert client.do("add_vhost", {"vhost": "v"}) == {}
        access.users.set_permission("guest", "v", "", "", "")
        assert client.do("vhosts", {}) == ["/", "v"]
        assert client.do("delete_vhost", {"vhost": "v"}) == {}
        assert len(access.users.list()[0].permissions) == 1
        assert client.do("connections", {}) == [{"id": 1, "user": "guest"}]
        assert client.do("close", {"id": 1, "reason": "enough"}) == {"closed": True}
        assert access.closed == [(1, "enough")]
        assert client.do("reload", {}) == {}
        with pytest.raises(WherryError, match="the certificate is gone"):
            client.do("reload", {})
        exported = client.do("export", {})
        assert exported["queues"][0]["arguments"] == {"x-max-length": 5}
        assert exported["users"][0]["name"] == "guest"


def test_definitions_of_a_real_file(path: Path, access: Access) -> None:
    file = Path(__file__).parent / "data" / "rabbitmq-3.10-definitions.json"
    with ControlClient(path) as client:
        report = client.do("import", {"definitions": json.loads(file.read_text())})
        assert report["imported"]["queues"] == 7
        again = client.do("import", {"definitions": json.loads(file.read_text())})
        assert again == report
        exported = client.do("export", {})
        names = {queue["name"] for queue in exported["queues"]}
        assert names == {
            "shop-orders",
            "shop-stock",
            "shop-quorum",
            "shop-sac",
            "other-lazy",
            "brief",
            "ha.one",
        }
    assert access.users.verify("alice", "wonderland") is not None


def test_refusals_keep_their_class(path: Path) -> None:
    with ControlClient(path) as client:
        with pytest.raises(UnknownQueue, match="'none'"):
            client.do("purge", {"queue": "none"})
        with pytest.raises(InvalidArgument, match="there is no command 'dance'; use status"):
            client.do("dance", {})
        with pytest.raises(InvalidArgument, match="purge: missing a required argument: 'queue'"):
            client.do("purge", {})
        with pytest.raises(InvalidArgument, match="queues: "):
            client.do("queues", {"vhost": 3})
        assert client.do("vhosts", {}) == ["/"]


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"3", b"null", b'{"command": 3}', b"\xff"])
def test_what_is_no_request_is_answered(path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(path))
        for byte in line + b"\n":
            peer.sendall(bytes([byte]))
        reply = json.loads(peer.makefile("rb").readline())
    assert reply["error"]["kind"] == "InvalidArgument"


def test_several_requests_at_once(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(path))
        peer.sendall(b'{"command": "vhosts"}\n' * 3)
        peer.shutdown(socket.SHUT_WR)
        assert peer.makefile("rb").readlines() == [b'{"result": ["/"]}\n'] * 3


def test_a_request_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_BYTES_MAX", 1000)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(path))
        peer.sendall(b"x" * 1001)
        file = peer.makefile("rb")
        assert "a request of over" in json.loads(file.readline())["error"]["message"]
        assert file.readline() == b""


def test_the_end_waits_for_answers_but_not_for_silent_clients(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow() -> list[dict[str, Any]]:
        asked.set()
        assert go_on.wait(10)
        return []

    monkeypatch.setattr(access, "connections", slow)
    path = tmp_path / "control.sock"
    server = ControlServer(access, path)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as peer:
        silent.connect(str(path))
        peer.settimeout(10)
        peer.connect(str(path))
        peer.sendall(b'{"command": "connections"}\n')
        assert asked.wait(10)
        closing = threading.Thread(target=server.close)
        closing.start()
        assert silent.recv(1) == b""
        go_on.set()
        assert peer.makefile("rb").readlines() == [b'{"result": []}\n']
        closing.join(10)
    assert not closing.is_alive()


def test_more_clients_than_there_are_threads_for(
    path: Path, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [ControlClient(path) for _ in range(control.CONNECTIONS_MAX)]
    assert [client.do("vhosts", {}) for client in clients] == [["/"]] * len(clients)
    late = ControlClient(path)
    clients.pop().__exit__()
    assert late.do("vhosts", {}) == ["/"]
    clients.append(late)
    for client in clients:
        client.__exit__()


def test_too_few_descriptors_are_logged_once(
    access: Access,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Exhausted:
        tries = 0

        def __init__(self, listener: socket.socket) -> None:
            self._listener = listener
            self.fileno = listener.fileno
            self.close = listener.close

        def accept(self) -> object:
            self.tries += 1
            if self.tries <= 20:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return self._listener.accept()

    listen = control._listen
    monkeypatch.setattr(control, "_listen", lambda path: Exhausted(listen(path)))
    monkeypatch.setattr(control, "ACCEPT_PAUSE_MS", 1)
    server = ControlServer(access, tmp_path / "control.sock")
    with ControlClient(tmp_path / "control.sock") as client:
        assert client.do("vhosts", {}) == ["/"]
    server.close()
    [record] = caplog.records
    assert "cannot accept a client on the control socket: Too many" in record.getMessage()


def test_the_socket_is_for_its_owner_only(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_user_gets_no_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(control.struct, "unpack", lambda *_: (1, 54321, 1))
    with pytest.raises(ControlUnavailable), ControlClient(path) as client:
        client.do("vhosts", {})


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable, match="no server answers at"):
        ControlClient(tmp_path / "control.sock")


def test_what_a_killed_server_left_is_replaced(access: Access, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    server = ControlServer(access, path)
    with ControlClient(path) as client:
        assert client.do("vhosts", {}) == ["/"]
    server.close()


def test_what_is_no_socket_is_left_alone(access: Access, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(InvalidArgument, match="is no socket"):
        ControlServer(access, path)
    assert path.read_text() == "mine"


def test_a_long_path(access: Access, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    path = directory / "control.sock"
    server = ControlServer(access, path)
    with ControlClient(path) as client:
        assert client.do("vhosts", {}) == ["/"]
    server.close()
    with pytest.raises(InvalidArgument, match="too long for a socket"):
        ControlServer(access, tmp_path / ("n" * 110))


def test_operations_without_a_server(tmp_path: Path) -> None:
    with blocking.open(tmp_path / "data") as broker:
        operations = Operations(broker._engine, None)
        operations.do("add_vhost", {"vhost": "v"})
        assert "users" in operations.do("export", {})
    with blocking.open(tmp_path / "data") as broker:
        assert Operations(broker._engine, None).do("vhosts", {}) == ["/", "v"]
