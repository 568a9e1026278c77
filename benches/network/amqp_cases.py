"""The cases over AMQP 0-9-1."""

from __future__ import annotations

from cases import (
    BACKLOG,
    BYTES_EACH,
    CONFIRM_LATENCIES,
    IDLE_BYTES,
    LATENCIES,
    OTHERS,
    P50,
    P99,
    PERF_TEST_BACKLOG,
    PERF_TEST_LATENCIES,
    RATES,
    Case,
    Column,
    PerfTest,
    Variant,
    key,
)

PLAIN = [Variant("RabbitMQ", "RabbitMQ"), Variant("Wherry", "Wherry")]
# And what the load reaches without a broker.
BARE = [*PLAIN, Variant("relay", "relay")]
DURABLE = [
    Variant(
        "RabbitMQ",
        "RabbitMQ, quorum queue",
        ["--argument", "x-queue-type=quorum"],
        ["--quorum-queue", "-u", "bench-quorum"],
    ),
    Variant("RabbitMQ", "RabbitMQ, classic queue", [], ["-u", "bench-classic"]),
    Variant("Wherry", "Wherry, sync always", [], ["-u", "bench-durable"]),
]

CONFIRMED = ["--persistent", "--durable", "--confirms", "192"]
CONFIRMED += ["--prefetch", "200", "--ack-every", "100"]
CONFIRMED_PERF_TEST = ["-x", "1", "-y", "1", "-s", "16", "-c", "192", "-q", "200", "-A", "100"]
CONFIRMED_PERF_TEST += ["-f", "persistent", "-ad", "false"]
MANY = ["--producers", "10", "--consumers", "10"]
MANY += ["--confirms", "100", "--prefetch", "100", "--ack-every", "50"]
# A consumer of PerfTest is a connection and a thread: a hundred queues, not a thousand.
MANY_PERF_TEST = ["-x", "10", "-y", "100", "-s", "16", "-c", "100", "-q", "100", "-A", "50"]
MANY_PERF_TEST += ["--queue-pattern", "bench-%d"]
MANY_PERF_TEST += ["--queue-pattern-from", "1", "--queue-pattern-to", "100"]
# RabbitMQ's way to keep an entity's updates in order and share them out: a queue for each consumer,
# with a single active one, and the entities spread over the queues by the hash of their name.
ENTITIES = ["--bytes", "100", "--persistent", "--durable", "--entities", "1000000"]
ENTITIES += ["--producers", "4", "--confirms", "192"]
ENTITIES += ["--consumers", "8", "--prefetch", "200", "--ack-every", "20"]
HASHED = ["--spread", "x-consistent-hash", "--queues", "8"]
HASHED += ["--argument", "x-single-active-consumer=true"]
FANOUT_PERF_TEST = ["-x", "1", "-y", "10", "-s", "16", "-a", "-c", "100"]
FANOUT_PERF_TEST += ["-t", "fanout", "-e", "bench-fanout"]
WAITING = ["--bytes", "100", "--confirms", "1000"]
DRAINED = ["--prefetch", "200", "--ack-every", "100", "--settle", "3"]
WAITING_PERF_TEST = ["-x", "1", "-y", "0", "-s", "100", "-c", "1000", "-C", "200000"]
WAITING_PERF_TEST += ["-ad", "false", "-u", "bench-waiting"]


def latency_perf_test(rate: int) -> PerfTest:
    arguments = ["-x", "1", "-y", "1", "-s", "32", "-a", "--rate", str(rate)]
    return PerfTest(arguments, PERF_TEST_LATENCIES, [P50, P99])


