"""The shell around `model.lifecycle` for one device: effects become processes, calls and bytes, and these signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from vfab.kernel.broker import LinkKeeper
from vfab.kernel.connection import HostConnection
from vfab.kernel.failures import Failures
from vfab.kernel.hosts import Host, PluginLike
from vfab.kernel.obituary import obituary
from vfab.kernel.printed import Printed
from vfab.kernel.spawner import HostProcess, Spawner
from vfab.kernel.streams import StreamKeeper
from vfab.kernel.whereabouts import Locate, Whereabouts
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DriverError,
    HostDied,
    IllegalTransition,
    TimeoutExceeded,
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
from vfab.protocols.hostwire import Event as HostEvent
from vfab.protocols.hostwire import Handshake, Log
from vfab.protocols.zygotewire import HostSpec
from vfab.sdk.lifecycle import StateListener, StateListeners

__all__ = ["DEAF_S", "LEAVE_S", "DeviceShell", "Publish"]

DEAF_S = 2.0
"""How long a driver may go on with a call that was cancelled before its host is ended."""

LEAVE_S = 3.0
"""How long a host may take to end once its connection was closed."""

LAST_SAID_S = 0.5
"""How long a dead host's socket may stay open: a program that it started may hold it."""

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
    """One device's life and host: does what the table's effects say, and feeds back what happened.

    What people ask of it is in `managed.ManagedDevice`. Use it from the event loop only.
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
        self._plugin = plugin
        self._spawner = spawner
        self._links = links
        self._publish = publish
        self._state_dir = state_dir
        self._host: Host | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._births: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._waiters: list[tuple[set[DriverState], asyncio.Future[None]]] = []
        self._listened_for_deaf: HostConnection | None = None
        self._unfit: HostConnection | None = None
        self._lines = Printed(self._print)
        self._retry: asyncio.TimerHandle | None = None
        self._forgiving: tuple[asyncio.TimerHandle, ...] = ()
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
        return self._plugin.manifest

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
        return self._host.process if self._host is not None else None

    @property
    def _connection(self) -> HostConnection | None:
        return getattr(self._host, "connection", None)

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
                **self._where(),
                remedy="Bring the device into a state that fits, for example with `vfab device reset`.",
            ) from error

    def _tell(self, event: Event, generation: int | None = None) -> None:
        self._take(Signal(event, generation))

    def _fail(self, error: DriverError, generation: int, event: Event = Event.FAILED) -> None:
        self.last_error = error
        self._tell(event, generation)

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
        self._publish(self, "state_changed", data, "kernel")
        self._listeners.notify(before, self.state)

    def _do(self, effect: Effect) -> None:
        runtime = self.manifest.runtime
        match effect:
            case Spawn(generation):
                self._give_birth(self._spawn(generation))
            case Respawn(generation):
                self._give_birth(self._respawn(generation))
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
                self._start(self._end_host())
            case SafeStop():
                self._stopping = self._start(self._safe_stop(self._stopping, leave=self.state is S.DISCONNECTED))
            case ArmRetry(delay_s):
                loop = asyncio.get_running_loop()
                if self._retry is not None:
                    self._retry.cancel()
                self._retry = loop.call_later(delay_s, self._tell, Event.RETRY_DUE)
                self._publish(self, "restart_planned", {"delay_s": delay_s, "attempt": self.life.attempts}, "kernel")
            case GiveUp(attempts):
                _log.error("%s: its driver died %d times in a row and is not started again", self.id, attempts)
                self._publish(self, "gave_up", {"attempts": attempts}, "kernel")

    def _give_birth(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._start(work)
        self._births.add(task)
        task.add_done_callback(self._births.discard)

    def _cancel_calls(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.cancel_all()
            if connection.unsettled:
                self._start(self._end_if_deaf(connection))

    def _leave_links(self, before: DriverState, effects: tuple[Effect, ...]) -> None:
        """Links are not kept for a device that nobody wants."""
        if self.state is S.DISCONNECTED and self.life.host_alive:
            self._links.close()
        elif self.state in {S.DISCONNECTED, S.SHUTDOWN} and SafeStop() not in effects:
            # still held after a shutdown means that the driver did not get through its disconnect
            send = before is S.SHUTTING_DOWN
            self._stopping = self._start(self._safe_stop(self._stopping, send=send, leave=True))

    async def _safe_stop(self, earlier: asyncio.Task[None] | None, *, send: bool = True, leave: bool = False) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        reached = await self._links.safe_stop() if send else []
        if reached:
            self._publish(self, "safe_stop", {"links": reached}, "kernel")
        if leave:
            self._links.close()
        elif send:
            await self._links.hang_up()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
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

    # -- effects ------------------------------------------------------------------------------------------------------

    async def _spawn(self, generation: int) -> None:
        if self._stopping is not None:
            await asyncio.wait([self._stopping])  # a new driver must not speak before the device is safe
        await self._find_again()
        self._whereabouts.remember(self.info.address)
        try:
            process = await self._spawner.spawn(self._spec(self._plugin, self.config))
        except (DriverError, OSError) as error:
            if isinstance(error, OSError):
                error = ConfigurationError(
                    f"the folder for its state cannot be made: {error.strerror or error}: {error.filename}",
                    **self._where(),
                    remedy="Make it writable by this user, or set VFAB_HOME to a folder that is.",
                )
            self.last_error = error
            self._tell(Event.HOST_DIED, generation)
            return
        host = self._host = Host(self, self._plugin, self.config, process)
        process.on_line, process.on_skipped = self._lines.take, self._lines.skip
        connection = await host.open()
        welcome = self._start(self._welcome(process, connection, generation))
        self._start(self._watch(host, generation, welcome))

    async def _respawn(self, generation: int) -> None:
        process, connection = self._process, self._connection
        if connection is not None:
            connection.close()
        if process is not None:
            await self._see_off(process)
            await asyncio.shield(process.exited)
        await self._spawn(generation)

    async def _welcome(self, process: HostProcess, connection: HostConnection, generation: int) -> None:
        """Wait until the host has loaded the plugin."""
        try:
            self.handshake = await connection.handshake(self.manifest.runtime.start_timeout_s)
        except HostDied:
            return  # the watch tells
        except DriverError as error:
            self._unfit = connection
            self._fail(error, generation)
            if isinstance(error, TimeoutExceeded):
                process.kill()  # it hangs
            else:
                await connection.ended(LAST_SAID_S)  # one that could say what is wrong ends by itself, after its log
            connection.close()
            return
        reached = process.confinement
        self._publish(self, "confined", reached.to_dict() if reached is not None else {"level": "none"}, "kernel")
        self._forgive_later(generation)
        self._tell(Event.HOST_READY, generation)

    def _forgive_later(self, generation: int) -> None:
        """Once the host has lived for long, what earlier ones did is forgotten."""
        self._forgive_never()
        later, policy = asyncio.get_running_loop().call_later, self.life.policy
        self._forgiving = (
            later(policy.stable_s, self._tell, Event.STABLE, generation),
            later(policy.pardon_s, self._tell, Event.PARDONED, generation),
        )

    def _forgive_never(self) -> None:
        for handle in self._forgiving:
            handle.cancel()

    def _spec(self, plugin: PluginLike, config: Mapping[str, Any]) -> HostSpec:
        folder = self._state_dir(plugin.manifest)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return HostSpec(
            folder=str(plugin.folder),
            manifest=plugin.manifest,
            device=self.info,
            config=dict(config),
            state_dir=str(folder or ""),
            paths=plugin.paths,
        )

    async def _watch(self, host: Host, generation: int, welcome: asyncio.Task[None] | None = None) -> None:
        """Wait for the host's end and tell the table."""
        process, connection = host.process, host.connection
        status = await asyncio.shield(process.exited)
        await self._known_who_has_it(host)
        await connection.ended(LAST_SAID_S)  # its last words count: why it could not load the plugin, its last answer
        connection.close()
        if welcome is not None:
            await asyncio.wait([welcome])
        if self._host is host:
            self._forgive_never()
            self._host = None
            self.streams.rest()
        if generation == self.life.generation and self.state not in {S.SHUTTING_DOWN, S.DISCONNECTED, S.SHUTDOWN}:
            died = obituary(process, status, self.manifest, self.id)
            if self.state is not S.ERROR or self.last_error is None:
                self.last_error = died
            self._publish(self, "host_died", died.to_dict(), "kernel")
        self._tell(Event.HOST_DIED, generation)

    async def _known_who_has_it(self, host: Host) -> None:
        """Where a driver is replaced: wait until it is known whether the end of `host` is the device's business."""

    def _drive(self, method: str, done: Event, timeout_s: float) -> None:
        """Have the driver take a step of its life, and tell the table how it ended."""
        if self._connection is not None:  # else the host died meanwhile, and its watch tells
            if done is not Event.DISCONNECTED and self._is_outdated():
                self._tell(Event.OUTDATED, self.life.generation)
                return
            self._start(self._take_step(self._connection, self.life.generation, method, done, timeout_s))

    async def _find_again(self) -> None:
        """Look for a device that is not where it was: it may have been plugged in elsewhere."""
        failed = self.state is S.ERROR and isinstance(self.last_error, ConnectError)
        found = await self._whereabouts.moved(self.info, doubtful=failed or bool(self._links.broken))
        if found is None:
            return
        before, self.info = self.info.address, found
        self._links.move(found)
        self._publish(self, "moved", {"from": before, "to": found.address}, "kernel")

    def _is_outdated(self) -> bool:
        process = self._process
        return process is not None and self._whereabouts.is_outdated(process, self.info.address, self.manifest)

    async def _take_step(
        self, connection: HostConnection, generation: int, method: str, done: Event, timeout_s: float
    ) -> None:
        try:
            result = await connection.call(method, timeout_s=timeout_s)
            if method == "connect" and result is False:
                raise ConnectError(f"{self.manifest.name} could not connect to {self.id}", **self._where())
        except HostDied:
            return
        except DriverError as error:
            if self.state in _FOR[method] and generation == self.life.generation:
                if not connection.unsettled:  # one that hangs is ended, and its device made safe over the link
                    self._links.close()
                self._fail(error, generation)
            if connection.unsettled:
                await self._end_if_deaf(connection)
        else:
            if done is Event.DISCONNECTED:
                self._links.close()
            self._tell(done, generation)

    async def _end_if_deaf(self, connection: HostConnection) -> None:
        """A driver that goes on with a cancelled call holds the device for nobody: end it. One watch a connection."""
        if self._listened_for_deaf is connection:
            return
        process, self._listened_for_deaf = self._process, connection
        try:
            while connection.unsettled and not connection.closed:
                left_s = DEAF_S - connection.unsettled_s
                if left_s <= 0:
                    self._publish(self, "deaf", {"waited_s": DEAF_S}, "kernel")
                    if process is not None:
                        process.kill()
                    return
                await asyncio.sleep(min(0.05, left_s))
        finally:
            self._listened_for_deaf = None

    async def _end_host(self) -> None:
        if self._births:  # closed while it was started: it must not live on, unseen
            await asyncio.wait(self._births)
        process, connection = self._process, self._connection
        if process is None:
            self._tell(Event.HOST_DIED, self.life.generation)
            return
        if connection is not None:
            connection.close()
        await self._see_off(process)

    async def _see_off(self, process: HostProcess) -> None:
        """The connection is closed: give the host its time to end by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.exited), LEAVE_S)
        process.kill()

    # -- what a host says ---------------------------------------------------------------------------------------------

    async def answer(self, method: str, args: list[Any], host: Host) -> Any:
        """A driver asks for a link or a stream."""
        if method == "open_link" and len(args) == 2:
            return await self._links.hand_over(str(args[0]), dict(args[1]), host.process.links)
        if method == "close_link" and len(args) == 1:
            self._links.close(str(args[0]))
            return None
        if method == "open_stream" and len(args) == 1:
            tokens = self.streams.hand_over(args[0], host.process.links, self._links.pass_on)
            self._publish(self, "stream_opened", dict(args[0]), "kernel")
            return tokens
        return NotImplemented

    def host_event(self, event: HostEvent) -> None:
        """The driver emitted an event."""
        self._publish(self, event.kind, event.data, "driver")

    def host_log(self, record: Log) -> None:
        """The driver logged something."""
        data = {"level": record.level, "logger": record.logger, "message": record.message, "time_s": record.time_s}
        self._publish(self, "log", data, "driver")

    def host_failed(self, host: Host, method: str, error: DriverError) -> None:
        """A call of the driver failed, or a stream of it."""
        self.failures.note(host.process.pid, method, error)

    def host_closed(self, host: Host, error: DriverError | None) -> None:
        """A connection ended: so must the host, at once if it broke the protocol."""
        if error is not None:
            if host is self._host:
                self.last_error = error
            host.process.kill()
        elif host is self._host:
            self._start(self._see_off(host.process))

    def _print(self, text: str) -> None:
        """The driver printed something."""
        data = {"level": logging.INFO, "logger": "stdout", "message": text, "time_s": time.time()}
        self._publish(self, "log", data, "driver")

    # -- words --------------------------------------------------------------------------------------------------------

    def _where(self) -> dict[str, Any]:
        return {
            "driver_name": self.manifest.name,
            "context": {"device": self.id, "state": self.state.value, "story": list(self.story)[-8:]},
        }

    def _no_driver(self) -> IllegalTransition:
        return IllegalTransition(
            f"{self.id} has no driver running: it is {self.state.value}",
            **self._where(),
            remedy="Initialise it first: `vfab device init`.",
        )

    def _trouble(self) -> DriverError:
        kind = DriverError if self.state is S.ERROR else Cancelled  # somebody disconnected or closed it meanwhile
        return self.last_error or kind(f"{self.id} is {self.state.value}", **self._where())
