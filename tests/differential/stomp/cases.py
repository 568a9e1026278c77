"""Single cases: what every frame does, every way to be refused, and the neighbours that must not
be.

`golden.json` holds what RabbitMQ 3.10 answers to each; `python -m differential.stomp.record` in
tests/ writes it anew. `@` is the case's own prefix; see `steps.py` for the language.
"""

from __future__ import annotations

from typing import Any

Step = list[Any]
CASES: dict[str, list[Step]] = {}

Q = "/queue/@q"
VERSIONS = ("1.0", "1.1", "1.2")


def bare(name: str, *steps: Step) -> None:
    """A case that does its own connecting."""
    assert name not in CASES, name
    CASES[name] = list(steps)


def connect(peer: str = "a", version: str = "1.2", **headers: Any) -> Step:
    return [peer, "connect", {"accept-version": version, **headers}]


def case(name: str, *steps: Step, version: str = "1.2") -> None:
    """A case with one client, logged in."""
    bare(name, connect(version=version), *steps)


def each_version(name: str, *steps: Step) -> None:
    for version in VERSIONS:
        case(f"{name} {version}", *steps, version=version)


def do(command: str, headers: Any = (), body: str | None = None, *, peer: str = "a") -> Step:
    headers = dict(headers) if isinstance(headers, dict) else list(headers)
    return [peer, command, headers] + ([] if body is None else [body])


def send(destination: str = Q, body: str = "m", *, peer: str = "a", **headers: Any) -> Step:
    named = {name.replace("_", "-"): item for name, item in headers.items()}
    return do("SEND", {"destination": destination, **named}, body, peer=peer)


def subscribe(destination: str = Q, id: str | None = "1", *, peer: str = "a", **more: Any) -> Step:
    named = {name.replace("_", "-"): item for name, item in more.items()}
    headers: dict[str, Any] = {"destination": destination, **named}
    if id is not None:
        headers["id"] = id
    return do("SUBSCRIBE", headers, peer=peer)


def unsubscribe(id: str = "1", **headers: Any) -> Step:
    return do("UNSUBSCRIBE", {"id": id, **headers})


def ack(delivery: str = "#1", command: str = "ACK", *, key: str = "id", **headers: Any) -> Step:
    return do(command, {key: delivery, **headers})


def nack(delivery: str = "#1", **headers: Any) -> Step:
    return ack(delivery, "NACK", **headers)


def raw(text: str, peer: str = "a") -> Step:
    return [peer, "raw", text]


def amqp(method: str, fields: dict[str, Any], *content: Any) -> Step:
    return ["amqp", method, fields, *content]


def declared(queue: str = "@q", **arguments: Any) -> Step:
    named = {"x-" + name.replace("_", "-"): item for name, item in arguments.items()}
    return amqp("queue.declare", {"queue": queue, "durable": True, "arguments": named})


def count(queue: str = "@q") -> Step:
    return amqp("queue.declare", {"queue": queue, "passive": True})


def get(queue: str = "@q") -> Step:
    return amqp("basic.get", {"queue": queue, "no_ack": True})


# Connecting.

for version in (*VERSIONS, "1.0,1.1", "1.1,1.2", "1.2,1.1,1.0", "1.0,9.9"):
    case(f"connect {version}", version=version)
bare("connect without version", ["a", "connect"])
for version in ("", "9.9", "1.3", "one", "1.0.0", "1.2;1.1"):
    case(f"connect version '{version}'", version=version)
