"""The broker inside the process beside its peers, in one run: `make bench`, or see --help.

Prints Markdown tables. What the words mean, and the figures: README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import ours
import peers
from harness import Group, machine, run_child, show

HERE = Path(__file__).parent

GROUPS = {
    "structures": Group(
        "Bare queue, one at a time",
        "Put an object, get it back; one thread.",
        peers.STRUCTURES + ours.STRUCTURES,
    ),
    "structures-batches": Group(
        "Bare queue, batches of 100",
        "The same, a hundred at a time.",
        peers.STRUCTURES_BATCHES + ours.STRUCTURES_BATCHES,
    ),
    "broker": Group(
        "Broker in memory, one at a time",
        "Publish 100 bytes to a direct exchange, take it from the bound queue, acknowledge.",
        peers.BROKERS + ours.BROKERS,
    ),
    "broker-batches": Group(
        "Broker in memory, batches of 100",
        "The same, a hundred at a time where the API has that.",
        peers.BROKERS_BATCHES + ours.BROKERS_BATCHES,
    ),
    "durable": Group(
        "Durable, one outstanding",
        "Publish 100 bytes and wait until they are on stable storage, take, acknowledge.",
        [peers.raw_sync(1), *peers.DURABLE, *ours.DURABLE],
    ),
    "durable-64": Group(
        "Durable publishes, 64 outstanding",
        "Publishes alone: nothing is confirmed before its sync, syncs are shared.",
        [
            peers.raw_sync(64),
            peers.leanqueue_put(64),
            ours.publish_tasks(64),
            ours.publish_window(64),
            ours.publish_batches(64),
        ],
    ),
    "durable-1000": Group(
        "Durable publishes, 1,000 outstanding",
        "The same with a thousand.",
        [
            peers.raw_sync(1000),
            peers.leanqueue_put(1000),
            ours.publish_tasks(1000),
            ours.publish_window(1000),
            ours.publish_batches(1000),
        ],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--round-seconds", type=float, default=0.5)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.1 s, small sizes")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    rounds, round_seconds = arguments.rounds, arguments.round_seconds
    if arguments.quick:
        rounds, round_seconds = 3, 0.1
    print(machine())
    print(f"\n{rounds} rounds of {round_seconds} s; `python benches/inprocess.py {_asked()}`")
    for name in names:
        if name in GROUPS:
            group = GROUPS[name]
            show(group, group.measure(rounds, round_seconds))
        else:
            CHILDREN[name](arguments.quick)


def _groups(quick: bool) -> None:
    print("\n### Message groups\n\nEvery update of a key in order, at most one in flight.\n")
    sizes = [(10_000, 100_000)] if quick else [(1_000, 1_000_000), (1_000_000, 10_000_000)]
    print("| keys | updates | workers | updates/s | out of order | lost |")
    print("|---:|---:|---:|---:|---:|---:|")
    for keys, updates in sizes:
        for workers in (1, 4):
            figures = run_child(
                HERE / "groups.py",
                f"--keys={keys}",
                f"--updates={updates}",
                f"--workers={workers}",
            )
            print(
                f"| {keys:,} | {updates:,} | {workers} | {figures['updates_per_second']:,.0f} "
                f"| {figures['out_of_order']:,.0f} | {figures['lost']:,.0f} |",
                flush=True,
            )


def _recovery(quick: bool) -> None:
    count = 100_000 if quick else 10_000_000
    print(f"\n### Recovery\n\n{count:,} messages of 100 bytes wait in one durable queue.\n")
    figures = run_child(HERE / "recovery.py", f"--messages={count}")
    print("| what | figure |\n|---|---:|")
    print(f"| publish and confirm | {count / figures['fill_seconds']:,.0f}/s |")
    print(f"| bytes on the disk for each message | {figures['disk_bytes'] / count:,.0f} |")
    print(f"| open after a clean close | {figures['open_clean_seconds']:.2f} s |")
    print(f"| open after SIGKILL | {figures['open_killed_seconds']:.2f} s |")
    print(
        f"| resident memory with the backlog open | {figures['resident_bytes'] / 2**20:,.0f} MiB |"
    )


def _memory(quick: bool) -> None:
    count = 20_000 if quick else 1_000_000
    queues = 1_000 if quick else 10_000
    print("\n### Memory\n\nGrowth of resident memory, each kind in its own process.\n")
    print("| kind | bytes each |\n|---|---:|")
    for kind, size in (
        ("bytes in queue.SimpleQueue", count),
        ("kombu memory transport", count // 10),
        ("leanqueue :memory:", count),
        ("wherry, in memory", count),
        ("wherry, durable", count),
        ("wherry, idle queue", queues),
    ):
        figures = run_child(HERE / "memory.py", kind, str(size))
        print(f"| {kind} ({size:,}) | {figures['bytes_each']:,.0f} |", flush=True)


def _asked() -> str:
    return " ".join(sys.argv[1:])


CHILDREN = {"groups": _groups, "recovery": _recovery, "memory": _memory}
PARTS = [*GROUPS, *CHILDREN]

if __name__ == "__main__":
    main()
