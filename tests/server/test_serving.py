"""Starting and stopping servers: under trio, in threads beside asyncio, several at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aio_pika
import pika
import pytest
import trio

import wherry
import wherry.testing
from clients import Raw, asyncio_streams_closed, channel, connect
from wherry import _broker, _core, blocking
from wherry.server import ThreadServer, UserStore, _connection, _serving
from wherry.testing._users import PlainUsers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def users() -> PlainUsers:
    return PlainUsers({"guest": "guest"})


def declare(url: str) -> None:
    with channel(url) as client:
        client.queue_declare("q")


@pytest.mark.only("trio")
async def test_a_server_under_trio() -> None:
    async with wherry.serve(port=0, users=users()) as server:
        assert server.addresses == [("127.0.0.1", server.addresses[0][1])]
        await trio.to_thread.run_sync(declare, server.amqp_url)
        assert server.broker.queues() == ["q"]
        assert server.connections() == []


@pytest.mark.only("trio")
async def test_an_open_broker_is_served_and_stays_open() -> None:
    async with wherry.open() as broker:
        async with wherry.serve(broker, port=0, users=users()) as server:
            assert server.broker is broker
            await trio.to_thread.run_sync(declare, server.amqp_url)
        assert broker.queues() == ["q"]
        await broker.default_exchange.publish(b"x", "q")


@pytest.mark.only("trio")
async def test_a_task_inside_consumes_what_a_client_publishes() -> None:
    async with wherry.serve(port=0, users=users()) as server:
        queue = await server.broker.declare_queue("q")

        def publish() -> None:
            with channel(server.amqp_url) as client:
                for n in range(100):
                    client.basic_publish("", "q", str(n).encode())

        async with trio.open_nursery() as nursery, queue.consume() as deliveries:
            nursery.start_soon(trio.to_thread.run_sync, publish)
            for n in range(100):
                async with await deliveries.__anext__() as delivery:
                    assert delivery.body == str(n).encode()


@pytest.mark.only("trio")
async def test_the_users_exceptions_come_out_as_they_went_in() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with wherry.serve(port=0, users=users()):
            raise KeyError("mine")


@pytest.mark.only("trio")
async def test_a_cancelled_block_closes_in_order(tmp_path: Path) -> None:
    with trio.move_on_after(5) as scope:
        async with wherry.serve(tmp_path, port=0, users=users(), drain_seconds=60) as server:
            with Raw(*server.addresses[0]) as raw:
                await trio.to_thread.run_sync(raw.handshake)
                await server.broker.default_exchange.publish(b"lost", "nowhere")
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    async with wherry.open(tmp_path):
        pass


@pytest.mark.only("trio")
async def test_stopping_tells_clients_and_waits_for_them() -> None:
    async with wherry.serve(port=0, users=users()) as server:
        connection = await trio.to_thread.run_sync(connect, server.amqp_url)

        def serve_until_closed() -> str:
            with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
                connection.process_data_events(10)
            return f"{caught.value.reply_code} {caught.value.reply_text}"

        heard: list[str] = []

        async def listen() -> None:
            heard.append(await trio.to_thread.run_sync(serve_until_closed))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await server.aclose()
        assert heard[0].startswith("320 CONNECTION_FORCED - broker forced connection closure")
        await server.wait_closed()
        with pytest.raises(OSError, match="all attempts"):
            await trio.open_tcp_stream(*server.addresses[0])


@pytest.mark.only("trio")
async def test_stopping_does_not_wait_for_ever() -> None:
    async with wherry.serve(port=0, users=users(), drain_seconds=0.05) as server:
        raw = Raw(*server.addresses[0])
        await trio.to_thread.run_sync(raw.handshake)
    assert await trio.to_thread.run_sync(raw.method) == (10, 50)
    raw.close()


@pytest.mark.only("asyncio")
async def test_a_server_beside_asyncio() -> None:
    with wherry.serve(port=0, users=users()) as server:
        connection = await aio_pika.connect(server.amqp_url)
        async with connection:
            client = await connection.channel()
            queue = await client.declare_queue("q")
            await client.default_exchange.publish(aio_pika.Message(b"seven"), "q")
            message = await queue.get(timeout=5)
            async with message.process():
                assert message.body == b"seven"
        assert server.broker.queues() == ["q"]


@pytest.mark.only("asyncio")
async def test_a_server_on_asyncio_lets_its_own_clients_go_in_order() -> None:
    heard = asyncio.Event()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    with asyncio_streams_closed():
        async with wherry.open() as broker:
            async with wherry.serve(broker, port=0, users=users(), drain_seconds=60) as server:
                assert server.broker is broker
                connection = await aio_pika.connect(server.amqp_url)
                connection.close_callbacks.add(lambda *_: heard.set())
                client = await connection.channel()
                await client.declare_queue("q")
                (listed,) = server.connections()
                assert listed["user"] == "guest"
                ticking = asyncio.create_task(tick())
                before = ticks
            assert ticks > before, "the loop stood still"
            await heard.wait()
            await server.wait_closed()
            ticking.cancel()
            assert broker.queues() == ["q"]


@pytest.mark.only("asyncio")
@pytest.mark.parametrize("where", ["opening", "starting"])
async def test_a_start_that_is_cancelled_on_asyncio_leaves_nothing_behind(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    started: list[Any] = []

    def cancelled_when_done(function: Callable[..., Any]) -> Callable[..., Any]:
        def patched(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            started.append(result or args[0])
            told = threading.Event()
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(loop.call_soon, told.set)
            assert told.wait(20)
            return result

        return patched

    if where == "opening":
        core = SimpleNamespace(Engine=cancelled_when_done(_core.Engine))
        monkeypatch.setattr(_broker, "_core", core)
    else:
        monkeypatch.setattr(ThreadServer, "_start", cancelled_when_done(ThreadServer._start))

    async def main() -> None:
        async with wherry.serve(tmp_path, port=0):
            raise AssertionError("it was cancelled before")

    task = asyncio.create_task(main())
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    [one] = started  # held here: that nobody refers to it is not what closes it
    assert one.closed if where == "opening" else one.wait_closed(0)
    async with wherry.serve(tmp_path, port=0):
        pass


@pytest.mark.only("asyncio")
async def test_a_cancelled_block_on_asyncio_waits_for_nobody() -> None:
    entered = asyncio.Event()

    async def main() -> None:
        async with wherry.serve(port=0, users=users(), drain_seconds=3600) as server:
            with Raw(*server.addresses[0]) as raw:
                await asyncio.to_thread(raw.handshake)
                entered.set()
                await server.wait_closed()

    task = asyncio.create_task(main())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_with_on_an_event_loop_does_not_wait_for_its_clients() -> None:
    with wherry.serve(port=0, users=users(), drain_seconds=3600) as server:
        raw = Raw(*server.addresses[0])
        raw.handshake()
        assert len(server.connections()) == 1
    assert raw.method() == (10, 50)
    raw.close()


async def test_async_with_needs_a_broker_of_an_event_loop() -> None:
    with blocking.open() as broker, pytest.raises(TypeError, match=r"wherry\.blocking"):
        async with wherry.serve(broker, port=0, users=users()):
            pass


def test_an_open_blocking_broker_is_served() -> None:
    with blocking.open() as broker:
        with wherry.serve(broker, port=0, users=users()) as server:
            declare(server.amqp_url)
        assert broker.queues() == ["q"]


def test_two_servers_in_one_process() -> None:
    with (
        wherry.serve(port=0, users=users()) as one,
        wherry.serve(port=0, users=users()) as two,
    ):
        declare(one.amqp_url)
        assert (one.broker.queues(), two.broker.queues()) == (["q"], [])


def test_a_server_can_start_again_on_its_port(tmp_path: Path) -> None:
    with wherry.serve(tmp_path, port=0, users=users()) as server:
        port = server.addresses[0][1]
        declare(server.amqp_url)
    with wherry.serve(tmp_path, port=port, users=users()) as server:
        assert server.broker.queues() == []  # it was transient
        declare(server.amqp_url)


def test_an_address_in_use_is_said_in_the_caller() -> None:
    with wherry.serve(port=0, users=users()) as server:
        port = server.addresses[0][1]
        with (
            pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}.*another broker"),
            wherry.serve(port=port, users=users()),
        ):
            pass
        with pytest.raises(OSError, match="cannot listen"):
            trio.run(_enter, port)


async def _enter(port: int) -> None:
    async with wherry.serve(port=port, users=users()):
        pass


def test_a_name_stands_for_all_its_addresses() -> None:
    with wherry.serve(host="localhost", port=0, users=users()) as server:
        assert len({port for _, port in server.addresses}) == 1
        for url in server.urls:
            declare(url)


def test_a_server_ends_with_its_program() -> None:
    # Nobody leaves the block: the thread must not keep the program alive.
    code = (
        "import wherry; from wherry.testing._users import PlainUsers\n"
        "s = wherry.serve(port=0, users=PlainUsers({'guest': 'guest'})).__enter__()\n"
        "print('up', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr


def test_ctrl_c_during_the_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(threading.Event):
        interrupted = False

        def wait(self, timeout: float | None = None) -> bool:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return super().wait(timeout)

    made: list[ThreadServer] = []

    def interrupted(*args: Any) -> ThreadServer:
        made.append(ThreadServer(*args))
        made[0]._ready = Interrupted()
        return made[0]

    monkeypatch.setattr(_serving, "ThreadServer", interrupted)
    with pytest.raises(KeyboardInterrupt), wherry.serve(tmp_path, port=0):
        raise AssertionError("it was interrupted before")
    monkeypatch.undo()
    assert made[0].wait_closed(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(made[0].addresses[0], 5)
    with wherry.serve(tmp_path, port=0):
        pass


def test_the_thread_is_gone_afterwards() -> None:
    before = threading.active_count()
    with wherry.serve(port=0, users=users()) as server:
        assert threading.active_count() > before
        assert not server.wait_closed(timeout=0)
    assert server.wait_closed(timeout=5)
    assert [t.name for t in threading.enumerate() if t.name == "wherry server"] == []


PROGRAM = """
import logging, sys
from wherry.server import run
from wherry.server.config import Amqp, Auth, Config, Shutdown, Stomp
from wherry.testing._users import PlainUsers
config = Config(directory=sys.argv[1], amqp=Amqp(listeners=("127.0.0.1:0",)),
                stomp=Stomp(listeners=()),
                shutdown=Shutdown(drain_seconds=float(sys.argv[2])))
