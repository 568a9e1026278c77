"""`wherry serve` as a process, and the commands that talk to it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from processes import WAIT_SECONDS_MAX, Serving, clean_environment

from wherry.server._settings import STOMP_PORT
from wherry.server.users import UserStore

DEFINITIONS = Path(__file__).parent / "data" / "rabbitmq-3.10-definitions.json"


def wherry(*arguments: object, url: str = "", status: int = 0, text: str | None = None) -> Any:
    command = [sys.executable, "-m", "wherry", *map(str, arguments)]
    environment = clean_environment(**({"WHERRY_URL": url} if url else {}))
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        timeout=WAIT_SECONDS_MAX,
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def serving(data: Path) -> Iterator[Serving]:
    serving = Serving("--directory", data, "--log-level", "debug")
    yield serving
    serving.close()


def test_publishing_and_consuming(serving: Serving) -> None:
    url = serving.url()
    done = wherry("publish", "-q", "hello", "--declare", "-m", "one", "-m", "two", url=url)
    assert done.stderr == "2 published and confirmed\n"
    options = ["-H", "n=3", "-H", "s=text", "--priority", 4, "--content-type", "a/b", "--type", "t"]
    wherry("publish", "-e", "", "-k", "hello", *options, url=url, text="from stdin\n")
    wherry("publish", "-q", "hello", "--lines", url=url, text="three\nfour\n")
    kept = wherry("consume", "--keep", "--no-wait", "hello", url=url).stdout.splitlines()
    assert kept == ["one", "two", "from stdin", "", "three", "four"]
    lines = wherry("consume", "--json", "-n", 3, "hello", url=url).stdout.splitlines()
    third = json.loads(lines[2])
    assert third["headers"] == {"n": 3, "s": "text"}
    assert (third["body"], third["priority"], third["type"]) == ("from stdin\n", 4, "t")
    assert third["redelivered"] is True
    rest = wherry("consume", "--no-wait", "hello", url=url).stdout.splitlines()
    assert rest == ["three", "four"]
    assert wherry("consume", "--no-wait", "hello", url=url).stdout == ""


def test_what_the_server_refuses_is_a_line_without_the_password(serving: Serving) -> None:
    url = serving.url("guest:hush")
    done = wherry("publish", "-q", "q", "-m", "x", url=url, status=1)
    assert done.stderr.endswith("user or password is wrong\n")
    serving.wait_for_log("login of 'guest' with PLAIN refused")
    done = wherry("publish", "-q", "none", "-m", "x", url=serving.url(), status=1)
    assert done.stderr == "Error: queue 'none' does not exist; 0 were published before\n"
    done = wherry("publish", "-e", "none", "-m", "x", url=serving.url(), status=1)
    assert "404 NOT_FOUND - no exchange 'none' in vhost '/'" in done.stderr
    done = wherry("consume", "none", url=serving.url(), status=1)
    assert "404 NOT_FOUND - no queue 'none' in vhost '/'" in done.stderr
    done = wherry("consume", "q", url=serving.url(vhost="absent"), status=1)
    assert "vhost absent not found" in done.stderr.replace("'", "")
    wherry("publish", "-m", "x", url=serving.url(), status=2)
    wherry("publish", "-q", "q", "-m", "x", url="nonsense", status=2)
    assert "hush" not in "".join(serving.errors)


def test_no_server_is_a_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"amqp://guest:hush@127.0.0.1:{unused.getsockname()[1]}/"
        done = wherry("consume", "q", url=url, status=1)
    assert "no AMQP server answers at 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


def test_a_server_without_tls_is_not_taken_for_none(serving: Serving) -> None:
    done = wherry("consume", "q", url=serving.url().replace("amqp:", "amqps:"), status=1)
    assert f"127.0.0.1:{serving.port} answers, but not in TLS" in done.stderr


def test_an_interrupted_consumer_gives_back_and_has_its_status(serving: Serving) -> None:
    url = serving.url()
    wherry("publish", "-q", "q", "--declare", "-m", "x", url=url)
    command = [sys.executable, "-m", "wherry", "consume", "--keep", "q"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(WHERRY_URL=url),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "x\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS_MAX) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert wherry("consume", "--no-wait", "q", url=url).stdout == "x\n"


def test_operating_a_running_server(serving: Serving, data: Path) -> None:
    wherry("publish", "-q", "q", "--declare", "-m", "x", "-m", "y", url=serving.url())
    (queue,) = json.loads(wherry("queues", "-d", data, "--json").stdout)
    assert (queue["name"], queue["ready"]) == ("q", 2)
    done = wherry("delete", "-d", data, "--if-empty", "--yes", "q", status=1)
    assert "not empty" in done.stderr
    assert wherry("purge", "-d", data, "--yes", "q").stdout == "2 messages dropped\n"
    done = wherry("delete", "-d", data, "--if-unused", "--if-empty", "--yes", "q")
    assert done.stdout == "deleted, with 0 ready messages\n"
    assert json.loads(wherry("queues", "-d", data, "--json").stdout) == []
    with serving.connect() as connection:
        (listed,) = json.loads(wherry("connections", "list", "-d", data, "--json").stdout)
        assert (listed["protocol"], listed["user"]) == ("AMQP 0-9-1", "guest")
        wherry("connections", "close", "-d", data, "--reason", "enough", listed["id"])
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match=r"320.*enough"):
            connection.process_data_events(WAIT_SECONDS_MAX)
    wherry("connections", "close", "-d", data, 999, status=1)


def test_users_change_beside_a_running_server(serving: Serving, data: Path) -> None:
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        serving.connect("new:pw")
    wherry("users", "add", "-d", data, "--password-stdin", "new", text="pw\n")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        serving.connect("new:pw")  # it may go nowhere yet
    wherry("users", "permit", "-d", data, "--write", "^q$", "new")
    with serving.connect("new:pw") as connection:
        connection.channel().queue_declare("q")
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="403"):
            channel.basic_publish("", "q", b"x", mandatory=True)
    wherry("users", "delete", "-d", data, "new")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        serving.connect("new:pw")


def test_moving_from_rabbitmq(serving: Serving, data: Path) -> None:
    done = wherry("definitions", "import", "-d", data, DEFINITIONS)
    assert done.stdout.startswith("imported: 3 virtual hosts, 1 operator policies, 4 policies, ")
    assert "4 exchanges, 7 queues" in done.stdout
    with serving.connect("alice:wonderland", "shop") as connection:
        channel = connection.channel()
        # As the application declares them; what the policies say is not in it.
        channel.queue_declare("shop-orders", durable=True)
        channel.queue_declare(
            "shop-quorum", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3}
        )
    exported = wherry("definitions", "export", "-d", data, "-").stdout
    assert len(json.loads(exported)["policies"]) == 4
    again = wherry("definitions", "import", "-d", data, "--strict", "-", text=exported)
    assert "not honoured" not in again.stdout


def test_it_says_what_it_does(serving: Serving, data: Path) -> None:
    assert serving.process.stdout is not None
    assert serving.stomp_port() > 0
    assert serving.process.stdout.readline() == f"messages are kept in {data}; Ctrl-C ends it\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(serving: Serving, data: Path, number: int) -> None:
    with serving.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "q", b"kept", pika.BasicProperties(delivery_mode=2))
        serving.process.send_signal(number)
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="320"):
            connection.process_data_events(WAIT_SECONDS_MAX)
    assert serving.process.wait(WAIT_SECONDS_MAX) == 0
    assert not (data / "control.sock").exists()
    verified = json.loads(wherry("journal", "verify", "--json", data).stdout)
    assert verified["closed"] is True
    assert json.loads(wherry("queues", "-d", data, "--json").stdout)[0]["ready"] == 1


def test_a_second_signal_waits_for_nobody(serving: Serving) -> None:
    with socket.create_connection(("127.0.0.1", serving.port), 10) as silent:
        silent.sendall(b"AMQP\x00\x00\x09\x01")
        assert silent.recv(1)  # it is served, and will never say goodbye
        serving.process.send_signal(signal.SIGTERM)
        while silent.recv(65536):  # until it is told to go, or cut off
            serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(WAIT_SECONDS_MAX) == 0


def test_sighup_reads_users_again(serving: Serving, data: Path) -> None:
    UserStore(data / "users.json").add("new", "pw")
    serving.process.send_signal(signal.SIGHUP)
    serving.wait_for_log("certificates and users were read again")
    assert serving.end() == 0


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(WAIT_SECONDS_MAX)
        systemd.bind(str(tmp_path / "notify"))
        serving = Serving(NOTIFY_SOCKET=str(tmp_path / "notify"))
        told = systemd.recv(4096).decode()
        assert told.startswith(f"READY=1\nMAINPID={serving.process.pid}\n")
        assert serving.end() == 0
        assert systemd.recv(4096) == b"STOPPING=1"
        serving.close()


def test_logs_as_json_name_the_connection(data: Path) -> None:
    serving = Serving("--log-format", "json")
    with serving.connect() as connection:
        connection.channel().close()
    assert serving.end() == 0
    serving._reader.join(WAIT_SECONDS_MAX)
    records = [json.loads(line) for line in serving.errors]
    opened = next(record for record in records if record["message"].endswith(": open"))
    assert (opened["user"], opened["vhost"]) == ("guest", "/")
    assert opened["peer"].startswith("127.0.0.1:")
    serving.close()


def test_it_starts_without_what_takes_long_to_load(tmp_path: Path) -> None:
    command = ["-X", "importtime", "-m", "wherry", "serve", "--port", "0", "--directory"]
    with subprocess.Popen(
        [sys.executable, *command, str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on amqp://")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WAIT_SECONDS_MAX)
    assert process.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in errors.splitlines()}
    assert {"wherry._cli.serving", "wherry._core"} <= loaded
    slow = {
        "click",
        "msgspec",
        "inspect",
        "dataclasses",
        "trio",
        "asyncio",
        "concurrent.futures",
        "ssl",
        "hashlib",
        "json",
        "rich",
        "pika",
    }
    slow |= {"argon2", "wsproto", "wherry.blocking", "wherry._broker", "wherry._types"}
    assert not loaded & slow


def test_a_directory_in_use_is_a_line(serving: Serving, data: Path) -> None:
    done = wherry("serve", "-d", data, "--port", 0, status=1)
    assert "is open in process" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_a_line(serving: Serving) -> None:
    done = wherry("serve", "--port", serving.port, "--host", "127.0.0.1", status=1)
    assert "Traceback" not in done.stderr
    assert str(serving.port) in done.stderr


def test_two_brokers_need_different_ports_of_amqp_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.socket() as taken, contextlib.suppress(OSError):
        # By us, or by whoever has it already.
        taken.bind(("127.0.0.1", STOMP_PORT))
        taken.listen()
        serving = Serving("--memory", "--port", port)
        try:
            serving.wait_for_log(
                f"STOMP is not served, since 127.0.0.1:{STOMP_PORT} is in use: give --stomp-port"
            )
            with serving.connect() as connection:
                connection.channel()
        finally:
            serving.close()
        # Asked for, it is an error.
        done = wherry("serve", "--memory", "--port", 0, "--stomp-port", STOMP_PORT, status=1)
        assert f"cannot listen on 127.0.0.1:{STOMP_PORT}" in done.stderr
