"""Write `golden.json`: what RabbitMQ answers to each case. Run in tests/: `python -m
differential.stomp.record [CASE...]`.
"""

from __future__ import annotations

import sys

from differential.golden import Golden
from differential.stomp.cases import CASES
from differential.stomp.steps import run_all
from wire import brokers

GOLDEN = Golden(__file__, CASES, run_all, stomp=brokers.Stomp())

if __name__ == "__main__":
    GOLDEN.record(sys.argv[1:])