run(config, users=PlainUsers({"guest": "guest"}),
    ready=lambda server: print(server.addresses[0][1], flush=True))
print("ended", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: int) -> None:
    server = start(tmp_path, 10)
    port = int(server.stdout.readline())
    connection = connect(f"amqp://127.0.0.1:{port}/")
    os.kill(server.pid, signal.SIGHUP)  # reads again, and goes on
    connection.channel().queue_declare("q", durable=True)
    os.kill(server.pid, number)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        connection.process_data_events(10)
    assert server.communicate(timeout=10)[0] == "ended\n"
    with blocking.open(tmp_path) as broker:
        assert broker.queues() == ["q"]


CLOSING = """
import sys, threading
from wherry.server import run
from wherry.server.config import Amqp, Config, Stomp
from wherry.testing._users import PlainUsers
def ready(server):
    try:
        server.close()
    except RuntimeError as error:
        print(error)
    def close():
        server.close()
        print(server.wait_closed(0), flush=True)
        try:
            server.connections()
        except RuntimeError as error:
            print(error, flush=True)
    closing.append(threading.Thread(target=close))
    closing[0].start()
closing = []
run(Config(amqp=Amqp(listeners=("127.0.0.1:0",)), stomp=Stomp(listeners=())),
    users=PlainUsers({"guest": "guest"}), ready=ready)
closing[0].join()
"""


