"""What can be told of the Bluetooth LE driver without a radio; tests/drivers/links has bumble's virtual controllers."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfab.model.errors import ConfigurationError, ConnectError, DeviceNotFound, DriverError, LinkLost, Refused
from vfab.sdk.testing import DriverBench, manifest_in

pytest.importorskip("bleak")

from bleak import exc

from vfab.drivers.ble.backend import BleakBackend, full_uuid
from vfab.drivers.ble.driver import BleDriver

FOLDER = Path(__file__).parent


def test_uuids_are_written_short_or_long() -> None:
    long = "0000180f-0000-1000-8000-00805f9b34fb"
    assert full_uuid("180F") == full_uuid("0000180f") == full_uuid(long.upper()) == long
    for text in ("", "18", "heart", long + "0"):
        with pytest.raises(ConfigurationError):
            full_uuid(text)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exc.BleakDeviceNotFoundError("x", "not found"), DeviceNotFound),
        (exc.BleakCharacteristicNotFoundError("2a19"), Refused),
        (exc.BleakError("Not connected"), LinkLost),
        (exc.BleakError("le-connection-abort"), ConnectError),
        (FileNotFoundError("/run/dbus/system_bus_socket"), ConnectError),
        (LinkLost("gone"), LinkLost),
    ],
)
def test_the_librarys_errors_are_translated_and_say_what_to_do(error: Exception, kind: type[DriverError]) -> None:
    told = BleakBackend().translated(error, "ble://x")
    assert type(told) is kind
    assert told.remedy


def test_a_machine_without_bluetooth_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    with DriverBench(BleDriver, manifest_in(FOLDER), "ble://C4:BE:84:00:00:01") as b:
        for call in (b.driver.connect, lambda: b.driver.scan(0.1)):
            with pytest.raises(ConnectError) as why:
                call()
            assert why.value.remedy
        assert not b.driver.is_connected()
