"""What `DeviceDriverManager` does, on one event loop: every operation of seed 002, over the kernel's own supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vfab.apps.manager_finding import Finder
from vfab.apps.manager_record import Record
from vfab.apps.manager_results import Device, Result, failure, success
from vfab.apps.own_devices import finds_by_itself, has_own_device
from vfab.apps.session import Session, refused_access
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import ConfigurationError, DeviceNotFound, Refused, UnknownCommand
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import DriverState
from vfab.model.manifest import Command, Manifest
from vfab.model.plugins import DriverInfo
from vfab.model.settings import nearest
from vfab.sdk.failures import to_driver_error

__all__ = ["RECOVERY_S", "ManagerCore"]

RECOVERY_S = 15.0
"""How long an operation waits for a driver that died and is being started again, in seconds."""

_RECOVERING = frozenset({DriverState.ERROR, DriverState.INITIALIZING, DriverState.CONNECTING})
_LIFE = frozenset({"initialize", "connect", "disconnect", "reset"})
_EXECUTE = "execute-command"


@dataclass(slots=True)
class _Operation:
    """One operation under way.

    Attributes:
        name, driver: what, and for which driver, as the caller says.
        record: the device, once it is known which one is meant.
        more: what else the answer has.
    """

    name: str
    driver: str
    record: Record | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def succeeded(self, message: str) -> Result:
        """The answer when all went well."""
        record = self.record
        if record is None:
            return success(self.name, self.driver, message, **self.more)
        about = {"device_id": record.device_id, "state": record.state.value}
        return success(self.name, record.driver.name, f"{record.device_id}: {message}", **about, **self.more)

    def failed(self, error: Exception) -> Result:
        """The answer when `error` came of it."""
        record = self.record
        driver = record.driver.name if record is not None else str(self.driver)
        told = to_driver_error(error, driver, self.name)
        if record is None:
            return failure(self.name, driver, told, **self.more)
        story = tuple(record.story)
        return failure(
            self.name, driver, told, device_id=record.device_id, state=record.state, story=story, **self.more
        )


class ManagerCore:
    """The operations, each a coroutine that gives a `Result` and raises nothing that a device or driver caused.

    Everything runs on one event loop; only `finder.by_name` and reading states are for any thread.
    """

    def __init__(self, env: Mapping[str, str], on_event: Callable[[DriverEvent], None]) -> None:
        self._session = Session(env, self._hear)
        self._on_event = on_event
        self.finder = Finder(self._session)
        self._in_use: dict[str, Record] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False

    # -- the operations -----------------------------------------------------------------------------------------------

    async def scan(self, driver_name: str) -> Result:
        """Look which devices of the driver there are: UNKNOWN -> DISCOVERED."""
        operation = _Operation("scan", driver_name, more={"devices": [], "count": 0, "problems": []})

        async def work(driver: DriverInfo) -> str:
            found, seen = await self.finder.scan(driver)
            operation.driver = driver.name
            operation.more.update(
                devices=[Device.of(record.info, record.device_id) for record in found],
                count=len(found),
                problems=[problem.to_dict() for problem in seen.problems],
            )
            if not found and has_own_device(driver) and not finds_by_itself(driver):
                return f"found 0 devices: {driver.name} opens its own, called {driver.name!r} or as its author calls it"
            return f"found {len(found)} device{'' if len(found) == 1 else 's'}"

        return await self._do(operation, work)

    async def initialize(self, driver_name: str, device: object, config: Mapping[str, Any] | None = None) -> Result:
        """Lease the device and start its driver: DISCOVERED -> INITIALIZED."""

        async def work(record: Record) -> str:
            self._session.begin()
            managed = await self._taken(record, config)
            await _recovered(managed)
            await managed.initialize()
            return "initialized"

        return await self._prepare("initialize", driver_name, device, work)

    async def connect(self, driver_name: str, device: object) -> Result:
        """Connect; what is unknown is looked for first, what is not initialised is initialised: -> CONNECTED."""

        async def work(record: Record) -> str:
            managed = await self._taken(record)
            await _recovered(managed)
            await managed.connect()
            return "connected"

        return await self._prepare("connect", driver_name, device, work)

    async def execute(
        self, driver_name: str, command: str, args: object, device: object, timeout_s: float | None
    ) -> Result:
        """Run a command of the driver: CONNECTED -> ACTIVE -> CONNECTED."""
        operation = _Operation("command", driver_name, more={"command": command, "result": None})

        async def work(driver: DriverInfo) -> str:
            record = operation.record = self._of_command(driver, device, f"run {command}")
            async with record.turn(alone=not _runs_beside(driver.manifest, command)):
                self._refuse_when_closing()
                managed = record.required(f"run {command}")
                await _recovered(managed)
                call = _called(managed, command, args)
                run = managed.operate_with if call.command.needs == "connected" else managed.call_with
                limit = call.command.timeout_s if timeout_s is None else timeout_s
                operation.more["result"] = await run(call.method, call.args, call.kwargs, timeout_s=limit)
            return f"{command} done"

        return await self._do(operation, work)

    async def reset(self, driver_name: str, device: object) -> Result:
        """Reset the device, or start its driver again after an error: ERROR -> INITIALIZED, CONNECTED -> CONNECTED."""
        operation = _Operation("reset", driver_name)

        async def work(driver: DriverInfo) -> str:
            record = operation.record = self.finder.seen(driver, device, "reset")
            async with record.turn():
                self._refuse_when_closing()
                managed = record.required("reset")
                if managed.state is not DriverState.ERROR:
                    await _recovered(managed)
                await managed.reset()
            return "reset"

        return await self._do(operation, work)

    async def close_device(self, driver_name: str, device: object) -> Result:
        """End what the device does, leave it safe, end its driver, give its lease back: -> DISCONNECTED."""
        operation = _Operation("close", driver_name)

        async def work(driver: DriverInfo) -> str:
            operation.record = self.finder.seen(driver, device, "close")
            return await self._let_go(operation.record)

        return await self._do(operation, work)

    async def cleanup(self) -> Result:
        """Close every device that is in use, side by side."""
        records = list(self._in_use.values())
        results = await asyncio.gather(*(self.close_device(r.driver.name, r.info) for r in records))
        by_device = {record.device_id: result for record, result in zip(records, results, strict=True)}
        failed = [name for name, result in by_device.items() if not result.ok]
        closed = [name for name in by_device if name not in failed]
        made = success("cleanup", "", f"closed {len(closed)} devices", results=by_device, closed=closed, failed=failed)
        if failed:
            made.update(status="error", message=f"not closed properly: {', '.join(failed)}")
            made.exception = by_device[failed[0]].exception
        return made

    async def close(self) -> None:
        """Close every device and end every process; operations under way end with an error."""
        self._closing = True
        await asyncio.gather(*(self._let_go(record) for record in list(self._in_use.values())), return_exceptions=True)
        if self._running:
            await asyncio.wait(self._running, timeout=RECOVERY_S)
        for task in self._running:
            task.cancel()
        await self._session.end()
        for record in self.finder.records.values():
            record.left()

    # -- around an operation ------------------------------------------------------------------------------------------

    async def _do(self, operation: _Operation, work: Callable[[DriverInfo], Awaitable[str]]) -> Result:
        """The answer to an operation whose `work`, given the driver, says in a word what was done."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            self._refuse_when_closing()
            return operation.succeeded(await work(await self.finder.driver(operation.driver)))
        except Exception as error:
            return operation.failed(error)
        finally:
            self._running.discard(task)

    async def _prepare(
        self, name: str, driver_name: str, device: object, step: Callable[[Record], Awaitable[str]]
    ) -> Result:
        """An operation that may be a device's first: it is looked for where nobody has seen it."""
        operation = _Operation(name, driver_name)

        async def work(driver: DriverInfo) -> str:
            record = operation.record = await self.finder.record(driver, device)
            async with record.turn():
                self._refuse_when_closing()
                return await step(record)

        return await self._do(operation, work)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise Refused("the manager is closed", remedy="Make a new DeviceDriverManager.")

    def _of_command(self, driver: DriverInfo, device: object, what: str) -> Record:
        """The device for a command; where none is named, the only one of the driver that is in use."""
        if device is not None:
            return self.finder.seen(driver, device, what)
        used = [record for record in self._in_use.values() if record.driver.name == driver.name]
        if len(used) == 1:
            return used[0]
        ids = [record.device_id for record in used]
        if used:
            raise ConfigurationError(
                f"{driver.name} has {len(used)} devices in use: {', '.join(ids)}",
                driver_name=driver.name,
                context={"devices": ids},
                remedy="Say which one: device_id=….",
            )
        raise DeviceNotFound(
            f"no device of {driver.name} is in use", driver_name=driver.name, remedy="Connect one with connect_device."
        )

    # -- taking a device and giving it back ---------------------------------------------------------------------------

    async def _taken(self, record: Record, config: Mapping[str, Any] | None = None) -> ManagedDevice:
        """The device, leased and adopted, with nothing started yet where it was not in use.

        Raises DeviceBusy: somebody else has it, and who. ConfigurationError, DependencyError, PermissionRefused.
        """
        driver, info = record.driver, record.info
        if record.managed is not None:
            if config is not None:
                raise Refused(
                    f"{record.device_id} is in use and has its configuration",
                    driver_name=driver.name,
                    remedy="Close it with close_device, then initialise it with the new configuration.",
                )
            return record.managed
        checked = await self.finder.checked(driver, config)
        self._refuse_when_closing()
        if not info.accessible:
            raise refused_access(info)
        lease = self._session.leases.acquire(info.id)
        try:
            managed = self._session.supervisor.adopt(info, driver.manifest, Path(driver.folder), checked)
        except BaseException:
            lease.release()
            raise
        self._in_use[info.id] = record
        record.taken(managed, lease)
        return managed

    async def _let_go(self, record: Record) -> str:
        async with record.leaving():
            if record.managed is not None:
                await record.managed.close()  # at once: it ends the operation whose turn it is
            async with record.last_turn():
                if record.managed is None:
                    return "it was not in use"
                self._in_use.pop(record.info.id, None)
                try:
                    await asyncio.shield(self._session.supervisor.release(record.info.id))
                finally:
                    record.left()
        return "closed"

    def _hear(self, event: DriverEvent) -> None:
        record = self._in_use.get(event.device_id)
        if record is not None and event.event_type == "state_changed":
            record.note(str(event.data["event"]))
        self._on_event(event)


