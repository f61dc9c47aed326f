"""Devices together with their drivers; nothing is started, so that a scan stays quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vfab.kernel.addresses import device_at
from vfab.kernel.detection import DetectionRegistry, ScanResult
from vfab.kernel.places import Places, home_of
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.plugins import PluginStatus
from vfab.store.quick import left_out_drivers

__all__ = ["drivers_of", "scan", "with_drivers"]


def drivers_of(env: Mapping[str, str]) -> DriverRegistry:
    """The drivers of this machine, without those that somebody disabled, or that a node left out."""
    left_out = left_out_drivers(home_of(env))
    made = DriverRegistry(Places.from_environment(env), disabled=left_out)
    if left_out:
        for info in made.drivers:
            why = left_out.get(info.name)
            if why is not None:
                text = f"{why}; `vfab driver enable {info.name}` lets it in again"
                made.set_status(info.name, PluginStatus.DISABLED, text)
    return made


def scan(
    drivers: DriverRegistry,
    detection: DetectionRegistry,
    *,
    refresh: bool = False,
    kinds: Sequence[str] = (),
    probe: bool = False,
    addresses: Sequence[str] = (),
    on_waiting: Callable[[tuple[str, ...]], None] | None = None,
) -> ScanResult:
    """One look at all devices, each with its drivers.

    Args:
        drivers, detection: what there is, and what finds devices.
        refresh, kinds, probe, on_waiting: as `DetectionRegistry.scan` has them.
        addresses: addresses that the user named, to be listed, and probed, with what is found.

    Raises ConfigurationError, DeviceNotFound: of `kinds`, or of an address.
    """
    also = [device_at(address) for address in addresses]
    result = detection.scan(refresh=refresh, kinds=kinds, probe=probe, also=also, on_waiting=on_waiting)
    return replace(result, devices=tuple(drivers.with_drivers(result.devices)))


def with_drivers(drivers: DriverRegistry, device: DeviceInfo) -> DeviceInfo:
    """`device` with the drivers that fit it."""
    return drivers.with_drivers([device])[0]
