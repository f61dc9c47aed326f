"""Detection put together: the handlers of this machine, and seed 001's `DeviceDetector`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from vfab.kernel.addresses import find_device
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.detection import DetectionHandler, DetectionRegistry, ScanResult, device_dict
from vfab.kernel.detection_settings import DetectionSettings
from vfab.kernel.finders.can import CanHandler
from vfab.kernel.finders.genicam import GenicamHandler
from vfab.kernel.finders.gpio import GpioHandler
from vfab.kernel.finders.hosts import HostsHandler
from vfab.kernel.finders.i2c import I2cHandler
from vfab.kernel.finders.identify import Identifier, Question
from vfab.kernel.finders.iio import IioHandler
from vfab.kernel.finders.mdns import MdnsHandler
from vfab.kernel.finders.spi import SpiHandler
from vfab.kernel.finders.usbtmc import UsbtmcHandler
from vfab.kernel.finders.v4l2 import V4l2Handler
from vfab.kernel.finders.visa import VisaHandler, has_visa_library
from vfab.kernel.leases import LeaseBook
from vfab.kernel.places import home_of
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.serial_ports import SerialHandler
from vfab.kernel.simulators import SimulatorHandler, simulators_folder
from vfab.kernel.usb import UsbHandler
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DriverNotFound

__all__ = ["DeviceDetector", "default_detection", "named_services"]


def default_detection(env: Mapping[str, str], drivers: DriverRegistry | None = None) -> DetectionRegistry:
    """The detection of this machine: every kind that vfab knows.

    Args:
        env: environment variables; `VFAB_HOME` says where config.yaml and running simulators are.
        drivers: what to look for on networks, and what to ask at ports, is what these name.
    """
    registry = DetectionRegistry()
    for handler in _handlers(env, drivers):
        registry.register_handler(handler)
    return registry


def _handlers(env: Mapping[str, str], drivers: DriverRegistry | None) -> list[DetectionHandler]:
    found: list[DetectionHandler] = [
        UsbHandler(),
        SerialHandler(),
        V4l2Handler(),
        CanHandler(),
        I2cHandler(),
        GpioHandler(),
        SpiHandler(),
        IioHandler(),
        UsbtmcHandler(),
        SimulatorHandler(simulators_folder(env)),
    ]
    try:
        settings = DetectionSettings.of(ConfigFile.of(env))
    except ConfigurationError as error:
        settings = DetectionSettings()
        found.append(_Misconfigured(error))

    def services() -> Iterable[str]:
        return {*settings.mdns.services, *named_services(drivers)}

    libraries = settings.visa.libraries or ("@py",)
    leases = LeaseBook(home_of(env) / "run" / "leases")
    found += [
        HostsHandler(settings.hosts, in_use=lambda device_id: leases.holder_of(device_id) is not None),
        GenicamHandler(settings.genicam.interfaces),
        MdnsHandler(services, settings.mdns.interfaces),
        VisaHandler(
            libraries if settings.visa.libraries or not has_visa_library() else ("@ivi",),
            network=settings.visa.network,
            always=bool(settings.visa.libraries) or has_visa_library(),
        ),
        Identifier(
            lambda: _questions(drivers),
            leases,
            is_known=lambda device: _is_known(drivers, device),
        ),
    ]
    return found


_BY_IDS = 20
"""The score of a rule with both USB ids."""


class _Misconfigured(DetectionHandler):
    """Says at every scan that the configuration is not followed, and why; the scan is complete without it."""

    def __init__(self, error: ConfigurationError) -> None:
        super().__init__("configuration")
        self._error = error

    def find(self) -> list[DeviceInfo]:
        """Nothing."""
        return []

    def limitation(self) -> str:
        """What is wrong with the configuration."""
        return f"{self._error.message}. {self._error.remedy}"


def named_services(drivers: DriverRegistry | None) -> Iterable[str]:
    """The mDNS service types that drivers' match rules name."""
    for info in drivers.get_available_drivers() if drivers is not None else ():
        for rule in info.manifest.match:
            service = (rule.attributes or {}).get("service", "").rstrip("*.")
            if service and not set(service) & set("*?["):
                yield service


def _is_known(drivers: DriverRegistry | None, device: DeviceInfo) -> bool:
    """Whether one driver alone fits `device`, by USB ids or more: nothing is learned by asking then."""
    fits = drivers.drivers_for(device) if drivers is not None else []
    return len(fits) == 1 and fits[0].score >= _BY_IDS


def _questions(drivers: DriverRegistry | None) -> Iterable[Question]:
    """What drivers ask at ports, if they may."""
    for info in drivers.get_available_drivers() if drivers is not None else ():
        if info.manifest.permissions.probe:
            yield from ((info.name, question) for question in info.manifest.identify)


class DeviceDetector:
    """Devices together with the drivers that fit them (seed 001 §2).

    `detect_axidraw_devices()` works for every driver that was found, whatever its name: it is
    `detect_devices("axidraw")`.

    Args:
        drivers, detection: what there is, and what finds devices; by default this machine's.
    """

    def __init__(self, drivers: DriverRegistry | None = None, detection: DetectionRegistry | None = None) -> None:
        self._drivers = drivers if drivers is not None else DriverRegistry()
        self._detection = detection if detection is not None else default_detection(os.environ, self._drivers)

    def scan(self, *, refresh: bool = False) -> ScanResult:
        """What is there, each device with the drivers that fit it, best first."""
        result = self._detection.scan(refresh=refresh)
        devices = tuple(self._drivers.with_drivers(result.devices))
        return replace(result, devices=devices)

    def find_device(self, text: str) -> DeviceInfo:
        """The device that `text` means: an id, the beginning of one id, or an address.

        Raises DeviceNotFound, ConfigurationError: as `addresses.find_device`.
        """
        return self._drivers.with_drivers([find_device(text, self._detection.scan().devices)])[0]

    def detect_devices(self, driver_name: str) -> dict[str, Any]:
        """The devices that the driver fits, in seed 001's shape.

        `{"count", "installed", "device_id", "device_name", "accessible", "devices"}`; id and name are the first
        device's, "" when there is none. `accessible` says whether any can be opened. Raises DriverNotFound.
        """
        driver = self._drivers.load_driver(driver_name)
        manifest = driver.get_info().manifest
        devices = [device for device in self.scan().devices if manifest.score(device) > 0]
        first = devices[0] if devices else None
        return {
            "count": len(devices),
            "installed": driver.is_available(),
            "device_id": first.id if first else "",
            "device_name": first.name if first else "",
            "accessible": any(device.accessible for device in devices),
            "devices": [device_dict(device) for device in devices],
        }

    def __getattr__(self, name: str) -> Callable[[], dict[str, Any]]:
        match = re.fullmatch(r"detect_(\w+)_devices", name)
        if match is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        wanted = match[1]
        for info in self._drivers.drivers:
            if re.sub(r"\W", "_", info.name).casefold() == wanted.casefold():
                return lambda: self.detect_devices(info.name)
        raise AttributeError(f"there is no driver {wanted!r}") from DriverNotFound(f"there is no driver {wanted!r}")
