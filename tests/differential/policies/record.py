"""Write `golden.json`: what RabbitMQ answers to each case. Run in tests/: `python -m
differential.policies.record [CASE...]`.
"""

from __future__ import annotations

import sys

from differential.golden import Golden
from differential.policies.cases import CASES
from differential.policies.steps import run_all

GOLDEN = Golden(__file__, CASES, run_all)

if __name__ == "__main__":
    GOLDEN.record(sys.argv[1:])
