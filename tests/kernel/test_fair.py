"""How much of one host's words are handled at once."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from vfab.kernel.connection import HostConnection, HostListener
from vfab.kernel.fair import A_SECOND, AT_ONCE, FairShare
from vfab.kernel.printed import LINES_PER_S, Printed
from vfab.protocols.hostwire import Event, Handshake, encode, handshake_line


def test_after_its_share_of_a_turn_a_host_waits_for_the_next_one_and_after_that_of_a_second_for_the_second() -> None:
    now = [5.0]
    share = FairShare(lambda: now[0])
    pauses = []
    for _ in range(A_SECOND // AT_ONCE + 1):
        share.begin()
        assert [share.spent() for _ in range(AT_ONCE - 1)] == [None] * (AT_ONCE - 1)
        now[0] += 0.001
        pauses.append(share.spent())
    assert set(pauses[:-2]) == {0.0}
    assert pauses[-1] is not None and 0.8 < pauses[-1] < 1.0
    now[0] += 1
    share.begin()
    assert [share.spent() for _ in range(AT_ONCE)][-1] == 0.0, "another second"


def test_a_flood_of_one_host_leaves_every_other_its_turn_and_nothing_of_it_is_lost() -> None:
    order: list[str] = []

    class Listener(HostListener):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_event(self, event: Event) -> None:
            order.append(self.name)

    async def main() -> None:
        flood, honest = [await connection(Listener(name)) for name in ("flood", "honest")]
        many = 20 * AT_ONCE
        frame = b"".join(encode(Event("e", {}, 0.0)))
        flood.sendall(frame * many)
        honest.sendall(frame)
        async with asyncio.timeout(60):
            while len(order) < many + 1:
                await asyncio.sleep(0.001)
        assert order.index("honest") <= 3 * AT_ONCE
        assert order.count("flood") == many
        flood.close()
        honest.close()

    asyncio.run(main())


async def connection(listener: HostListener) -> Any:
    ours, theirs = socket.socketpair()
    made = await HostConnection.open(ours, listener)
    theirs.sendall(handshake_line(Handshake(pid=1)))
    await made.handshake(20)
    return theirs


def test_lines_that_nobody_looked_at_are_counted_with_those_that_were_dropped() -> None:
    told: list[str] = []
    now = [7.0]
    printed = Printed(told.append, lambda: now[0])
    assert [printed.take("x") for _ in range(LINES_PER_S)] == [True] * LINES_PER_S
    assert not printed.take("x")
    printed.skip(1000)
    now[0] += 1
    assert printed.take("y")
    assert told[LINES_PER_S:] == ["1001 lines dropped: the driver prints too many", "y"]
