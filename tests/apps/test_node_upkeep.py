"""What the node takes for unplugged, and what it cannot know to be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vfab.apps.node.keeping import KeepingSession, KeptDevice
from vfab.apps.node.upkeep import MISSED, Upkeep
from vfab.kernel.detection import ScanResult
from vfab.model.lifecycle import DriverState
from vfab.store.records import Wanted

KETTLE = """
class KettleManager: pass
def is_kettle_available(): return True
def create_kettle_manager(**kwargs): return KettleManager()
"""
TICKER = """
from sat_toolkit.core.base_plugin import BaseDeviceDriver
class Ticker(BaseDeviceDriver): pass
"""


class Blind(KeepingSession):
    """A session that keeps one device, and whose look at the buses finds nothing."""

    def __init__(self, home: Path, kept: KeptDevice) -> None:
        (home / "plugins").mkdir(parents=True)
        (home / "plugins" / "kettle.py").write_text(KETTLE)
        (home / "plugins" / "drv_ticker.py").write_text(TICKER)
        super().__init__({"VFAB_HOME": str(home)})
        self.kept = {kept.device_id: kept}

    async def scan(self, **options: Any) -> ScanResult:
        return ScanResult((), (), 0.0)

    async def let_go(self, kept: KeptDevice, *, keep_lease: bool = False) -> None:
        kept.managed = None


class Log:
    """Takes what upkeep tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warning(self, event: str, **more: Any) -> None:
        self.told.append(event)


def kept(device_id: str, driver: str, address: str = "") -> KeptDevice:
    made = KeptDevice(device_id, driver, Wanted.CONNECTED, address)
    made.managed = SimpleNamespace(state=DriverState.CONNECTED)  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("device", "stays"),
    [
        (kept("usb:04d8:fd92:1", "axidraw", "/dev/ttyACM0"), False),
        (kept("sim:axidraw-1", "axidraw", "tcp://127.0.0.1:9"), False),
        (kept("v4l2:video0", "v4l2", "/dev/video0"), False),
        (kept("tcp:127.0.0.1:9", "tcp", "tcp://127.0.0.1:9"), True),
        (kept("rtsp:cam.local/live", "rtsp", "rtsp://cam.local/live"), True),
        (kept("pty:pts/4", "scale", "/dev/pts/4"), True),
        (kept("visa:GPIB0::9::INSTR", "visa", "GPIB0::9::INSTR"), True),
        (kept("gone", "gone"), False),
        (kept("kettle", "kettle"), True),
        (kept("kettle:COM3", "kettle", "COM3"), True),
        (kept("drv_ticker:one", "drv_ticker"), True),
    ],
)
def test_only_what_detection_finds_can_be_missing_from_it(tmp_path: Path, device: KeptDevice, stays: bool) -> None:
    """Older drivers open their devices themselves, and their scans need not see what they have open."""
    log = Log()
    upkeep = Upkeep(Blind(tmp_path / "home", device), None, SimpleNamespace(why=lambda driver: None), log)  # type: ignore[arg-type]

    async def work() -> None:
        for _ in range(MISSED + 1):
            upkeep._look_again = 0.0
            await upkeep.look_after()

    asyncio.run(work())
    assert (device.managed is not None, log.told == []) == (stays, stays)


def test_a_kept_device_is_known_by_its_id_its_address_and_what_its_driver_calls_it() -> None:
    device = kept("visa:GPIB0::9::INSTR", "meter", "GPIB0::9::INSTR")
    for text in ("visa:GPIB0::9::INSTR", "GPIB0::9::INSTR", "meter:GPIB0::9::INSTR"):
        assert device.is_called(text)
    for text in ("", "meter", "meter:", "GPIB0::8::INSTR", "other:GPIB0::9::INSTR"):
        assert not device.is_called(text)
    assert kept("spektro", "spektro").is_called("spektro")
    assert not kept("spektro", "spektro").is_called("")


def test_a_link_to_a_kept_devices_node_means_it(tmp_path: Path) -> None:
    node, link = tmp_path / "node", tmp_path / "link"
    node.touch()
    link.symlink_to(node)
    assert kept("pty:node", "scale", str(node)).is_called(str(link))
    assert kept("pty:node", "scale", str(node)).is_called(f"scale:{link}")