def test_what_runs_in_the_main_thread_is_closed_by_another_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSING], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.splitlines() == [
        "the server's own thread cannot wait for its end",
        "True",
        "the server has ended",
    ], done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    server = start(tmp_path, 3600)
    port = int(server.stdout.readline())
    with Raw("127.0.0.1", port) as raw:
        raw.handshake()
        os.kill(server.pid, signal.SIGINT)
        assert raw.method() == (10, 50)  # and is never answered
        os.kill(server.pid, signal.SIGINT)
        assert server.communicate(timeout=10)[0] == "ended\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_was_confirmed_survives_a_kill(tmp_path: Path) -> None:
    server = start(tmp_path, 10)
    port = int(server.stdout.readline())
    connection = connect(f"amqp://127.0.0.1:{port}/")
    client = connection.channel()
    client.queue_declare("q", durable=True)
    client.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)
    for _ in range(50):
        client.basic_publish("", "q", b"x", persistent)
    server.kill()
    with pytest.raises(pika.exceptions.AMQPError):
        publish_until_it_fails(client, persistent)
    server.communicate(timeout=10)
    with blocking.open(tmp_path) as broker:
        assert broker.queue("q").statistics().ready >= 50


def publish_until_it_fails(client: Any, properties: pika.BasicProperties) -> None:
    while True:
        client.basic_publish("", "q", b"x", properties)


