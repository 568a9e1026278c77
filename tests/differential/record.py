"""Write `golden.json`: what RabbitMQ answers to each case. Run in tests/: `python -m
differential.record [CASE...]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from differential.cases import CASES
from differential.steps import prefix, run_all
from wire import brokers

GOLDEN = Path(__file__).with_name("golden.json")


def main() -> None:
    names = sys.argv[1:] or list(CASES)
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    choice = brokers.CHOICE if brokers.CHOICE.startswith("rabbitmq") else "rabbitmq"
    with brokers.start(choice) as broker:
        for name in names:
            known[name] = {
                "steps": CASES[name],
                "answers": run_all(broker.host, broker.port, prefix(), CASES[name]),
            }
    golden = {name: known[name] for name in CASES if name in known}
    lines = [
        f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in golden.items()
    ]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
