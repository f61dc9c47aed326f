"""The host of a device, from its start to its end: spawned, welcomed, watched, seen off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfab.kernel.connection import HostConnection
from vfab.kernel.hosts import Host, PluginLike
from vfab.kernel.obituary import obituary
from vfab.kernel.spawner import HostProcess, Spawner
from vfab.model.errors import ConfigurationError, DriverError, HostDied, TimeoutExceeded
from vfab.model.lifecycle import DriverState, Event
from vfab.model.manifest import Manifest
from vfab.protocols.zygotewire import HostSpec

if TYPE_CHECKING:
    from vfab.kernel.shell import DeviceShell

__all__ = ["DEAF_S", "LEAVE_S", "HostKeeper"]

DEAF_S = 2.0
"""How long a driver may go on with a call that was cancelled before its host is ended."""

LEAVE_S = 3.0
"""How long a host may take to end once its connection was closed."""

LAST_SAID_S = 0.5
"""How long a dead host's socket may stay open: a program that it started may hold it."""

S = DriverState


class HostKeeper:
    """One device's host, or none: does what the table wants of it, and tells the table what became of it.

    Args:
        device: whose host it is.
        spawner: starts processes.
        state_dir: the folder of a driver's own for this device.

    Attributes:
        host: the one that has the device now.
        unfit: the connection of a host that could not load the plugin, and is about to end.
    """

    def __init__(self, device: DeviceShell, spawner: Spawner, state_dir: Callable[[Manifest], Path | None]) -> None:
        self._device = device
        self._spawner = spawner
        self._state_dir = state_dir
        self.host: Host | None = None
        self.unfit: HostConnection | None = None
        self._births: set[asyncio.Task[None]] = set()
        self._listened_for_deaf: HostConnection | None = None
        self._forgiving: tuple[asyncio.TimerHandle, ...] = ()

    @property
    def process(self) -> HostProcess | None:
        """Its process."""
        return self.host.process if self.host is not None else None

    @property
    def connection(self) -> HostConnection | None:
        """Its connection, once it is open."""
        return getattr(self.host, "connection", None)

    # -- birth --------------------------------------------------------------------------------------------------------

    def spawn(self, generation: int) -> None:
        """Start a host."""
        self._give_birth(self._spawn(generation))

    def respawn(self, generation: int) -> None:
        """End the host that there is, then start another."""
        self._give_birth(self._respawn(generation))

    def spawn_beside(self, plugin: PluginLike, config: Mapping[str, Any]) -> Coroutine[Any, Any, HostProcess]:
        """A process for `plugin` that has nothing to do with the device so far. Raises DriverError."""
        return self._spawner.spawn(self._spec(plugin, config))

    def folder(self) -> Path | None:
        """The driver's own folder for this device."""
        return self._state_dir(self._device.manifest)

    def _give_birth(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._device.start(work)
        self._births.add(task)
        task.add_done_callback(self._births.discard)

    async def _spawn(self, generation: int) -> None:
        device = self._device
        await device.about_to_spawn()
        try:
            process = await self.spawn_beside(device.plugin, device.config)
        except (DriverError, OSError) as error:
            if isinstance(error, OSError):
                error = ConfigurationError(
                    f"the folder for its state cannot be made: {error.strerror or error}: {error.filename}",
                    **device.where(),
                    remedy="Make it writable by this user, or set VFAB_HOME to a folder that is.",
                )
            device.last_error = error
            device.signal(Event.HOST_DIED, generation)
            return
        host = self.host = Host(device.voice, device.plugin, device.config, process)
        device.voice.listen_to(host)
        connection = await host.open()
        welcome = device.start(self._welcome(process, connection, generation))
        device.start(self._watch(host, generation, welcome))

    async def _respawn(self, generation: int) -> None:
        process, connection = self.process, self.connection
        if connection is not None:
            connection.close()
        if process is not None:
            await self.see_off(process)
            await asyncio.shield(process.exited)
        await self._spawn(generation)

    async def _welcome(self, process: HostProcess, connection: HostConnection, generation: int) -> None:
        """Wait until the host has loaded the plugin."""
        device = self._device
        try:
            device.handshake = await connection.handshake(device.manifest.runtime.start_timeout_s)
        except HostDied:
            return  # the watch tells
        except DriverError as error:
            self.unfit = connection
            device.fail(error, generation)
            if isinstance(error, TimeoutExceeded):
                process.kill()  # it hangs
            else:
                await connection.ended(LAST_SAID_S)  # one that could say what is wrong ends by itself, after its log
            connection.close()
            return
        reached = process.confinement
        device.publish("confined", reached.to_dict() if reached is not None else {"level": "none"})
        self.forgive_later(generation)
        device.signal(Event.HOST_READY, generation)

    def _spec(self, plugin: PluginLike, config: Mapping[str, Any]) -> HostSpec:
        folder = self._state_dir(plugin.manifest)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return HostSpec(
            folder=str(plugin.folder),
            manifest=plugin.manifest,
            device=self._device.info,
            config=dict(config),
            state_dir=str(folder or ""),
            paths=plugin.paths,
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    def watch(self, host: Host) -> None:
        """The end of `host` is told to the table from now on."""
        self._device.start(self._watch(host, self._device.life.generation))

    async def _watch(self, host: Host, generation: int, welcome: asyncio.Task[None] | None = None) -> None:
        """Wait for the host's end and tell the table."""
        device, process, connection = self._device, host.process, host.connection
        status = await asyncio.shield(process.exited)
        await device.known_who_has_it(host)
        await connection.ended(LAST_SAID_S)  # its last words count: why it could not load the plugin, its last answer
        connection.close()
        if welcome is not None:
            await asyncio.wait([welcome])
        if self.host is host:
            self.forgive_never()
            self.host = None
            device.streams.rest()
        if generation == device.life.generation and device.state not in {S.SHUTTING_DOWN, S.DISCONNECTED, S.SHUTDOWN}:
            died = obituary(process, status, device.manifest, device.id)
            if device.state is not S.ERROR or device.last_error is None:
                device.last_error = died
            device.publish("host_died", died.to_dict())
        device.signal(Event.HOST_DIED, generation)

    def forgive_later(self, generation: int) -> None:
        """Once the host has lived for long, what earlier ones did is forgotten."""
        self.forgive_never()
        later, policy, signal = asyncio.get_running_loop().call_later, self._device.life.policy, self._device.signal
        self._forgiving = (
            later(policy.stable_s, signal, Event.STABLE, generation),
            later(policy.pardon_s, signal, Event.PARDONED, generation),
        )

    def forgive_never(self) -> None:
        """Nothing is forgotten by time: there is no host."""
        for handle in self._forgiving:
            handle.cancel()

    def end_if_deaf(self, connection: HostConnection) -> None:
        """Watch whether calls that were given up end: a driver that goes on with one holds the device for nobody."""
        if connection.unsettled and self._listened_for_deaf is not connection:
            self._device.start(self.wait_while_deaf(connection))

    async def wait_while_deaf(self, connection: HostConnection) -> None:
        """Wait until such calls have ended; the host is ended when that takes too long. One watch a connection."""
        if self._listened_for_deaf is connection:
            return
        process, self._listened_for_deaf = self.process, connection
        try:
            while connection.unsettled and not connection.closed:
                left_s = DEAF_S - connection.unsettled_s
                if left_s <= 0:
                    self._device.publish("deaf", {"waited_s": DEAF_S})
                    if process is not None:
                        process.kill()
                    return
                await asyncio.sleep(min(0.05, left_s))
        finally:
            self._listened_for_deaf = None

    # -- end -----------------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """End the host, and be told when there is none."""
        if self._births:  # closed while it was started: it must not live on, unseen
            await asyncio.wait(self._births)
        process, connection = self.process, self.connection
        if process is None:
            self._device.signal(Event.HOST_DIED, self._device.life.generation)
            return
        if connection is not None:
            connection.close()
        await self.see_off(process)

    async def see_off(self, process: HostProcess) -> None:
        """The connection is closed: give the host its time to end by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.exited), LEAVE_S)
        process.kill()
