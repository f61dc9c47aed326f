"""CAN interfaces: network devices of type 280 (linux/if_arp.h, ARPHRD_CAN), with what `ip` knows of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.looking import children, read_text, usb_behind
from vfab.model.devices import DeviceInfo

__all__ = ["CanHandler", "ip_links"]

_ARPHRD_CAN = "280"
_UP = 0x1
_FD_MTU = 72
_IP_S = 1.0


def ip_links() -> list[dict[str, Any]]:
    """What `ip -details -json link show` says; nothing where there is no such program, or it fails."""
    import subprocess

    try:
        done = subprocess.run(
            ["ip", "-details", "-json", "link", "show"], capture_output=True, timeout=_IP_S, check=True
        )
        said = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return [link for link in said if isinstance(link, dict)]


class CanHandler(DetectionHandler):
    """Finds CAN interfaces. One that is down is told as not accessible, with the command that brings it up.

    Args:
        sysfs: where the kernel lists network interfaces.
        links: says more of them; asked only when there is a CAN interface.
    """

    def __init__(
        self, sysfs: Path = Path("/sys/class/net"), *, links: Callable[[], list[dict[str, Any]]] = ip_links
    ) -> None:
        super().__init__("can", priority=30)
        self._sysfs = sysfs
        self._links = links

    def find(self) -> list[DeviceInfo]:
        """Every CAN interface, by name; attributes `kind` (can, vcan, slcan), `driver`, `state`, `bitrate`, `fd`."""
        nodes = [node for node in children(self._sysfs) if read_text(node / "type") == _ARPHRD_CAN]
        if not nodes:
            return []
        known = {str(link.get("ifname")): link for link in self._links()}
        return [_device(node, known.get(node.name, {})) for node in nodes]


def _device(node: Path, link: Mapping[str, Any]) -> DeviceInfo:
    name, usb = node.name, usb_behind(node / "device")
    info = link.get("linkinfo") or {}
    data = info.get("info_data") or {}
    kind = str(info.get("info_kind") or "")
    bitrate = str((data.get("bittiming") or {}).get("bitrate") or "")
    up = bool(int(read_text(node / "flags") or "0x1", 16) & _UP)
    attributes = {
        "kind": kind,
        "driver": (node / "device" / "driver").resolve().name if (node / "device" / "driver").exists() else "",
        "state": "up" if up else "down",
        "bus_state": str(data.get("state") or "").lower(),
        "bitrate": bitrate,
        "fd": "yes" if int(read_text(node / "mtu") or "0") >= _FD_MTU else "",
        "location": usb.location,
    }
    rate = "" if kind == "vcan" or bitrate else " type can bitrate 500000"
    return DeviceInfo(
        id=f"can:{name}",
        bus="can",
        address=f"can://{name}",
        name=usb.product or f"CAN interface {name}",
        vid=usb.vid,
        pid=usb.pid,
        serial_number=usb.serial_number,
        manufacturer=usb.manufacturer,
        product=usb.product,
        accessible=up,
        problem="" if up else f"{name} is down",
        remedy="" if up else f"Run: sudo ip link set {name} up{rate}{' (the rate of your bus)' if rate else ''}",
        attributes={key: value for key, value in attributes.items() if value},
    )
