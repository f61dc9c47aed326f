"""One chip on an I2C bus, over the broker's descriptor of `/dev/i2c-N` (smbus2 does the ioctls).

`I2cBus` is the lowest seam of a driver of such a chip: two methods. In a test, something with the same two methods that
keeps the chip's registers as its datasheet says takes its place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DependencyError,
    DeviceBusy,
    DeviceNotFound,
    DriverError,
    LinkLost,
    TimeoutExceeded,
)

__all__ = ["BLOCK_MAX", "I2cBus", "Registers", "chip_address"]

BLOCK_MAX = 32
"""The most bytes of one SMBus transfer."""


class Registers(Protocol):
    """What a driver needs of a chip."""

    def read(self, register: int, size: int) -> bytes:
        """`size` bytes from `register` on, in the order in which they come over the wire."""

    def write(self, register: int, data: bytes) -> None:
        """Write `data` from `register` on."""


class I2cBus:
    """The chip at `address` of the bus whose descriptor is `fd`; the descriptor stays its owner's.

    Args:
        fd: descriptor of `/dev/i2c-N`.
        address: 7 bits.
        force: talk to the chip although a kernel driver has it. Both then change its registers.

    Raises DependencyError: smbus2 is missing. Every method raises DeviceNotFound: no chip acknowledges; DeviceBusy: a
    kernel driver has it; LinkLost: the adapter is gone; TimeoutExceeded: the bus hangs; ConnectError: other trouble.
    """

    def __init__(self, fd: int, address: int, *, force: bool = False) -> None:
        try:
            from smbus2 import SMBus
        except ImportError as error:
            raise DependencyError(
                "smbus2 is not installed", original_error=error, remedy="Install it: pip install 'vfab[i2c]'"
            ) from error
        self.address = address
        self._force = force
        self._bus: Any = SMBus()
        self._bus.fd = fd

    def read(self, register: int, size: int) -> bytes:
        """`size` bytes (1 to 32) from `register` on, in the order in which they come over the wire."""
        try:
            if size == 1:
                return bytes((self._bus.read_byte_data(self.address, register, force=self._force),))
            if size == 2:  # SMBus calls the first byte the low one
                return int(self._bus.read_word_data(self.address, register, force=self._force)).to_bytes(2, "little")
            return bytes(self._bus.read_i2c_block_data(self.address, register, size, force=self._force))
        except OSError as error:
            raise self._problem(error) from error

    def write(self, register: int, data: bytes) -> None:
        """Write `data` (1 to 32 bytes) from `register` on."""
        try:
            if len(data) == 1:
                self._bus.write_byte_data(self.address, register, data[0], force=self._force)
            elif len(data) == 2:
                value = int.from_bytes(data, "little")
                self._bus.write_word_data(self.address, register, value, force=self._force)
            else:
                self._bus.write_i2c_block_data(self.address, register, list(data), force=self._force)
        except OSError as error:
            raise self._problem(error) from error

    def _adapter_there(self) -> bool:
        """The kernel still has the adapter: an open descriptor outlives an adapter that was unplugged."""
        if not Path("/sys/dev/char").is_dir():
            return True
        node = os.fstat(self._bus.fd).st_rdev
        return Path(f"/sys/dev/char/{os.major(node)}:{os.minor(node)}").exists()

    def _problem(self, error: OSError) -> DriverError:
        chip = f"0x{self.address:02x}"
        context = {"chip_address": chip, "errno": error.errno}
        if error.errno in {errno.EBADF, errno.ESHUTDOWN} or not self._adapter_there():
            return LinkLost("the I2C adapter is gone", context=context, original_error=error)
        match error.errno:
            case errno.ENXIO | errno.EREMOTEIO | errno.ENODEV:  # adapters differ in how they say it
                return DeviceNotFound(
                    f"no chip answers at {chip}",
                    context=context,
                    original_error=error,
                    remedy="Check wiring, supply and the setting `address`; `i2cdetect -y N` shows who answers.",
                )
            case errno.EBUSY:
                return DeviceBusy(
                    f"a kernel driver has the chip at {chip}",
                    context=context,
                    original_error=error,
                    remedy="Unbind it (echo N-00XX > /sys/bus/i2c/drivers/NAME/unbind), or set force to share it.",
                )
            case errno.ETIMEDOUT:
                return TimeoutExceeded(
                    f"the I2C bus hangs while {chip} is asked",
                    context=context,
                    original_error=error,
                    remedy="A chip holds a line low: check the pull-ups; switch the chips off and on.",
                )
            case _:
                return ConnectError(
                    f"the chip at {chip} cannot be asked: {error.strerror or error}",
                    context=context,
                    original_error=error,
                    remedy="Check wiring and pull-ups; a lower bus speed helps with long wires.",
                )


def chip_address(config: Mapping[str, Any], device: DeviceInfo, default: int) -> int:
    """The chip's address: the setting `address`, what detection learned, or `default`.

    Raises ConfigurationError: it is no address of 7 bits.
    """
    given = config.get("address")
    if given is None:
        given = device.attributes.get("chip_address")
    if given is None:
        return default
    try:
        value = int(str(given), 0)
    except ValueError:
        value = -1
    if not 0x03 <= value <= 0x77:
        raise ConfigurationError(
            f"{given!r} is no address of a chip",
            context={"field": "address", "found": str(given)},
            remedy="Write 7 bits, 0x03 to 0x77, as 0x48 or 72.",
        )
    return value
