"""The kernel's end of a host's socket, with the other end held by the test."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from vfab.kernel.channel import BlockingChannel
from vfab.kernel.connection import HostConnection, HostListener
from vfab.kernel.fair import AT_ONCE
from vfab.model.errors import Cancelled, DriverError, DriverFailed, HostDied, ProtocolError, Refused, TimeoutExceeded
from vfab.protocols.hostwire import (
    HANDSHAKE_MAX,
    HEADER,
    Call,
    Cancel,
    Decoder,
    Event,
    Failure,
    Handshake,
    Log,
    Message,
    Progress,
    Reply,
    encode,
    handshake_line,
)


class Host:
    """What a test plays: the host's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = Decoder()
        self.came: list[Message] = []

    def say(self, *messages: Message) -> None:
        for message in messages:
            for buffer in encode(message):
                self.sock.sendall(buffer)

    async def hear(self) -> Message:
        loop = asyncio.get_running_loop()
        self.sock.setblocking(False)
        while not self.came:
            self.came += self.decoder.receive(await asyncio.wait_for(loop.sock_recv(self.sock, 65536), 10))
        self.sock.setblocking(True)
        return self.came.pop(0)


@asynccontextmanager
async def pair(listener: HostListener | None = None) -> AsyncIterator[tuple[HostConnection, Host]]:
    ours, theirs = socket.socketpair()
    connection = await HostConnection.open(ours, listener or HostListener(), "d")
    host = Host(theirs)
    theirs.sendall(handshake_line(Handshake(driver="d")))
    await connection.handshake(5)
    try:
        yield connection, host
    finally:
        connection.close()
        await connection.ended(5)
        theirs.close()


def test_a_call_given_up_is_settled_by_whatever_answer_comes_late() -> None:
    async def main() -> None:
        async with pair() as (connection, host):
            for answer in (Reply, lambda number: Failure(number, Cancelled("x").to_wire())):
                with pytest.raises(TimeoutExceeded):
                    await connection.call("m", timeout_s=0.01)
                call, cancel = await host.hear(), await host.hear()
                assert isinstance(call, Call)
                assert cancel == Cancel(call.id)
                assert connection.unsettled == 1
                assert connection.unsettled_s > 0
                assert connection.in_flight == 0
                host.say(answer(call.id))
                while connection.unsettled:
                    await asyncio.sleep(0)
                assert connection.unsettled_s == 0

    asyncio.run(main())


def test_a_cancel_in_the_moment_of_the_answer_leaves_nothing_unsettled() -> None:
    async def main() -> None:
        async with pair() as (connection, host):
            task = asyncio.create_task(connection.call("m"))
            call = await host.hear()
            assert isinstance(call, Call)
            future = next(iter(connection._calls.values())).future
            host.say(Reply(call.id, 1))
            while not future.done():
                await asyncio.sleep(0) if task.done() else await _one_turn_of(future)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert connection.unsettled == 0

    async def _one_turn_of(future: asyncio.Future[Any]) -> None:
        done = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda f: done.done() or done.set_result(None))
        # called before the task that awaits it: the callback cancels that task in the very same turn
        await asyncio.wait([done], timeout=5)

    asyncio.run(main())


def test_a_call_that_could_not_be_written_in_time_is_never_written() -> None:
    """The host does not read; what expires meanwhile must not run later, and the host is not deaf because of it."""

    async def main() -> None:
        async with pair() as (connection, host):
            first = asyncio.create_task(connection.call("first", bytes(8_000_000)))
            await asyncio.sleep(0.01)
            with pytest.raises(TimeoutExceeded):
                await connection.call("second", timeout_s=0.01)
            third = asyncio.create_task(connection.call("third"))
            fourth = asyncio.create_task(connection.call("fourth"))
            await asyncio.sleep(0)
            third.cancel()
            await asyncio.sleep(0)
            assert connection.unsettled == 0
            connection.cancel_all()
            with pytest.raises(Cancelled):
                await fourth
            assert connection.unsettled == 1
            call = await host.hear()
            assert isinstance(call, Call)
            assert call.method == "first"
            host.say(Reply(call.id, "done"))
            assert await first == "done"
            fifth = asyncio.create_task(connection.call("fifth"))
            while not isinstance(call := await host.hear(), Call):
                assert call == Cancel(1)
            assert call.method == "fifth", "an expired call was written after all"
            host.say(Reply(call.id))
            await fifth

    asyncio.run(main())


