"""One command of a driver, run for one device in a session, with a signal answered by the driver's own cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from vfab.apps.interrupts import Interrupts
from vfab.apps.session import Session
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import Cancelled, UnknownCommand
from vfab.model.lifecycle import DriverState
from vfab.model.manifest import Command, Manifest
from vfab.model.settings import nearest

__all__ = [
    "call_command",
    "command_named",
    "ensure_connected",
    "ensure_started",
    "operate_gently",
    "run_command",
]

Progress = Callable[[Mapping[str, Any]], None]
ENDING_S = 15.0
"""How long a driver may take to end an operation safely after a signal, in seconds."""


def command_named(manifest: Manifest, name: str) -> Command:
    """The command `name` of the manifest.

    Raises UnknownCommand: there is none; a near name is told.
    """
    command = manifest.commands.get(name) or manifest.commands.get(name.replace("_", "-"))
    if command is None:
        raise UnknownCommand(
            f"{manifest.name} has no command {name!r}; {nearest(name, list(manifest.commands))}",
            driver_name=manifest.name,
            context={"command": name, "known": list(manifest.commands)},
            remedy=f"`vfab driver run {manifest.name} --help` lists its commands.",
        )
    return command


async def run_command(
    session: Session,
    driver: str,
    name: str,
    parameters: Mapping[str, Any],
    *,
    interrupts: Interrupts,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the command `name` of `driver`: `{"driver", "device", "command", "result"}`.

    Without `device` the only accessible one that the driver fits is taken; a command that needs no device gets none.
    """
    manifest = session.drivers.get(driver).manifest
    command = command_named(manifest, name)
    async with _place(session, driver, command, device, overrides) as managed:
        if command.needs == "connected":
            await ensure_connected(managed)
        else:
            await ensure_started(managed)
        result = await call_command(managed, name, parameters, interrupts=interrupts, on_progress=on_progress)
        return {"driver": driver, "device": managed.id, "command": name, "result": result}


async def ensure_started(managed: ManagedDevice) -> None:
    """Start the driver; one that runs, because a node keeps it, stays as it is. Raises DriverError."""
    if managed.state not in {DriverState.READY, DriverState.CONNECTED, DriverState.BUSY}:
        await managed.initialize()


async def ensure_connected(managed: ManagedDevice) -> None:
    """Connect; a device that is connected, because a node keeps it, stays so. Raises DriverError."""
    if managed.state not in {DriverState.CONNECTED, DriverState.BUSY}:
        await managed.connect()


@asynccontextmanager
async def _place(
    session: Session, driver: str, command: Command, device: str | None, overrides: Mapping[str, Any] | None
) -> AsyncIterator[ManagedDevice]:
    if device is None and command.needs == "nothing":
        async with session.without_device(driver, overrides) as managed:
            yield managed
        return
    if device is None:
        device = (await session.resolve_for_driver(driver, overrides)).id
    async with session.device(device, driver, overrides) as managed:
        yield managed


async def call_command(
    managed: ManagedDevice,
    name: str,
    parameters: Mapping[str, Any],
    *,
    interrupts: Interrupts,
    on_progress: Progress | None = None,
) -> Any:
    """Call a command of the manifest on a device that is far enough along."""
    command = command_named(managed.manifest, name)
    method = command.method or name.replace("-", "_")
    timeout_s = command.timeout_s
    if command.needs != "connected":
        return await managed.call_with(method, (), parameters, timeout_s=timeout_s, on_progress=on_progress)
    return await operate_gently(
        managed, method, (), parameters, interrupts=interrupts, timeout_s=timeout_s, on_progress=on_progress
    )


async def operate_gently(
    managed: ManagedDevice,
    method: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    interrupts: Interrupts,
    timeout_s: float,
    on_progress: Progress | None = None,
) -> Any:
    """`managed.operate_with`, ended by a signal through the driver's own `cancel` where it has one.

    Raises Cancelled: it ended so; the context has the driver's last progress.
    """
    methods = managed.handshake.methods if managed.handshake is not None else ()
    if "cancel" not in methods:
        return await managed.operate_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)
    operation = asyncio.ensure_future(
        managed.operate_with(method, args, kwargs, timeout_s=timeout_s, on_progress=on_progress)
    )
    ending: list[asyncio.Task[Any]] = []

    def end() -> None:
        ending.append(asyncio.ensure_future(_end(managed, operation)))

    try:
        with interrupts.ending_by(end):
            return await asyncio.shield(operation)
    except asyncio.CancelledError:
        if operation.cancelled():  # the driver did not end it in time
            raise Cancelled(f"{method} was cancelled; {managed.manifest.name} did not end it by itself") from None
        operation.cancel()
        raise
    finally:
        for task in ending:
            task.cancel()


async def _end(managed: ManagedDevice, operation: asyncio.Future[Any]) -> None:
    """Ask the driver to end the operation; when it does not, cancel the call."""
    await managed.call("cancel", timeout_s=ENDING_S)
    await asyncio.wait({operation}, timeout=ENDING_S)
    operation.cancel()
