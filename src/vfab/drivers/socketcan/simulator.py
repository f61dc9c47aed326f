"""A CAN node that is not there, on python-can's UDP multicast bus: it never leaves this machine (hop limit 0).

It counts in frame 100 every `--period` seconds, answers remote frames for 101 with its temperature, and answers frames
to 7DF (a question of ISO 15765-4) with 7E8: service 01, parameter 0C (engine speed, 1726 rpm) and 0D (speed, 0 km/h);
any other with the negative answer 7F.

As a program: `python simulator.py [--group 239.74.163.2] [--port N] [--period S]` prints one JSON line and serves until
SIGTERM.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

import can

from vfab.protocols.candump import CanFrame
from vfab.sdk.simulation import serve_until_told

__all__ = ["CanNode", "free_udp_port", "main"]

GROUP = "239.74.163.2"
_PARAMETERS = {0x0C: b"\x1a\xf8", 0x0D: b"\x00"}


class CanNode:
    """The node, served by a thread of its own; use it as a context.

    Args:
        bus: where it sits; the node shuts it down at its end.
        period_s: how often it counts; 0 never.
        address: where others meet it.
    """

    def __init__(self, bus: can.BusABC, period_s: float = 0.0, address: str = "") -> None:
        self.address = address
        self._bus = bus
        self._period_s = period_s
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._answer, daemon=True)]
        if period_s:
            self._threads.append(threading.Thread(target=self._count, daemon=True))

    def __enter__(self) -> CanNode:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._bus.shutdown()

    def say(self, frame: CanFrame) -> None:
        """Send `frame`."""
        self._bus.send(
            can.Message(
                arbitration_id=frame.id,
                data=frame.data,
                is_extended_id=frame.extended,
                is_error_frame=frame.error,
                is_fd=frame.fd,
                bitrate_switch=frame.bitrate_switch,
            )
        )

    def _count(self) -> None:
        number = 0
        while not self._closing.wait(self._period_s):
            self.say(CanFrame(0x100, number.to_bytes(4, "big")))
            number = (number + 1) % 2**32

    def _answer(self) -> None:
        while not self._closing.is_set():
            message = self._bus.recv(0.05)
            if message is None:
                continue
            if message.is_remote_frame and message.arbitration_id == 0x101:
                self.say(CanFrame(0x101, b"\x00\xd7"))  # 21.5 degrees Celsius, tenths
            elif message.arbitration_id == 0x7DF and len(message.data) >= 3:
                self.say(CanFrame(0x7E8, _reply(bytes(message.data))))


def _reply(asked: bytes) -> bytes:
    service, parameter = asked[1], asked[2]
    value = _PARAMETERS.get(parameter)
    if service != 1 or value is None:
        return bytes((3, 0x7F, service, 0x12)).ljust(8, b"\0")
    return bytes((2 + len(value), 0x41, parameter)).ljust(3, b"\0") + value.ljust(5, b"\0")


def free_udp_port() -> int:
    """A UDP port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run socketcan", description="A simulated CAN node.")
    parser.add_argument("--group", default=GROUP, help="IPv4 multicast group")
    parser.add_argument("--port", type=int, default=0, help="UDP port; 0 = any")
    parser.add_argument("--period", type=float, default=0.1, help="seconds between its counts; 0 = none")
    options = parser.parse_args(list(argv))
    port = options.port or free_udp_port()
    try:
        bus = can.Bus(interface="udp_multicast", channel=options.group, port=port, hop_limit=0)
    except can.CanError as error:
        print(f"no multicast here: {error}. It needs a route: sudo ip route add 224.0.0.0/4 dev lo", file=sys.stderr)
        return 10
    return serve_until_told("socketcan", CanNode(bus, options.period, f"can://udp_multicast/{options.group}:{port}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
