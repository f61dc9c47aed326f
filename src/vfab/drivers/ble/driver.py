"""The Bluetooth LE driver: what a device offers is listed, read, written, and heard of when it changes."""

from __future__ import annotations

from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, DriverError, LinkLost, Refused
from vfab.sdk.async_channel import AsyncDriver, EventLoop
from vfab.sdk.communication import Message
from vfab.sdk.driver import Environment, command

from .backend import Backend, BleakBackend, Peer, full_uuid

__all__ = ["BleDriver"]

_SCAN_MORE_S = 10.0


class BleDriver(AsyncDriver):
    """Speaks with a Bluetooth LE device (GATT).

    Notifications come unasked: `characteristic` is their meta. With the settings `write_to` and `notify_from` a device
    with a serial-like service (Nordic's UART) is asked and answers like any other link.
    """

    kind: ClassVar[str] = "ble"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._backend = self.make_backend()
        self._peer: Peer | None = None
        self._leaving = False
        self._subscribed: list[str] = [full_uuid(uuid) for uuid in self.config["notify_from"]]

    def make_backend(self) -> Backend:
        """The Bluetooth stack; by custom bleak."""
        return BleakBackend()

    @property
    def target(self) -> str:
        """The device's own address, without `ble://`."""
        return self.address.removeprefix("ble://").strip("/")

    @property
    def open_timeout_s(self) -> float:
        """Connecting and reading what the device has takes longer than an answer."""
        return float(self.config["connect_timeout_s"])

    # -- the channel ---------------------------------------------------------------------------------------------------

    async def open_async(self) -> None:
        """Connect, and subscribe to what is wanted."""
        self._leaving = False
        try:
            peer = await self._backend.connect(self.target, self.open_timeout_s, self._lost)
        except Exception as error:
            raise self.translated(error) from error
        self._peer = peer
        try:
            for uuid in self._subscribed:
                await self._subscribe(peer, uuid)
        except Exception as error:
            raise self.translated(error) from error

    def _lost(self) -> None:
        if not self._leaving:
            self.broke(LinkLost(f"{self.address} is gone", context={"address": self.address}))

    async def close_async(self) -> None:
        """Let go of the device."""
        self._leaving = True
        peer, self._peer = self._peer, None
        if peer is not None:
            await peer.disconnect()

    def translated(self, error: Exception) -> DriverError:
        """The stack's error as one of vfab's."""
        return self._backend.translated(error, self.address)

    async def _subscribe(self, peer: Peer, uuid: str) -> None:
        def heard(data: bytes) -> None:
            self.statistics.bytes_in += len(data)
            self.came(Message(data, meta={"characteristic": uuid}))

        await peer.subscribe(uuid, heard)

    def _with_peer(self, what: str, use: Any) -> Any:
        async def call() -> Any:
            assert self._peer is not None
            return await use(self._peer)

        try:
            return self.run(call(), what=f"{what} at {self.address}")
        except DriverError:
            raise
        except Exception as error:
            self.statistics.errors += 1
            raise self.translated(error) from error

    # -- commands ------------------------------------------------------------------------------------------------------

    @command(concurrent=True)
    def scan(self, duration_s: float = 5.0) -> list[dict[str, Any]]:
        """Who advertises nearby, heard for `duration_s` seconds: address, name, rssi_dbm, services."""
        if not 0 < duration_s <= 120:
            raise ConfigurationError(
                f"a scan of {duration_s:g} s cannot be",
                context={"field": "duration_s", "value": duration_s},
                remedy="Write seconds over 0, at most 120.",
            )
        events = EventLoop("vfab-ble-scan")
        try:
            seen = events.run(self._backend.scan(duration_s), duration_s + _SCAN_MORE_S, "the scan")
        except Exception as error:
            raise self.translated(error) from error
        finally:
            events.stop()
        return [
            {
                "address": f"ble://{one.address}",
                "name": one.name,
                "rssi_dbm": one.rssi_dbm,
                "services": list(one.services),
            }
            for one in seen
        ]

    @command
    def services(self) -> list[dict[str, Any]]:
        """What the device has: each characteristic with `service`, `uuid`, `properties`, `description`."""
        peer = self._peer
        if peer is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        return [
            {
                "service": one.service,
                "uuid": one.uuid,
                "properties": list(one.properties),
                "description": one.description,
            }
            for one in peer.characteristics
        ]

    @command
    def read(self, characteristic: str) -> dict[str, Any]:
        """The value of a characteristic, as `text`, `hex` and `size_bytes`."""
        uuid = self._known(characteristic, "read")
        data: bytes = self._with_peer("reading", lambda peer: peer.read(uuid))
        self.statistics.bytes_in += len(data)
        text = data.decode("utf-8", "backslashreplace")
        return {"characteristic": uuid, "text": text, "hex": data.hex(), "size_bytes": len(data)}

    @command
    def write_characteristic(self, characteristic: str, value: str, form: str = "text", response: bool = True) -> None:
        """Write a characteristic.

        Args:
            characteristic: its UUID, short or long.
            value: what; with `form` "hex" its bytes in hex.
            form: text (UTF-8) or hex.
            response: wait until the device has confirmed it.

        Raises Refused: the device has no such characteristic, or it cannot be written.
        """
        try:
            data = bytes.fromhex(value) if form == "hex" else value.encode()
        except ValueError as error:
            raise ConfigurationError(
                f"{value!r} is not hex", context={"field": "value", "value": value}, remedy="Write such as 01 a0 ff."
            ) from error
        uuid = self._known(characteristic, "write" if response else "write-without-response")
        self._with_peer("writing", lambda peer: peer.write(uuid, data, response=response))
        self.statistics.bytes_out += len(data)
        self.statistics.messages_out += 1

    @command
    def subscribe(self, characteristic: str) -> list[str]:
        """Hear of a characteristic's changes from now on; returns what is subscribed."""
        uuid = self._known(characteristic, "notify", "indicate")
        if uuid not in self._subscribed:
            self._with_peer("subscribing", lambda peer: self._subscribe(peer, uuid))
            self._subscribed.append(uuid)
        return list(self._subscribed)

    @command
    def unsubscribe(self, characteristic: str) -> list[str]:
        """Hear of it no more; returns what is still subscribed."""
        uuid = full_uuid(characteristic)
        if uuid in self._subscribed:
            self._with_peer("unsubscribing", lambda peer: peer.unsubscribe(uuid))
            self._subscribed.remove(uuid)
        return list(self._subscribed)

    def _known(self, text: str, *needs: str) -> str:
        """The long UUID of a characteristic that has one of `needs`."""
        uuid = full_uuid(text)
        peer = self._peer
        if peer is None:
            return uuid  # `_with_peer` tells that there is no connection
        found = [one for one in peer.characteristics if one.uuid == uuid]
        if not found:
            raise Refused(
                f"{self.address} has no characteristic {text}",
                context={"address": self.address, "characteristic": uuid},
                remedy="`services` lists what it has.",
            )
        if not any(set(needs) & set(one.properties) for one in found):
            raise Refused(
                f"the characteristic {text} of {self.address} cannot {' or '.join(needs)}",
                context={"address": self.address, "characteristic": uuid, "properties": list(found[0].properties)},
                remedy="`services` lists what each can do.",
            )
        return uuid

    def send_message(self, data: bytes) -> None:
        """Write to the characteristic of the setting `write_to`, in pieces that fit a packet."""
        if not self.config["write_to"]:
            raise ConfigurationError(
                "nothing says which characteristic messages are written to",
                context={"field": "write_to"},
                remedy="Set write_to, or use the command write with a characteristic.",
            )
        uuid = full_uuid(self.config["write_to"])
        confirmed = not self.config["write_unconfirmed"]

        async def call(peer: Peer) -> None:
            room = max(20, peer.mtu_bytes - 3)
            for at in range(0, max(len(data), 1), room):
                await peer.write(uuid, data[at : at + room], response=confirmed)

        self._with_peer("writing", call)
        self.statistics.bytes_out += len(data)

    def channel_details(self) -> dict[str, Any]:
        """What is subscribed, and how long packets are."""
        peer = self._peer
        return {"subscribed": list(self._subscribed), "mtu_bytes": peer.mtu_bytes if peer is not None else None}
