"""The cases: what each one asks of the generator and, where it has the same, of PerfTest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from loads import Figures

CONFIRMED = ["--persistent", "--durable", "--confirms", "192"]
CONFIRMED += ["--prefetch", "200", "--ack-every", "100"]
CONFIRMED_PERF_TEST = ["-x", "1", "-y", "1", "-s", "16", "-c", "192", "-q", "200", "-A", "100"]
CONFIRMED_PERF_TEST += ["-f", "persistent", "-ad", "false"]
QUORUM = ["--argument", "x-queue-type=quorum"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A server in one configuration. `extra`: arguments for it alone."""

    server: str
    label: str
    extra: list[str] = field(default_factory=list)
    perf_test_extra: list[str] = field(default_factory=list)


RABBITMQ = Variant("RabbitMQ", "RabbitMQ")
WHERRY = Variant("Wherry", "Wherry")
PLAIN = [RABBITMQ, WHERRY]
DURABLE = [
    Variant("RabbitMQ", "RabbitMQ, quorum queue", QUORUM, ["--quorum-queue", "-u", "bench-quorum"]),
    Variant("RabbitMQ", "RabbitMQ, classic queue", [], ["-u", "bench-classic"]),
    Variant("Wherry", "Wherry, durable, sync always", [], ["-u", "bench-durable"]),
]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a case. `ratio`: that of its median to the first variant's is shown too."""

    title: str
    read: Callable[[Figures], float | None]
    unit: str = ""
    ratio: bool = False


def key(*path: str) -> Callable[[Figures], float | None]:
    def read(figures: Figures) -> float | None:
        found: object = figures
        for step in path:
            if not isinstance(found, dict):
                return None
            found = found.get(step)
        return float(found) if isinstance(found, int | float) else None

    return read


# Of all processors' time, what neither server nor load used: how disturbed the figures are.
OTHERS = Column("others' CPU", key("others_cpu_share"), "share")
RATES = [
    Column("received/s", key("received_per_second"), "rate", ratio=True),
    Column("published/s", key("published_per_second"), "rate"),
    Column("all drained/s", key("drained_per_second"), "rate"),
    Column("server CPU us each", key("server_cpu_us_per_message")),
    OTHERS,
]
LATENCIES = [
    Column("p50 us", key("latency_us", "p50"), ratio=True),
    Column("p99 us", key("latency_us", "p99")),
    Column("p99.9 us", key("latency_us", "p99_9")),
    Column("p50 us since written", key("since_written_us", "p50")),
    Column("p99 us since written", key("since_written_us", "p99")),
    Column("server CPU us each", key("server_cpu_us_per_message")),
    OTHERS,
]
CONFIRM_LATENCIES = [
    Column("confirm p50 us", key("confirm_us", "p50"), ratio=True),
    Column("confirm p99 us", key("confirm_us", "p99")),
    *LATENCIES[:3],
    OTHERS,
]


@dataclass(frozen=True, slots=True)
class Case:
    """One table.

    `seconds`: whether the generator gets --seconds. `fresh`: a new server for each run.
    """

    name: str
    title: str
    arguments: list[str]
    columns: list[Column]
    variants: list[Variant] = field(default_factory=lambda: PLAIN)
    perf_test: list[str] | None = None
    seconds: bool = True
    fresh: bool = False
    # What --quick uses instead of the count in `arguments`.
    quick: list[str] = field(default_factory=list)


