"""Trees of sysfs and device nodes, built in a temporary folder, and users who may or may not open them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from vfab.kernel.node_access import User

ANYBODY = User("ada", frozenset({100}), lambda gid: f"group{gid}", lambda group: False, lambda path: True)
NOBODY = User("ada", frozenset({100}), lambda gid: "video", lambda group: False, lambda path: False)


def write(folder: Path, **attributes: str) -> Path:
    """A folder of sysfs with attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (folder / name).write_text(value + "\n", encoding="utf-8")
    return folder


def usb_device(root: Path, port: str = "1-2", **attributes: str) -> Path:
    """A USB device, and the folder of its first interface."""
    told = {"idVendor": "046d", "idProduct": "0825", "serial": "S1", "manufacturer": "Logi", "product": "Webcam"}
    return write(write(root / "devices" / "usb1" / port, **{**told, **attributes}) / f"{port}:1.0")


def touch(path: Path) -> Path:
    """A node."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def link(path: Path, target: Path) -> Path:
    """A link, as sysfs and udev make them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


class Nodes:
    """Answers ioctls: by path, bytes or an error."""

    def __init__(self, answers: Mapping[str, bytes | OSError]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int, int]] = []

    def __call__(self, path: str, request: int, data: bytes) -> bytes:
        self.asked.append((Path(path).name, request, len(data)))
        answer = self.answers[Path(path).name]
        if isinstance(answer, OSError):
            raise answer
        return answer


def querycap(driver: str, card: str, bus_info: str, caps: int, device_caps: int | None = None) -> bytes:
    """struct v4l2_capability."""
    own = caps if device_caps is None else device_caps
    total = caps | (0x80000000 if device_caps is not None else 0)
    return struct.pack("16s32s32sIII12x", driver.encode(), card.encode(), bus_info.encode(), 0x060100, total, own)


def chipinfo(name: str, label: str, lines: int) -> bytes:
    """struct gpiochip_info."""
    return struct.pack("32s32sI", name.encode(), label.encode(), lines)
