"""Write `golden.json`: what RabbitMQ answers to each case. Run in tests/: `python -m
differential.policies.record [CASE...]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from differential.policies.cases import CASES
from differential.policies.steps import run_all
from differential.steps import prefix
from wire import brokers

GOLDEN = Path(__file__).with_name("golden.json")


def main() -> None:
    names = sys.argv[1:] or list(CASES)
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    with brokers.start("rabbitmq") as broker:
        for name in names:
            answers = run_all(broker, prefix(), CASES[name])
            known[name] = {"steps": CASES[name], "answers": answers}
            print(name, file=sys.stderr, flush=True)
    golden = {name: known[name] for name in CASES if name in known}
    lines = [
        f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in golden.items()
    ]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
