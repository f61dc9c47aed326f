"""The settings `$0` to `$132`: names, units and ranges, and how a line that writes them looks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from vfab.model.errors import Refused

__all__ = ["SETTINGS", "Setting", "check_setting", "setting_value", "writes_eeprom"]

_EEPROM_DOLLAR = re.compile(r"\$(\d+=|N\d*=|RST=|I=|PW=|REBOOT|SETTINGS=)", re.IGNORECASE)
_EEPROM_GCODE = re.compile(r"G(10(?!\d)|28\.1|30\.1|5[4-9](?!\d))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        number: what stands after `$`.
        name: what it is.
        unit: UCUM-like unit, or "" for masks, flags and counts.
        kind: `flag` (0 or 1), `mask`, `int` or `float`.
        minimum, maximum: what is taken; None where only the machine knows.
        default: of GRBL 1.1's generic build.
    """

    number: int
    name: str
    unit: str
    kind: str
    minimum: float
    maximum: float | None
    default: float


def _axes(first: int, name: str, unit: str, defaults: tuple[float, float, float]) -> list[Setting]:
    return [
        Setting(first + at, f"{axis} {name}", unit, "float", 0.001, None, default)
        for at, (axis, default) in enumerate(zip("XYZ", defaults, strict=True))
    ]


SETTINGS: dict[int, Setting] = {
    setting.number: setting
    for setting in [
        Setting(0, "step pulse", "us", "int", 3, 255, 10),
        Setting(1, "step idle delay", "ms", "int", 0, 255, 25),
        Setting(2, "step pulse invert", "", "mask", 0, 255, 0),
        Setting(3, "direction invert", "", "mask", 0, 255, 0),
        Setting(4, "step enable invert", "", "flag", 0, 1, 0),
        Setting(5, "limit pins invert", "", "flag", 0, 255, 0),
        Setting(6, "probe pin invert", "", "flag", 0, 1, 0),
        Setting(10, "status report", "", "mask", 0, 65535, 1),
        Setting(11, "junction deviation", "mm", "float", 0, None, 0.01),
        Setting(12, "arc tolerance", "mm", "float", 0, None, 0.002),
        Setting(13, "report in inches", "", "flag", 0, 1, 0),
        Setting(20, "soft limits", "", "flag", 0, 1, 0),
        Setting(21, "hard limits", "", "flag", 0, 255, 0),
        Setting(22, "homing", "", "flag", 0, 255, 0),
        Setting(23, "homing direction invert", "", "mask", 0, 255, 0),
        Setting(24, "homing locate feed", "mm/min", "float", 0, None, 25),
        Setting(25, "homing search rate", "mm/min", "float", 0, None, 500),
        Setting(26, "homing debounce", "ms", "int", 0, 65535, 250),
        Setting(27, "homing pull-off", "mm", "float", 0, None, 1),
        Setting(30, "maximum spindle speed", "rpm", "float", 0, None, 1000),
        Setting(31, "minimum spindle speed", "rpm", "float", 0, None, 0),
        Setting(32, "laser mode", "", "flag", 0, 255, 0),
        *_axes(100, "steps", "/mm", (250, 250, 250)),
        *_axes(110, "maximum rate", "mm/min", (500, 500, 500)),
        *_axes(120, "acceleration", "mm/s2", (10, 10, 10)),
        *_axes(130, "maximum travel", "mm", (200, 200, 200)),
    ]
}
"""GRBL 1.1's settings by number; grblHAL has more."""


def check_setting(number: int, value: float) -> str:
    """The line that sets `$number`; numbers that the table does not have are left to the firmware.

    Raises Refused: the value is no number, or out of the setting's range; nothing is to be sent.
    """
    known = SETTINGS.get(number)
    least, most = (known.minimum, known.maximum) if known else (0, None)
    whole = known is not None and known.kind != "float"
    if not isfinite(value) or value < least or (most is not None and value > most) or (whole and value != int(value)):
        upto = f" to {most:g}" if most is not None else " or more"
        raise Refused(
            f"${number} cannot be {value:g}",
            context={"setting": number, "value": repr(value), "minimum": least, "maximum": most},
            remedy=f"Give a {'whole number' if whole else 'number'}, {least:g}{upto}.",
        )
    return f"${number}={int(value)}" if value == int(value) else f"${number}={value:.3f}"


def setting_value(text: str) -> float | str:
    """A setting's value: a number, or the text that grblHAL keeps under some numbers."""
    try:
        return float(text)
    except ValueError:
        return text


def writes_eeprom(line: str) -> bool:
    """Whether a line makes the firmware write, or on an AVR read, its EEPROM, during which received bytes are lost.

    Source: GRBL 1.1 "Interfacing", "EEPROM Issues": `$n=`, `$Nn=`, `$RST=`, `$I=`, G10, G28.1 and G30.1 write; G54 to
    G59 read, and so may lose bytes as well.
    """
    text = re.sub(r"\(.*?\)|\s", "", line)
    if text.startswith("$"):
        return _EEPROM_DOLLAR.match(text) is not None
    return _EEPROM_GCODE.search(text) is not None