async def _recovered(managed: ManagedDevice) -> None:
    """Wait for a driver that died and is being started again. Raises DriverError: it does not come back."""
    if managed.life.wanted is not None and managed.state in _RECOVERING:
        await managed.ready_again(RECOVERY_S)


class _Call(NamedTuple):
    """A command, as the driver's host wants it called."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    command: Command


def _listed(manifest: Manifest, name: str) -> Command | None:
    return manifest.commands.get(name) or manifest.commands.get(name.replace("_", "-"))


def _runs_beside(manifest: Manifest, name: str) -> bool:
    command = _listed(manifest, name)
    return command is not None and command.concurrent


def _called(managed: ManagedDevice, name: str, args: object) -> _Call:
    """How the command `name` is called with `args`. Raises UnknownCommand, ConfigurationError."""
    manifest = managed.manifest
    if args is not None and not isinstance(args, Mapping | list | tuple):
        raise ConfigurationError(
            f"{name}: args are {args!r:.80}",
            driver_name=manifest.name,
            context={"field": "args", "found": type(args).__name__, "expected": "a mapping, or a list"},
            remedy='Give the arguments by name: args={"x_mm": 10.0}.',
        )
    known, execute = _listed(manifest, name), manifest.commands.get(_EXECUTE)
    if execute is not None and known is not execute:  # a driver of seed 002 reads its arguments itself
        return _Call(execute.method or "execute_command", (name, args), {}, known or execute)
    offered = managed.handshake.methods if managed.handshake is not None else (name,)  # not started: refused as that
    if known is None and (name not in offered or name in _LIFE):
        near = nearest(name, list(manifest.commands))
        raise UnknownCommand(
            f"{manifest.name} has no command {name!r}; {near}",
            driver_name=manifest.name,
            context={"command": name, "known": list(manifest.commands)},
            remedy=f"`vfab driver run {manifest.name} --help` lists its commands.",
        )
    command = known or Command(help=name)  # offered by the driver's class alone, with @command
    method = command.method or name.replace("-", "_")
    if isinstance(args, Mapping):
        return _Call(method, (), {str(key): value for key, value in args.items()}, command)
    return _Call(method, tuple(args or ()), {}, command)
