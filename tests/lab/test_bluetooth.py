"""The Bluetooth LE driver on BlueZ, as it is on any Linux: found, asked, listened to, lost."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bumble")
pytest.importorskip("bleak")

from drivers.links.test_ble_peers import BATTERY, BELT, HEART_RATE, UART_IN, UART_OUT
from lab.bluetooth import Air
from lab.modules import until
from vfab.drivers.ble.backend import full_uuid
from vfab.drivers.ble.driver import BleDriver
from vfab.sdk.testing import DriverBench, manifest_in

BLE = manifest_in(Path(__file__).resolve().parents[2] / "src/vfab/drivers/ble")


@pytest.fixture(scope="module")
def air() -> Iterator[Air]:
    """BlueZ, with a belt within reach."""
    with Air() as made:
        yield made


def bench(**settings: Any) -> DriverBench[BleDriver]:
    return DriverBench(BleDriver, BLE, f"ble://{BELT}", config={"connect_timeout_s": 60, **settings})


def test_a_device_is_found_by_bluez_and_read_written_and_listened_to(air: Air) -> None:
    with bench(write_to=UART_IN, notify_from=[UART_OUT]) as b:
        found = {one["address"]: one for one in b.driver.scan(5.0)}
        assert found[f"ble://{BELT}"]["name"] == "Belt 7", found
        assert b.driver.connect()
        listed = {one["uuid"][4:8]: one["properties"] for one in b.driver.services()}
        assert listed["2a37"] == ["notify"]
        assert b.driver.read(BATTERY)["hex"] == "57"
        assert b.driver.send_command("hello").text == "HELLO"
        b.driver.subscribe(HEART_RATE)
        b.driver.start_streaming()
        until(lambda: b.driver.get_status().streaming, "it streams")
        for rate in range(60, 70):
            air.on_air(air.belt.device.notify_subscribers(air.belt.rate, struct.pack("BB", 0, rate)))
        got = [b.streams["main"].read(timeout_s=20) for _ in range(10)]
        assert [bytes(one.data)[1] for one in got if one is not None] == list(range(60, 70))
        assert {one.meta["characteristic"] for one in got if one is not None} == {full_uuid(HEART_RATE)}
