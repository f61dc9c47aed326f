"""What people ask of devices at the node: changes of state, commands, plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfab.apps.commands import call_command, command_named, ensure_connected, run_command
from vfab.apps.node.events import NodeEvents
from vfab.apps.node.jobs import Job, JobBook, JobInterrupts
from vfab.apps.node.keeping import KeepingSession, KeptDevice
from vfab.apps.node.working import StoreWork
from vfab.apps.parameters import checked_parameters
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import IllegalTransition
from vfab.model.lifecycle import DriverState
from vfab.store.records import Wanted

__all__ = ["DeviceUse"]


class DeviceUse:
    """Does what is asked of devices, and keeps those that somebody wants kept.

    Args:
        session: the kernel's parts.
        work: the store.
        events: the bus.
        jobs: what takes long.
    """

    def __init__(self, session: KeepingSession, work: StoreWork, events: NodeEvents, jobs: JobBook) -> None:
        self._session = session
        self._work = work
        self._events = events
        self._jobs = jobs
        self._new_ones: dict[str, KeptDevice] = {}

    async def act(
        self, verb: str, text: str, driver: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """`init`, `connect`, `disconnect`, `reset` or `close` a device, and keep it so from now on.

        Raises DriverError: what went wrong; a device that was not kept before is let go.
        """
        kept = self._session.kept_as(text)
        if kept is None:
            if verb not in {"init", "connect"}:
                raise _not_kept((await self._session.resolve(text)).id, verb)
            kept = await self._new(text, driver, verb)
        elif driver is not None and driver != kept.driver:
            raise IllegalTransition(
                f"{kept.device_id} is kept with the driver {kept.driver}, not {driver}",
                driver_name=driver,
                context={"device": kept.device_id},
                remedy=f"Let go of it first: `vfab device close {kept.device_id}`.",
            )
        first = self._events.last
        before = kept.managed.device_state.value if kept.managed else "discovered"
        try:
            async with kept.changing:
                result = await self._changed(kept, verb, dict(overrides or {}))
        finally:
            self._new_ones.pop(kept.device_id, None)
        changes = self._events.select(after=first, types=frozenset({"state_changed"}), device=kept.device_id)
        states = [before, *(event["data"]["device_state"] for event in changes)]
        story = [f"{e['data']['from']} -{e['data']['event']}-> {e['data']['to']}" for e in changes]
        state = kept.managed.device_state.value if kept.managed else states[-1]
        return {
            "device": kept.device_id,
            "driver": kept.driver,
            "did": verb,
            "state": state,
            "states": [s for n, s in enumerate(states) if n == 0 or states[n - 1] != s],
            "story": story,
            "result": result,
            "released": kept.device_id not in self._session.kept,
        }

    async def _new(self, text: str, driver: str | None, verb: str) -> KeptDevice:
        info = await self._session.resolve(text, driver=driver)
        kept = self._session.kept.get(info.id)
        if kept is None:
            chosen = self._session.driver_for(info, driver)
            wanted = Wanted.CONNECTED if verb == "connect" else Wanted.READY
            made = KeptDevice(info.id, chosen.name, wanted, info.address)
            kept = self._new_ones.setdefault(info.id, made)  # two who ask at once ask for the same
        return kept

    async def _changed(self, kept: KeptDevice, verb: str, overrides: dict[str, Any]) -> Any:
        """Do it: the journal first, then what is wanted, then the deed. A new device that fails is let go."""
        known = self._session.kept.get(kept.device_id)
        wanted = {"init": Wanted.READY, "connect": Wanted.CONNECTED, "disconnect": Wanted.DISCONNECTED}.get(verb)
        before = (kept.wanted, dict(kept.overrides))
        if verb in {"init", "connect"} and kept.managed is None:
            meant = kept.address or kept.device_id
            info = await self._session.found(kept) if known else await self._session.resolve(meant, driver=kept.driver)
            kept.overrides = {**kept.overrides, **overrides}
            self._session.take_in(kept, info)
        elif overrides and kept.managed is not None:
            info = kept.managed.info
            self._session.checked(self._session.drivers.get(kept.driver), {**kept.overrides, **overrides})
            await self._session.let_go(kept, keep_lease=True)
            kept.overrides = {**kept.overrides, **overrides}
            self._session.take_in(kept, info)
        if kept.managed is None and verb != "close":
            raise kept.problem or _not_kept(kept.device_id, verb)
        self._session.kept[kept.device_id] = kept
        try:
            async with self._work.journaled(verb, kept.device_id, kept.driver, {"overrides": overrides}):
                if verb == "close":
                    return await self._close(kept)
                if wanted is not None:
                    kept.wanted = wanted
                    await self._want(kept)
                assert kept.managed is not None
                result = await _step(kept.managed, verb)
                kept.problem = None
                return result
        except BaseException as error:
            if known is None:
                self._session.kept.pop(kept.device_id, None)
                await self._work.do(lambda store: store.wanted.remove(kept.device_id))
                await self._session.let_go(kept)
            elif isinstance(error, IllegalTransition):  # nothing was done
                kept.wanted, kept.overrides = before
                await self._want(kept)
            raise

    async def _want(self, kept: KeptDevice) -> None:
        await self._work.do(
            lambda store: store.wanted.put(
                kept.device_id, kept.driver, kept.wanted, address=kept.address, overrides=kept.overrides
            )
        )

    async def _close(self, kept: KeptDevice) -> None:
        await self._work.do(lambda store: store.wanted.remove(kept.device_id))
        self._session.kept.pop(kept.device_id, None)
        await self._session.let_go(kept)

    async def send(
        self,
        text: str,
        command: str,
        parameters: Mapping[str, Any],
        driver: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run one command of the device's driver, as `vfab device send`; a device that is not kept is let go after."""
        first = self._events.last
        kept = self._session.kept_as(text)
        if kept is not None and kept.managed is not None and not overrides and kept.job:
            found = command_named(kept.managed.manifest, command)
            if found.concurrent:  # pause, cancel, position: meant for a device that works
                return await self._sent(kept.managed, command, parameters, first, kept=True)
        async with self._session.device(text, driver, overrides) as managed:
            return await self._sent(managed, command, parameters, first, kept=managed.id in self._session.kept)

    async def _sent(
        self, managed: ManagedDevice, command: str, parameters: Mapping[str, Any], first: int, *, kept: bool
    ) -> dict[str, Any]:
        before = managed.device_state.value
        name = managed.manifest.name
        found = command_named(managed.manifest, command)
        values = checked_parameters(name, command, found, dict(parameters))
        async with self._work.journaled(f"send {command}"[:60], managed.id, name, values):
            await ensure_connected(managed)
            result = await managed.operate_with(
                found.method or command.replace("-", "_"), (), values, timeout_s=found.timeout_s
            )
        events = self._events.select(after=first, types=frozenset({"state_changed"}), device=managed.id)
        states = [before, *(event["data"]["device_state"] for event in events)]
        return {
            "device": managed.id,
            "driver": name,
            "did": f"send {command}",
            "state": managed.device_state.value,
            "states": [s for n, s in enumerate(states) if n == 0 or states[n - 1] != s],
            "story": [f"{e['data']['from']} -{e['data']['event']}-> {e['data']['to']}" for e in events],
            "result": result,
            "released": not kept,
        }

    def run(self, driver: str, command: str, body: Mapping[str, Any]) -> Job:
        """Run a command of a driver as a job, as `vfab driver run`."""
        manifest = self._session.drivers.get(driver).manifest
        found = command_named(manifest, command)
        parameters = checked_parameters(driver, command, found, dict(body.get("parameters") or {}))

        async def work(job: Job, interrupts: JobInterrupts) -> Any:
            device = body.get("device")
            kept = self._session.kept_as(device) if device else None
            async with self._work.journaled(f"run {command}"[:60], device or "", driver, parameters):
                if kept is not None and kept.managed is not None and kept.job and found.concurrent:
                    result = await call_command(
                        kept.managed, command, parameters, interrupts=interrupts, on_progress=job.advance
                    )
                    return {"driver": driver, "device": kept.device_id, "command": command, "result": result}
                return await run_command(
                    self._session,
                    driver,
                    command,
                    parameters,
                    interrupts=interrupts,
                    device=device,
                    overrides=body.get("overrides"),
                    on_progress=job.advance,
                )

        return self._jobs.start(f"run {command}", work, driver)

    def plot(self, body: Mapping[str, Any]) -> Job:
        """Plot a file as a job, as `vfab plot`."""
        from vfab.apps.plotting import PlotRequest, Watcher, plot_file

        def path(key: str) -> Path | None:
            return Path(body[key]) if body.get(key) else None

        async def work(job: Job, interrupts: JobInterrupts) -> Any:
            file = path("file")
            assert file is not None
            request = PlotRequest(
                file,
                body.get("device"),
                body.get("driver"),
                body.get("overrides") or {},
                body.get("options") or {},
                dry_run=bool(body.get("dry_run")),
                report=path("report"),
                picture=path("picture"),
            )

            def chosen(managed: ManagedDevice) -> None:
                job.device, job.driver = managed.id, managed.manifest.name
                job.tell(chosen={"device": managed.id, "name": managed.info.name, "driver": managed.manifest.name})

            watcher = Watcher(chosen, lambda estimate: job.tell(estimate=dict(estimate)), job.advance)
            async with self._work.journaled("plot", body.get("device") or "", body.get("driver") or "", dict(body)):
                return await plot_file(self._session, request, interrupts, watcher)

        return self._jobs.start("plot", work)


async def _step(managed: ManagedDevice, verb: str) -> Any:
    match verb:
        case "init":
            if managed.state not in {DriverState.READY, DriverState.CONNECTED, DriverState.BUSY}:
                await managed.initialize()
        case "connect":
            await ensure_connected(managed)
            return await managed.operate("test_connection")
        case "disconnect":
            await managed.disconnect()
        case "reset":
            await managed.reset()
    return None


def _not_kept(device_id: str, verb: str) -> IllegalTransition:
    return IllegalTransition(
        f"{device_id}: cannot {verb}: the node does not keep it; possible now: connect, init",
        context={"device": device_id},
        remedy=f"Connect it first: `vfab device connect {device_id}`.",
    )