bare(
    "connect as STOMP",
    raw("STOMP\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0"),
)
bare("connect with line ends before", raw("\n\n\nCONNECT\nlogin:guest\npasscode:guest\n\n\0"))
bare("connect with carriage returns", raw("CONNECT\r\nlogin:guest\r\npasscode:guest\r\n\r\n\0"))
bare("connect with body", raw("CONNECT\nlogin:guest\npasscode:guest\n\nbody\0"))
case("connect host /", version="1.2")
bare("connect to a host that is none", connect(host="@none"))
bare("connect to an empty host", connect(host=""))
bare("connect 1.0 to a host that is none", connect(version="1.0", host="@none"))
bare("connect with wrong passcode", connect(passcode="wrong"))
bare("connect as nobody", connect(login="@nobody"))
bare("connect without login", connect(login=None, passcode=None))
bare("connect without passcode", connect(passcode=None))
bare("connect with an escaped passcode", connect(passcode="gu\\est"))
for pair in ("0,0", "10000,0", "0,10000", "5000,7000", "60000,60000"):
    bare(f"connect heart-beat {pair}", connect(**{"heart-beat": pair}))
for pair in ("", "1", "a,b", "-1,0"):
    bare(f"connect heart-beat bad '{pair}'", connect(**{"heart-beat": pair}))
case("connect twice", do("CONNECT", {"login": "guest", "passcode": "guest"}))
for command in ("SEND", "SUBSCRIBE", "ACK", "BEGIN", "DISCONNECT", "NONSENSE"):
    bare(f"{command} before CONNECT", raw(f"{command}\nreceipt:1\n\n\0"))
each_version("disconnect with receipt", do("DISCONNECT", {"receipt": "bye"}))
case("disconnect without receipt", do("DISCONNECT"))
for command in ("NONSENSE", "MESSAGE", "RECEIPT", "ERROR", "CONNECTED"):
    case(f"command {command}", do(command))

# Sending and subscribing.

each_version(
    "send and subscribe",
    subscribe(receipt="s"),
    send(receipt="r"),
    send(body="", receipt="empty"),
    unsubscribe(receipt="u"),
    send(receipt="late"),
    count(),
)
each_version("subscribe takes what is there", send(), send(body="n"), subscribe())
case("subscribe without id 1.0", subscribe(id=None), send(), version="1.0")
case(
    "subscribe without id 1.0 and unsubscribe",
    subscribe(id=None),
    do("UNSUBSCRIBE", {"destination": Q, "receipt": "u"}),
    version="1.0",
)
case("subscribe without id 1.1", subscribe(id=None), version="1.1")
case("subscribe without id 1.2", subscribe(id=None))
case("subscribe without destination", do("SUBSCRIBE", {"id": "1"}))
case("subscribe twice with an id", subscribe(), subscribe("/queue/@other"))
case("subscribe twice without an id 1.0", subscribe(id=None), subscribe(id=None), version="1.0")
case(
    "subscribe again after unsubscribe",
    subscribe(),
    unsubscribe(),
    subscribe(receipt="s"),
    send(),
)
case("two subscriptions take turns", subscribe(), subscribe(id="2"), send(body="1"), send(body="2"))
case("subscribe ack mode unknown", subscribe(ack="never"))
case("subscribe prefetch-count bad", subscribe(**{"prefetch-count": "x"}))
case("unsubscribe unknown", unsubscribe("9"))
case("unsubscribe without id", do("UNSUBSCRIBE", {"receipt": "u"}))
case("unsubscribe by destination 1.2", subscribe(), do("UNSUBSCRIBE", {"destination": Q}))
case("send without destination", do("SEND", {"receipt": "r"}))
case("send with message-id", send(message_id="1"))
case("receipt with strange characters", send(receipt="a:b\\c\nd\re ü"), subscribe())

for name in (
    "/queue/",
    "/queue",
    "/queue/a/b",
    "/topic/",
    "/topic/a/b",
    "/exchange/",
    "/exchange//k",
    "/exchange/amq.direct/a/b",
    "/amq/queue/",
    "/amq/queue/a/b",
    "/amq/topic/a",
    "/something/x",
    "/",
    "/temp-queue/x",
    "/reply-queue/",
):
    case(f"send to {name}", send(name))
    case(f"subscribe to {name}", subscribe(name))
