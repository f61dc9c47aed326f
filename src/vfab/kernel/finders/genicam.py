"""GigE Vision cameras: they answer the discovery command of the GigE Vision Control Protocol (GVCP, UDP port 3956).

The layout of the answer is that of the standard's discovery acknowledge: bootstrap registers 0x0000 to 0x00f7.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.interfaces import Interface, chosen_interfaces
from vfab.model.devices import DeviceInfo

__all__ = ["GenicamHandler", "read_discovery"]

_PORT = 3956
_COMMAND = struct.pack(">BBHHH", 0x42, 0x11, 0x0002, 0, 0xFAB)  # answer, by broadcast too
_HEAD = struct.Struct(">HHHH")
_ACKNOWLEDGE = 0x0003
_BODY = 0xF8


def read_discovery(data: bytes) -> dict[str, str] | None:
    """What a camera says of itself: its numbers, names and addresses; None: it is no camera."""
    if len(data) < _HEAD.size + _BODY:
        return None
    status, kind, length, request = _HEAD.unpack_from(data)
    if (status, kind, request) != (0, _ACKNOWLEDGE, 0xFAB) or length < _BODY:
        return None
    body = data[_HEAD.size :]

    def text(start: int, size: int) -> str:
        return body[start : start + size].split(b"\0", 1)[0].decode("utf-8", "replace").strip()

    return {
        "mac": body[0x0A:0x10].hex(":"),
        "address": socket.inet_ntoa(body[0x24:0x28]),
        "manufacturer": text(0x48, 32),
        "model": text(0x68, 32),
        "version": text(0x88, 32),
        "serial_number": text(0xD8, 16),
        "name": text(0xE8, 16),
    }


class GenicamHandler(DetectionHandler):
    """Finds GigE Vision cameras on this machine itself, and on the networks that the configuration names.

    Args:
        interfaces: names or addresses of network interfaces to ask on, besides the loopback one.
        wait_s: how long cameras on a network may take to answer, in seconds.
        resolve: looks the interfaces up.
    """

    def __init__(
        self,
        interfaces: Sequence[str] = (),
        *,
        wait_s: float = 0.5,
        resolve: Callable[[Sequence[str]], list[Interface]] = chosen_interfaces,
    ) -> None:
        super().__init__("genicam", priority=20)
        self._interfaces = tuple(interfaces)
        self._wait_s = wait_s
        self._resolve = resolve

    def find(self) -> list[DeviceInfo]:
        """Every camera that answers. Raises ConfigurationError: an interface of the configuration is not there."""
        networks = self._resolve(self._interfaces) if self._interfaces else []
        found: dict[str, DeviceInfo] = {}
        for data, sender in _answers(networks, self._wait_s):
            said = read_discovery(data)
            if said is not None:
                device = _device(said, sender)
                found.setdefault(device.id, device)
        return list(found.values())


def _answers(networks: Sequence[Interface], wait_s: float) -> list[tuple[bytes, str]]:
    """(answer, address of who sent it) of all that answered in time. Nobody on this machine costs no time at all."""
    with ExitStack() as stack:
        here = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        here.connect(("127.0.0.1", _PORT))  # connected, so that "nobody listens" comes back as an error
        here.send(_COMMAND)
        waiting = {here}
        for network in networks:
            asked = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            asked.bind((network.address, 0))
            asked.sendto(_COMMAND, (network.broadcast, _PORT))
            waiting.add(asked)
        found: list[tuple[bytes, str]] = []
        ends = time.monotonic() + wait_s
        while waiting and (left := ends - time.monotonic()) > 0:
            for ready in select.select(list(waiting), [], [], left)[0]:
                try:
                    data, sender = ready.recvfrom(2048)
                except OSError:  # refused: no camera on this machine
                    waiting.discard(ready)
                    continue
                found.append((data, sender[0]))
                if ready is here:  # there is one socket of that port
                    waiting.discard(ready)
        return found


def _device(said: dict[str, str], sender: str) -> DeviceInfo:
    serial = said["serial_number"] or said["mac"]
    own = "-".join(part for part in (said["manufacturer"], said["model"], serial) if part).replace(" ", "_")
    attributes = {"mac": said["mac"], "version": said["version"], "given_name": said["name"], "transport": "gige"}
    return DeviceInfo(
        id=f"genicam:{own}",
        bus="genicam",
        address=f"genicam://{sender}",
        name=said["name"] or f"{said['manufacturer']} {said['model']}".strip() or "GigE Vision camera",
        serial_number=said["serial_number"],
        manufacturer=said["manufacturer"],
        product=said["model"],
        attributes={key: value for key, value in attributes.items() if value},
    )
