"""Running simulators announce themselves, so that `vfab device scan` finds them like hardware.

A simulator writes `$VFAB_HOME/run/simulators/<pid>.json` while it serves. The handler lists those whose process lives
(number and start time agree) and removes what a killed one left behind. The folder is private to its user.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.index import write_privately
from vfab.kernel.places import home_of
from vfab.kernel.starting import AWAITED_S, await_starting
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError

__all__ = ["Announcement", "SimulatorHandler", "announce_simulator", "simulators_folder"]


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulator says of itself.

    Attributes:
        name: the simulated driver, `axidraw`.
        address: where it serves: `/dev/pts/5`, `tcp://127.0.0.1:4000`.
        pid: its process.
        started: when that process started, as the system counts; tells a later process of the same number apart.
        vid, pid_usb: USB ids that the real device has, four hex digits, or "".
        product, manufacturer, serial_number: as the real device says.
    """

    name: str
    address: str
    pid: int
    started: str
    vid: str = ""
    pid_usb: str = ""
    product: str = ""
    manufacturer: str = ""
    serial_number: str = ""


def simulators_folder(env: Mapping[str, str]) -> Path:
    """Where simulators announce themselves."""
    return home_of(env) / "run" / "simulators"


@contextmanager
def announce_simulator(
    name: str,
    address: str,
    *,
    folder: Path,
    vid: str = "",
    pid_usb: str = "",
    product: str = "",
    manufacturer: str = "",
    serial_number: str = "",
) -> Iterator[Announcement]:
    """Announce a simulator of this process at `address` while the context lasts.

    Raises OSError: the folder cannot be written.
    """
    pid = os.getpid()
    said = Announcement(
        name=name,
        address=address,
        pid=pid,
        started=_started(pid) or "",
        vid=vid.lower(),
        pid_usb=pid_usb.lower(),
        product=product,
        manufacturer=manufacturer,
        serial_number=serial_number,
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = 1
    path = folder / f"{pid}.json"
    while path.exists():  # several simulators in one process
        number += 1
        path = folder / f"{pid}-{number}.json"
    write_privately(path, msgspec.json.encode(said))
    try:
        yield said
    finally:
        path.unlink(missing_ok=True)


class SimulatorHandler(DetectionHandler):
    """Finds the simulators that announced themselves in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("simulator", priority=0, timeout_s=AWAITED_S + 1.0)
        self._folder = folder

    def find(self) -> list[DeviceInfo]:
        """Every simulator whose process lives; one that starts just now is awaited.

        Raises ConfigurationError: somebody else owns the folder, or may write to it.
        """
        try:
            seen = self._folder.stat()
        except OSError:  # no simulator ever ran
            return []
        if seen.st_uid != os.geteuid() or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(
                f"{self._folder}: other users may write here, so that nothing in it is believed",
                context={"folder": str(self._folder)},
                remedy=f"Run: chmod 700 {self._folder}, or remove the folder.",
            )
        await_starting(self._folder)
        found: list[DeviceInfo] = []
        for path in sorted(self._folder.glob("*.json")):
            said = _read(path)
            if said is None:
                continue
            if _started(said.pid) != said.started:
                path.unlink(missing_ok=True)
                continue
            found.append(_device(said, path.stem))
        return found


def _read(path: Path) -> Announcement | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Announcement)
    except (OSError, msgspec.MsgspecError):  # it ended just now, or is not ours
        return None


def _device(said: Announcement, own: str) -> DeviceInfo:
    return DeviceInfo(
        id=f"sim:{said.name}:{own}",
        bus="simulator",
        address=said.address,
        name=f"simulated {said.name}",
        vid=said.vid,
        pid=said.pid_usb,
        serial_number=said.serial_number,
        manufacturer=said.manufacturer,
        product=said.product,
        attributes={"simulates": said.name, "process": str(said.pid)},
    )


def _started(pid: int, proc: Path = Path("/proc")) -> str | None:
    """When process `pid` started, in the system's own count; None when there is no such process."""
    try:
        line = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        fields = line.rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else fields[19]  # proc(5): 22 is the start time, in ticks since boot
    except OSError:
        if (proc / "self").exists():
            return None
    import psutil  # where there is no /proc: macOS

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
