"""What a check works with: the driver in a real host, its simulated peer, and a proxy in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from vfab.apps.contract.examples import examples_of
from vfab.apps.session import Session
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError
from vfab.model.lifecycle import DriverState
from vfab.model.manifest import Command, Manifest
from vfab.model.plugins import DriverInfo
from vfab.sdk.testing import FaultProxy, why_no_stream

__all__ = ["LIFE", "ContractBench", "Operation", "Pace"]

LIFE = frozenset({"initialize", "connect", "disconnect", "reset"})
"""Methods that the kernel calls; the suite does not call them as commands."""

_ASKS: Mapping[str, tuple[str, ...]] = {
    "camera": ("capture_image",),
    "sensor": ("read_sensor", "get_raw_value"),
    "instrument": ("get_identity",),
    "communication": ("get_status",),
}
"""Methods of a category that ask its device something."""

_LISTEN_S = 0.4
_SETTLE_S = 0.15
_CONNECT_S = 8.0
_ON_ITS_WAY = frozenset({DriverState.ERROR, DriverState.INITIALIZING, DriverState.CONNECTING})


class Pace(Enum):
    """How long the driver's time-outs are, by its settings."""

    USUAL = 0.0
    QUICK = 1.0
    PATIENT = 30.0


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of the driver."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 60.0

    async def on(self, managed: ManagedDevice) -> Any:
        """Run it as an operation. Raises DriverError."""
        return await managed.operate_with(self.method, (), self.arguments, timeout_s=self.timeout_s)


class ContractBench:
    """One driver with one device, for the whole suite. Each check has a process of the driver of its own.

    Attributes:
        driver: the driver.
        device: where its device, or what simulates it, is.
        simulated: nothing real can break.
        native: the driver is written for vfab; what an older shape raises is its author's and passes as it is.
        no_stream: why no proxy can stand before the device; "" when one can.
        methods: what the driver offers to callers; known once it has started.
    """

    def __init__(
        self, session: Session, driver: DriverInfo, device: DeviceInfo, config: Mapping[str, Any], *, simulated: bool
    ) -> None:
        self.session = session
        self.driver = driver
        self.manifest = driver.manifest
        self.device = device
        self.simulated = simulated
        self.native = self.manifest.runtime.dialect == "native"
        self.no_stream = why_no_stream(device.address)
        self.methods: frozenset[str] = frozenset()
        self._config = dict(config)
        self._asking: Operation | None = None
        self._asked = False

    @asynccontextmanager
    async def managed(self, pace: Pace = Pace.USUAL, address: str = "") -> AsyncIterator[ManagedDevice]:
        """The device, or one at `address` that stands for it, its driver not started yet; closed at the end."""
        info = self.device
        if address:  # not to be found again by the id of the device that it stands for
            info = msgspec.structs.replace(info, id=f"{info.id}:stand-in", address=address)
        config = paced(self.manifest.config_schema, self._config, pace.value)
        supervisor = self.session.supervisor
        manifest = hurried(self.manifest) if pace is Pace.QUICK else self.manifest
        made = supervisor.adopt(info, manifest, Path(self.driver.folder), config)
        try:
            yield made
        finally:
            await asyncio.shield(supervisor.release(info.id))

    @asynccontextmanager
    async def connected(self, pace: Pace = Pace.USUAL) -> AsyncIterator[ManagedDevice]:
        """The device, connected."""
        async with self.managed(pace) as made:
            await made.connect()
            yield made

    @asynccontextmanager
    async def proxied(self, pace: Pace = Pace.QUICK) -> AsyncIterator[tuple[ManagedDevice, FaultProxy]]:
        """The driver behind a proxy, not started yet."""
        proxy = await asyncio.to_thread(FaultProxy(self.device.address).__enter__)
        try:
            async with self.managed(pace, proxy.address) as made:
                yield made, proxy
        finally:
            await asyncio.to_thread(proxy.close)

    async def learn(self) -> None:
        """Find out whether the driver comes to its device's address at all; a check with a proxy needs that."""
        if self.no_stream:
            return
        async with self.proxied(Pace.USUAL) as (managed, proxy):
            try:
                await managed.connect()
            except DriverError:
                return  # the checks tell
            if not proxy.connections:
                self.no_stream = "it makes no connection to its device's address"

    # -- what it can be told ------------------------------------------------------------------------------------------

    def operation(self, name: str, command: Command) -> Operation | str:
        """The command with harmless arguments, or why there are none."""
        given = examples_of(command)
        if isinstance(given, str):
            return given
        return Operation(command.method or name.replace("-", "_"), given, command.timeout_s)

    async def asking(self) -> Operation | None:
        """An operation that needs an answer of the device to go on; None when none was found."""
        if not self._asked:
            self._asked = True
            self._asking = await self._find_asking()
        return self._asking

    def candidates(self) -> list[Operation]:
        """Operations that may ask the device; those that raise when they fail first: `test_connection` may say it."""
        found = [Operation(method) for method in _ASKS.get(self.manifest.category, ())]
        for name, command in self.manifest.commands.items():
            made = self.operation(name, command)
            if command.needs == "connected" and not command.concurrent and isinstance(made, Operation):
                found.append(made)
        found.append(Operation("test_connection"))
        return [each for each in found if each.method in self.methods and each.method not in LIFE]

    async def _find_asking(self) -> Operation | None:
        async with self.proxied(Pace.PATIENT) as (managed, proxy):
            for operation in self.candidates():
                try:
                    if managed.state is not DriverState.CONNECTED:
                        await bring_up(managed)
                except DriverError:
                    return None  # its own checks tell
                proxy.hold()
                waits = await self._waits(operation, managed, proxy)
                proxy.pass_on()
                if waits:
                    return operation
        return None

    @staticmethod
    async def _waits(operation: Operation, managed: ManagedDevice, proxy: FaultProxy) -> bool:
        """Whether the operation does not end while the device's answers are held back."""
        task = asyncio.create_task(operation.on(managed))
        await wait_for_words(task, proxy, proxy.heard)
        waits = not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return waits