def test_what_the_host_says_unasked_reaches_the_listener_and_strange_answers_nobody() -> None:
    heard: list[Any] = []

    class Listener(HostListener):
        def on_event(self, event: Event) -> None:
            heard.append(event.kind)

        def on_log(self, record: Log) -> None:
            heard.append(record.message)

    async def main() -> None:
        async with pair(Listener()) as (_, host):
            host.say(Reply(99), Failure(98, {}), Progress(97, {}), Cancel(96))
            host.say(Event("e", {}, 0.0), Log(10, "l", "text", 0.0))
            while len(heard) < 2:
                await asyncio.sleep(0)
        async with pair() as (connection, host):
            host.say(Event("e", {}, 0.0), Log(10, "l", "text", 0.0), Progress(1, {}))
            task = asyncio.create_task(connection.call("m"))
            call = await host.hear()
            assert isinstance(call, Call)
            host.say(Progress(call.id, {"a": 1}), Reply(call.id, 5), Reply(call.id, 6), Failure(call.id, {}))
            assert await task == 5

    asyncio.run(main())
    assert heard == ["e", "text"]


def test_requests_of_the_host_are_answered_whatever_becomes_of_them() -> None:
    class Listener(HostListener):
        async def on_request(self, method: str, args: list[Any]) -> Any:
            match method:
                case "fine":
                    return args
                case "refused":
                    raise Refused("no")
                case "defect":
                    raise ZeroDivisionError
                case "never":
                    await asyncio.Event().wait()
            return await super().on_request(method, args)

    async def main() -> None:
        async with pair(Listener()) as (_, host):
            for number, method in enumerate(("fine", "refused", "defect", "unknown")):
                host.say(Call(number, method, [1]))
            answers = [await host.hear() for _ in range(4)]
            by_id = {answer.id: answer for answer in answers if isinstance(answer, Reply | Failure)}
            assert by_id[0] == Reply(0, [1])
            codes = [answer.error["code"] for n in (1, 2, 3) if isinstance(answer := by_id[n], Failure)]
            assert codes == [Refused.code, DriverFailed.code, DriverFailed.code]
            host.say(Call(5, "never"))
            await asyncio.sleep(0.01)
        async with pair(Listener()) as (connection, host):
            host.say(*(Call(n, "never") for n in range(65)))
            await connection.ended(10)
            with pytest.raises(ProtocolError, match="more than 64 things at once"):
                await connection.call("m")

    asyncio.run(main())


def test_the_end_of_the_host_ends_every_call() -> None:
    async def main() -> None:
        async with pair() as (connection, host):
            calls = [asyncio.create_task(connection.call("m", timeout_s=0)) for _ in range(3)]
            await asyncio.sleep(0)
            host.sock.close()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, HostDied) for result in results)
            assert connection.closed
            with pytest.raises(HostDied):
                await connection.call("m")
            connection.cancel_all()

    asyncio.run(main())


def test_a_call_that_is_cancelled_in_the_turn_of_its_answer_is_settled() -> None:
    calls: list[asyncio.Task[Any]] = []

    class Listener(HostListener):
        def on_event(self, event: Event) -> None:
            calls[0].cancel()  # the answer came just before, and its caller has not run since

    async def main() -> None:
        async with pair(Listener()) as (connection, host):
            calls.append(asyncio.create_task(connection.call("m")))
            call = await host.hear()
            assert isinstance(call, Call)
            host.sock.sendall(b"".join(bytes(b) for m in (Reply(call.id, 1), Event("e", {}, 0.0)) for b in encode(m)))
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            assert connection.unsettled == 0 and connection.in_flight == 0
            again = asyncio.create_task(connection.call("next"))
            assert (await host.hear()) == Call(2, "next", [], {}, 30.0), "no cancel was sent for what was answered"
            again.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("then", ["cancelled", "hung up"])
def test_a_call_that_has_just_expired_is_not_told_twice(then: str) -> None:
    async def main() -> None:
        async with pair() as (connection, host):
            first = asyncio.create_task(connection.call("first", bytes(8_000_000)))
            await asyncio.sleep(0.01)
            second = asyncio.create_task(connection.call("second", timeout_s=0.02))
            await asyncio.sleep(0)
            if then == "cancelled":
                asyncio.get_running_loop().call_later(0.03, connection.cancel_all)
            else:
                host.sock.close()
            time.sleep(0.05)
            with pytest.raises(TimeoutExceeded):
                await second
            with pytest.raises(Cancelled if then == "cancelled" else HostDied):
                if then == "cancelled":
                    call = await host.hear()
                    assert isinstance(call, Call)
                    host.say(Failure(call.id, Cancelled("x").to_wire()))
                await first

    asyncio.run(main())


