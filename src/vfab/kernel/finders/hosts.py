"""Devices on the network that config.yaml lists: whether each can be reached is tried by connecting to it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

import msgspec

from vfab.kernel.addresses import device_at
from vfab.kernel.detection import DetectionHandler
from vfab.model.devices import DeviceInfo

__all__ = ["HostsHandler"]

_AT_ONCE = 32
_NOT_TRIED = {"udp", "unix", "can", "genicam", "visa", "serial", "pty"}
"""Nothing is learned of a datagram's addressee without sending one; what is on this machine is found by others."""


def _connect(address: str, timeout_s: float) -> None:
    from vfab.sdk.link import split_address

    _, host, port = split_address(address)
    socket.create_connection((host, port), timeout_s).close()


class HostsHandler(DetectionHandler):
    """Finds the hosts that the configuration lists; one that does not answer is told, not left out.

    Args:
        addresses: `tcp://192.0.2.7:4000`, `rtsp://camera.local/live`, …
        connect: connects to an address and lets go again, or raises OSError.
        in_use: whether somebody uses the device of an id: many devices take one connection at a time.
        wait_s: patience for each, in seconds.
    """

    keep_s = 15.0

    def __init__(
        self,
        addresses: Sequence[str] = (),
        *,
        connect: Callable[[str, float], None] = _connect,
        in_use: Callable[[str], bool] = lambda device_id: False,
        wait_s: float = 1.0,
    ) -> None:
        super().__init__("tcp", priority=10)
        self._addresses = tuple(dict.fromkeys(addresses))
        self._connect = connect
        self._in_use = in_use
        self._wait_s = wait_s

    def find(self) -> list[DeviceInfo]:
        """Every host of the list. Raises ConfigurationError: one is no address."""
        if not self._addresses:
            return []
        from concurrent.futures import ThreadPoolExecutor

        devices = [device_at(address) for address in self._addresses]
        with ThreadPoolExecutor(min(len(devices), _AT_ONCE), thread_name_prefix="detect-tcp") as pool:
            return list(pool.map(self._tried, devices))

    def is_compatible(self, device_info: DeviceInfo) -> bool:
        """Whether `device_info` is at an address of the network."""
        return "://" in device_info.address

    def _tried(self, device: DeviceInfo) -> DeviceInfo:
        if device.bus in _NOT_TRIED or self._in_use(device.id):
            return device
        began = time.perf_counter()
        try:
            self._connect(device.address, self._wait_s)
        except OSError as error:
            return msgspec.structs.replace(
                device,
                accessible=False,
                problem=f"{device.address} does not answer: {error.strerror or error}",
                remedy="Switch it on and look at its network; or take it out of detection.hosts in config.yaml.",
            )
        took = f"{(time.perf_counter() - began) * 1000:.1f}"
        return msgspec.structs.replace(device, attributes={**device.attributes, "response_ms": took})