async def wait_for_words(task: asyncio.Task[Any], proxy: FaultProxy, heard_before: int) -> None:
    """Wait until the driver has sent something and waits for the answer, or has ended, or only listens."""
    words = asyncio.create_task(asyncio.to_thread(proxy.wait_heard, more_than=heard_before, timeout_s=_LISTEN_S))
    await asyncio.wait({task, words}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({task}, timeout=_SETTLE_S if words.done() else 0.0)
    await words


async def bring_up(managed: ManagedDevice) -> None:
    """Do what a person does to use a device again: reset it where it is in ERROR, connect it. Raises DriverError."""
    if managed.life.wanted is not None and managed.state in _ON_ITS_WAY:
        await managed.ready_again(30.0)
    if managed.state is DriverState.ERROR:
        await managed.reset()
    if managed.state is DriverState.CONNECTED and not await managed.call("is_connected"):
        await managed.disconnect()
    if managed.state is not DriverState.CONNECTED:
        await managed.connect()


def hurried(manifest: Manifest) -> Manifest:
    """The manifest with less patience of the kernel with connect: a driver without a time-out of its own is ended."""
    limit_s = min(manifest.runtime.connect_timeout_s, _CONNECT_S)
    runtime = msgspec.structs.replace(manifest.runtime, connect_timeout_s=limit_s)
    return msgspec.structs.replace(manifest, runtime=runtime)


def paced(schema: Mapping[str, Any] | None, config: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """`config` with time-outs of about `seconds`, as far as the schema has settings for them and allows it; 0: as is.

    Short ones come with as few attempts as the schema allows.
    """
    made = dict(config)
    for name, rule in (schema or {}).get("properties", {}).items():
        usual = made.get(name)
        if seconds <= 0 or not isinstance(usual, (int, float)) or isinstance(usual, bool):
            continue
        whole = rule.get("type") == "integer"
        if "timeout" in name:
            wanted = seconds * (1000.0 if name.endswith("_ms") else 1.0)
            wanted = min(usual, wanted) if seconds <= Pace.QUICK.value else max(usual, wanted)
            wanted = min(rule.get("maximum", wanted), wanted)
            wanted = max(rule.get("minimum", wanted), wanted)
            made[name] = max(1, int(wanted)) if whole else float(wanted)
        elif seconds <= Pace.QUICK.value and name in {"retry_count", "retries", "max_retries"}:
            made[name] = max(0, int(rule.get("minimum", 0)))
    return made
