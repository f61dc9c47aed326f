"""A link that is asked for again: passed on as it is, set anew, or opened anew where its other end is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from typing import Any

import pytest

from vfab.kernel.broker import Broker, LinkKeeper
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.link import open_address


def keeper_with(opener: Any, address: str = "/a") -> LinkKeeper:
    manifest = manifest_from_dict(
        {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "d.D"}
    )
    return Broker(opener).keeper(DeviceInfo(id="d", bus="t", address=address), manifest)


def received(host: socket.socket) -> int:
    """The descriptor that was passed."""
    _, (fd,), _, _ = socket.recv_fds(host, 8, 1)
    return fd


def test_a_link_whose_other_end_is_gone_is_opened_anew() -> None:
    async def main() -> None:
        far: list[socket.socket] = []

        def open_one(address: str) -> int:
            here, there = socket.socketpair()
            far.append(there)
            return here.detach()

        keeper = keeper_with(open_one)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fds = []
            for _ in range(2):
                await keeper.hand_over("/a", {}, ours)
                fds.append(received(theirs))
            assert len(far) == 1, "a link that is whole is passed on as it is"
            far[0].close()
            assert keeper.broken == ["/a"]
            await keeper.hand_over("/a", {}, ours)
            fds.append(received(theirs))
            assert len(far) == 2 and keeper.broken == []
            os.write(fds[-1], b"there")
            assert far[1].recv(10) == b"there"
        for fd in fds:
            os.close(fd)
        keeper.close()
        far[1].close()

    asyncio.run(main())


def test_a_serial_port_that_is_open_gets_the_speed_that_is_asked_for() -> None:
    async def main() -> None:
        master, slave = os.openpty()
        path = os.ttyname(slave)
        keeper = keeper_with(open_address, path)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            speeds = []
            for settings in ({"baudrate": 9600, "timeout_s": 1.0}, {"baudrate": 115200}, {}):
                await keeper.hand_over(path, settings, ours)
                fd = received(theirs)
                speeds.append(termios.tcgetattr(fd)[4])
                os.close(fd)
            assert speeds == [termios.B9600, termios.B115200, termios.B115200]
            with pytest.raises(ConfigurationError, match="timeout_s cannot be"):
                await keeper.hand_over(path, {"baudrate": 9600, "timeout_s": 0}, ours)
        keeper.close()
        os.close(slave)
        os.close(master)

    asyncio.run(main())