def test_what_a_chatty_host_said_is_not_heard_once_its_connection_is_closed() -> None:
    heard: list[str] = []
    connections: list[HostConnection] = []

    class Listener(HostListener):
        def on_event(self, event: Event) -> None:
            heard.append(event.kind)
            if len(heard) == AT_ONCE:  # the rest waits for the next turn, which comes after the end
                connections[0].close()

    async def main() -> None:
        async with pair(Listener()) as (connection, host):
            connections.append(connection)
            host.sock.sendall(b"".join(bytes(b) for b in encode(Event("e", {}, 0.0))) * (AT_ONCE + 10))
            await connection.ended(5)
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(heard) == AT_ONCE


@pytest.mark.parametrize("beginning", [b"no handshake\n", b"x" * (HANDSHAKE_MAX + 1)])
def test_a_host_that_does_not_begin_with_a_handshake_is_cut_off(beginning: bytes) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        connection = await HostConnection.open(ours, HostListener(), "d")
        with theirs:
            theirs.sendall(beginning)
            with pytest.raises(ProtocolError):
                await connection.handshake(5)
            await connection.ended(5)
            with pytest.raises(ProtocolError):
                await connection.call("m")

    asyncio.run(main())


def test_a_handshake_may_come_in_pieces() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        connection = await HostConnection.open(ours, HostListener(), "d")
        with theirs:
            line = handshake_line(Handshake(driver="d"))
            shaking = asyncio.create_task(connection.handshake(5))
            for at in range(0, len(line), 5):
                theirs.sendall(line[at : at + 5])
                await asyncio.sleep(0)
            assert (await shaking).driver == "d"
            connection.close()

    asyncio.run(main())


def test_a_host_that_ends_before_it_speaks_is_told() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        connection = await HostConnection.open(ours, HostListener(), "d")
        theirs.close()
        with pytest.raises(HostDied):
            await connection.handshake(5)
        ours, theirs = socket.socketpair()
        connection = await HostConnection.open(ours, HostListener(), "d")
        with pytest.raises(TimeoutExceeded, match="was not loaded"):
            await connection.handshake(0.01)
        theirs.sendall(handshake_line(Handshake(error=Refused("will not").to_wire())))
        with pytest.raises(Refused):
            await connection.handshake(5)
        connection.close()
        theirs.close()

    asyncio.run(main())


def channel() -> tuple[BlockingChannel, Host]:
    ours, theirs = socket.socketpair()
    return BlockingChannel(ours), Host(theirs)


def in_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_channel_passes_over_what_belongs_to_earlier_calls() -> None:
    ch, host = channel()
    with ch, host.sock:
        for timeout_s in (0.01, 1e-9, 0.010001):
            with pytest.raises(TimeoutExceeded):
                ch.call("slow", timeout_s=timeout_s)
        host.say(Reply(1, "late"), Failure(2, {}), Progress(3, {}), Progress(4, {"n": 1}), Reply(4, "mine"))
        seen: list[Any] = []
        assert ch.call("quick", on_progress=seen.append) == "mine"
        assert seen == [{"n": 1}]
        host.say(Progress(5, {}), Failure(5, Refused("no").to_wire()))
        with pytest.raises(Refused):
            ch.call("refused")
        with pytest.raises(Refused, match="cannot be sent"):
            ch.call("m", object())


@pytest.mark.parametrize("rubbish", [HEADER.pack(1 << 31, 0), HEADER.pack(100, 0) + b"half", b""])
def test_a_channel_whose_stream_cannot_be_trusted_any_more_is_closed(rubbish: bytes) -> None:
    ch, host = channel()
    with ch:
        host.sock.sendall(rubbish)
        if not rubbish:
            host.sock.close()
        with pytest.raises((ProtocolError, HostDied)):
            ch.call("m", timeout_s=0.05)
        with pytest.raises(HostDied, match="closed"):
            ch.call("m")
        host.sock.close()


def test_a_channel_whose_host_ended_when_it_was_to_be_told_of_the_cancel_is_closed() -> None:
    ch, host = channel()
    with ch:
        host.sock.shutdown(socket.SHUT_RD)

        def call() -> None:
            with pytest.raises((TimeoutExceeded, HostDied)):
                ch.call("m", timeout_s=0.05)

        in_thread(call).join()
        host.sock.close()
        with pytest.raises(DriverError):
            ch.call("m", timeout_s=0.05)


def test_a_channel_may_begin_with_the_handshake() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(handshake_line(Handshake(driver="d")))
    with theirs, BlockingChannel(ours, expect_handshake=True) as ch:
        assert ch.handshake is not None
        assert ch.handshake.driver == "d"
        assert struct.calcsize("ll") == 16
