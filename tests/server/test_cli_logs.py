"""The two forms of log records."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from wherry.server import logs


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("wherry")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield logging.getLogger("wherry.server.test")
    logging.captureWarnings(False)
    logger.level, logger.propagate = before[0], before[1]
    logger.handlers[:] = before[2]


FIELDS = {"connection": 3, "peer": "127.0.0.1:5", "user": None, "vhost": "a b", "secret": "s3cret"}


def test_text(logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    logger.debug("not this")
    logger.info("opened %s", "it", extra=FIELDS)
    logger.warning("plain")
    first, second = stream.getvalue().splitlines()
    assert first.endswith('Z INFO opened it [connection=3 peer=127.0.0.1:5 vhost="a b"]')
    assert second.endswith("Z WARNING plain")
    assert first[10] == "T"


def test_json(logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    logger.debug("opened %s", "it", extra=FIELDS)
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "debug",
        "logger": "wherry.server.test",
        "message": "opened it",
        "connection": 3,
        "peer": "127.0.0.1:5",
        "vhost": "a b",
    }
    assert "ValueError: broken" in second["exception"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_peers_words_cannot_look_like_another_record(logger: logging.Logger, form: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)  # type: ignore[arg-type]
    logger.info("said %s", "x\n2026 INFO all is well\x1b[31m")
    logger.info("%s", "y" * 100_000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "\x1b" not in lines[0]
    assert len(lines[1]) < 9000


def test_a_traceback_is_below_its_record(logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it failed")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("ERROR it failed")
    assert lines[-1] == "ValueError: broken"
