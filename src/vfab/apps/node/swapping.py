"""Hot swap at the node: the devices that it keeps, its journal, the modes of its drivers, `vfab up --dev`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from vfab.apps.hot_swap import DriverHotSwap, DriverMode
from vfab.apps.node.drivers import NodeDrivers
from vfab.apps.node.jobs import Job, JobBook, JobInterrupts
from vfab.apps.node.keeping import KeepingSession, KeptDevice
from vfab.apps.node.working import StoreWork
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import home_of
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.swap import SwapOptions
from vfab.model.errors import DependencyError, DeviceBusy, DriverError
from vfab.model.lifecycle import DriverState
from vfab.model.plugins import DriverInfo
from vfab.store.records import Wanted

__all__ = ["NodeSwaps", "SwapBody", "add_swaps", "reload_on_save"]

MAINTENANCE = "maintenance"
_log = logging.getLogger("vfab.swap")
_ENDS = {"commit": "done", "roll_back": "rolled_back", "abandon": "abandoned"}


class NodeSwaps:
    """What `DriverHotSwap` needs of a node.

    Args:
        session: the kernel's parts.
        work: the store.
        switches: enables and disables drivers.

    Attributes:
        hot: the operations.
        drivers: the drivers that there are.
    """

    def __init__(self, session: KeepingSession, work: StoreWork, switches: NodeDrivers) -> None:
        self._session = session
        self._work = work
        self._switches = switches
        self._modes: dict[str, DriverMode] = {}
        self._begun: dict[str, int] = {}
        self.drivers: DriverRegistry = session.drivers
        self.hot = DriverHotSwap(self, home_of(session.env) / "state" / "contexts")

    def look_again(self) -> None:
        """Find the plugins as they lie on disk now; who is left out stays so."""
        self._switches.look_again()

    def running(self) -> list[ManagedDevice]:
        """The devices that the node keeps."""
        return [kept.managed for kept in self._session.kept.values() if kept.managed is not None]

    def configured(self, driver: DriverInfo, device_id: str) -> dict[str, Any]:
        """The settings of `driver`; the device's own go along where the driver stays the same."""
        kept = self._session.kept[device_id]
        return self._session.checked(driver, kept.overrides if kept.driver == driver.name else None)

    async def journal(self, step: str, detail: Mapping[str, Any]) -> None:
        """Write the step down; with `commit` the new driver is the wanted one: that is what is asked after a death.

        Of `hand_over` and `cut`, between which nothing happens, both are written with the second: commands wait.
        """
        device, driver = str(detail["device"]), str(detail["driver"])
        kept = self._session.kept[device]
        work = self._work
        if step == "prepare":
            self._begun[device] = await work.do(
                lambda store: store.journal.begin("swap", run=work.run, device_id=device, driver=driver, detail=detail)
            )
        begun = self._begun.get(device)
        if step == "commit":
            overrides = kept.overrides if kept.driver == driver else {}
            await work.do(
                lambda store: store.wanted.put(device, driver, kept.wanted, address=kept.address, overrides=overrides)
            )
            kept.driver, kept.overrides = driver, overrides
        if begun is None:
            return  # its beginning could not be written down, so it has not begun
        if step in _ENDS:
            del self._begun[device]
            await self._end(begun, step)
        elif step not in {"prepare", "hand_over"}:
            steps = [f"swap {each}" for each in (("hand_over", "cut") if step == "cut" else (step,))]
            await work.do(
                lambda store: store.journal.note_all(
                    steps, run=work.run, device_id=device, driver=driver, detail=detail
                )
            )

    async def _end(self, begun: int, step: str) -> None:
        try:
            await self._work.do(lambda store: store.journal.end(begun, _ENDS[step]))
        except Exception as error:  # it has happened, and is known where it counts: the wanted driver
            _log.warning("the end of a swap (%s) cannot be written down: %s", step, error)

    def mode_of(self, driver: str) -> DriverMode:
        """The mode that a driver is in; disabled is what the store says."""
        if self._switches.is_disabled(driver):
            return DriverMode.DISABLED
        return self._modes.get(driver, DriverMode.ACTIVE)

    async def enter(self, driver: str, mode: DriverMode) -> None:
        """Bring the driver's devices into `mode`."""
        if mode is DriverMode.DISABLED:
            await self._switches.disable(driver)
        elif self._switches.is_disabled(driver):
            await self._switches.enable(driver)
        kept = [k for k in self._session.kept.values() if k.driver == driver and k.managed is not None]
        for device in kept:
            if device.job == MAINTENANCE and mode is not DriverMode.MAINTENANCE:
                device.job = ""
        if mode is DriverMode.MAINTENANCE:
            self._take_alone(kept)
        elif mode is not DriverMode.DISABLED:
            await asyncio.gather(*(self._bring(device, mode) for device in kept))
        self._modes[driver] = mode

    def _take_alone(self, kept: list[KeptDevice]) -> None:
        busy = next((k for k in kept if k.job and k.job != MAINTENANCE), None)
        if busy is not None:
            raise DeviceBusy(
                f"{busy.device_id} is in use by {busy.job} of the node",
                context={"device": busy.device_id, "holder": busy.job},
                remedy="Wait until it is done, or cancel it; then maintain it.",
            )
        for device in kept:
            device.job = MAINTENANCE

    async def _bring(self, kept: KeptDevice, mode: DriverMode) -> None:
        managed = kept.managed
        assert managed is not None
        async with kept.changing:
            if mode is DriverMode.STANDBY and managed.state in {DriverState.CONNECTED, DriverState.BUSY}:
                await managed.disconnect()
                await managed.initialize()
            elif mode is DriverMode.ACTIVE and kept.wanted is Wanted.CONNECTED:
                await managed.connect()


