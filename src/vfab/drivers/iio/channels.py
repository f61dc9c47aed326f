"""The channels of an IIO device, as sysfs shows them, and their values in UCUM units.

Source: Linux Documentation/ABI/testing/sysfs-bus-iio: names, units after scale and offset.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from vfab.model.errors import HardwareError, LinkLost, PermissionRefused, ProtocolError, TimeoutExceeded
from vfab.sdk.sensor import Quantity

__all__ = ["UNITS", "Channel", "find_channels", "number_in", "read_number", "read_text", "write_text"]

UNITS: dict[str, tuple[str, float]] = {
    "voltage": ("V", 1e-3), "altvoltage": ("V", 1e-3), "current": ("A", 1e-3), "power": ("W", 1e-3),
    "energy": ("J", 1.0), "resistance": ("Ohm", 1.0), "capacitance": ("F", 1e-9), "temp": ("Cel", 1e-3),
    "humidityrelative": ("%", 1e-3), "pressure": ("Pa", 1e3), "illuminance": ("lx", 1.0), "accel": ("m/s2", 1.0),
    "gravity": ("m/s2", 1.0), "anglvel": ("rad/s", 1.0), "magn": ("G", 1.0), "angl": ("rad", 1.0),
    "incli": ("deg", 1.0), "distance": ("m", 1.0), "velocity": ("m/s", 1.0), "concentration": ("%", 1.0),
    "ph": ("[pH]", 1.0), "electricalconductivity": ("S/m", 1.0), "massconcentration": ("ug/m3", 1.0),
    "phase": ("rad", 1.0),
}  # fmt: skip
"""Kind of channel: UCUM unit, and what the kernel's unit is of it (voltage is in mV, pressure in kPa)."""

_VALUE = re.compile(r"in_(?P<name>(?P<kind>[a-z]+)[a-z0-9_-]*?)_(?P<form>raw|input)")


@dataclass(frozen=True, slots=True)
class Channel:
    """One input.

    Attributes:
        name: what readings call it: `voltage0`, `accel_x`, `voltage0-voltage1`.
        kind: `voltage`, `accel` …
        path: the file with its value.
        processed: the file has the value already, not the converter's number.
        scale, offset: value in the kernel's unit = (number + offset) · scale.
    """

    name: str
    kind: str
    path: Path
    processed: bool
    scale: float = 1.0
    offset: float = 0.0

    @property
    def unit(self) -> str:
        """UCUM code."""
        return UNITS.get(self.kind, ("1", 1.0))[0]

    def value(self, number: float) -> float:
        """The value in `unit` of the number that the kernel gives."""
        given = number if self.processed else (number + self.offset) * self.scale
        return given * UNITS.get(self.kind, ("1", 1.0))[1]

    def quantity(self) -> Quantity:
        """What readings say of it. The kernel knows no accuracy; what is left is half a step, as rectangular."""
        step = None if self.processed else abs(self.value(1.0) - self.value(0.0))
        return Quantity(
            name=self.name,
            unit=self.unit,
            resolution=step,
            uncertainty=None if step is None else step / math.sqrt(12),
            uncertainty_source="" if step is None else "resolution only: the kernel does not tell the accuracy",
        )


def find_channels(folder: Path) -> list[Channel]:
    """The inputs of the device whose files are in `folder`, by name. `_input` is preferred to `_raw`.

    Raises LinkLost: the folder is not there. ProtocolError: a scale or offset is no number.
    """
    found: dict[str, Channel] = {}
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise _problem(folder, error) from error
    for file in names:
        match = _VALUE.fullmatch(file)
        if match is None:
            continue
        name, kind, processed = match["name"], match["kind"], match["form"] == "input"
        if name in found and found[name].processed:
            continue
        scale, offset = _shared(folder, name, kind, "scale", 1.0), _shared(folder, name, kind, "offset", 0.0)
        found[name] = Channel(name, kind, folder / file, processed, scale, offset)
    return list(found.values())


def _shared(folder: Path, name: str, kind: str, what: str, default: float) -> float:
    """Scale or offset: the channel's own file, or the one that channels of its kind share."""
    plain = re.sub(r"\d+", "", name)
    for stem in dict.fromkeys((f"in_{name}", f"in_{plain}", f"in_{kind}", "in")):
        path = folder / f"{stem}_{what}"
        if path.exists():
            return read_number(path)
    return default


def read_text(path: Path) -> str:
    """What a file says, stripped.

    Raises LinkLost: the device is gone. TimeoutExceeded, HardwareError: the kernel's driver could not measure.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise _problem(path, error) from error


def read_number(path: Path) -> float:
    """The number in a file; a unit after it, as some drivers write, is left out.

    Raises ProtocolError: there is none.
    """
    text = read_text(path)
    number = number_in(text)
    if number is None:
        raise ProtocolError(
            f"{path} says {text[:40]!r}, and no number", context={"file": str(path)}, remedy="See the kernel's log."
        )
    return number


def number_in(text: str) -> float | None:
    """The one number in `text`, which a unit may follow; None when there is none, or there are several."""
    try:
        first, *more = text.split()
        number = float(first)
    except ValueError:
        return None
    if not math.isfinite(number) or (more and more[0][0] in "+-.0123456789"):
        return None
    return number


def write_text(path: Path, text: str) -> None:
    """Write a setting. Raises PermissionRefused: this user may not. HardwareError: the device does not take it."""
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise _problem(path, error) from error


def _problem(path: Path, error: OSError) -> Exception:
    import errno

    context = {"file": str(path), "errno": error.errno}
    match error.errno:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return LinkLost(f"{path} is not there: the device is gone", context=context, original_error=error)
        case errno.EACCES | errno.EPERM:
            return PermissionRefused(
                f"this user may not use {path}",
                context=context,
                original_error=error,
                remedy="A udev rule gives the group write access to the device's files, or run as root.",
            )
        case errno.ETIMEDOUT | errno.EAGAIN | errno.EBUSY:
            return TimeoutExceeded(
                f"{path}: the device did not measure: {error.strerror}",
                context=context,
                original_error=error,
                remedy="While a buffer runs, the files of many devices are busy; stop the stream.",
            )
        case _:
            return HardwareError(
                f"{path}: {error.strerror or error}",
                context=context,
                original_error=error,
                remedy="The kernel's log (dmesg) says more.",
                retryable=True,
            )