def start(directory: Path, drain_seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), str(drain_seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_exception_in_one_connection_is_logged_and_ends_only_that(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wherry.serve(port=0, users=users()) as server, contextlib.ExitStack() as stack:
        good = connect(server.amqp_url)
        bad = stack.enter_context(Raw(*server.addresses[0]))
        bad.handshake()
        hub = server._hub
        victim = hub.connections[max(hub.connections)]

        class Broken:
            def __getattr__(self, name: str) -> object:
                raise ZeroDivisionError("a bug")

        with caplog.at_level(logging.ERROR, "wherry.server"):
            victim.session = Broken()  # type: ignore[assignment]
            bad.send(b"\x08\x00\x00\x00\x00\x00\x00\xce")
            assert bad.is_closed()
        assert "ZeroDivisionError: a bug" in caplog.text
        good.channel().queue_declare("q")
        good.close()


def test_asyncio_clients_reconnect_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        with wherry.serve(tmp_path, port=0, users=users(), drain_seconds=0) as server:
            port = server.addresses[0][1]
            connection = await aio_pika.connect_robust(server.amqp_url, reconnect_interval=0.05)
            client = await connection.channel()
            queue = await client.declare_queue("q", durable=True)
            reconnected = asyncio.Event()
            connection.reconnect_callbacks.add(lambda *_: reconnected.set())
        with wherry.serve(tmp_path, port=port, users=users()):
            await reconnected.wait()
            await client.default_exchange.publish(aio_pika.Message(b"after"), "q")
            message = await queue.get(timeout=5)
            assert message.body == b"after"
            await message.ack()
            await connection.close()

    async def with_its_sockets_closed() -> None:
        with asyncio_streams_closed():
            await main()

    asyncio.run(with_its_sockets_closed())


def test_the_users_of_a_directory(tmp_path: Path) -> None:
    with wherry.serve(tmp_path, port=0) as server:
        declare(server.amqp_url)  # guest, from this machine
        store = UserStore(tmp_path / "users.json")  # as `wherry users` in another process
        store.add("ann", "pw")
        store.set_permission("ann", "/", "^ann", ".*", ".*")
        host, port = server.addresses[0]
        declare_as = f"amqp://ann:pw@{host}:{port}/"
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            declare(declare_as)


def test_guest_is_kept_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "is_loopback", lambda host: False)
    with (
        wherry.serve(port=0, users=users()) as server,
        pytest.raises(pika.exceptions.ProbableAuthenticationError),
    ):
        connect(server.amqp_url)
