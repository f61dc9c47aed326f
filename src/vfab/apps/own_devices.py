"""Devices of plugins in older shapes, which vfab's detection knows nothing of.

The author's code finds its device, or opens what it was told, by itself: such a driver has a device of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vfab.kernel.addresses import device_at, is_address
from vfab.model.devices import SCANNED, UNSEEN, DeviceInfo
from vfab.model.plugins import DriverInfo

__all__ = ["finds_by_itself", "has_own_device", "named_device", "of_plugin", "opens_by_itself", "own_device"]

_OPENS_ITSELF = frozenset({"drv_module", "driver_plugin", "function_contract", "instrument_plugin", "js_driver"})


def has_own_device(driver: DriverInfo) -> bool:
    """Whether the driver opens its device itself, so that nothing has to be found before it is used."""
    return driver.manifest.runtime.dialect in _OPENS_ITSELF


def opens_by_itself(driver: DriverInfo, config: Mapping[str, Any]) -> bool:
    """Whether the driver, with the settings `config`, knows which device to open without being told.

    An instrument's constructor takes a resource: that has to be one of the settings.
    """
    if not has_own_device(driver) or driver.manifest.simulator:
        return False
    return driver.manifest.runtime.dialect != "instrument_plugin" or bool(config.get("resource_name"))


def finds_by_itself(driver: DriverInfo) -> bool:
    """Whether the driver has a scan of its own, as seed 002's drivers have."""
    command = driver.manifest.commands.get("scan")
    return driver.manifest.runtime.dialect == "drv_module" and command is not None and command.needs == "nothing"


def own_device(driver: DriverInfo, called: str = "") -> DeviceInfo:
    """The device that the author's code calls `called`; "" is the one that it finds, or was configured for, itself.

    What is called by an address is the device at it, as for everybody: one device has one id, and one holder.

    Raises DeviceNotFound, ConfigurationError: of the address.
    """
    attributes = {"identified": driver.name}
    scans = finds_by_itself(driver)
    if is_address(called) and not scans:
        there = device_at(called)
        return msgspec.structs.replace(there, drivers=(driver.name,), attributes={**there.attributes, **attributes})
    if scans and called:
        attributes |= {"device_id": called, UNSEEN: "yes"}
    return DeviceInfo(
        id=f"{driver.name}:{called}" if called else driver.name,
        bus=driver.name,
        address="" if scans else called,
        name=called or f"what {driver.name} opens by itself",
        drivers=(driver.name,),
        attributes=attributes,
    )


def named_device(text: str, drivers: Iterable[DriverInfo], chosen: DriverInfo | None = None) -> DeviceInfo | None:
    """The own device that `text` means, where nothing that was found is called so; None when it means none.

    A driver's name is the device that it opens by itself, and `NAME:TEXT` the one that its author calls so. With a
    driver that was `chosen`, any text is. Paths are none: a device node is there, or is not.
    """
    if text.startswith("/"):
        return None
    if chosen is not None:
        if not has_own_device(chosen):
            return None
        return own_device(chosen, "" if text == chosen.name else text.removeprefix(f"{chosen.name}:"))
    name, _, called = text.partition(":")
    found = next((driver for driver in drivers if driver.name == name and has_own_device(driver)), None)
    return own_device(found, called) if found is not None and not called.startswith("//") else None


def of_plugin(driver: DriverInfo, device: Mapping[str, Any]) -> DeviceInfo:
    """A device that a plugin of seed 002 found: its id is the plugin's own, unique below the plugin's name."""
    given = {str(key): value for key, value in dict(device.get("attributes") or {}).items()}
    attributes = {
        key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in given.items()
    }
    own = str(device.get("device_id", ""))
    return DeviceInfo(
        id=f"{driver.name}:{own}",
        bus=driver.name,
        address="",
        name=str(device.get("name") or own),
        drivers=(driver.name,),
        attributes={
            **attributes,
            "identified": driver.name,
            "device_type": str(device.get("device_type", "")),
            "device_id": own,
            SCANNED: json.dumps(given, default=str),
        },
    )