case("send to amq/queue that is none", send("/amq/queue/@none", receipt="r"))
case("subscribe to amq/queue that is none", subscribe("/amq/queue/@none"))
case("send to amq/queue", declared(), send("/amq/queue/@q", receipt="r"), get())
case("subscribe to amq/queue", declared(), subscribe("/amq/queue/@q"), send())
case("send to an exchange that is none", send("/exchange/@none/k"))
case("subscribe to an exchange that is none", subscribe("/exchange/@none/k"))
case("send to an internal name", send("/queue/amq.mine"))
case("subscribe to an internal name", subscribe("/queue/amq.mine"))
case(
    "send to an internal exchange",
    amqp("exchange.declare", {"exchange": "@x", "type": "fanout", "internal": True}),
    send("/exchange/@x/k"),
    amqp("exchange.delete", {"exchange": "@x"}),
)
case("bare name", subscribe("@q"), send("@q"))
case("queue and bare name are one", subscribe("@q"), send(Q))
case("percent codes", subscribe("/queue/@a%2Fb"), send("/queue/@a%2Fb"), count("@a/b"))
case("space and unicode in names", subscribe("/queue/@ ü"), send("/queue/@ ü"))
case("colon in a name", subscribe("/queue/@a:b"), send("/queue/@a:b"))
case("topic", subscribe("/topic/@a.*"), send("/topic/@a.b"), send("/topic/@b.b"))
case("topic hash", subscribe("/topic/@a.#"), send("/topic/@a"), send("/topic/@a.b.c"))
case(
    "topic to each",
    subscribe("/topic/@t"),
    subscribe("/topic/@t", id="2"),
    send("/topic/@t"),
)
case("topic with nobody", send("/topic/@t", receipt="r"))
for exchange in ("amq.direct", "amq.topic", "amq.fanout"):
    key = "/@k" if exchange != "amq.fanout" else ""
    case(
        f"exchange {exchange}",
        subscribe(f"/exchange/{exchange}{key}"),
        send(f"/exchange/{exchange}{key}"),
        send(f"/exchange/{exchange}/@other"),
    )
case("exchange without key", subscribe("/exchange/amq.direct"), send("/exchange/amq.direct"))
case("exchange amq.headers", subscribe("/exchange/amq.headers"), send("/exchange/amq.headers"))
case("content-type of a message", subscribe(), send(content_type="text/plain;charset=utf-8"))
each_version("body unicode", subscribe(), send(body="grüße €"))
each_version("body with NUL", subscribe(), send(body="a\0b"))
each_version("body of line ends", subscribe(), send(body="\n\r\n"))
case(
    "content-length with spare line ends",
    raw(f"SEND\ndestination:{Q}\ncontent-length:1\nreceipt:r\n\nx\0\n\n\n"),
    subscribe(),
)

# Acknowledging.

TWO = (send(body="1"), send(body="2"), send(body="3"))
for version in VERSIONS:
    key = "id" if version == "1.2" else "message-id"
    more = {"subscription": "1"} if version == "1.1" else {}
    for mode in ("client", "client-individual"):
        case(
            f"ack {mode} {version}",
            subscribe(ack=mode),
            *TWO,
            ack("#2", key=key, receipt="k", **more),
            unsubscribe(),
            count(),
            version=version,
        )
        case(
            f"nack {mode} {version}",
            subscribe(ack=mode, **{"prefetch-count": 3}),
            *TWO,
            ack("#1", "NACK", key=key, receipt="k", **more),
            version=version,
        )
case("ack in mode auto", subscribe(), send(), ack(receipt="k"))
case("ack twice", subscribe(ack="client"), send(), ack(receipt="k"), ack())
case("nack after ack", subscribe(ack="client-individual"), send(), ack(), nack())
case("ack of what never was", subscribe(ack="client"), ack("T_1@@session-x@@1"))
case("ack without subscription", ack("T_9@@session-x@@1"))
for bad in ("", "1", "nonsense", "T_1@@x", "a@@b@@c"):
    case(f"ack bad id '{bad}'", subscribe(ack="client"), send(), ack(bad))
    case(f"nack bad id '{bad}'", subscribe(ack="client"), send(), nack(bad))
