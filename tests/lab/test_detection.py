"""Everything that is plugged into the lab, found by one scan, each with the driver that fits it best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apps.programs import Vfab
from lab.cp2112 import Cp2112
from lab.iio_chips import IioChips
from lab.stub_bus import StubBus
from lab.usb_axidraw import UsbAxiDraw
from vfab.apps.finding import drivers_of, scan
from vfab.apps.plugin_detection import detection_of


def test_one_scan_finds_every_device_and_ranks_its_drivers(
    vfab: Vfab, axidraw: UsbAxiDraw, camera: str, vcan: str, stub: StubBus, bridge: Cp2112, iio: IioChips
) -> None:
    meter = str(iio.meter)
    expected = {axidraw.address, camera, f"can://{vcan}", bridge.gpio_node(), stub.node, meter, str(iio.thermometer)}
    found = looked(vfab, expected)
    devices = {device["id"]: device for device in found["devices"]}
    board = devices[axidraw.id]
    assert board["fits"][0]["driver"] == "axidraw" and board["address"] == axidraw.address
    assert (board["manufacturer"], board["product"]) == ("SchmalzHaus", "EiBotBoard")
    scores = [fit["score"] for fit in board["fits"]]
    assert scores == sorted(scores, reverse=True)
    by_node = {device["address"]: device for device in found["devices"] if device["bus"] != "i2c"}
    nodes = {camera: "v4l2", f"can://{vcan}": "socketcan", bridge.gpio_node(): "gpio", meter: "iio"}
    for node, driver in nodes.items():
        assert by_node[node]["drivers"][0] == driver, by_node[node]
    assert by_node[meter]["attributes"]["chip"] == "ina226"
    assert by_node[meter]["attributes"]["channels"] == "in_current3 in_power2 in_voltage0 in_voltage1"
    (chip,) = (device for device in found["devices"] if device["id"].endswith(":0x49"))
    assert (chip["address"], chip["drivers"][0]) == (stub.node, "i2c-lm75")
    assert (chip["attributes"]["chip"], chip["attributes"]["kernel_driver"]) == ("lm75", "lm75")


def test_a_chip_without_a_kernel_driver_is_found_by_asking(stub: StubBus, iio: IioChips, tmp_path: Path) -> None:
    env = {"VFAB_HOME": str(tmp_path)}
    drivers = drivers_of(env)
    found = scan(drivers, detection_of(env, drivers), kinds=["i2c"], probe=True).devices
    chips = {device.attributes.get("chip_address"): device for device in found if device.address == stub.node}
    kernels = {"0x49": "lm75", "0x40": "ina2xx_adc", "0x5a": "mlx90614"}
    assert set(chips) == {None, "0x48", *kernels}, "the bus, the chip that answered, and those that the kernel has"
    assert {address: chips[address].attributes["kernel_driver"] for address in kernels} == kernels
    assert chips["0x48"].drivers[0] == "i2c-lm75"


def looked(vfab: Vfab, expected: set[str]) -> Any:
    """What a scan sees. It looks again where a handler had too little time: two seconds are short in here."""
    for _ in range(3):
        done = vfab("device", "scan", "--json", timeout=280)
        assert done.code == 0, done.err
        missing = expected - {device["address"] for device in done.json["devices"]}
        if not missing:
            return done.json
        assert done.json["problems"], f"{missing} are not listed, and nothing is said about it"
    raise AssertionError(f"{missing} are not found: {done.json['problems']}")
