"""Sensors: thermometers over /dev/i2c-N, and edges of lines of a /dev/gpiochipN."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cp2112 import Cp2112
from lab.modules import until
from lab.stub_bus import StubBus
from vfab.drivers.gpio.driver import GpioDriver
from vfab.drivers.i2c_lm75.driver import LM75Driver
from vfab.model.errors import DeviceBusy, DriverError
from vfab.sdk.testing import DriverBench, manifest_in

DRIVERS = Path(__file__).resolve().parents[2] / "src/vfab/drivers"
LM75 = manifest_in(DRIVERS / "i2c_lm75")
GPIO = manifest_in(DRIVERS / "gpio")


@pytest.mark.parametrize("celsius", [21.5, 0, -12.5])
def test_a_thermometer_says_what_the_kernels_own_driver_says(stub: StubBus, celsius: float) -> None:
    for chip in (stub.ours, stub.kernels):
        stub.warm_to(chip, celsius)
    with DriverBench(LM75Driver, LM75, stub.node, config={"address": stub.ours}) as bench:
        assert bench.driver.connect()
        reading = bench.driver.read_sensor()
        assert reading.values["temperature"] == celsius, reading
        until(lambda: stub.kernel_says() == celsius, f"the kernel says {celsius} °C")


def test_a_chip_that_a_kernel_driver_has_is_left_to_it_unless_told_otherwise(stub: StubBus) -> None:
    stub.warm_to(stub.kernels, 30)
    with DriverBench(LM75Driver, LM75, stub.node, config={"address": stub.kernels}) as bench:
        with pytest.raises(DeviceBusy) as busy:
            bench.driver.connect()
        assert "unbind" in busy.value.remedy.lower()
    with DriverBench(LM75Driver, LM75, stub.node, config={"address": stub.kernels, "force": True}) as bench:
        assert bench.driver.connect()
        assert bench.driver.read_sensor().values["temperature"] == 30


def test_a_thermometer_behind_a_usb_bridge_is_read_and_an_empty_address_is_told(bridge: Cp2112) -> None:
    with DriverBench(LM75Driver, LM75, bridge.i2c_node(), config={"address": 0x48}) as bench:
        assert bench.driver.connect()
        assert bench.driver.read_sensor().values["temperature"] == 25.5
        bridge.chips[0x48].registers[0] = 0xF380
        assert bench.driver.read_sensor().values["temperature"] == -12.5
    with DriverBench(LM75Driver, LM75, bridge.i2c_node(), config={"address": 0x4A}) as bench:
        with pytest.raises(DriverError) as nobody:
            bench.driver.connect()
        assert nobody.value.remedy and "0x4a" in nobody.value.message


def test_a_limit_switch_is_told_by_the_kernels_edges(bridge: Cp2112) -> None:
    bridge.set_input(3, False)
    config = {"lines": [{"line": 3, "name": "x-limit"}], "interrupts": True}
    with DriverBench(GpioDriver, GPIO, bridge.gpio_node(), config=config) as bench:
        assert bench.driver.connect()
        assert bench.driver.read_sensor().values["x-limit"] == 0
        bridge.set_input(3, True)
        edges = until(lambda: [data for kind, data in bench.events if kind == "edge"], "an edge came")
        assert (edges[0]["line"], edges[0]["edge"]) == ("x-limit", "rising")
        assert bench.driver.read_sensor().values["x-limit"] == 1
        bridge.set_input(3, False)
        edges = until(lambda: [data for kind, data in bench.events if data.get("edge") == "falling"], "it went back")
        assert edges[0]["sequence"] == 2


def test_an_output_is_switched_and_left_at_its_safe_value(bridge: Cp2112) -> None:
    config = {"lines": [{"line": 5, "name": "lamp", "direction": "out", "value": False, "safe_value": False}]}
    with DriverBench(GpioDriver, GPIO, bridge.gpio_node(), config=config) as bench:
        assert bench.driver.connect()
        assert bridge.directions & 1 << 5, "it is an output"
        bench.driver.set_line("lamp", True)
        assert bridge.levels & 1 << 5
    until(lambda: not bridge.levels & 1 << 5, "the lamp is off")
