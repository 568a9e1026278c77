"""`wherry serve` as a process, for tests that need one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import IO

import pika

WAIT_SECONDS_MAX = 25


def clean_environment(**more: str) -> dict[str, str]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("WHERRY_")}
    return {**environment, **more}


class Serving:
    """A `wherry serve` process."""

    def __init__(self, *options: object, **environment: str) -> None:
        command = [sys.executable, "-m", "wherry", "serve", "--port", "0", *map(str, options)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(**environment),
        )
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on amqp://127\.0\.0\.1:(\d+)/?\n", line)
        assert match is not None, (line, self.errors)
        self.port = int(match[1])
        self._tls_port: int | None = None
        self._stomp_port: int | None = None

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._changed:
                self.errors.append(line)
                self._changed.notify_all()

    def tls_port(self) -> int:
        """Port of its first TLS listener."""
        if self._tls_port is None:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            match = re.fullmatch(r"listening on amqps://127\.0\.0\.1:(\d+)/?\n", line)
            assert match is not None, (line, self.errors)
            self._tls_port = int(match[1])
        return self._tls_port

    def stomp_port(self) -> int:
        """Port of its first STOMP listener. Asked after that for TLS, if there is one."""
        if self._stomp_port is None:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            match = re.fullmatch(r"listening on stomp://127\.0\.0\.1:(\d+)/\n", line)
            assert match is not None, (line, self.errors)
            self._stomp_port = int(match[1])
        return self._stomp_port

    def wait_for_log(self, text: str) -> None:
        """Until a line with this text was logged."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: any(text in line for line in self.errors), WAIT_SECONDS_MAX
            )
        assert found, self.errors

    def url(self, user: str = "guest:guest", vhost: str = "%2F") -> str:
        return f"amqp://{user}@127.0.0.1:{self.port}/{vhost}"

    def connect(self, user: str = "guest:guest", vhost: str = "%2F") -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.URLParameters(self.url(user, vhost)))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS_MAX)

    def close(self) -> None:
        """Kills it, if it still runs, and closes what was held of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_SECONDS_MAX)
        self._reader.join(WAIT_SECONDS_MAX)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
