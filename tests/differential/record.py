"""Write `golden.json`: what RabbitMQ answers to each case. Run in tests/: `python -m
differential.record [CASE...]`.
"""

from __future__ import annotations

import sys

from differential.cases import CASES
from differential.golden import Golden
from differential.steps import run_all

GOLDEN = Golden(__file__, CASES, run_all)

if __name__ == "__main__":
    GOLDEN.record(sys.argv[1:])