case("ack without id", subscribe(ack="client"), send(), do("ACK", {"receipt": "k"}))
case("ack by message-id 1.2", subscribe(ack="client"), send(), ack(key="message-id"))
case("ack by id 1.1", subscribe(ack="client"), send(), ack(key="id"), version="1.1")
case(
    "nack to dead letters",
    declared("@dead"),
    declared(dead_letter_exchange="", dead_letter_routing_key="@dead"),
    subscribe("/amq/queue/@q", ack="client"),
    send("/amq/queue/@q"),
    nack(requeue="false"),
    count("@dead"),
    subscribe("/amq/queue/@dead", id="2"),
)
case("nack requeue bad", subscribe(ack="client"), send(), nack(requeue="maybe"))
case(
    "unacknowledged go back at disconnect",
    subscribe(ack="client"),
    send(),
    do("DISCONNECT", {"receipt": "bye"}),
    connect("b"),
    subscribe(peer="b"),
)
case(
    "unacknowledged go back at hang-up",
    subscribe(ack="client"),
    send(),
    do("hang-up"),
    connect("b"),
    subscribe(peer="b"),
)
case(
    "prefetch-count",
    subscribe(ack="client-individual", **{"prefetch-count": 2}),
    *TWO,
    ack("#1", receipt="k"),
    nack("#2"),
)
case(
    "prefetch-count cumulative",
    subscribe(ack="client", **{"prefetch-count": 2}),
    *TWO,
    ack("#2"),
)

# Transactions.

BEGIN = do("BEGIN", {"transaction": "t", "receipt": "b"})
COMMIT = do("COMMIT", {"transaction": "t", "receipt": "c"})
ABORT = do("ABORT", {"transaction": "t", "receipt": "a"})
each_version("transaction commit", subscribe(), BEGIN, send(transaction="t"), COMMIT)
each_version("transaction abort", subscribe(), BEGIN, send(transaction="t"), ABORT, send(body="n"))
case(
    "transaction ack commit",
    subscribe(ack="client"),
    send(),
    BEGIN,
    ack(transaction="t"),
    COMMIT,
    unsubscribe(),
    count(),
)
case(
    "transaction ack abort",
    subscribe(ack="client"),
    send(),
    BEGIN,
    ack(transaction="t"),
    ABORT,
    ack(receipt="k"),
)
case("transaction and receipt", BEGIN, send(transaction="t", receipt="in"), COMMIT, count())
case(
    "two transactions",
    subscribe(),
    BEGIN,
    do("BEGIN", {"transaction": "u"}),
    send(body="t", transaction="t"),
    send(body="u", transaction="u"),
    do("ABORT", {"transaction": "t"}),
    do("COMMIT", {"transaction": "u"}),
)
case(
    "transaction lost with the connection",
    BEGIN,
    send(transaction="t"),
    do("hang-up"),
    connect("b"),
    subscribe(peer="b"),
)
for command in ("COMMIT", "ABORT"):
    case(f"{command} unknown", do(command, {"transaction": "none", "receipt": "r"}))
    case(
        f"{command} twice",
        BEGIN,
        do(command, {"transaction": "t"}),
        do(command, {"transaction": "t"}),
    )
for command in ("BEGIN", "COMMIT", "ABORT"):
    case(f"{command} without transaction", do(command, {"receipt": "r"}))
case("BEGIN twice", BEGIN, BEGIN)
case("send in unknown transaction", send(transaction="none"))
case("ack in unknown transaction", subscribe(ack="client"), send(), ack(transaction="none"))
# The round trip behind each step is one as well.
case("15 transactions", *(do("BEGIN", {"transaction": f"t{n}"}) for n in range(15)))
case("16 transactions", *(do("BEGIN", {"transaction": f"t{n}"}) for n in range(16)))

# Headers and properties.