CASES = [
    Case(
        "transient-16",
        "Transient, 16 bytes, one publisher, one consumer, no confirms, automatic acknowledgement",
        ["throughput", "--bytes", "16"],
        RATES,
        perf_test=["-x", "1", "-y", "1", "-s", "16", "-a"],
    ),
    Case(
        "transient-1k",
        "Transient, 1 KiB, one publisher, one consumer, no confirms, automatic acknowledgement",
        ["throughput", "--bytes", "1024"],
        RATES,
        perf_test=["-x", "1", "-y", "1", "-s", "1024", "-a"],
    ),
    Case(
        "confirmed",
        "Persistent, 16 bytes, confirms (window 192), prefetch 200, an acknowledgement every 100",
        ["throughput", "--bytes", "16", *CONFIRMED],
        RATES,
        DURABLE,
        perf_test=CONFIRMED_PERF_TEST,
    ),
    Case(
        "many-queues",
        "1,000 queues, 10 publishers, 10 consumers; transient, 16 bytes, confirms (window 100)",
        [
            "throughput",
            "--queues",
            "1000",
            "--producers",
            "10",
            "--consumers",
            "10",
            "--confirms",
            "100",
            "--prefetch",
            "100",
            "--ack-every",
            "50",
        ],
        RATES,
    ),
    Case(
        "fanout-10",
        "Fan-out to 10 queues, one consumer connection; transient, 16 bytes, confirms (100)",
        ["throughput", "--fanout", "--queues", "10", "--confirms", "100"],
        RATES,
        perf_test=[
            "-x",
            "1",
            "-y",
            "10",
            "-s",
            "16",
            "-a",
            "-t",
            "fanout",
            "-e",
            "bench-fanout",
            "-c",
            "100",
        ],
    ),
    Case(
        "fanout-100",
        "Fan-out to 100 queues, one consumer connection; transient, 16 bytes, confirms (100)",
        ["throughput", "--fanout", "--queues", "100", "--confirms", "100"],
        RATES,
    ),
    Case(
        "latency-1000",
        "Latency at 1,000/s, open loop: transient, 32 bytes, automatic acknowledgement",
        ["latency", "--bytes", "32", "--rate", "1000"],
        LATENCIES,
        perf_test=["-x", "1", "-y", "1", "-s", "32", "-a", "--rate", "1000"],
    ),
    Case(
        "latency-10000",
        "Latency at 10,000/s, open loop: transient, 32 bytes, automatic acknowledgement",
        ["latency", "--bytes", "32", "--rate", "10000"],
        LATENCIES,
        perf_test=["-x", "1", "-y", "1", "-s", "32", "-a", "--rate", "10000"],
    ),
    Case(
        "latency-confirmed",
        "Latency at 1,000/s, open loop: persistent, 32 bytes, confirms, each one acknowledged",
        [
            "latency",
            "--bytes",
            "32",
            "--rate",
            "1000",
            "--persistent",
            "--durable",
            "--confirms",
            "1000",
            "--prefetch",
            "200",
            "--ack-every",
            "1",
        ],
        CONFIRM_LATENCIES,
        DURABLE,
    ),
    Case(
        "backlog",
        "Memory: 1,000,000 waiting transient messages of 100 bytes, then drained",
        [
            "backlog",
            "--count",
            "1000000",
            "--bytes",
            "100",
            "--confirms",
            "1000",
            "--prefetch",
            "200",
            "--ack-every",
            "100",
            "--settle",
            "3",
        ],
        [
            Column("bytes each", key("resident_bytes_per_message"), ratio=True),
            Column("published/s", key("published_per_second"), "rate"),
            Column("drained/s", key("drained_per_second"), "rate"),
            Column("MB before", key("resident_bytes_before"), "MB"),
            Column("MB full", key("resident_bytes_full"), "MB"),
            Column("MB drained", key("resident_bytes_drained"), "MB"),
            OTHERS,
        ],
        seconds=False,
        fresh=True,
        quick=["--count", "100000"],
    ),
    Case(
        "backlog-durable",
        "Memory: 1,000,000 waiting persistent messages of 100 bytes, then drained",
        [
            "backlog",
            "--count",
            "1000000",
            "--bytes",
            "100",
            "--confirms",
            "1000",
            "--persistent",
            "--durable",
            "--prefetch",
            "200",
            "--ack-every",
            "100",
            "--settle",
            "3",
        ],
        [
            Column("bytes each", key("resident_bytes_per_message"), ratio=True),
            Column("published/s", key("published_per_second"), "rate"),
            Column("drained/s", key("drained_per_second"), "rate"),
            Column("MB before", key("resident_bytes_before"), "MB"),
            Column("MB full", key("resident_bytes_full"), "MB"),
            Column("MB drained", key("resident_bytes_drained"), "MB"),
            OTHERS,
        ],
        DURABLE,
        seconds=False,
        fresh=True,
        quick=["--count", "100000"],
    ),
    Case(
        "connections",
        "Memory: 1,000 idle connections, one channel each",
        ["connections", "--count", "1000", "--settle", "3"],
        [
            Column("bytes each", key("resident_bytes_each"), ratio=True),
            Column("opened/s", key("opened_per_second"), "rate"),
            Column("closed/s", key("closed_per_second"), "rate"),
        ],
        seconds=False,
        fresh=True,
        quick=["--count", "200"],
    ),
    Case(
        "queues",
        "Memory: 10,000 idle queues",
        ["queues", "--count", "10000", "--settle", "3"],
        [
            Column("bytes each", key("resident_bytes_each"), ratio=True),
            Column("declared/s", key("declared_per_second"), "rate"),
            Column("deleted/s", key("deleted_per_second"), "rate"),
        ],
        seconds=False,
        fresh=True,
        quick=["--count", "1000"],
    ),
    Case(
        "churn",
        "Connections one after the other: connect, log in, open a channel, close",
        ["churn"],
        [
            Column("connections/s", key("connections_per_second"), "rate", ratio=True),
            Column("p50 us", key("connection_us", "p50")),
            Column("p99 us", key("connection_us", "p99")),
            Column("server CPU us each", key("server_cpu_us_per_message")),
            OTHERS,
        ],
    ),
]
