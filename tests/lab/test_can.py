"""A CAN interface of the kernel, with another program's plain socket at its other end."""

from __future__ import annotations

import errno
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest

from apps.programs import Vfab
from lab.modules import until
from vfab import DeviceDriverManager

FRAME = struct.Struct("=IB3x8s")


@pytest.fixture
def other(vcan: str) -> Iterator[socket.socket]:
    """Somebody else on the bus."""
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as made:
        made.bind((vcan,))
        made.settimeout(20)
        yield made


def heard(other: socket.socket) -> int:
    """The number of the next frame; 0 where the socket still tells that the bus was down."""
    try:
        return int(FRAME.unpack(other.recv(16))[0])
    except OSError as error:
        assert error.errno == errno.ENETDOWN, error
        return 0


def test_frames_go_both_ways_and_a_bus_that_went_down_is_told_and_used_again(
    manager: DeviceDriverManager, vcan: str, other: socket.socket
) -> None:
    manager.connect_device("socketcan", f"can://{vcan}").check()
    manager.execute_command("socketcan", "send", {"command": "123#DEADBEEF"}).check()
    number, size, data = FRAME.unpack(other.recv(16))
    assert (number, data[:size]) == (0x123, bytes.fromhex("DEADBEEF"))
    other.send(FRAME.pack(0x18DAF110 | socket.CAN_EFF_FLAG, 2, b"\x02\x01"))
    came = manager.execute_command("socketcan", "receive", {"count": 1, "wait_s": 20}).check()["result"]
    assert "18DAF110" in json.dumps(came, default=str).upper(), came
    subprocess.run(["ip", "link", "set", vcan, "down"], check=True)
    down = manager.execute_command("socketcan", "send", {"command": "123#01"})
    assert down["status"] == "error" and down["remedy"], down
    subprocess.run(["ip", "link", "set", vcan, "up"], check=True)
    device = f"can:{vcan}"

    def sent() -> bool:
        done = manager.execute_command("socketcan", "send", {"command": "321#0102"})
        if done["status"] == "error":
            manager.reset_device("socketcan", device)
            manager.connect_device("socketcan", device)
        return bool(done["status"] == "success")

    until(sent, "frames are sent again", limit_s=40)
    until(lambda: heard(other) == 0x321, "the other hears them")
    manager.close_device("socketcan", device).check()


def test_the_bus_is_streamed_frame_by_frame_in_order(vfab: Vfab, vcan: str, other: socket.socket) -> None:
    process = vfab.start("stream", f"can://{vcan}", "-n", 20, "--json")
    done = threading.Event()

    def talk() -> None:
        number = 0
        while not done.wait(0.01):
            other.send(FRAME.pack(0x100, 4, number.to_bytes(4, "big")))
            number += 1

    speaker = threading.Thread(target=talk)
    speaker.start()
    try:
        out, err = process.communicate(timeout=280)
    finally:
        done.set()
        speaker.join()
    assert process.returncode == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 20
    counts = [int(record["data"]["text"].partition("#")[2], 16) for record in records]
    assert counts == list(range(counts[0], counts[0] + 20)), "none is missing, none is twice"