class SwapBody(BaseModel):
    """A swap or reload."""

    model_config = ConfigDict(extra="forbid")

    device: str | None = Field(None, description="id or address; default: every device of the driver")
    now: bool = Field(False, description="end what the device does, rather than wait for a safe point")
    wait_s: float = Field(60.0, ge=0, description="seconds to wait for a safe point")
    probation_s: float = Field(1.0, ge=0, le=600, description="seconds that the old driver stays warm")


class ModeBody(BaseModel):
    """A mode."""

    model_config = ConfigDict(extra="forbid")

    mode: str = Field(description="active, standby, maintenance or disabled")


def add_swaps(app: FastAPI, swaps: NodeSwaps, jobs: JobBook, answer: Callable[..., Response]) -> None:
    """Serve the operations."""

    def begin(what: str, work: Callable[[SwapOptions, str | None], Any], body: SwapBody) -> Response:
        async def run(job: Job, interrupts: JobInterrupts) -> Any:
            options = SwapOptions(drain_s=body.wait_s, now=body.now, probation_s=body.probation_s)
            await work(options, body.device)
            return {"swaps": [report.to_dict() for report in swaps.hot.reports]}

        return answer(jobs.start(what, run).to_dict(), 202)

    @app.post("/v1/drivers/{name}/swap/{new}", tags=["drivers"], status_code=202)
    async def swap(name: str, new: str, body: SwapBody) -> Response:
        """Replace a driver by another while it runs, as a job."""
        return begin("swap", lambda o, d: swaps.hot.swap_driver(name, new, device=d, options=o), body)

    @app.post("/v1/drivers/{name}/reload", tags=["drivers"], status_code=202)
    async def reload(name: str, body: SwapBody) -> Response:
        """Replace a driver by its code on disk while it runs, as a job."""
        return begin("reload", lambda o, d: swaps.hot.reload_driver(name, device=d, options=o), body)

    @app.post("/v1/drivers/{name}/mode", tags=["drivers"])
    async def mode(name: str, body: ModeBody) -> Response:
        """Bring a driver into a mode."""
        changed = await swaps.hot.set_driver_mode(name, body.mode)
        return answer({"driver": name, "mode": swaps.mode_of(name).value, "changed": changed})

    @app.get("/v1/active", tags=["drivers"])
    async def active() -> Response:
        """The drivers that run, one entry a device."""
        return answer({"drivers": [one.to_dict() for one in swaps.hot.get_active_drivers()]})


async def reload_on_save(swaps: NodeSwaps, log: Any) -> None:
    """For `vfab up --dev`: whenever a file of a running driver's plugin is saved, reload that driver. Without end.

    Raises DependencyError: the library that watches files is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError as error:
        raise DependencyError(
            "--dev needs watchfiles", context={"missing": ["watchfiles"]}, remedy="pip install 'vfab[dev-reload]'"
        ) from error
    watched = PythonFilter(extra_extensions=(".yaml", ".yml", ".js", ".cjs"))
    folders = await asyncio.to_thread(_watched_folders, swaps)
    async for changes in awatch(*folders, watch_filter=watched, step=50, recursive=True):
        files = {Path(name) for _, name in changes}
        for device in swaps.running():
            folder = swaps.drivers.get(device.manifest.name).folder
            if not any(file.is_relative_to(folder) for file in files):
                continue
            try:
                await swaps.hot.reload_driver(device.manifest.name, device=device.id)
                log.info("reloaded", device=device.id, driver=device.manifest.name)
            except DriverError as error:
                log.warning("not reloaded", device=device.id, error=error.message, remedy=error.remedy)


def _watched_folders(swaps: NodeSwaps) -> list[str]:
    return sorted({str(place.folder) for place in swaps.drivers.places.folders if Path(place.folder).is_dir()})
