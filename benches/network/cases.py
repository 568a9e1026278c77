"""What a case is: what it asks of the generator and of PerfTest, and which figures are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from loads import Figures


@dataclass(frozen=True, slots=True)
class Variant:
    """A server in one configuration.

    Args:
        label: the server's name, and behind a comma what is special.
        extra: arguments of the generator for it alone; they win over the case's.
        perf_test_extra: the same for PerfTest.
    """

    server: str
    label: str
    extra: list[str] = field(default_factory=list)
    perf_test_extra: list[str] = field(default_factory=list)


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
RECEIVED = Column("received/s", key("received_per_second"), "rate", ratio=True)
PUBLISHED = Column("published/s", key("published_per_second"), "rate")
RATES = [
    RECEIVED,
    PUBLISHED,
    Column("all drained/s", key("drained_per_second"), "rate"),
    Column("server CPU us each", key("server_cpu_us_per_message")),
    OTHERS,
]
P50 = Column("p50 us", key("latency_us", "p50"), ratio=True)
P99 = Column("p99 us", key("latency_us", "p99"))
LATENCIES = [
    P50,
    P99,
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
BYTES_EACH = Column("bytes each", key("resident_bytes_per_message"), ratio=True)
BACKLOG = [
    BYTES_EACH,
    PUBLISHED,
    Column("drained/s", key("drained_per_second"), "rate"),
    Column("MB before", key("resident_bytes_before"), "MB"),
    Column("MB full", key("resident_bytes_full"), "MB"),
    Column("MB drained", key("resident_bytes_drained"), "MB"),
    OTHERS,
]
IDLE_BYTES = Column("bytes each", key("resident_bytes_each"), ratio=True)
PERF_TEST_RATES = [RECEIVED, PUBLISHED, P50, P99]
PERF_TEST_LATENCIES = [P50, P99, RECEIVED]
PERF_TEST_BACKLOG = [BYTES_EACH, PUBLISHED]


@dataclass(frozen=True, slots=True)
class PerfTest:
    """Nearly the same for RabbitMQ's own load. `seconds`: whether it ends by time."""

    arguments: list[str]
    columns: list[Column] = field(default_factory=lambda: PERF_TEST_RATES)
    summary: list[Column] = field(default_factory=lambda: [RECEIVED])
    seconds: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """One table of its own, and one row of the summary.

    Args:
        headline: what the summary calls it.
        summary: the columns that the summary shows.
        seconds: whether the generator gets --seconds.
        fresh: a new server for each run, and one round: what is measured is memory.
        quick: what --quick adds to `arguments`; None leaves the case out.
    """

    name: str
    title: str
    headline: str
    arguments: list[str]
    columns: list[Column]
    variants: list[Variant]
    summary: list[Column] = field(default_factory=lambda: [RECEIVED])
    perf_test: PerfTest | None = None
    seconds: bool = True
    fresh: bool = False
    quick: list[str] | None = field(default_factory=list)
