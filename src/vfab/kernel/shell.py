"""The shell around `model.lifecycle` for one device: effects become processes, calls and bytes, and these signals."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from vfab.kernel.broker import LinkKeeper
from vfab.kernel.connection import HostConnection
from vfab.kernel.failures import Failures
from vfab.kernel.host_keeper import HostKeeper
from vfab.kernel.host_voice import HostVoice
from vfab.kernel.hosts import Host, PluginLike
from vfab.kernel.spawner import HostProcess, Spawner
from vfab.kernel.streams import StreamKeeper
from vfab.kernel.whereabouts import Locate, Whereabouts
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    Cancelled,
    ConnectError,
    DriverError,
    HostDied,
    IllegalTransition,
)
from vfab.model.lifecycle import (
    ArmRetry,
    CallConnect,
    CallDisconnect,
    CallInitialize,
    CallReset,
    CancelOperations,
    DeviceState,
    DriverState,
    Effect,
    Event,
    GiveUp,
    Illegal,
    KillHost,
    Life,
    Request,
    Respawn,
    RestartPolicy,
    SafeStop,
    Signal,
    Spawn,
    device_state,
    step,
)
from vfab.model.manifest import Manifest
from vfab.protocols.hostwire import Handshake
from vfab.sdk.lifecycle import StateListener, StateListeners

__all__ = ["DeviceShell", "Publish"]

_STORY = 40
_log = logging.getLogger("vfab.device")
S = DriverState
REST = frozenset({S.ERROR, S.DISCONNECTED, S.SHUTDOWN})
_FOR: Mapping[str, frozenset[DriverState]] = {
    "initialize": frozenset({S.INITIALIZING}),
    "reset": frozenset({S.INITIALIZING}),
    "connect": frozenset({S.CONNECTING}),
    "disconnect": frozenset({S.DISCONNECTING, S.SHUTTING_DOWN}),
}
"""In which states the outcome of a step matters: a connect that a disconnect cancelled has not failed."""

Publish = Callable[["DeviceShell", str, Mapping[str, Any], str], None]


class DeviceShell:
    """One device's life: does what the table's effects say, and feeds back what happened.

    Its parts are `hosts`, which starts, watches and ends the driver's process; `voice`, which hears what that says; its
    `links` and `streams`, which outlive it. What people ask of it is in `managed.ManagedDevice`. Use it from the event
    loop only.
    """

    def __init__(
        self,
        info: DeviceInfo,
        plugin: PluginLike,
        config: dict[str, Any],
        *,
        spawner: Spawner,
        links: LinkKeeper,
        publish: Publish,
        policy: RestartPolicy,
        state_dir: Callable[[Manifest], Path | None],
        locate: Locate | None = None,
    ) -> None:
        self.info = info
        self.config = config
        self.life = Life(present=True, policy=policy)
        self.last_error: DriverError | None = None
        self.handshake: Handshake | None = None
        self.story: deque[str] = deque(maxlen=_STORY)
        self.streams = StreamKeeper(plugin.manifest.name)
        self.failures = Failures()
        self._listeners = StateListeners(info.id)
        self.plugin = plugin
        self.links = links
        self.hosts = HostKeeper(self, spawner, state_dir)
        self.voice = HostVoice(links, self.streams, self.failures, self.publish, self._host_closed)
        self._publish = publish
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._waiters: list[tuple[set[DriverState], asyncio.Future[None]]] = []
        self._retry: asyncio.TimerHandle | None = None
        self._operations: Counter[int] = Counter()
        self._whereabouts = Whereabouts(locate)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The device's stable id."""
        return self.info.id

    @property
    def manifest(self) -> Manifest:
        """The driver's manifest."""
        return self.plugin.manifest

    @property
    def state(self) -> DriverState:
        """Where the driver stands (seed 001)."""
        return self.life.state

    @property
    def device_state(self) -> DeviceState:
        """The same in seed 002's words."""
        return device_state(self.life)

    def add_state_listener(self, listener: StateListener) -> Callable[[], None]:
        """Have `listener(old, new)` called at every change of state, on the event loop; returns what removes it again.

        One that fails is logged and harms nobody. It must not block.
        """
        return self._listeners.add(listener)

    def remove_state_listener(self, listener: StateListener) -> None:
        """Do not call `listener` any more."""
        self._listeners.remove(listener)

    @property
    def pid(self) -> int | None:
        """Process id of the host, None while there is none."""
        return self._process.pid if self._process is not None and not self._process.exited.done() else None

    @property
    def _process(self) -> HostProcess | None:
        return self.hosts.process

    @property
    def _connection(self) -> HostConnection | None:
        return self.hosts.connection

    # -- the shell around the table ---------------------------------------------------------------------------------

    async def _request(self, event: Event, reach: set[DriverState]) -> None:
        before, self.last_error = self.last_error, None
        try:
            self._ask(event)
        except IllegalTransition:
            self.last_error = before
            raise
        if self.state in reach:
            return
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (reach, arrived)
        self._waiters.append(waiter)
        try:
            await arrived
        finally:
            self._waiters.remove(waiter)

    def _tell_waiters(self) -> None:
        """Told at every change, so that a state which lasts for a moment only is not missed."""
        for reach, arrived in self._waiters:
            if arrived.done():
                continue
            if self.state in reach:
                arrived.set_result(None)
            elif self.state in REST:
                arrived.set_exception(self._trouble())

    def _ask(self, event: Event) -> None:
        try:
            self._take(Request(event))
        except Illegal as error:
            raise IllegalTransition(
                f"{self.id}: {error}",
                **self.where(),
                remedy="Bring the device into a state that fits, for example with `vfab device reset`.",
            ) from error

    def signal(self, event: Event, generation: int | None = None) -> None:
        """Tell the table that `event` happened, in the host of `generation` if it matters in which."""
        self._take(Signal(event, generation))

    def fail(self, error: DriverError, generation: int, event: Event = Event.FAILED) -> None:
        """Tell the table that something failed in the host of `generation`."""
        self.last_error = error
        self.signal(event, generation)

    def _take(self, happening: Request | Signal) -> None:
        before = self.life
        self.life, effects = step(before, happening)
        if self.life.state is not before.state:
            self._note(happening.event, before.state)
        for effect in effects:
            self._do(effect)
        if self.life.state is not before.state:
            self._leave_links(before.state, effects)
            self._tell_waiters()
        self._changed.set()
        self._changed = asyncio.Event()

    def _note(self, event: Event, before: DriverState) -> None:
        self.story.append(f"{before.value} -{event.value}-> {self.state.value}")
        data: dict[str, Any] = {
            "from": before.value,
            "to": self.state.value,
            "event": event.value,
            "device_state": self.device_state.value,
        }
        if self.state is S.ERROR and self.last_error is not None:
            data["error"] = self.last_error.to_dict()
        self.publish("state_changed", data)
        self._listeners.notify(before, self.state)

    def _do(self, effect: Effect) -> None:
        runtime = self.manifest.runtime
        match effect:
            case Spawn(generation):
                self.hosts.spawn(generation)
            case Respawn(generation):
                self.hosts.respawn(generation)
            case CallInitialize():
                self._drive("initialize", Event.INITIALIZED, runtime.initialize_timeout_s)
            case CallConnect():
                self._drive("connect", Event.CONNECTED, runtime.connect_timeout_s)
            case CallDisconnect():
                self._cancel_calls()  # queries, too: they would keep the device from being left
                self._drive("disconnect", Event.DISCONNECTED, runtime.connect_timeout_s)
            case CallReset():
                self._drive("reset", Event.RESET_DONE, runtime.connect_timeout_s)
            case CancelOperations():
                self._cancel_calls()
            case KillHost():
                self.start(self.hosts.end())
            case SafeStop():
                self._stopping = self.start(self._safe_stop(self._stopping, leave=self.state is S.DISCONNECTED))
            case ArmRetry(delay_s):
                loop = asyncio.get_running_loop()
                if self._retry is not None:
                    self._retry.cancel()
                self._retry = loop.call_later(delay_s, self.signal, Event.RETRY_DUE)
                self.publish("restart_planned", {"delay_s": delay_s, "attempt": self.life.attempts})
            case GiveUp(attempts):
                _log.error("%s: its driver died %d times in a row and is not started again", self.id, attempts)
                self.publish("gave_up", {"attempts": attempts})

    def _cancel_calls(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.cancel_all()
            self.hosts.end_if_deaf(connection)

    def _leave_links(self, before: DriverState, effects: tuple[Effect, ...]) -> None:
        """Links are not kept for a device that nobody wants."""
        if self.state is S.DISCONNECTED and self.life.host_alive:
            self.links.close()
        elif self.state in {S.DISCONNECTED, S.SHUTDOWN} and SafeStop() not in effects:
            # still held after a shutdown means that the driver did not get through its disconnect
            send = before is S.SHUTTING_DOWN
            self._stopping = self.start(self._safe_stop(self._stopping, send=send, leave=True))

    async def _safe_stop(self, earlier: asyncio.Task[None] | None, *, send: bool = True, leave: bool = False) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        reached = await self.links.safe_stop() if send else []
        if reached:
            self.publish("safe_stop", {"links": reached})
        if leave:
            self.links.close()
        elif send:
            await self.links.hang_up()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do `work` beside; the device is closed when it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s: a task of the kernel failed", self.id, exc_info=task.exception())
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def publish(self, kind: str, data: Mapping[str, Any], source: str = "kernel") -> None:
        """Tell everybody of an event of this device."""
        self._publish(self, kind, data, source)

    # -- hosts --------------------------------------------------------------------------------------------------------

    async def about_to_spawn(self) -> None:
        """Wait until the device is safe, for a new driver must not speak before, and see where it is."""
        if self._stopping is not None:
            await asyncio.wait([self._stopping])
        await self._find_again()
        self._whereabouts.remember(self.info.address)

    async def known_who_has_it(self, host: Host) -> None:
        """Where a driver is replaced: wait until it is known whether the end of `host` is the device's business."""

    def _host_closed(self, host: Host, error: DriverError | None) -> None:
        """A connection ended: so must the host, at once if it broke the protocol."""
        if error is not None:
            if host is self.hosts.host:
                self.last_error = error
            host.process.kill()
        elif host is self.hosts.host:
            self.start(self.hosts.see_off(host.process))

    # -- effects ------------------------------------------------------------------------------------------------------

    def _drive(self, method: str, done: Event, timeout_s: float) -> None:
        """Have the driver take a step of its life, and tell the table how it ended."""
        if self._connection is not None:  # else the host died meanwhile, and its watch tells
            if done is not Event.DISCONNECTED and self._is_outdated():
                self.signal(Event.OUTDATED, self.life.generation)
                return
            self.start(self._take_step(self._connection, self.life.generation, method, done, timeout_s))

    async def _find_again(self) -> None:
        """Look for a device that is not where it was: it may have been plugged in elsewhere."""
        failed = self.state is S.ERROR and isinstance(self.last_error, ConnectError)
        found = await self._whereabouts.moved(self.info, doubtful=failed or bool(self.links.broken))
        if found is None:
            return
        before, self.info = self.info.address, found
        self.links.move(found)
        self.publish("moved", {"from": before, "to": found.address})

    def _is_outdated(self) -> bool:
        process = self._process
        return process is not None and self._whereabouts.is_outdated(process, self.info.address, self.manifest)

    async def _take_step(
        self, connection: HostConnection, generation: int, method: str, done: Event, timeout_s: float
    ) -> None:
        try:
            result = await connection.call(method, timeout_s=timeout_s)
            if method == "connect" and result is False:
                raise ConnectError(f"{self.manifest.name} could not connect to {self.id}", **self.where())
        except HostDied:
            return
        except DriverError as error:
            if self.state in _FOR[method] and generation == self.life.generation:
                if not connection.unsettled:  # one that hangs is ended, and its device made safe over the link
                    self.links.close()
                self.fail(error, generation)
            if connection.unsettled:
                await self.hosts.wait_while_deaf(connection)
        else:
            if done is Event.DISCONNECTED:
                self.links.close()
            self.signal(done, generation)

    # -- words --------------------------------------------------------------------------------------------------------

    def where(self) -> dict[str, Any]:
        """What every error of this device says: the driver, the device, its state and how it came to that."""
        return {
            "driver_name": self.manifest.name,
            "context": {"device": self.id, "state": self.state.value, "story": list(self.story)[-8:]},
        }

    def _no_driver(self) -> IllegalTransition:
        return IllegalTransition(
            f"{self.id} has no driver running: it is {self.state.value}",
            **self.where(),
            remedy="Initialise it first: `vfab device init`.",
        )

    def _trouble(self) -> DriverError:
        kind = DriverError if self.state is S.ERROR else Cancelled  # somebody disconnected or closed it meanwhile
        return self.last_error or kind(f"{self.id} is {self.state.value}", **self.where())
