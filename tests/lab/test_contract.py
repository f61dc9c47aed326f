"""The suite that every driver is held to (`vfab driver test NAME --device …`), on device nodes of the kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.cp2112 import Cp2112
from lab.iio_chips import IioChips
from lab.stub_bus import StubBus
from lab.usb_axidraw import UsbAxiDraw
from vfab.apps.contract import CHECKS, check_driver
from vfab.apps.contract.model import Result

EXEMPT: Mapping[str, Mapping[str, str]] = {}
"""Check -> why it may fail here, by driver. This only shrinks: one that passes fails the test."""

SLOW: Mapping[str, str] = {
    "leak": "200 connects take minutes at the speed of an emulated processor",
    "square": "the plots of test_axidraw.py are larger",
}
"""Checks that are run by `make lab ARGS=--whole` only, and why."""

DRIVERS = ("v4l2", "socketcan", "axidraw", "i2c-lm75", "iio")
"""Drivers that are held to it, each on what `device_of` plugs in."""

WHOLE = pytest.mark.skipif("not config.getoption('--whole')", reason="its host once ended while it reconnected")
"""For a driver that is not yet known to pass each time: `make lab ARGS=--whole`."""

SETTINGS: Mapping[str, dict[str, Any]] = {
    "gpio": {"lines": [{"line": 3, "name": "x-limit"}, {"line": 5, "name": "lamp", "direction": "out"}]},
    "i2c-lm75": {"address": StubBus.ours},
}


def device_of(driver: str, request: pytest.FixtureRequest) -> str:
    """What the driver is held to it on, plugged in."""
    match driver:
        case "axidraw":
            board: UsbAxiDraw = request.getfixturevalue("axidraw")
            return board.id
        case "v4l2":
            return str(request.getfixturevalue("camera"))
        case "socketcan":
            return f"can://{request.getfixturevalue('vcan')}"
        case "i2c-lm75":
            stub: StubBus = request.getfixturevalue("stub")
            stub.warm_to(stub.ours, 21.5)
            return stub.node
        case "gpio":
            bridge: Cp2112 = request.getfixturevalue("bridge")
            return bridge.gpio_node()
        case "iio":
            chips: IioChips = request.getfixturevalue("iio")
            return str(chips.meter)
    raise AssertionError(driver)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("driver", [*DRIVERS, pytest.param("gpio", marks=WHOLE)])
def test_a_driver_keeps_its_contract_on_a_device_node(
    driver: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    env = {**os.environ, "VFAB_HOME": str(tmp_path)}
    device = device_of(driver, request)

    def tell(result: Result) -> None:
        print(f"{driver}: {result.outcome} {result.name} {result.seconds:.1f} s {result.note}", flush=True)

    whole = request.config.getoption("--whole")
    checking = check_driver(
        env,
        driver,
        device=device,
        simulated=True,
        overrides=SETTINGS.get(driver),
        exemptions=EXEMPT.get(driver),
        only=[check.name for check in CHECKS if whole or check.name not in SLOW],
        tell=tell,
    )
    report = asyncio.run(checking)
    assert report.passed, report.table()
    assert not [result.name for result in report.results if result.needless], report.table()
    assert report.count("passed") >= 10, report.table()