CASES = [
    Case(
        "transient-16",
        "Transient, 16 bytes, one publisher, one consumer, no confirms, automatic acknowledgement",
        "16 bytes, transient, no confirms: received/s",
        ["throughput", "--bytes", "16"],
        RATES,
        BARE,
        perf_test=PerfTest(["-x", "1", "-y", "1", "-s", "16", "-a"]),
    ),
    Case(
        "transient-1k",
        "Transient, 1 KiB, one publisher, one consumer, no confirms, automatic acknowledgement",
        "1 KiB, transient, no confirms: received/s",
        ["throughput", "--bytes", "1024"],
        RATES,
        PLAIN,
        quick=None,
    ),
    Case(
        "confirmed",
        "Persistent, 16 bytes, confirms (window 192), prefetch 200, an acknowledgement every 100",
        "16 bytes, persistent, confirms (window 192), prefetch 200: received/s",
        ["throughput", "--bytes", "16", *CONFIRMED],
        RATES,
        [*DURABLE, Variant("relay", "relay", [], ["-u", "bench-relay"])],
        perf_test=PerfTest(CONFIRMED_PERF_TEST),
    ),
    Case(
        "many-queues",
        "1,000 queues, 10 publishers, 10 consumers; transient, 16 bytes, confirms (window 100)",
        "1,000 queues, 10 publishers, 10 consumers: received/s",
        ["throughput", "--queues", "1000", *MANY],
        RATES,
        BARE,
        perf_test=PerfTest(MANY_PERF_TEST),
        quick=["--queues", "100"],
    ),
    Case(
        "entities",
        "Updates of 1,000,000 entities, each one's in order; 4 publishers, 8 consumers; persistent,"
        " 100 bytes, confirms (window 192), prefetch 200, an acknowledgement every 20",
        "updates of 1,000,000 entities, each one's in order, 8 consumers: received/s",
        ["throughput", *ENTITIES],
        RATES,
        [
            Variant(
                "RabbitMQ",
                "RabbitMQ, 8 quorum queues behind a hash",
                [*HASHED, "--argument", "x-queue-type=quorum"],
            ),
            Variant("RabbitMQ", "RabbitMQ, 8 classic queues behind a hash", HASHED),
            Variant("Wherry", "Wherry, one queue", ["--argument", "x-group-by=routing-key"]),
        ],
    ),
    Case(
        "fanout-10",
        "Fan-out to 10 queues, one consumer connection; transient, 16 bytes, confirms (100)",
        "fan-out to 10 queues: received/s",
        ["throughput", "--fanout", "--queues", "10", "--confirms", "100"],
        RATES,
        BARE,
        perf_test=PerfTest(FANOUT_PERF_TEST),
    ),
    Case(
        "fanout-100",
        "Fan-out to 100 queues, one consumer connection; transient, 16 bytes, confirms (100)",
        "fan-out to 100 queues: received/s",
        ["throughput", "--fanout", "--queues", "100", "--confirms", "100"],
        RATES,
        PLAIN,
        quick=None,
    ),
    Case(
        "latency-1000",
        "Latency at 1,000/s, open loop: transient, 32 bytes, automatic acknowledgement",
        "latency at 1,000/s: p50, p99 us",
        ["latency", "--bytes", "32", "--rate", "1000"],
        LATENCIES,
        BARE,
        summary=[P50, P99],
        perf_test=latency_perf_test(1_000),
        quick=None,
    ),
    Case(
        "latency-10000",
        "Latency at 10,000/s, open loop: transient, 32 bytes, automatic acknowledgement",
        "latency at 10,000/s: p50, p99 us",
        ["latency", "--bytes", "32", "--rate", "10000"],
        LATENCIES,
        BARE,
        summary=[P50, P99],
        perf_test=latency_perf_test(10_000),
    ),
    Case(
        "latency-confirmed",
        "Latency at 1,000/s, open loop: persistent, 32 bytes, confirms, each one acknowledged",
        "confirm of a persistent message at 1,000/s: p50, p99 us",
        [
            *["latency", "--bytes", "32", "--rate", "1000", "--persistent", "--durable"],
            *["--confirms", "1000", "--prefetch", "200", "--ack-every", "1"],
        ],
        CONFIRM_LATENCIES,
        DURABLE,
        summary=CONFIRM_LATENCIES[:2],
        quick=None,
    ),
    Case(
        "backlog",
        "Memory: 1,000,000 waiting transient messages of 100 bytes, then drained",
        "memory: bytes for each waiting message of 100 bytes",
        ["backlog", "--count", "1000000", *WAITING, *DRAINED],
        BACKLOG,
        PLAIN,
        summary=[BYTES_EACH],
        perf_test=PerfTest(WAITING_PERF_TEST, PERF_TEST_BACKLOG, [BYTES_EACH], seconds=False),
        seconds=False,
        fresh=True,
        quick=["--count", "50000", "--settle", "0.2"],
    ),
    Case(
        "backlog-durable",
        "Memory: 1,000,000 waiting persistent messages of 100 bytes, then drained",
        "the same, persistent",
        ["backlog", "--count", "1000000", *WAITING, "--persistent", "--durable", *DRAINED],
        BACKLOG,
        DURABLE,
        summary=[BYTES_EACH],
        seconds=False,
        fresh=True,
        quick=None,
    ),
    Case(
        "connections",
        "Memory: 1,000 idle connections, one channel each",
        "memory: bytes for each idle connection",
        ["connections", "--count", "1000", "--settle", "3"],
        [
            IDLE_BYTES,
            Column("opened/s", key("opened_per_second"), "rate"),
            Column("closed/s", key("closed_per_second"), "rate"),
        ],
        PLAIN,
        summary=[IDLE_BYTES],
        seconds=False,
        fresh=True,
        quick=["--count", "100", "--settle", "0.2"],
    ),
    Case(
        "queues",
        "Memory: 10,000 idle queues",
        "memory: bytes for each idle queue",
        ["queues", "--count", "10000", "--settle", "3"],
        [
            IDLE_BYTES,
            Column("declared/s", key("declared_per_second"), "rate"),
            Column("deleted/s", key("deleted_per_second"), "rate"),
        ],
        PLAIN,
        summary=[IDLE_BYTES],
        seconds=False,
        fresh=True,
        quick=["--count", "1000", "--settle", "0.2"],
    ),
    Case(
        "churn",
        "Connections one after the other: connect, log in, open a channel, close",
        "connections one after the other: a second",
        ["churn"],
        [
            Column("connections/s", key("connections_per_second"), "rate", ratio=True),
            Column("p50 us", key("connection_us", "p50")),
            Column("p99 us", key("connection_us", "p99")),
            Column("server CPU us each", key("server_cpu_us_per_message")),
            OTHERS,
        ],
        PLAIN,
        summary=[Column("connections/s", key("connections_per_second"), "rate", ratio=True)],
    ),
]
