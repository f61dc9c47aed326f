"""The Bluetooth LE driver on bumble: two virtual controllers, a heart-rate belt on one of them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vfab.model.errors import ConfigurationError, DriverError, LinkLost, Refused
from vfab.sdk.testing import DriverBench, manifest_in

pytest.importorskip("bumble")
pytest.importorskip("bleak")

from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device, Peer
from bumble.gatt import Characteristic as Gatt
from bumble.gatt import CharacteristicValue, Service
from bumble.gatt_client import CharacteristicProxy
from bumble.hci import Address
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink

import vfab.drivers.ble.driver as driver_module
from vfab.drivers.ble.backend import Backend, Characteristic, Seen, full_uuid
from vfab.drivers.ble.driver import BleDriver
from vfab.sdk.testing import soon

FOLDER = Path(driver_module.__file__).parent
BELT = "F0:F1:F2:F3:F4:F5"
HEART_RATE, BATTERY, UART_IN, UART_OUT = "2a37", "2a19", "6e400002" + "-b5a3-f393-e0a9-e50e24dcca9e", "2a3d"


class Belt:
    """A peripheral: heart rate (notify), battery (read), and a line that answers in capitals."""

    def __init__(self, link: LocalLink) -> None:
        self.written: list[bytes] = []
        controller = Controller("belt", link=link)
        self.device = Device("belt", address=Address(BELT), host=Host(controller, AsyncPipeSink(controller)))
        self.rate = Gatt(UUID(HEART_RATE), Gatt.Properties.NOTIFY, Gatt.Permissions(0), b"")
        self.battery = Gatt(UUID(BATTERY), Gatt.Properties.READ, Gatt.Permissions.READABLE, bytes([87]))
        self.out = Gatt(UUID(UART_OUT), Gatt.Properties.NOTIFY, Gatt.Permissions(0), b"")
        self.heard = Gatt(
            UUID(UART_IN),
            Gatt.Properties.WRITE | Gatt.Properties.WRITE_WITHOUT_RESPONSE,
            Gatt.Permissions.WRITEABLE,
            CharacteristicValue(write=self._line),
        )
        self.device.add_service(Service(UUID("180d"), [self.rate, self.battery, self.heard, self.out]))

    def _line(self, connection: Connection, value: bytes) -> None:
        """Whoever writes to the line is answered in capitals."""
        self.written.append(bytes(value))
        self._answering = asyncio.get_running_loop().create_task(
            self.device.notify_subscribers(self.out, bytes(value).upper())
        )

    async def begin(self) -> None:
        await self.device.power_on()
        data = AdvertisingData([(AdvertisingData.COMPLETE_LOCAL_NAME, b"Belt 7")])
        self.device.advertising_data = bytes(data)
        await self.device.start_advertising(auto_restart=True)


class BumblePeer:
    def __init__(self, peer: Peer, connection: Connection) -> None:
        self._connection = connection
        self._peer = peer
        self._by_uuid: dict[str, CharacteristicProxy[Any]] = {}
        found = []
        for service in peer.services:
            for one in service.characteristics:
                uuid = full_uuid(one.uuid.to_hex_str("-").lower())
                self._by_uuid[uuid] = one
                flags = Gatt.Properties(one.properties)
                names = tuple(str(flag.name).lower().replace("_", "-") for flag in Gatt.Properties if flag in flags)
                found.append(Characteristic(full_uuid(service.uuid.to_hex_str("-").lower()), uuid, names))
        self.characteristics = tuple(found)

    @property
    def mtu_bytes(self) -> int:
        return self._connection.att_mtu

    async def read(self, uuid: str) -> bytes:
        return bytes(await self._by_uuid[uuid].read_value())

    async def write(self, uuid: str, data: bytes, *, response: bool) -> None:
        await self._by_uuid[uuid].write_value(data, with_response=response)

    async def subscribe(self, uuid: str, callback: Callable[[bytes], None]) -> None:
        await self._by_uuid[uuid].subscribe(callback)

    async def unsubscribe(self, uuid: str) -> None:
        await self._by_uuid[uuid].unsubscribe()

    async def disconnect(self) -> None:
        await self._connection.disconnect()


class BumbleBackend:
    """A Bluetooth stack of two virtual controllers; both live on whatever loop connects."""

    def __init__(self) -> None:
        self.belt: Belt | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def _begin(self) -> Device:
        link = LocalLink()
        self.loop = asyncio.get_running_loop()
        self.belt = Belt(link)
        controller = Controller("central", link=link)
        central = Device(
            "central", address=Address("C0:C1:C2:C3:C4:C5"), host=Host(controller, AsyncPipeSink(controller))
        )
        await central.power_on()
        await self.belt.begin()
        return central

    async def scan(self, duration_s: float) -> list[Seen]:
        central = await self._begin()
        heard = asyncio.Event()
        found: dict[str, Seen] = {}

        def advertised(told: Any) -> None:
            name = told.data.get(AdvertisingData.COMPLETE_LOCAL_NAME) or ""
            text = name if isinstance(name, str) else bytes(name).decode()
            found[str(told.address)] = Seen(str(told.address).partition("/")[0], text, told.rssi)
            heard.set()

        central.on("advertisement", advertised)
        await central.start_scanning()
        await asyncio.wait_for(heard.wait(), duration_s)
        return list(found.values())

    async def connect(self, address: str, timeout_s: float, on_lost: Callable[[], None]) -> BumblePeer:
        central = await self._begin()
        connection = await central.connect(Address(address), timeout=timeout_s)
        connection.on("disconnection", lambda _: on_lost())
        peer = Peer(connection)
        await peer.discover_all()
        return BumblePeer(peer, connection)

    def translated(self, error: Exception, address: str) -> DriverError:
        return error if isinstance(error, DriverError) else LinkLost(f"{address}: {error}", original_error=error)

    def on_belt(self, coroutine: Any) -> Any:
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)


class OnBumble(BleDriver):
    """The driver with bumble as its stack."""

    def make_backend(self) -> Backend:
        self.bumble = BumbleBackend()
        return self.bumble


def bench(**settings: Any) -> DriverBench[OnBumble]:
    settings = {"reconnect_delay_s": 0.02, **settings}
    return DriverBench(OnBumble, manifest_in(FOLDER), f"ble://{BELT}", config=settings)


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


def test_who_advertises_is_found_without_a_connection() -> None:
    with bench() as b:
        (found,) = b.driver.scan(5.0)
        assert (found["address"], found["name"]) == (f"ble://{BELT}", "Belt 7")
        with pytest.raises(ConfigurationError):
            b.driver.scan(0)


def test_what_the_device_has_is_listed_and_read() -> None:
    with bench() as b:
        b.driver.connect()
        listed = {one["uuid"][4:8]: one["properties"] for one in b.driver.services()}
        assert listed["2a19"] == ["read"]
        assert listed["2a37"] == ["notify"]
        assert b.driver.read("2A19")["hex"] == "57"
        info = b.driver.get_connection_info()
        assert info.kind == "ble"
        assert info.details["mtu_bytes"] >= 23


def test_notifications_come_as_a_stream() -> None:
    with bench(tell_events=False) as b:
        b.driver.connect()
        assert b.driver.subscribe(HEART_RATE) == [full_uuid(HEART_RATE)]
        b.driver.start_streaming()
        soon(lambda: b.driver.get_status().streaming)
        belt = b.driver.bumble.belt
        assert belt is not None
        for rate in range(60, 80):
            b.driver.bumble.on_belt(belt.device.notify_subscribers(belt.rate, struct.pack("BB", 0, rate)))
        reader = b.streams["main"]
        records = [record for record in (reader.read(timeout_s=5) for _ in range(20)) if record is not None]
        assert [bytes(record.data)[1] for record in records] == list(range(60, 80))
        assert records[0].meta["characteristic"] == full_uuid(HEART_RATE)
        assert b.driver.unsubscribe(HEART_RATE) == []


def test_a_line_over_bluetooth_is_asked_and_answers() -> None:
    with bench(write_to=UART_IN, notify_from=[UART_OUT]) as b:
        b.driver.connect()
        assert b.driver.send_command("hello").text == "HELLO"
        b.driver.write_characteristic(UART_IN, "61", form="hex", response=False)
        assert b.driver.receive()[0]["text"] == "A"
        long = "x" * (b.driver.get_connection_info().details["mtu_bytes"] + 30)
        b.driver.send(long)
        soon(lambda: b.driver.bumble.belt and b"".join(b.driver.bumble.belt.written).endswith(long.encode()))


def test_what_the_device_cannot_do_is_refused() -> None:
    with bench() as b:
        b.driver.connect()
        with pytest.raises(Refused, match="no characteristic") as why:
            b.driver.read("2a00aaaa")
        assert "services" in why.value.remedy
        with pytest.raises(Refused, match="cannot read"):
            b.driver.read(HEART_RATE)
        with pytest.raises(Refused, match="cannot write"):
            b.driver.write_characteristic(BATTERY, "1")
        with pytest.raises(ConfigurationError, match="no UUID"):
            b.driver.read("battery")
        with pytest.raises(ConfigurationError, match="hex"):
            b.driver.write_characteristic(UART_IN, "0", form="hex")
        with pytest.raises(ConfigurationError, match="which characteristic"):
            b.driver.send("x")


def test_a_device_that_goes_is_connected_again_and_subscribed() -> None:
    with bench(write_to=UART_IN, notify_from=[UART_OUT]) as b:
        b.driver.connect()
        belt = b.driver.bumble.belt
        assert belt is not None
        (connection,) = belt.device.connections.values()
        b.driver.bumble.on_belt(connection.disconnect())
        soon(lambda: told(b, "reconnected"))
        assert told(b, "link_lost")[0]["again"] is True
        assert b.driver.send_command("back").text == "BACK"


def test_connecting_and_closing_twice() -> None:
    with bench() as b:
        assert b.driver.connect() is True
        assert b.driver.connect() is True
        b.driver.disconnect()
        b.driver.disconnect()
        for call in (b.driver.services, lambda: b.driver.read(BATTERY)):
            with pytest.raises(LinkLost):
                call()
        b.driver.connect()
        assert b.driver.read(BATTERY)["hex"] == "57"
