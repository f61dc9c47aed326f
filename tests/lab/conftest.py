"""Tests against device nodes of a real kernel. They run inside the lab only (`make lab`, or `tests/test_lab.py`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.programs import Vfab
from lab.cp2112 import Cp2112, RegisterChip
from lab.iio_chips import IioChips
from lab.modules import appears, load
from lab.stub_bus import StubBus
from lab.usb_axidraw import UsbAxiDraw
from vfab import DeviceDriverManager

collect_ignore_glob = [] if os.environ.get("VFAB_LAB") else ["test_*.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="run the slow checks of the contract as well")


@pytest.fixture
def vfab(tmp_path: Path) -> Iterator[Vfab]:
    """The program, in a home of its own. Everything takes ten times as long here as it does outside."""
    env = {**os.environ, "HOME": str(tmp_path), "VFAB_HOME": str(tmp_path / "home"), "COLUMNS": "100"}
    made = Vfab(tmp_path, env)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="session")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceDriverManager]:
    """One session for all tests that need no program: each driver still has a process of its own."""
    os.environ["VFAB_HOME"] = str(tmp_path_factory.mktemp("home"))
    with DeviceDriverManager() as made:
        yield made


@pytest.fixture(scope="session")
def usb() -> None:
    """A USB bus whose other end is in this kernel, too, with an EiBotBoard's ids plugged in."""
    load("dummy_hcd", "cdc_acm", "usb_f_acm")
    load("g_serial", *UsbAxiDraw.MODULE_OPTIONS)


@pytest.fixture
def axidraw(usb: None) -> Iterator[UsbAxiDraw]:
    """An AxiDraw on that bus, plugged in."""
    with UsbAxiDraw() as made:
        made.wait_for_node()
        yield made


@pytest.fixture(scope="session")
def camera() -> str:
    """The node of a camera: `vivid` shows colour bars and a clock, as a webcam of 640 × 360."""
    _cameras()
    return str(appears("/dev/video0"))


@pytest.fixture(scope="session")
def planar_camera() -> str:
    """The node of another one of those, whose pictures may lie in several pieces of memory."""
    _cameras()
    return str(appears("/dev/video1"))


def _cameras() -> None:
    load("vivid", "n_devs=2", "multiplanar=1,2", "node_types=0x1,0x1", "num_inputs=1,1", "input_types=0x0,0x0")


@pytest.fixture(scope="session")
def bridge() -> Iterator[Cp2112]:
    """A USB bridge with eight GPIO lines, and a thermometer of 25.5 °C at 0x48 of its I2C bus."""
    with Cp2112({0x48: RegisterChip(r0=0x1980, r1=0, r2=0x4B00, r3=0x5000)}) as made:
        made.gpio_node()
        made.i2c_node()
        yield made


@pytest.fixture(scope="session")
def stub() -> StubBus:
    """An I2C bus in memory with two LM75: 0x48 for us, 0x49 for the kernel's own driver."""
    return StubBus()


@pytest.fixture(scope="session")
def iio(stub: StubBus) -> IioChips:
    """A power meter and a thermometer on that bus, which the kernel shows as IIO devices."""
    return IioChips(stub)


@pytest.fixture(scope="session")
def vcan() -> str:
    """A CAN interface; what is sent there, every other program on it hears."""
    load("vcan", "can_raw")
    subprocess.run(["ip", "link", "add", "vcan0", "type", "vcan"], check=True)
    subprocess.run(["ip", "link", "set", "vcan0", "up"], check=True)
    return "vcan0"
