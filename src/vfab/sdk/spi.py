"""One chip on an SPI bus, over the broker's descriptor of `/dev/spidevB.C`.

The two ioctls are made here, since the spidev library opens the node itself and takes no descriptor. `SpiBus` is the
lowest seam of a driver: one method, `transfer`.

Source: Linux include/uapi/linux/spi/spidev.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Callable
from typing import Protocol

from vfab.model.errors import ConfigurationError, ConnectError, DriverError, LinkLost, TimeoutExceeded

__all__ = ["SpiBus", "Transfers", "mode_request", "transfer_request"]

_WRITE, _READ, _MAGIC = 1, 2, ord("k")
_TRANSFER = struct.Struct("=QQIIHBBBBBB")
"""struct spi_ioc_transfer: tx_buf, rx_buf, len, speed_hz, delay_usecs, bits_per_word, cs_change, tx_nbits, rx_nbits,
word_delay_usecs, pad."""


def _request(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | _MAGIC << 8 | number


def transfer_request(count: int = 1) -> int:
    """SPI_IOC_MESSAGE(count)."""
    return _request(_WRITE, 0, count * _TRANSFER.size)


def mode_request() -> int:
    """SPI_IOC_WR_MODE."""
    return _request(_WRITE, 1, 1)


class Transfers(Protocol):
    """What a driver needs of a chip."""

    def transfer(self, data: bytes) -> bytes:
        """Select the chip, send `data`, and return what came meanwhile: as many bytes."""


class SpiBus:
    """The chip whose node is open as `fd`; the descriptor stays its owner's.

    Args:
        fd: descriptor of `/dev/spidevB.C`.
        mode: clock polarity and phase, 0 to 3.
        speed_hz: clock, Hz; the controller takes the next lower one it can.
        ioctl: the system call.

    Raises ConnectError: the node takes no mode. `transfer` raises LinkLost, TimeoutExceeded, ConnectError.
    """

    def __init__(
        self, fd: int, *, mode: int = 0, speed_hz: int = 1_000_000, ioctl: Callable[..., object] = fcntl.ioctl
    ) -> None:
        if mode not in range(4):
            raise ConfigurationError(f"SPI has no mode {mode}", context={"field": "mode"}, remedy="0 to 3.")
        self._fd = fd
        self._ioctl = ioctl
        self._speed_hz = speed_hz
        try:
            ioctl(fd, mode_request(), bytes((mode,)))
        except OSError as error:
            raise _problem(error) from error

    def transfer(self, data: bytes) -> bytes:
        """Send `data` and return what came meanwhile."""
        sent = ctypes.create_string_buffer(data, len(data))
        came = ctypes.create_string_buffer(len(data))
        fields = (ctypes.addressof(sent), ctypes.addressof(came), len(data), self._speed_hz, 0, 8, 0, 0, 0, 0, 0)
        try:
            self._ioctl(self._fd, transfer_request(), _TRANSFER.pack(*fields))
        except OSError as error:
            raise _problem(error) from error
        return came.raw


def _problem(error: OSError) -> DriverError:
    context = {"errno": error.errno}
    if error.errno in {errno.ENODEV, errno.ESHUTDOWN, errno.EBADF, errno.ENXIO}:
        return LinkLost("the SPI controller is gone", context=context, original_error=error)
    if error.errno == errno.ETIMEDOUT:
        return TimeoutExceeded("the SPI controller hangs", context=context, original_error=error)
    return ConnectError(
        f"the SPI transfer failed: {error.strerror or error}",
        context=context,
        original_error=error,
        remedy="Is it a node of spidev, /dev/spidevB.C? A lower speed_hz helps with long wires.",
    )
