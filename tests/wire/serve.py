"""Serve Wherry in this process as a configuration file says, until a signal: what `brokers`
starts.
"""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

import trio

from wherry.server import _run, config


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    loaded = config.load(Path(sys.argv[1]))
    trio.run(functools.partial(_run.run, loaded.config))


if __name__ == "__main__":
    main()
