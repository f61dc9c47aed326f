"""The documents tell the truth: their listings run, their tables and diagrams are those of the code."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import threading
from pathlib import Path

import pytest
import yaml

from vfab.kernel.loader import PluginLoader
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.errors import Cancelled, ProtocolError
from vfab.model.lifecycle import mermaid
from vfab.model.manifest import Manifest, manifest_from_dict

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+) file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's listings, written to a folder."""
    folder = tmp_path_factory.mktemp("plugins")
    for _, name, text in FENCE.findall((DOCS / "plugin-guide.md").read_text()):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def manifest_of(folder: Path) -> Manifest:
    return manifest_from_dict(yaml.safe_load((folder / "plugin.yaml").read_text()), file=str(folder / "plugin.yaml"))


class Thermometer(threading.Thread):
    """The other end of a pseudo-terminal: answers T? with what it is told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.master, self._slave = os.openpty()
        self.address = os.ttyname(self._slave)
        self.answer = b"21.5\n"

    def run(self) -> None:
        held = b""
        while b"stop" not in held:
            held += os.read(self.master, 100)
            while b"T?\n" in held:
                held = held.partition(b"T?\n")[2]
                os.write(self.master, self.answer)


async def with_device(folder: Path, address: str, config: dict[str, object], work: object) -> None:
    supervisor = Supervisor(ZygoteSpawner())
    try:
        info = DeviceInfo(id=f"test:{address}", bus="pty", address=address)
        device = supervisor.adopt(info, manifest_of(folder), folder, config)
        await device.connect()
        await work(device)  # type: ignore[operator]
    finally:
        await supervisor.close()


def test_the_guides_plugins_are_found_without_a_problem(plugins: Path) -> None:
    found = PluginLoader().load_from_path(plugins)
    assert sorted(info.name for info in found) == ["stage", "thermo"]
    assert not [info.problem for info in found if info.problem]


def test_the_guides_thermometer_measures(plugins: Path) -> None:
    instrument = Thermometer()
    instrument.start()

    async def work(device: ManagedDevice) -> None:
        assert await device.operate("temperature") == 22.0
        assert await device.call("is_connected") is True
        instrument.answer = b"warm\n"
        with pytest.raises(ProtocolError, match="warm"):
            await device.operate("temperature")

    asyncio.run(with_device(plugins / "thermo", instrument.address, {"baudrate": 9600, "offset_c": 0.5}, work))


def test_the_guides_stage_travels_is_watched_and_is_cancelled(plugins: Path) -> None:
    async def work(device: ManagedDevice) -> None:
        seen: list[float] = []
        travel = asyncio.create_task(
            device.operate("travel", 100.0, speed_mm_s=50.0, on_progress=lambda p: seen.append(p["remaining_s"]))
        )
        while not seen:
            await asyncio.sleep(0.01)
        assert 0.0 <= await device.call("position") < 100.0
        travel.cancel()
        with pytest.raises((asyncio.CancelledError, Cancelled)):
            await travel
        assert await device.operate("travel", to_mm=1.0, speed_mm_s=200.0) == 1.0

    asyncio.run(with_device(plugins / "stage", "/dev/null", {}, work))


def test_every_fragment_of_a_manifest_in_the_guide_is_valid() -> None:
    base = {"name": "a", "version": "1", "author": "b", "description": "c", "driver_class": "d.E"}
    fragments = re.findall(r"^```yaml fragment\n(.*?)^```$", (DOCS / "plugin-guide.md").read_text(), re.M | re.S)
    assert fragments
    for text in fragments:
        manifest_from_dict({**base, **yaml.safe_load(text)})


def test_the_diagram_of_the_lifecycle_is_drawn_from_the_table() -> None:
    assert f"```mermaid\n{mermaid()}```" in (DOCS / "architecture.md").read_text()


@pytest.mark.parametrize("name", ["manifest", "errors", "config"])
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "reference" / f"{name}.md").read_text() == module.PAGES[name](), "run scripts/reference.py"
