"""The cases over STOMP 1.1.

CoilMQ ends a connection when one of its reads (4,096 bytes) ends within the headers of a frame. So
its publishers wait for receipts, with a window whose frames fit into one read; the others are not
held up by its fault. It keeps everything in memory, also what is to persist, and has one
unacknowledged message at a time.
"""

from __future__ import annotations

from cases import (
    BACKLOG,
    BYTES_EACH,
    IDLE_BYTES,
    LATENCIES,
    P50,
    P99,
    RATES,
    Case,
    Column,
    Variant,
    key,
)

RABBITMQ = Variant("RabbitMQ", "RabbitMQ")
COILMQ = Variant("CoilMQ", "CoilMQ, window 32", ["--confirms", "32"])
WHERRY = Variant("Wherry", "Wherry")
PLAIN = [RABBITMQ, COILMQ, WHERRY]
DURABLE = [
    Variant("RabbitMQ", "RabbitMQ, quorum queue", ["--argument", "x-queue-type=quorum"]),
    Variant("RabbitMQ", "RabbitMQ, classic queue"),
    Variant(
        "CoilMQ",
        "CoilMQ, window 32",
        ["--confirms", "32", "--prefetch", "0", "--ack-every", "1"],
    ),
    Variant("Wherry", "Wherry, sync always"),
]
CONFIRMED = ["--persistent", "--confirms", "192", "--prefetch", "200"]

CASES = [
    Case(
        "transient-16",
        "Transient, 16 bytes, one publisher, one consumer, no receipts, automatic acknowledgement",
        "16 bytes, transient, no receipts: received/s",
        ["throughput", "--bytes", "16"],
        RATES,
        PLAIN,
    ),
    Case(
        "confirmed",
        "Persistent, 16 bytes, receipts (window 192), prefetch 200, mode client, an ACK every 100",
        "16 bytes, persistent, receipts (window 192), prefetch 200: received/s",
        ["throughput", "--bytes", "16", *CONFIRMED, "--ack-every", "100"],
        RATES,
        DURABLE,
    ),
    Case(
        "individual",
        "The same in mode client-individual, an ACK for each",
        "the same, each acknowledged by itself: received/s",
        ["throughput", "--bytes", "16", *CONFIRMED, "--ack-every", "1", "--individual"],
        RATES,
        [DURABLE[0], DURABLE[3]],
    ),
    Case(
        "fanout-10",
        "A topic with 10 subscriptions of one connection; transient, 16 bytes, receipts (100)",
        "a topic with 10 subscriptions: received/s",
        ["throughput", "--fanout", "--queues", "10", "--confirms", "100"],
        RATES,
        PLAIN,
    ),
    Case(
        "latency-1000",
        "Latency at 1,000/s, open loop: transient, 32 bytes, automatic acknowledgement",
        "latency at 1,000/s: p50, p99 us",
        ["latency", "--bytes", "32", "--rate", "1000"],
        LATENCIES,
        PLAIN,
        summary=[P50, P99],
    ),
    Case(
        "latency-10000",
        "Latency at 10,000/s, open loop: transient, 32 bytes, automatic acknowledgement",
        "latency at 10,000/s: p50, p99 us",
        ["latency", "--bytes", "32", "--rate", "10000"],
        LATENCIES,
        [RABBITMQ, WHERRY],
        summary=[P50, P99],
        quick=None,
    ),
    Case(
        "backlog",
        "Memory: 300,000 waiting transient messages of 100 bytes (CoilMQ: 50,000), then drained",
        "memory: bytes for each waiting message of 100 bytes",
        [
            *["backlog", "--count", "300000", "--bytes", "100", "--confirms", "1000"],
            *["--prefetch", "200", "--ack-every", "100", "--settle", "2"],
        ],
        BACKLOG,
        [
            RABBITMQ,
            Variant(
                "CoilMQ",
                "CoilMQ, window 16",
                ["--confirms", "16", "--count", "50000", "--prefetch", "0", "--ack-every", "0"],
            ),
            WHERRY,
        ],
        summary=[BYTES_EACH],
        seconds=False,
        fresh=True,
        quick=["--count", "10000", "--settle", "0.2"],
    ),
    Case(
        "connections",
        "Memory: 500 idle connections",
        "memory: bytes for each idle connection",
        ["connections", "--count", "500", "--settle", "2"],
        [
            IDLE_BYTES,
            Column("opened/s", key("opened_per_second"), "rate"),
            Column("closed/s", key("closed_per_second"), "rate"),
        ],
        [RABBITMQ, Variant("CoilMQ", "CoilMQ"), WHERRY],
        summary=[IDLE_BYTES],
        seconds=False,
        fresh=True,
        quick=["--count", "100", "--settle", "0.2"],
    ),
    Case(
        "queues",
        "Memory: 2,000 idle queues, each declared by a subscription that has ended",
        "memory: bytes for each idle queue",
        ["queues", "--count", "2000", "--settle", "2"],
        [IDLE_BYTES, Column("declared/s", key("declared_per_second"), "rate")],
        [RABBITMQ, WHERRY],
        summary=[IDLE_BYTES],
        seconds=False,
        fresh=True,
        quick=["--count", "200", "--settle", "0.2"],
    ),
]
