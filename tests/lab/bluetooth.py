"""A Bluetooth controller of the kernel's that is bumble's, a heart-rate belt within its reach, and BlueZ over it.

`hci_vhci` makes an adapter of whoever opens /dev/vhci and speaks HCI. So between driver and belt all is real but the
radio: bleak, D-Bus, bluetoothd, the kernel's Bluetooth.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from bumble.controller import Controller
from bumble.link import LocalLink
from bumble.transport.vhci import open_vhci_transport

from drivers.links.test_ble_peers import Belt
from lab.modules import load, until

__all__ = ["Air"]

T = TypeVar("T")
BUS = Path("/run/dbus/system_bus_socket")
BLUETOOTHD = Path("/usr/libexec/bluetooth/bluetoothd")
_USELESS = (
    "a2dp,avrcp,network,input,hog,health,sap,midi,policy,deviceinfo,hostname,autopair,neard,vcp,mcp,bass,bap,csip"
)


class Air:
    """What is within reach: the belt. A context that has BlueZ running over the kernel's adapter.

    Attributes:
        belt: the peripheral; `on_air` runs what it does.
    """

    belt: Belt

    def __init__(self) -> None:
        if not BLUETOOTHD.exists():
            pytest.skip(f"{BLUETOOTHD} is not here (Debian: sudo apt-get install bluez)")
        load("hci_vhci")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="air", daemon=True)
        self._stack = ExitStack()

    def on_air(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` where belt and controller live."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def __enter__(self) -> Self:
        self._thread.start()
        self.on_air(self._begin())
        BUS.parent.mkdir(exist_ok=True)
        self._program("dbus-daemon", "--system", "--nofork", "--nopidfile")
        until(BUS.exists, "the system bus is there", limit_s=60)
        self._program(str(BLUETOOTHD), "-n", f"--noplugin={_USELESS}")
        until(self._is_powered, "BlueZ has the adapter and has switched it on", limit_s=90)
        return self

    async def _begin(self) -> None:
        link = LocalLink()
        transport = await open_vhci_transport(None)
        self._transport = transport
        self._adapter = Controller("adapter", host_source=transport.source, host_sink=transport.sink, link=link)
        self.belt = Belt(link)
        await self.belt.begin()

    def _program(self, *command: str) -> None:
        process = self._stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        self._stack.callback(process.terminate)

    def _is_powered(self) -> bool:
        """Whether the adapter is on; else it is switched on, once BlueZ has it."""
        if "boolean true" in self._adapter_does("Get"):
            return True
        self._adapter_does("Set", "variant:boolean:true")
        return False

    @staticmethod
    def _adapter_does(verb: str, *value: str) -> str:
        done = subprocess.run(
            ["dbus-send", "--system", "--print-reply", "--dest=org.bluez", "/org/bluez/hci0",
             f"org.freedesktop.DBus.Properties.{verb}", "string:org.bluez.Adapter1", "string:Powered", *value],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.on_air(self._transport.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
