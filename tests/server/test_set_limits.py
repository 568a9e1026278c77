"""The limits at which publishers wait, changed while the server runs: what a client is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest
from processes import Serving
from test_cli_serve import wherry

import wherry as package
from clients import channel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.testing import TestBroker

MIB = 1 << 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def serving(data: Path) -> Iterator[Serving]:
    serving = Serving("--directory", data)
    yield serving
    serving.close()


class Publisher:
    """A client that hears of being blocked."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self.connection = connection
        self.heard: list[str] = []
        connection.add_on_connection_blocked_callback(
            lambda _, frame: self.heard.append(frame.method.reason)
        )
        connection.add_on_connection_unblocked_callback(lambda *_: self.heard.append("on"))
        self.channel = connection.channel()
        self.channel.queue_declare("q", durable=True)

    def publish(self) -> None:
        self.channel.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2))

    def hears(self, *words: str) -> None:
        while len(self.heard) < len(words):
            self.connection.process_data_events(1)
        assert self.heard == list(words)

    def queued(self) -> int:
        count: int = self.channel.queue_declare("q", passive=True).method.message_count
        return count


def shown(data: Path, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(wherry("limits", *arguments, "-d", data, "--json").stdout)
    return found


def test_no_memory_blocks_publishers_and_some_lets_them_go_on(serving: Serving, data: Path) -> None:
    with serving.connect() as connection:
        publisher = Publisher(connection)
        publisher.publish()
        assert publisher.queued() == 1
        assert shown(data, "show")["memory_alarm"] is False
        done = shown(data, "set", "--memory", "0")
        assert (done["memory_bytes_max"], done["memory_alarm"]) == (0, True)
        publisher.publish()
        publisher.hears("low on memory")
        (listed,) = json.loads(wherry("connections", "list", "-d", data, "--json").stdout)
        assert listed["state"] == "blocked"
        done = shown(data, "set", "--memory", "64 MiB")
        assert (done["memory_bytes_max"], done["memory_alarm"]) == (64 * MIB, False)
        publisher.hears("low on memory", "on")
        assert publisher.queued() == 2
    serving.wait_for_log("under the limit again")


def test_much_free_disk_blocks_publishers_and_less_lets_them_go_on(
    serving: Serving, data: Path
) -> None:
    with serving.connect() as connection:
        publisher = Publisher(connection)
        shown(data, "set", "--disk-free", 1 << 60)
        serving.wait_for_log("publishers wait until there is more")
        publisher.publish()
        publisher.hears("low on disk")
        found = shown(data, "show")
        assert (found["disk_alarm"], found["disk_free_bytes_min"]) == (True, 1 << 60)
        assert 0 < found["disk_free_bytes"] < 1 << 60
        shown(data, "set", "--disk-free", "1 MB")
        publisher.hears("low on disk", "on")
        assert publisher.queued() == 1


def test_the_table(serving: Serving, data: Path) -> None:
    lines = wherry("limits", "set", "-d", data, "--memory", "0.5").stdout.splitlines()
    assert lines[0].split("\t") == ["what", "limit", "now", "publishers wait"]
    what, limit, now, wait = lines[1].split("\t")
    assert (what, now, wait) == ("memory at most", "0", "no")
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < int(limit) <= machine / 2
    assert lines[2].startswith("disk free at least\t50000000\t")


def test_a_restart_has_the_configuration_again(serving: Serving, data: Path) -> None:
    before = shown(data, "show")["memory_bytes_max"]
    shown(data, "set", "--memory", 0)
    assert serving.end() == 0
    again = Serving("--directory", data)
    try:
        assert shown(data, "show")["memory_bytes_max"] == before
    finally:
        again.close()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "Give --memory, or --disk-free"),
        (["--memory", "much"], 2, "is no size"),
        (["--memory", "1 MiB"], 1, "cannot be kept with any precision"),
        (["--memory", 10**30], 1, "memory_bytes_max is 0 to"),
    ],
)
def test_what_cannot_be_is_refused(
    serving: Serving, data: Path, arguments: list[object], status: int, words: str
) -> None:
    assert words in wherry("limits", "set", "-d", data, *arguments, status=status).stderr


def test_without_a_server_there_are_no_limits_to_change(data: Path) -> None:
    data.mkdir()
    assert "is it running" in wherry("limits", "show", "-d", data, status=1).stderr


def test_in_a_program_and_for_its_own_publishers(broker: TestBroker) -> None:
    server = broker.server
    with channel(broker.amqp_url) as client:
        publisher = Publisher(client.connection)
        server.set_limits(memory_bytes_max=0)
        assert server.limits()["memory_alarm"] is True
        with pytest.raises(package.Busy):
            server.broker.default_exchange.publish_nowait(b"x", "q")
        publisher.publish()
        publisher.hears("low on memory")
        server.set_limits(memory_bytes_max=8 * MIB)
        publisher.hears("low on memory", "on")
        server.broker.default_exchange.publish(b"x", "q")
        assert publisher.queued() == 2
    with pytest.raises(package.InvalidArgument, match="no disk is watched"):
        server.set_limits(disk_free_bytes_min=1)
    assert server.limits()["disk_free_bytes_min"] is None


def test_memory_that_falls_under_the_new_limit_lets_publishers_go_on(broker: TestBroker) -> None:
    server = broker.server
    with channel(broker.amqp_url) as client, channel(broker.amqp_url) as consumer:
        publisher = Publisher(client.connection)
        for _ in range(60):
            client.basic_publish("", "q", b"x" * 100_000)
        assert publisher.queued() == 60
        server.set_limits(memory_bytes_max=4 * MIB)
        assert server.limits()["memory_alarm"] is True
        consumer.queue_purge("q")
        publisher.publish()
        assert publisher.queued() == 1


async def test_beside_an_event_loop(tmp_path: Path) -> None:
    async with package.serve(tmp_path / "data", port=0) as server:
        server.set_limits(memory_bytes_max=0, disk_free_bytes_min=0)
        found = server.limits()
        assert (found["memory_bytes_max"], found["disk_free_bytes_min"]) == (0, 0)
        assert server.channels() == []
        with pytest.raises(package.Busy):
            server.broker.default_exchange.publish_nowait(b"x", "q")
        server.set_limits(memory_bytes_max=8 * MIB)
