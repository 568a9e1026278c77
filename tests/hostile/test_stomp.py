"""Bytes that are not STOMP, or are too much of it, before and after the login; and clients that
take without giving.

Each attack is one that hit a broker before. Beside all of them a client of STOMP goes on with its
round trips.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from hostile.bystander import StompBystander
from hostile.conftest import CONNECTIONS_PER_USER_MAX, HANDSHAKE_SECONDS, MESSAGE_BYTES_MAX
from hostile.test_resources import (
    GROWTH_BYTES_MAX,
    SILENT_PEERS,
    descriptors,
    give_back_descriptors,
    resident_bytes,
)
from wire import peer as amqp
from wire.peer import Silence
from wire.stomp import Frame, StompPeer, connect, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostile.bystander import Bystander
    from wire.brokers import Broker

HEAD = b"SEND\ndestination:/queue/hostile\n"

TRANSACTIONS_MAX, ACTIONS_MAX = 16, 1024

ATTACKS: dict[str, tuple[bytes, str]] = {
    "command without end": (b"S" * 1000, "command of more than 32 bytes"),
    "command of small letters": (b"send\n\n\0", "must begin with a command"),
    "command empty behind a space": (b" \n\n\0", "must begin with a command"),
    "header without end": (HEAD + b"a:" + b"x" * 200_000, "header of more than"),
    "header name without end": (HEAD + b"x" * 200_000, "header of more than"),
    "100,000 headers": (HEAD + b"a:b\n" * 100_000, "more than 100 headers"),
    "headers of 6 MiB": (HEAD + (b"a:" + b"x" * 90_000 + b"\n") * 70, "command and headers of"),
    "header without colon": (HEAD + b"nonsense\n\n\0", "a name, a colon and a value"),
    "header without name": (HEAD + b":value\n\n\0", "a name, a colon and a value"),
    "header with NUL": (HEAD + b"a:b\0c\n\n\0", "a name, a colon and a value"),
    "header with carriage return": (HEAD + b"a:b\rc:d\n\n\0", "a name, a colon and a value"),
    "header not UTF-8": (HEAD + b"a:\xff\xfe\n\n\0", "must be UTF-8"),
    "escape undefined": (HEAD + b"a:\\t\n\n\0", "undefined escape"),
    "escape unfinished": (HEAD + b"a:b\\\n\n\0", "undefined escape"),
    "content-length too small": (HEAD + b"content-length:1\n\nabc\0", "where content-length says"),
    "content-length above the limit": (
        HEAD + b"content-length:%d\n\n" % (MESSAGE_BYTES_MAX + 1),
        "body of more than",
    ),
    "content-length of 2^64": (HEAD + b"content-length:%d\n\n" % 2**64, "body of more than"),
    "content-length of 1,000 digits": (
        HEAD + b"content-length:" + b"9" * 1000 + b"\n\n",
        "body of more than",
    ),
    **{
        f"content-length {text!r}": (
            HEAD + b"content-length:" + text.encode() + b"\n\nx\0",
            "content-length must be a number",
        )
        for text in ("-1", "", " 1", "1 ", "+1", "0x1", "1e0", "1.0", "one", "１")
    },
    "body without end": (HEAD + b"\n" + b"x" * (MESSAGE_BYTES_MAX + 100), "body of more than"),
    "garbage": (bytes(range(1, 256)) * 64, "must begin with a command"),
    "a browser's greeting": (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "must begin with a command"),
    "AMQP's greeting": (b"AMQP\x00\x00\x09\x01", "must begin with a command"),
    "a greeting of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""),
}
"""Name -> bytes, and what the error must say."""


@pytest.fixture(autouse=True)
def bystander(
    broker: Broker, record_property: pytest.RecordProperty
) -> Iterator[Bystander]:  # in the place of AMQP's
    with StompBystander(broker) as beside:
        yield beside
    record_property("bystander_p99_ms", round(beside.p99 * 1000, 2))
    record_property("bystander_median_ms", round(beside.median * 1000, 2))


def stomp(broker: Broker, version: str = "1.2") -> StompPeer:
    return connect(broker.host, broker.stomp_port, version)


def last_words(peer: StompPeer) -> Frame:
    """The ERROR, or the end of the socket if nothing is said; behind an ERROR comes the end."""
    frame = peer.until("ERROR", "eof")
    if frame.command == "ERROR":
        assert peer.until("eof").body == b""
    return frame


@pytest.mark.parametrize("name", ATTACKS)
def test_after_login(name: str, broker: Broker) -> None:
    data, part = ATTACKS[name]
    with stomp(broker) as peer:
        peer.raw(data)
        if not part:
            peer.raw(b"\n\n\0" * 20)
        frame = last_words(peer)
        assert frame.command == "ERROR", "closed without a word"
        assert frame.headers["message"] == "Malformed frame"
        assert part in frame.text


@pytest.mark.parametrize("name", ATTACKS)
def test_before_login(name: str, broker: Broker) -> None:
    """Nothing of it is worth more than an error, and it must end at once."""
    data, _ = ATTACKS[name]
    with StompPeer(broker.host, broker.stomp_port) as peer:
        started = time.monotonic()
        peer.raw(data)
        frame = last_words(peer)
        # An unfinished greeting waits for the rest as long as a handshake may take.
        assert frame.command in ("ERROR", "eof")
        assert time.monotonic() - started < HANDSHAKE_SECONDS + 5


def test_limits_are_lower_before_login(broker: Broker) -> None:
    for data, part in (
        (b"CONNECT\n" + b"a:%s\n" % (b"x" * 60_000) * 2, "command and headers of more than 65536"),
        (b"CONNECT\ncontent-length:65537\n\n", "body of more than 65536"),
        (b"CONNECT\n\n" + b"x" * 70_000, "body of more than 65536"),
        (b"CONNECT\nlogin:guest\n" + b"a:b\n" * 100 + b"\n\0", "more than 100 headers"),
    ):
        with StompPeer(broker.host, broker.stomp_port) as peer:
            peer.raw(data)
            assert part in last_words(peer).text


def test_nothing_is_kept_of_who_has_not_logged_in(broker: Broker) -> None:
    """Many frames that are nearly as large as they may be, and never end."""
    before = resident_bytes(broker)
    peers = [StompPeer(broker.host, broker.stomp_port) for _ in range(100)]
    for peer in peers:
        peer.raw(b"CONNECT\na:" + b"x" * 60_000)
    assert resident_bytes(broker) - before < 100 * (64 << 10) * 3 + (8 << 20)
    for peer in peers:
        assert peer.read(HANDSHAKE_SECONDS + 10).command in ("ERROR", "eof")
        peer.close()


def test_silent_peers_are_dropped(broker: Broker) -> None:
    peers = [StompPeer(broker.host, broker.stomp_port) for _ in range(SILENT_PEERS)]
    for number, peer in enumerate(peers):
        peer.raw([b"", b"\n", b"CONN", b"CONNECT\nlogin:gu"][number % 4])
    started = time.monotonic()
    for peer in peers:
        assert peer.until("eof", "ERROR").command in ("eof", "ERROR")
        peer.close()
    assert time.monotonic() - started < HANDSHAKE_SECONDS + 10


@pytest.mark.parametrize("greeting", [b"\n" * 1000, encode("CONNECT", {"login": "guest" * 20})])
def test_peer_that_drips_its_handshake_is_dropped(greeting: bytes, broker: Broker) -> None:
    """The limit is for the whole handshake: neither a byte now and then nor line ends renew it."""
    with StompPeer(broker.host, broker.stomp_port) as peer:
        started = time.monotonic()
        for at in range(len(greeting) - 1):
            peer.raw(greeting[at : at + 1])
            with contextlib.suppress(Silence):
                if peer.read(0.1).command in ("eof", "ERROR"):  # the attack's pace
                    break
            assert time.monotonic() - started < HANDSHAKE_SECONDS + 5, "it got all the time"
        else:
            raise AssertionError("it came to the end")


def test_frames_before_login_do_nothing(broker: Broker) -> None:
    with StompPeer(broker.host, broker.stomp_port) as peer:
        peer.raw(
            encode("SEND", {"destination": "/queue/before", "receipt": "1"}, b"m")
            + encode("CONNECT", {"login": "guest", "passcode": "guest"})
        )
        frame = last_words(peer)
        assert (frame.headers["message"], peer.ended) == ("Illegal command", True)
    with stomp(broker) as peer:
        assert (
            peer.call("SUBSCRIBE", {"id": "1", "destination": "/amq/queue/before"}).headers[
                "message"
            ]
            == "not_found"
        )


def test_logins_are_answered_once(broker: Broker) -> None:
    """What stands behind a wrong CONNECT is not worked off, and no password is shown."""
    with StompPeer(broker.host, broker.stomp_port) as peer:
        wrong = {"login": "guest", "passcode": "not-the-secret"}
        right = {"login": "guest", "passcode": "guest"}
        peer.raw(encode("CONNECT", wrong) + encode("CONNECT", right))
        frame = last_words(peer)
        assert frame.headers["message"] == "Bad CONNECT"
        assert "not-the-secret" not in frame.text + str(frame.pairs)
    assert "not-the-secret" not in broker.log()


def test_who_does_not_wait_for_the_login_is_served(broker: Broker) -> None:
    """Frames that come with CONNECT wait, however many they are."""
    with StompPeer(broker.host, broker.stomp_port) as peer:
        login = {"accept-version": "1.2", "login": "guest", "passcode": "guest"}
        one = encode("SEND", {"destination": "/topic/nobody"}, bytes(1000), version="1.2")
        last = encode("SEND", {"destination": "/topic/nobody", "receipt": "last"}, version="1.2")
        peer.raw(encode("CONNECT", login) + one * 900 + last)
        assert peer.read().command == "CONNECTED"
        assert peer.read().headers["receipt-id"] == "last"


def test_connections_of_a_user_are_limited(broker: Broker) -> None:
    peers = [StompPeer(broker.host, broker.stomp_port) for _ in range(CONNECTIONS_PER_USER_MAX + 5)]
    answers = [peer.connect() for peer in peers]
    refused = [answer for answer in answers if answer.command != "CONNECTED"]
    # The bystander holds one.
    assert len(refused) == 6
    assert all(answer.headers["message"] == "Bad CONNECT" for answer in refused)
    for peer in peers:
        peer.close()


def test_heart_beats_are_as_often_as_the_server_likes(broker: Broker) -> None:
    with StompPeer(broker.host, broker.stomp_port) as peer:
        answer = peer.connect(heart_beat="1,1")
        assert answer.headers["heart-beat"] == "2000,2000"


# Frames in frames.


def test_body_that_looks_like_a_frame(broker: Broker) -> None:
    """NUL without a length ends the frame, as the specification says; with one it is the body."""
    inner = encode("SEND", {"destination": "/queue/inner", "receipt": "inner"}, b"x")
    outer = {"destination": "/topic/outer"}
    with stomp(broker) as peer, stomp(broker) as reader:
        reader.call("SUBSCRIBE", {"id": "1", **outer})
        peer.send("SEND", outer, inner + b"tail")
        assert reader.read().body == inner + b"tail"
        peer.raw(encode("SEND", {**outer, "content-length": 2}, b"ab\0tail"))
        assert reader.read().body == b"ab"
        # What stood behind it is the next frame, and no part of the first.
        assert last_words(peer).headers["message"] == "Malformed frame"


def test_first_of_two_lengths_counts(broker: Broker) -> None:
    with stomp(broker) as peer:
        peer.call("SUBSCRIBE", {"id": "1", "destination": "/topic/twice"})
        lengths = [("content-length", 3), ("content-length", 1)]
        peer.send("SEND", [("destination", "/topic/twice"), *lengths], b"a\0b")
        message = peer.until("MESSAGE", "ERROR")
        assert message.body == b"a\0b"
        assert [name for name, _ in message.pairs].count("content-length") == 1


NASTY = "x\ninjected:yes\n\nbody\0MESSAGE\r\ninjected:yes\r\nredelivered:true"


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("sender", ["1.1", "1.2", "amqp"])
def test_headers_inject_nothing(sender: str, version: str, broker: Broker) -> None:
    """Whoever publishes cannot have a line, let alone a frame, written to who subscribes."""
    topic = f"injection-{sender}-{version}"
    values = [NASTY, NASTY.replace("\0", ""), "a\nb", "a\rb", "a:b", "\\n", "\r\n\r\n"]
    if sender == "1.1":
        values = [value.replace("\r", "") for value in values]
    with stomp(broker, version) as victim:
        victim.call("SUBSCRIBE", {"id": "1", "destination": f"/topic/{topic}"})
        if sender == "amqp":
            with amqp.connect(broker.host, broker.port) as attacker:
                attacker.open_channel(1)
                for value in values:
                    table = {"h": value, value: "name", "message-id": "forged", "ack": "forged"}
                    table = {name: item for name, item in table.items() if len(name) < 256}
                    properties = {"headers": table, "correlation_id": value[:200], "type": value}
                    attacker.publish(1, "amq.topic", topic, b"m", properties)
                attacker.publish(1, "amq.topic", topic, b"last")
                assert attacker.call(1, "basic.qos").name == "basic.qos-ok"
        else:
            with stomp(broker, sender) as attacker:
                for value in values:
                    clean = value.replace("\0", "")
                    headers = {"destination": f"/topic/{topic}", "h": clean, clean: "name"}
                    assert attacker.call("SEND", headers, b"m").command == "RECEIPT"
                attacker.call("SEND", {"destination": f"/topic/{topic}"}, b"last")
        count = 0
        while (frame := victim.until("MESSAGE", "RECEIPT", "ERROR")).body != b"last":
            assert (frame.command, frame.body) == ("MESSAGE", b"m"), frame
            names = [name for name, _ in frame.pairs]
            assert "injected" not in names
            assert names.count("message-id") == names.count("subscription") == 1
            assert frame.headers["message-id"] != "forged"
            count += 1
        assert count == len(values)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_errors_and_receipts_inject_nothing(version: str, broker: Broker) -> None:
    """What a peer sent comes back to it in words, and as nothing else."""
    nasty = NASTY.replace("\0", "").replace("\r", "") if version != "1.0" else "x:injected:yes\\n"
    for command, headers in (
        ("SEND", {"destination": f"/{nasty}"}),
        ("SEND", {"destination": f"/amq/queue/{nasty}", "receipt": nasty}),
        ("SUBSCRIBE", {"id": nasty, "destination": f"/exchange/{nasty}"}),
        ("SUBSCRIBE", {"id": nasty, "destination": "/queue/x", "ack": nasty}),
        ("UNSUBSCRIBE", {"id": nasty}),
        ("BEGIN", {"transaction": nasty, "receipt": nasty}),
        ("COMMIT", {"transaction": nasty, "receipt": nasty}),
        ("ACK", {"id": f"{nasty}@@{nasty}@@1", "message-id": f"{nasty}@@x@@1"}),
        ("DISCONNECT", {"receipt": nasty}),
    ):
        with stomp(broker, version) as peer:
            peer.send(command, headers)
            if command in ("SEND", "BEGIN") and "receipt" in headers:
                receipt = peer.read()
                assert (receipt.command, receipt.headers["receipt-id"]) == ("RECEIPT", nasty)
                continue
            frame = peer.read()
            assert frame.command in ("ERROR", "RECEIPT"), frame
            assert "injected" not in frame.headers
            assert peer.read().command == "eof"
    with StompPeer(broker.host, broker.stomp_port) as peer:
        frame = peer.connect(version, login="guest\\ninjected:yes", host="a\\nb:c")
        assert (frame.command, frame.headers["message"]) == ("ERROR", "Bad CONNECT")
        assert "injected" not in frame.headers


# Ids, acknowledgements, transactions.


def test_ids_used_again(broker: Broker) -> None:
    with stomp(broker) as peer:
        subscribed = {"id": "1", "destination": "/queue/again", "ack": "client-individual"}
        names = set()
        for _ in range(50):
            assert peer.call("SUBSCRIBE", subscribed).command == "RECEIPT"
            peer.send("SEND", {"destination": "/queue/again"}, b"m")
            names.add(name := peer.until("MESSAGE").headers["ack"])
            assert peer.call("UNSUBSCRIBE", {"id": "1"}).command == "RECEIPT"
            assert peer.call("ACK", {"id": name}).command == "RECEIPT"
        assert len(names) == 50, "a delivery's name came twice"
        assert peer.call("SUBSCRIBE", subscribed).command == "RECEIPT"
        assert (
            peer.call("SUBSCRIBE", subscribed).headers["message"]
            == "Duplicated subscription identifier"
        )


@pytest.mark.parametrize("command", ["ACK", "NACK"])
@pytest.mark.parametrize("which", ["twice", "never", "another's", "another session's", "huge"])
def test_acknowledgements_that_match_nothing(command: str, which: str, broker: Broker) -> None:
    queue = f"/queue/unmatched-{command}-{which.replace(' ', '-')}"
    with stomp(broker) as peer, stomp(broker) as other:
        subscribed = {"id": "1", "destination": queue, "ack": "client", "auto-delete": "true"}
        peer.call("SUBSCRIBE", subscribed)
        peer.call("SEND", {"destination": queue, "auto-delete": "true"}, b"m")
        name = peer.until("MESSAGE").headers["ack"] if not peer.ended else ""
        head, session, _ = name.split("@@")
        guess = {
            "twice": name,
            "never": f"{head}@@{session}@@2",
            "another's": f"T_2@@{session}@@1",
            "another session's": name,
            "huge": f"{head}@@{session}@@{2**64 - 1}",
        }[which]
        guilty = other if which == "another session's" else peer
        if which == "twice":
            assert peer.call("ACK", {"id": name}).command == "RECEIPT"
        frame = guilty.call(command, {"id": guess})
        assert frame.command == "ERROR"
        assert frame.headers["message"] in ("Message not found", "Subscription not found")


def test_transactions_that_nobody_commits(broker: Broker) -> None:
    before = resident_bytes(broker)
    with stomp(broker) as peer:
        for number in range(TRANSACTIONS_MAX):
            assert peer.call("BEGIN", {"transaction": str(number)}).command == "RECEIPT"
        body = bytes(MESSAGE_BYTES_MAX - 1000)
        headers = {"destination": "/topic/nobody", "transaction": "0"}
        sent = 0
        probe = {"destination": "/topic/nobody"}
        while not sent or (frame := peer.call("SEND", probe)).command == "RECEIPT":
            peer.send("SEND", headers, body)
            sent += len(body)
            assert sent < 80 << 20, "it takes all that comes"
        assert frame.headers["message"] == "Transaction too large"
        assert sent > 60 << 20
    # It is given back, but for what the allocator keeps.
    deadline = time.monotonic() + 10
    while resident_bytes(broker) - before > GROWTH_BYTES_MAX / 2:
        assert time.monotonic() < deadline, "what was in the transaction stays"


def test_transactions_have_limits_of_number(broker: Broker) -> None:
    with stomp(broker) as peer:
        for number in range(TRANSACTIONS_MAX):
            peer.send("BEGIN", {"transaction": str(number)})
        frame = peer.call("BEGIN", {"transaction": "one more"})
        assert frame.headers["message"] == "Too many transactions"
    with stomp(broker) as peer:
        peer.send("BEGIN", {"transaction": "t"})
        one = encode("SEND", {"destination": "/topic/nobody", "transaction": "t"}, version="1.2")
        peer.raw(one * ACTIONS_MAX)
        frame = peer.call("SEND", {"destination": "/topic/nobody", "transaction": "t"})
        assert frame.headers["message"] == "Transaction too large"


# Who takes without giving.


def test_subscriber_that_never_reads_costs_little(broker: Broker) -> None:
    """No prefetch-count and a socket that nobody empties: what is waiting stays in the queue."""
    body, count = bytes(64 << 10), 400
    with stomp(broker) as publisher, stomp(broker) as deaf:
        deaf.send("SUBSCRIBE", {"id": "1", "destination": "/topic/deaf"})
        assert deaf.call("BEGIN", {"transaction": "t"}).command == "RECEIPT"
        before = resident_bytes(broker)
        for _ in range(count):
            assert publisher.call("SEND", {"destination": "/topic/deaf"}, body)
        assert resident_bytes(broker) - before < count * len(body) * 1.6 + GROWTH_BYTES_MAX / 4


def test_receipts_that_nobody_reads(broker: Broker) -> None:
    """The server stops reading long before they fill its memory."""
    before = resident_bytes(broker)
    with stomp(broker) as deaf:
        one = encode("SEND", {"destination": "/topic/nobody", "receipt": "r" * 10_000})
        deaf.socket.settimeout(2)
        sent = 0
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            for _ in range(20_000):
                deaf.socket.sendall(one)
                sent += 1
        assert sent < 20_000, "all were taken"
        assert resident_bytes(broker) - before < GROWTH_BYTES_MAX


def test_subscriptions_come_and_go(broker: Broker) -> None:
    with stomp(broker) as peer:
        for round_ in range(2):
            for number in range(1000):
                peer.send("SUBSCRIBE", {"id": str(number), "destination": f"/topic/many.{number}"})
            for number in range(1000):
                peer.send("UNSUBSCRIBE", {"id": str(number)})
            assert peer.call("BEGIN", {"transaction": str(round_)}).command == "RECEIPT"
            if round_ == 0:
                before = resident_bytes(broker)
        assert resident_bytes(broker) - before < 8 << 20


def test_reset_in_the_middle_of_frames(broker: Broker) -> None:
    before = descriptors(broker)
    for number in range(100):
        peer = stomp(broker)
        peer.raw([b"SEND\n", HEAD, HEAD + b"content-length:10\n\nabc", b"\n"][number % 4])
        peer.reset()
    give_back_descriptors(broker, before)
