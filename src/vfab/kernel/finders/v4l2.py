"""Cameras and frame grabbers: Video4Linux nodes that can capture (linux/videodev2.h, VIDIOC_QUERYCAP)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import Ask, ask_node, children, node_device, read_text, usb_behind
from vfab.kernel.node_access import User
from vfab.model.devices import DeviceInfo

__all__ = ["V4l2Handler"]

_QUERYCAP = 0x80685600
_LAYOUT = struct.Struct("16s32s32sIII12x")
_CAPTURE = 0x00000001 | 0x00001000  # one plane, several planes
_DEVICE_CAPS = 0x80000000


@dataclass(frozen=True, slots=True)
class _Capability:
    driver: str
    card: str
    bus_info: str
    captures: bool


class V4l2Handler(DetectionHandler):
    """Finds cameras. Nodes that only carry metadata, play out or decode are left out.

    Args:
        sysfs: where the kernel lists video nodes.
        dev: where the nodes are, and udev's links to them in `v4l/by-id` and `v4l/by-path`.
        ask: asks a node.
        user: who wants to open them; this process's user by default.
    """

    def __init__(
        self,
        sysfs: Path = Path("/sys/class/video4linux"),
        dev: Path = Path("/dev"),
        *,
        ask: Ask = ask_node,
        user: User | None = None,
    ) -> None:
        super().__init__("v4l2", priority=30)
        self._sysfs = sysfs
        self._dev = dev
        self._ask = ask
        self._user = user

    def find(self) -> list[DeviceInfo]:
        """Every node that captures; one that may not be opened is taken for a camera if it is its device's first."""
        nodes = children(self._sysfs, "video*")
        if not nodes:
            return []
        user = self._user or User.current()
        links = {**self._links("by-path"), **self._links("by-id")}
        found = (self._device(node, links, user) for node in nodes)
        return [device for device in found if device is not None]

    def _device(self, node: Path, links: dict[str, str], user: User) -> DeviceInfo | None:
        address = str(self._dev / node.name)
        usb = usb_behind(node / "device")
        index = read_text(node / "index")
        link = links.get(node.name, "")
        name = read_text(node / "name") or node.name
        device = node_device("v4l2", link or node.name, address, name, user=user, usb=usb, index=index, link=link)
        if not device.accessible:
            return device if index in {"", "0"} else None  # a webcam's further nodes are metadata nearly always
        try:
            capability = self._capability(address)
        except OSError as error:
            problem = f"{address} does not answer: {error.strerror}"
            return msgspec.structs.replace(
                device, accessible=False, problem=problem, remedy="Unplug the camera and plug it in again."
            )
        if not capability.captures:
            return None
        place = capability.bus_info or node.name
        own = link or (place if index in {"", "0"} else f"{place}:{index}")
        learned = {"driver": capability.driver, "bus_info": capability.bus_info}
        return msgspec.structs.replace(
            device,
            id=f"v4l2:{own.replace(' ', '_')}",
            name=capability.card or device.name,
            attributes={**device.attributes, **{key: value for key, value in learned.items() if value}},
        )

    def _capability(self, address: str) -> _Capability:
        driver, card, bus_info, _, everything, own = _LAYOUT.unpack(self._ask(address, _QUERYCAP, bytes(_LAYOUT.size)))
        able = own if everything & _DEVICE_CAPS else everything
        return _Capability(_text(driver), _text(card), _text(bus_info), bool(able & _CAPTURE))

    def _links(self, kind: str) -> dict[str, str]:
        """`by-id/NAME` of every node that udev has a link to, by the node's name."""
        return {link.resolve().name: f"{kind}/{link.name}" for link in children(self._dev / "v4l" / kind)}


def _text(padded: bytes) -> str:
    return padded.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
