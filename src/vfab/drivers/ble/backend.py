"""What the Bluetooth LE driver needs of a Bluetooth stack, and bleak as the one that gives it.

The interface is small on purpose: whatever can scan, connect, read, write and notify can stand behind the driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vfab.model.errors import ConfigurationError, ConnectError, DeviceNotFound, DriverError, LinkLost, Refused

if TYPE_CHECKING:
    from bleak import BleakClient

__all__ = ["Backend", "BleakBackend", "Characteristic", "Peer", "Seen", "full_uuid"]

_BASE = "-0000-1000-8000-00805f9b34fb"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def full_uuid(text: str) -> str:
    """A UUID in its long form, lower case: `180F` is `0000180f-0000-1000-8000-00805f9b34fb`.

    Raises ConfigurationError: it is none.
    """
    plain = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{4}|[0-9a-f]{8}", plain):
        return plain.rjust(8, "0") + _BASE
    if _UUID.fullmatch(plain):
        return plain
    raise ConfigurationError(
        f"{text!r} is no UUID",
        context={"field": "characteristic", "value": text},
        remedy="Write 2a19, or all of 00002a19-0000-1000-8000-00805f9b34fb; `services` lists what the device has.",
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A device that advertises.

    Attributes:
        address: how it is connected to.
        name: as it says, or "".
        rssi_dbm: how strong it is heard, dBm.
        services: UUIDs that it advertises.
        manufacturer_data: by company number.
    """

    address: str
    name: str = ""
    rssi_dbm: int | None = None
    services: tuple[str, ...] = ()
    manufacturer_data: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One characteristic of a connected device.

    Attributes:
        service, uuid: in long form.
        properties: read, write, write-without-response, notify, indicate, …
        description: what the specification calls it, or "".
    """

    service: str
    uuid: str
    properties: tuple[str, ...]
    description: str = ""


class Peer(Protocol):
    """A connected device. Everything runs on one event loop."""

    @property
    def characteristics(self) -> tuple[Characteristic, ...]:
        """What it has."""

    @property
    def mtu_bytes(self) -> int:
        """The longest packet; 3 bytes less fit into a write without response."""

    async def read(self, uuid: str) -> bytes:
        """The value of a characteristic."""

    async def write(self, uuid: str, data: bytes, *, response: bool) -> None:
        """Write a characteristic; with `response` the device has confirmed it."""

    async def subscribe(self, uuid: str, callback: Callable[[bytes], None]) -> None:
        """Have `callback` told each notification or indication."""

    async def unsubscribe(self, uuid: str) -> None:
        """Be told no more."""

    async def disconnect(self) -> None:
        """Let go of it."""


class Backend(Protocol):
    """A Bluetooth stack."""

    async def scan(self, duration_s: float) -> list[Seen]:
        """Who advertises."""

    async def connect(self, address: str, timeout_s: float, on_lost: Callable[[], None]) -> Peer:
        """Connect to a device; `on_lost` is told when it is gone without having been let go of."""

    def translated(self, error: Exception, address: str) -> DriverError:
        """The stack's error as one of vfab's."""


class BleakBackend:
    """bleak: BlueZ over D-Bus on Linux, Core Bluetooth on macOS."""

    async def scan(self, duration_s: float) -> list[Seen]:
        """Who advertises, the strongest first."""
        from bleak import BleakScanner

        found = await BleakScanner.discover(duration_s, return_adv=True)
        seen = [
            Seen(
                device.address,
                told.local_name or device.name or "",
                told.rssi,
                tuple(told.service_uuids),
                dict(told.manufacturer_data),
            )
            for device, told in found.values()
        ]
        return sorted(seen, key=lambda one: -(one.rssi_dbm or -200))

    async def connect(self, address: str, timeout_s: float, on_lost: Callable[[], None]) -> Peer:
        """Connect by address (on macOS: by the system's UUID of the device)."""
        from bleak import BleakClient

        client = BleakClient(address, lambda _: on_lost(), timeout=timeout_s)
        await client.connect()
        return _BleakPeer(client)

    def translated(self, error: Exception, address: str) -> DriverError:
        """What went wrong, and what to do about it."""
        from bleak import exc

        context: dict[str, Any] = {"address": address}
        match error:
            case DriverError():
                return error
            case exc.BleakDeviceNotFoundError():
                return DeviceNotFound(
                    f"{address} is not heard",
                    context=context,
                    original_error=error,
                    remedy="Wake it up, bring it near, end its connection to another host; `scan` lists who is heard.",
                )
            case exc.BleakCharacteristicNotFoundError():
                return Refused(
                    f"{address} has no such characteristic: {error}",
                    context=context,
                    original_error=error,
                    remedy="`services` lists what it has.",
                )
            case OSError() | exc.BleakBluetoothNotAvailableError():
                return ConnectError(
                    f"this machine has no Bluetooth that can be used: {error}",
                    context=context,
                    original_error=error,
                    remedy="Install and start BlueZ (sudo apt-get install bluez), and switch the adapter on.",
                )
        text = str(error) or type(error).__name__
        kind = LinkLost if "disconnect" in text.lower() or "not connected" in text.lower() else ConnectError
        return kind(f"{address}: {text}", context=context, original_error=error)


class _BleakPeer:
    def __init__(self, client: BleakClient) -> None:
        self._client = client
        self.characteristics = tuple(
            Characteristic(service.uuid, one.uuid, tuple(one.properties), one.description)
            for service in client.services
            for one in service.characteristics
        )

    @property
    def mtu_bytes(self) -> int:
        return self._client.mtu_size

    async def read(self, uuid: str) -> bytes:
        return bytes(await self._client.read_gatt_char(uuid))

    async def write(self, uuid: str, data: bytes, *, response: bool) -> None:
        await self._client.write_gatt_char(uuid, data, response=response)

    async def subscribe(self, uuid: str, callback: Callable[[bytes], None]) -> None:
        await self._client.start_notify(uuid, lambda _, data: callback(bytes(data)))

    async def unsubscribe(self, uuid: str) -> None:
        await self._client.stop_notify(uuid)

    async def disconnect(self) -> None:
        await self._client.disconnect()