PROPERTIES = {
    "persistent": "true",
    "amqp-message-id": "mid",
    "content-type": "text/x",
    "content-encoding": "identity",
    "correlation-id": "cor",
    "expiration": "60000",
    "priority": "3",
    "timestamp": "1700000000",
    "type": "kind",
    "user-id": "guest",
    "app-id": "app",
    "own": "header",
}
each_version(
    "properties there and back", subscribe(), do("SEND", {"destination": Q, **PROPERTIES}, "m")
)
case(
    "properties to AMQP",
    declared(),
    do("SEND", {"destination": "/amq/queue/@q", **PROPERTIES}, "m"),
    get(),
)
AMQP_PROPERTIES = {
    "content_type": "text/x",
    "content_encoding": "identity",
    "delivery_mode": 2,
    "priority": 3,
    "correlation_id": "cor",
    "expiration": "60000",
    "message_id": "mid",
    "timestamp": 1700000000,
    "type": "kind",
    "user_id": "guest",
    "app_id": "app",
    "headers": {"text": "grüße", "number": 5, "true": True, "negative": -7, "empty": ""},
}
for version in VERSIONS:
    case(
        f"properties from AMQP {version}",
        subscribe(),
        amqp("basic.publish", {"routing_key": "@q"}, AMQP_PROPERTIES, "m"),
        version=version,
    )
case("bare AMQP message", subscribe(), amqp("basic.publish", {"routing_key": "@q"}, {}, "m"))
case(
    "delivery mode 1",
    subscribe(),
    amqp("basic.publish", {"routing_key": "@q"}, {"delivery_mode": 1}, "m"),
)
case(
    "float in AMQP headers",
    subscribe(),
    amqp("basic.publish", {"routing_key": "@q"}, {"headers": {"f": 0.5}}, "m"),
)
case(
    "AMQP exchange and key",
    declared(),
    subscribe("/exchange/amq.direct/@k"),
    amqp("basic.publish", {"exchange": "amq.direct", "routing_key": "@k"}, {}, "m"),
)
case(
    "reply-to from AMQP",
    subscribe(),
    amqp("basic.publish", {"routing_key": "@q"}, {"reply_to": "@r"}, "m"),
)
for header in ("priority", "timestamp"):
    case(f"{header} bad", do("SEND", {"destination": Q, header: "x"}, "m"))
case("priority 256", send(priority="256"))
case("persistent false", declared(), send("/amq/queue/@q", persistent="false"), get())
case("expiration bad", send(expiration="x"))
case("user-id of another", send(user_id="@other"))
each_version(
    "headers with escapes",
    subscribe(),
    do("SEND", {"destination": Q, "a": "x:y", "b": "back\\slash"}, "m"),
)
for version in ("1.1", "1.2"):
    case(
        f"headers with line feeds {version}",
        subscribe(),
        do("SEND", {"destination": Q, "a:b": "x\ny", "c\\d": "\n"}, "m"),
        version=version,
    )
case(
    "header with carriage return 1.2", subscribe(), do("SEND", {"destination": Q, "a": "x\ry"}, "m")
)
case("repeated header", subscribe(), do("SEND", [("destination", Q), ("a", "1"), ("a", "2")], "m"))
case("empty header", subscribe(), do("SEND", {"destination": Q, "a": ""}, "m"))
case("header with spaces", subscribe(), do("SEND", {"destination": Q, " a ": " b "}, "m"))
case(
    "header with colons 1.0",
    subscribe(),
    raw(f"SEND\ndestination:{Q}\na:b:c\n\nm\0"),
    version="1.0",
)
case("undefined escape 1.2", raw(f"SEND\ndestination:{Q}\na:b\\tc\n\nm\0"))
case("undefined escape 1.1", raw(f"SEND\ndestination:{Q}\na:b\\rc\n\nm\0"), version="1.1")
case("backslash 1.0", subscribe(), raw(f"SEND\ndestination:{Q}\na:b\\tc\n\nm\0"), version="1.0")
case("header without colon", raw(f"SEND\ndestination:{Q}\nnonsense\n\nm\0"))
for length in ("-1", "x", "", "1.0", "99999999999999999999"):
    case(
        f"content-length '{length}'", raw(f"SEND\ndestination:{Q}\ncontent-length:{length}\n\nm\0")
    )
