"""Profiles: what a chip keeps in which register, read from YAML or from settings and checked before anything is asked.

model: TMP102
manufacturer: Texas Instruments
datasheet: SBOS397G
addresses: [0x48]
identify: [{register: 0x0f, size: 2, equals: 0x0117}]
setup: [{register: 0x01, value: 0x60a0, size: 2}]
quantities:
  - {name: temperature, register: 0, size: 2, signed: true, bits: [15, 4], scale: 0.0625, unit: Cel, uncertainty: 1.2}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from vfab.model.errors import ConfigurationError
from vfab.model.yamltext import YamlProblem, parse_yaml
from vfab.sdk.i2c import BLOCK_MAX
from vfab.sdk.sensor import Quantity

__all__ = ["Check", "Profile", "RegisterQuantity", "Write", "builtin_profiles", "load_profile", "profile_from"]

_FOLDER = Path(__file__).parent / "profiles"
Endian = Literal["big", "little"]


class RegisterQuantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A quantity in a register: value = number · scale + offset.

    Attributes:
        register: where it begins.
        size: bytes.
        endian: which byte comes first over the wire: `big` the high one.
        signed: two's complement, of the bits that count.
        bits: highest and lowest bit that count, [15, 4]; None: all.
        sign_bit: a bit beside them that makes the value negative by 2^(number of bits), as MCP9808 has; None: none.
    """

    name: str
    register: int
    unit: str
    size: int = 2
    endian: Endian = "big"
    signed: bool = False
    bits: tuple[int, int] | None = None
    sign_bit: int | None = None
    scale: float = 1.0
    offset: float = 0.0
    uncertainty: float | None = None
    uncertainty_source: str = ""
    minimum: float | None = None
    maximum: float | None = None

    def problem(self) -> str:
        """What is wrong with it; "" when nothing is."""
        top = self.size * 8 - 1
        if not 0 <= self.register <= 0xFF:
            return f"register {self.register} is not one of 0 to 0xff"
        if not 1 <= self.size <= BLOCK_MAX:
            return f"size {self.size} is not 1 to {BLOCK_MAX} bytes"
        if self.bits is not None and not top >= self.bits[0] >= self.bits[1] >= 0:
            return f"bits {list(self.bits)} are not the highest and the lowest of {top} to 0"
        if self.sign_bit is not None and (self.signed or not 0 <= self.sign_bit <= top):
            return "sign_bit is for a value that is not signed otherwise, and one of its bits"
        if self.scale == 0:
            return "scale is 0"
        return ""

    def number(self, data: bytes) -> int:
        """The whole number in the register."""
        whole = int.from_bytes(data, self.endian)
        high, low = self.bits or (self.size * 8 - 1, 0)
        width = high - low + 1
        number = (whole >> low) & ((1 << width) - 1)
        negative = number >> (width - 1) & 1 if self.signed else 0
        if self.sign_bit is not None:
            negative = whole >> self.sign_bit & 1
        return number - (1 << width) if negative else number

    def value(self, data: bytes) -> float:
        """The value in `unit`."""
        return self.number(data) * self.scale + self.offset

    def quantity(self) -> Quantity:
        """What readings say of it. Raises ConfigurationError: the unit is no UCUM code."""
        return Quantity(
            name=self.name,
            unit=self.unit,
            uncertainty=self.uncertainty,
            uncertainty_source=self.uncertainty_source,
            resolution=abs(self.scale),
            minimum=self.minimum,
            maximum=self.maximum,
        )


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A register that tells which chip it is: what is read, and-ed with `mask`, equals `equals`."""

    register: int
    equals: int
    size: int = 1
    endian: Endian = "big"
    mask: int | None = None


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A register that is set on connect."""

    register: int
    value: int
    size: int = 1
    endian: Endian = "big"


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known about a kind of chip."""

    quantities: tuple[RegisterQuantity, ...]
    model: str = ""
    manufacturer: str = ""
    datasheet: str = ""
    addresses: tuple[int, ...] = ()
    identify: tuple[Check, ...] = ()
    setup: tuple[Write, ...] = ()


def builtin_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with the driver."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_profile(name: str, registers: Sequence[Mapping[str, Any]]) -> Profile:
    """The profile `name` (one that comes with the driver, or a path), or the one that `registers` make.

    Raises ConfigurationError: there is none, or it breaks a rule; file, field and what would be right are told.
    """
    if registers:
        return profile_from({"quantities": list(registers)}, "the setting registers")
    if not name:
        raise ConfigurationError(
            "which chip it is was not said",
            context={"field": "profile", "known": list(builtin_profiles())},
            remedy=f"Set profile to one of {', '.join(builtin_profiles())}, or describe the chip in registers.",
        )
    path = Path(name) if "/" in name else _FOLDER / f"{name.lower()}.yaml"
    try:
        data = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"there is no profile {name!r}: {error.strerror}",
            context={"field": "profile", "file": str(path), "known": list(builtin_profiles())},
            original_error=error,
            remedy=f"Profiles are {', '.join(builtin_profiles())}, or the path of a YAML file.",
        ) from error
    except YamlProblem as problem:
        raise ConfigurationError(
            f"{path}: {problem}", context={"file": str(path), "line": problem.line}, remedy="Correct the file."
        ) from problem
    return profile_from(data, str(path))


def profile_from(data: Any, where: str) -> Profile:
    """The profile that `data` describes. Raises ConfigurationError: it breaks a rule; `where` is named."""
    try:
        profile = msgspec.convert(data, Profile)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{where}: {error}", context={"file": where}, original_error=error, remedy="docs/drivers/i2c-sensor.md"
        ) from error
    names = [quantity.name for quantity in profile.quantities]
    problem = "there are no quantities" if not names else ""
    if len(set(names)) < len(names):
        problem = "two quantities have one name"
    for quantity in profile.quantities:
        problem = problem or (quantity.problem() and f"{quantity.name}: {quantity.problem()}")
    entries = [(check.register, check.size, check.equals) for check in profile.identify]
    entries += [(write.register, write.size, write.value) for write in profile.setup]
    for register, size, number in entries:
        if not (0 <= register <= 0xFF and 1 <= size <= 4 and 0 <= number < 1 << size * 8):
            problem = problem or f"register {register:#x} cannot have {number:#x} in {size} bytes"
    if problem:
        raise ConfigurationError(f"{where}: {problem}", context={"file": where}, remedy="docs/drivers/i2c-sensor.md")
    for quantity in profile.quantities:
        quantity.quantity()
    return profile
