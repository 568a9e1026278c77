"""Names that are paths, and data directories that somebody else has been at."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pika
import pytest

import wherry
import wherry.testing
from wherry import blocking

if TYPE_CHECKING:
    from pathlib import Path

PATHS = [
    "../../outside",
    "/etc/outside",
    "..",
    ".",
    "a/../../b",
    "C:\\outside",
    "nul\0byte",
    "\u202e",
]


@pytest.fixture(autouse=True)
def bystander() -> None:
    """None: each has a broker of its own, and nobody to disturb."""


def contents(directory: Path) -> set[str]:
    """Without the journal's segments, which come and go."""
    paths = (path for path in directory.rglob("*") if not path.stem.isdigit())
    return {str(path.relative_to(directory)) for path in paths}


def test_names_are_no_paths(tmp_path: Path) -> None:
    """Of virtual hosts, exchanges, queues, consumers: none of them is the name of a file."""
    data = tmp_path / "inner" / "data"
    data.mkdir(parents=True)
    with wherry.testing.broker(data) as broker:
        before = contents(tmp_path)
        for name in PATHS:
            broker.broker.add_virtual_host(name)
            broker.permit("guest", name)
            parameters = pika.ConnectionParameters(broker.host, broker.port, name)
            with pika.BlockingConnection(parameters) as connection:
                channel = connection.channel()
                channel.queue_declare(name, durable=True)
                channel.exchange_declare(name, "topic", durable=True)
                channel.queue_bind(name, name, name)
                channel.basic_consume(name, print, consumer_tag=name)
                channel.basic_publish(name, name, b"m", pika.BasicProperties(delivery_mode=2))
        assert contents(tmp_path) == before
    with wherry.testing.broker(data) as broker:
        for name in PATHS:
            assert broker.broker.virtual_host(name).queue(name).statistics().ready == 1


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
def test_others_may_read_nothing(tmp_path: Path) -> None:
    """Whatever the mask of the process says."""
    data = tmp_path / "data"
    before = os.umask(0)
    try:
        with wherry.serve(data, port=0), blocking.open(tmp_path / "embedded") as broker:
            broker.declare_queue("q")
            paths = [data, *data.rglob("*"), tmp_path / "embedded"]
            paths += (tmp_path / "embedded").rglob("*")
            modes = {str(path.relative_to(tmp_path)): path.lstat().st_mode for path in paths}
    finally:
        os.umask(before)
    assert len(modes) > 4
    open_to_others = {
        name: oct(stat.S_IMODE(mode)) for name, mode in modes.items() if stat.S_IMODE(mode) & 0o077
    }
    assert open_to_others == {}


def journal(directory: Path) -> list[Path]:
    return sorted(
        path for path in directory.rglob("*") if path.is_file() and path.stat().st_size > 1 << 16
    )


def filled(directory: Path) -> None:
    with blocking.open(directory, segment_bytes=1 << 20) as broker:
        broker.declare_queue("q")
        for _ in range(40):
            broker.default_exchange.publish(bytes(100_000), "q")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_a_segment_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Who can write into the directory could otherwise have the broker overwrite any file."""
    data = tmp_path / "data"
    filled(data)
    victim = tmp_path / "victim"
    last = journal(data)[-1]
    victim.write_bytes(last.read_bytes())
    before = victim.read_bytes()
    last.unlink()
    last.symlink_to(victim)
    with pytest.raises((wherry.WherryError, OSError)):
        filled(data)
    assert victim.read_bytes() == before
