"""What the server logs, and in which form: standard `logging`, on standard error.

A record about a connection carries fields (`extra=`): `connection`, `peer`, `user`, `vhost`; as
text they stand behind the message, as JSON they are keys. Bodies of messages, passwords and hashes
are never logged. A formatter of 40 lines was preferred to a library for structured logs: the
server logs a few lines a connection, and every program that embeds it has `logging` already.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import IO, Literal

__all__ = ["FIELDS", "JsonFormatter", "TextFormatter", "configure"]

FIELDS = ("connection", "peer", "user", "vhost")

# A peer's words may be part of a message; longer ones are cut.
MESSAGE_LENGTH_MAX = 8192


def _message(record: logging.LogRecord) -> str:
    """The message on one line, so that a peer's words cannot look like another record."""
    text = record.getMessage()
    if len(text) > MESSAGE_LENGTH_MAX:
        text = text[:MESSAGE_LENGTH_MAX] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _moment(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    values = ((name, getattr(record, name, None)) for name in FIELDS)
    return {name: value for name, value in values if value is not None}


class TextFormatter(logging.Formatter):
    """`2026-01-01T00:00:00.000Z INFO message [connection=3 peer=127.0.0.1:5 user=guest]`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it if there is one."""
        line = f"{_moment(record)} {record.levelname} {_message(record)}"
        fields = " ".join(f"{name}={_word(value)}" for name, value in _fields(record).items())
        if fields:
            line += f" [{fields}]"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _word(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=[]'):
        return text
    import json

    return json.dumps(text)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        import json

        entry: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(
    level: str, form: Literal["text", "json"], stream: IO[str] | None = None
) -> logging.Handler:
    """Log from `level` on in this form, to standard error unless another stream is given."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logger = logging.getLogger("wherry")
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    logger.propagate = False
    logging.captureWarnings(True)
    return handler