case("content-length too small", raw(f"SEND\ndestination:{Q}\ncontent-length:1\n\nxyz\0"))

# Queues behind subscriptions.

case(
    "x-queue-name",
    subscribe("/exchange/amq.direct/@k", **{"x-queue-name": "@named"}),
    send("/exchange/amq.direct/@k"),
    count("@named"),
)
case(
    "queue arguments",
    do(
        "SUBSCRIBE",
        {"destination": Q, "id": "1", "x-max-length": "1", "ack": "client", "prefetch-count": "1"},
    ),
    *TWO,
    count(),
)
case(
    "queue arguments in SEND",
    do("SEND", {"destination": Q, "x-message-ttl": "60000"}, "m"),
    declared(message_ttl=60000),
    get(),
)
case(
    "queue arguments that differ",
    declared(),
    do("SUBSCRIBE", {"destination": Q, "id": "1", "x-max-length": "1"}),
)
case(
    "queue arguments of another connection",
    subscribe(**{"x-max-length": "1"}),
    connect("b"),
    send(peer="b"),
)
case(
    "queue arguments change within a connection",
    send(**{"x-max-length": "1"}),
    subscribe(),
    subscribe(id="2", **{"x-max-length": "2"}),
)
case(
    "x-queue-name shared by two",
    subscribe("/topic/@t", **{"x-queue-name": "@named"}),
    connect("b"),
    subscribe("/topic/@t", peer="b", **{"x-queue-name": "@named"}),
    send("/topic/@t", body="1"),
    send("/topic/@t", body="2"),
)
case("queue argument bad", do("SUBSCRIBE", {"destination": Q, "id": "1", "x-message-ttl": "-1"}))
case("queue auto-delete", subscribe(**{"auto-delete": "true"}), unsubscribe(), count())
case("queue not durable", amqp("queue.declare", {"queue": "@q"}), subscribe())
case("exclusive queue of another", subscribe(exclusive="true"), connect("b"), subscribe(peer="b"))
DURABLE = {"durable": "true", "auto-delete": "false"}
case(
    "durable topic subscription",
    subscribe("/topic/@t", **DURABLE),
    do("DISCONNECT", {"receipt": "bye"}),
    connect("b"),
    send("/topic/@t", peer="b", receipt="r"),
    subscribe("/topic/@t", peer="b", **DURABLE),
    ["b", "UNSUBSCRIBE", {"id": "1", "durable": "true", "receipt": "u"}],
)
case(
    "durable topic subscription without id 1.0",
    subscribe("/topic/@t", id=None, **DURABLE),
    version="1.0",
)
case(
    "durable topic subscription unsubscribed and kept",
    subscribe("/topic/@t", **DURABLE),
    unsubscribe(receipt="u"),
    send("/topic/@t"),
    subscribe("/topic/@t", **DURABLE),
    unsubscribe(durable="true"),
)
case(
    "subscription dies with its queue",
    declared(),
    subscribe("/amq/queue/@q"),
    amqp("queue.delete", {"queue": "@q"}),
)
case(
    "x-priority", subscribe(**{"x-priority": "1"}), subscribe(id="2", **{"x-priority": "5"}), send()
)
case(
    "temporary queue",
    subscribe(),
    send(reply_to="/temp-queue/foo"),
    send("$reply-to", body="answer"),
    send(reply_to="/temp-queue/foo", body="again"),
)
case(
    "temporary queue asked by another",
    connect("b"),
    subscribe(peer="b"),
    send(reply_to="/temp-queue/foo"),
    send("$reply-to", body="answer", peer="b"),
)
case("reply-to that is a destination", subscribe(), send(reply_to="/queue/@r"))
