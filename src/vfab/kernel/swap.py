"""Replacing the driver of a device while it runs: one device, two hosts for a moment, exactly one that owns it.

prepare    a new host is started, loads its plugin and initialises; the old one works on
drain      new calls wait; the operation under way reaches a safe point, or ends
hand over  the old driver saves its state and lets go; the links stay open in the kernel, the streams' memory too
cut        the new driver takes over; from here on calls go to it
probation  it must stay alive and connected for a while; the old host waits, warm
commit     the old host ends; or, if anything went wrong: roll back, the old driver takes over again

Every step is told to a journal before it is taken; what is to be said of handing over and of the cut is written before
the old driver lets go, so that no disk lengthens the time in which nobody has the device. Whatever ends the kernel ends
both hosts, and who owns the device then is what the journal's last commit says: a swap without one has not happened.

From the moment in which the old driver is asked to let go until one of them has the device nothing is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from vfab.kernel.hosts import Host
from vfab.model.errors import DriverError, DriverFailed, HostDied, Refused, SwapFailed, TimeoutExceeded
from vfab.model.lifecycle import DriverState
from vfab.model.limits import limits_and_settings
from vfab.model.manifest import Manifest
from vfab.protocols.hostwire import LET_GO, SAFE_POINT, TAKE_OVER

if TYPE_CHECKING:
    from vfab.kernel.managed import ManagedDevice

__all__ = ["Swap", "SwapOptions", "SwapReport"]

Journal = Callable[[str, Mapping[str, Any]], Awaitable[None]]
T = TypeVar("T")
_LOOK_S = 0.02
_LOOK_AGAIN_S = 0.25
_ASK_AGAIN_S = 1.0
_SAYS_S = 5.0
_RUNNING = frozenset({DriverState.READY, DriverState.CONNECTED, DriverState.BUSY})
_log = logging.getLogger("vfab.swap")
S = DriverState


async def _no_journal(step: str, detail: Mapping[str, Any]) -> None:
    """Nobody writes it down."""


@dataclass(frozen=True, slots=True)
class SwapOptions:
    """How to go about it.

    Attributes:
        drain_s: how long the operation under way may take to its end, or its next safe point.
        now: do not wait for it: it is cancelled, and its caller told.
        hand_over_s: how long letting go, and taking over, may take each.
        probation_s: how long the new driver is watched with the old one warm.
        journal: told of each step before it is taken.
    """

    drain_s: float = 60.0
    now: bool = False
    hand_over_s: float = 10.0
    probation_s: float = 0.5
    journal: Journal = _no_journal


@dataclass(slots=True)
class SwapReport:
    """What became of a swap.

    Attributes:
        device, old, new: which device, from which driver and version to which.
        outcome: committed, rolled_back, or lost: neither driver could have it, and what follows is what follows every
            death of a driver.
        blackout_s: for how long no driver had the device.
        prepare_s, drain_s: how long these steps took.
        error: why it was rolled back.
    """

    device: str
    old: str
    new: str
    outcome: str = ""
    blackout_s: float = 0.0
    prepare_s: float = 0.0
    drain_s: float = 0.0
    error: DriverError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "device": self.device,
            "old": self.old,
            "new": self.new,
            "outcome": self.outcome,
            "blackout_ms": round(self.blackout_s * 1000, 3),
            "prepare_ms": round(self.prepare_s * 1000, 3),
            "drain_ms": round(self.drain_s * 1000, 3),
            "error": self.error.to_public() if self.error is not None else None,
        }


@dataclass(frozen=True, slots=True)
class NewPlugin:
    """The driver that is to take over."""

    manifest: Manifest
    folder: Path
    paths: tuple[str, ...] = ()


class Swap:
    """One replacement. Use it once, on the event loop.

    Args:
        device: the device; READY, CONNECTED or BUSY.
        manifest, folder, paths: the plugin that is to take over.
        config: its settings, checked; its limits may be among them.
        options: how to go about it.
    """

    def __init__(
        self,
        device: ManagedDevice,
        manifest: Manifest,
        folder: Path,
        config: Mapping[str, Any],
        *,
        paths: tuple[str, ...] = (),
        options: SwapOptions | None = None,
    ) -> None:
        self._device = device
        limits, self._config = limits_and_settings(manifest.config_schema, manifest.runtime.limits, config)
        runtime = structs.replace(manifest.runtime, limits=limits)
        self._plugin = NewPlugin(structs.replace(manifest, runtime=runtime), folder, paths)
        self._options = options or SwapOptions()
        self._handed: Mapping[str, Any] = {}
        old = device.manifest
        self.report = SwapReport(device.id, f"{old.name} {old.version}", f"{manifest.name} {manifest.version}")

    async def run(self) -> SwapReport:
        """Do it.

        Raises Refused: it was not begun, and why. DeviceBusy: another one is under way.
        Raises SwapFailed: the new driver could not take over; the old one has the device again, as if nothing had
            been, unless the context's `restored` is False.
        """
        device = self._device
        with device.claimed():
            version = self._state_version()
            self._see_that_it_is_there()
            began = time.monotonic()
            await self._note("prepare")
            try:
                new = await self._prepare()
            except BaseException:
                await self._abandon()
                raise
            self.report.prepare_s = time.monotonic() - began
            try:
                await self._note("drain")
                async with device.gate_closed():
                    await self._drain()
                    await self._cut(new, version)
            except BaseException:
                if self.report.outcome != "committed":
                    await self._abandon()
                    await self._end(new)
                raise
        return self.report

    async def _abandon(self) -> None:
        """Nothing was cut: the old driver never noticed."""
        if not self.report.outcome:
            await self._note_if_possible("abandon")

    # -- the steps ----------------------------------------------------------------------------------------------------

    def _state_version(self) -> int:
        """The schema in which state goes over. Raises Refused: it cannot begin."""
        old, new = self._device.manifest, self._plugin.manifest
        self._see_that_it_runs()
        if new.category != old.category:
            raise Refused(
                f"{new.name} is of the category {new.category}, {old.name} of {old.category}",
                context=self._where(),
                remedy="Disconnect the device, and connect it with the other driver.",
            )
        version = old.state.common(new.state)
        if version is None:
            raise Refused(
                f"{new.name} {new.version} cannot read the state of {old.name} {old.version}",
                context={
                    **self._where(),
                    "saved": [old.state.version, *old.state.writes],
                    "read": [new.state.version, *new.state.reads],
                },
                remedy="Install a release of it that reads that version of the state, or disconnect the device first.",
            )
        return version

    def _see_that_it_runs(self) -> None:
        """Raises Refused: the device has no driver that runs, or not any more."""
        device = self._device
        if device.state not in _RUNNING:
            raise Refused(
                f"{device.id} is {device.state.value}: there is no running driver to replace",
                context={**self._where(), "state": device.state.value},
                remedy=f"Start it with the driver that you want: vfab device connect {device.id} "
                f"--driver {self._plugin.manifest.name}",
            )

    def _see_that_it_is_there(self) -> None:
        """Raises Refused: the device was unplugged, so that nobody could take it over."""
        broken = self._device.broken_links
        if broken:
            raise Refused(
                f"{self._device.id} is not at {broken[0]} any more",
                context={**self._where(), "address": broken[0]},
                remedy="Plug it in again; then `vfab device reset` finds it, wherever it is.",
            )

    async def _prepare(self) -> Host:
        """The new host, loaded and initialised; the old driver notices nothing. Raises SwapFailed."""
        device = self._device
        try:
            process = await device.spawn_beside(self._plugin, self._config)
            host = Host(device, self._plugin, self._config, process)
            await host.open()
            try:
                runtime = self._plugin.manifest.runtime
                host.handshake = await host.connection.handshake(runtime.start_timeout_s)
                await host.connection.call("initialize", timeout_s=runtime.initialize_timeout_s)
            except BaseException:
                await self._end(host)
                raise
        except DriverError as error:
            raise self._failed(error, "it could not be started") from error
        return host

    async def _drain(self) -> None:
        """Wait until nothing runs. Raises Refused: it takes too long, or somebody lets go of it; everything goes on."""
        device, options = self._device, self._options
        began = time.monotonic()
        if options.now and device.state is S.BUSY:
            device.cancel_operations()
        ask_at, wait_s = began, _LOOK_S
        while device.calls_under_way:
            waited_s = time.monotonic() - began
            if device.is_waited_for:
                raise Refused(f"{device.id} is let go of meanwhile", context=self._where())
            if waited_s > options.drain_s:
                raise Refused(
                    f"{device.id} is still at work after {options.drain_s:g} s",
                    context={"device": device.id, "waited_s": options.drain_s},
                    remedy="Swap it later, or with --now, which ends what it does.",
                )
            if device.state is S.BUSY and time.monotonic() >= ask_at and await self._asked(options.drain_s - waited_s):
                ask_at = time.monotonic() + _ASK_AGAIN_S  # then it may be another operation
            await device.wait_for_calls(wait_s)
            wait_s = min(wait_s * 1.5, _LOOK_AGAIN_S)
        self.report.drain_s = time.monotonic() - began
        self._see_that_it_runs()

    async def _asked(self, left_s: float) -> bool:
        """Ask for a safe point; False: an operation that still prepares has none yet."""
        patience_s = max(_LOOK_S, min(left_s, self._options.hand_over_s))
        with contextlib.suppress(DriverError):
            return bool(await self._device.host().connection.call(SAFE_POINT, timeout_s=patience_s))
        return False

    async def _cut(self, new: Host, version: int) -> None:
        """Hand over, cut, watch; commit or roll back."""
        device, options, generation = self._device, self._options, self._device.life.generation
        old = device.host()
        await self._note("hand_over")
        await self._note("cut")
        try:
            await device.hold_channels(new, options.hand_over_s)
            self._see_that_it_runs()
            self._see_that_it_is_there()
            await _to_the_end(self._change_hands(old, new, version))
            device.open_gate()
            device.move_channels()
            await self._watch_over(new)
            await _to_the_end(self._commit(new))
        except BaseException as error:
            if self.report.outcome != "committed":
                if self._handed:
                    await _to_the_end(self._roll_back(old, new))
                await device.stay_with_channels()
                if isinstance(error, DriverError) and self._handed:
                    cause = error.original_error if isinstance(error, SwapFailed) else error
                    cause = cause if isinstance(cause, DriverError) else error
                    restored = self.report.outcome == "rolled_back"
                    raise self._failed(cause, "it could not take over", restored=restored) from error
            raise
        finally:
            device.whole_again()
            if self.report.outcome == "committed":
                await _to_the_end(self._end(old))
            elif self.report.outcome == "lost":
                await device.no_longer(generation)

    async def _change_hands(self, old: Host, new: Host, version: int) -> None:
        """The old driver lets go, the new one takes over. Raises SwapFailed: the old one did not; DriverError."""
        device, patience_s = self._device, self._options.hand_over_s
        began = time.monotonic()
        device.between_hosts(old)
        try:
            self._handed = await old.connection.call(LET_GO, version, timeout_s=patience_s)
        except DriverError as error:
            gone = isinstance(error, HostDied | TimeoutExceeded)
            if gone:  # nobody knows whether it still has the device
                self.report.outcome = "lost"
                device.lost_in_swap(error)
                await self._note_if_possible("abandon")
            raise self._failed(error, "the old driver did not let go", restored=not gone) from error
        device.permit(self._plugin.manifest)
        await self._give(new, self._handed)
        device.exchange(new, on_probation=True)
        self.report.blackout_s = time.monotonic() - began

    async def _give(self, host: Host, handed: Mapping[str, Any]) -> None:
        """Have `host` take the device over, with all that the kernel holds of it."""
        told = {**handed, "ahead": self._device.ahead(host)}
        await host.connection.call(TAKE_OVER, told, timeout_s=self._options.hand_over_s)

    async def _watch_over(self, new: Host) -> None:
        """The new driver is on probation. Raises DriverError: it failed."""
        device, ends = self._device, time.monotonic() + self._options.probation_s
        wanted = device.state
        while True:
            if new.process.exited.done() or new.connection.closed:
                raise HostDied(f"{self.report.new} died on probation", driver_name=self._plugin.manifest.name)
            if device.state is S.ERROR:
                raise device.last_error or HostDied(f"{self.report.new} failed on probation")
            if wanted is not S.READY and not await new.connection.call("is_connected", timeout_s=_SAYS_S):
                raise HostDied(f"{self.report.new} lost the device on probation")
            left = ends - time.monotonic()
            if left <= 0 or device.is_waited_for:  # whoever lets go of it needs neither of them for long
                return
            await asyncio.sleep(min(_LOOK_S, left))

    async def _commit(self, new: Host) -> None:
        """The new driver is the one, from the moment in which that is written."""
        await self._note("commit")
        self.report.outcome = "committed"
        self._device.trusted(new)
        self._device.tell("swapped", self.report.to_dict())

    async def _roll_back(self, old: Host, new: Host) -> None:
        """The old driver takes the device back."""
        device, options, handed = self._device, self._options, dict(self._handed)
        device.close_gate()
        await self._note_if_possible("roll_back")
        was_cut = device.host().process is new.process
        back = self._plugin.manifest.state.common(old.plugin.manifest.state)
        if was_cut and back is not None and not new.connection.closed:
            with contextlib.suppress(DriverError):  # its state is newer, if it can say it
                said = await new.connection.call(LET_GO, back, timeout_s=options.hand_over_s)
                handed = {**said, "connected": handed["connected"], "streaming": handed["streaming"]}
        new.process.kill()
        self.report.outcome = "rolled_back"
        device.permit(old.plugin.manifest)
        try:
            await self._give(old, handed)
            if was_cut:
                device.exchange(old)
        except DriverError as second:
            if was_cut:
                device.exchange(old)
            device.lost_in_swap(second)
            self.report.outcome = "lost"
        device.tell("swap_rolled_back", self.report.to_dict())

    # -- words and small things ---------------------------------------------------------------------------------------

    def _where(self) -> dict[str, Any]:
        return {"device": self._device.id, "old": self.report.old, "new": self.report.new}

    async def _note(self, step: str) -> None:
        """Tell that `step` comes now. Raises SwapFailed: it cannot be written down."""
        detail = {"old": self.report.old, "new": self.report.new}
        self._device.tell("swap", {"step": step, **detail})
        try:
            await self._options.journal(step, {"device": self._device.id, **detail})
        except DriverError:
            raise
        except Exception as error:
            failed = DriverFailed(f"the journal cannot be written: {error}", original_error=error)
            failed.remedy = "Make room on the disk, then swap again."
            raise self._failed(failed, f"before {step.replace('_', ' ')}") from error

    async def _note_if_possible(self, step: str) -> None:
        """Tell it, and go on where that cannot be written: what is under way is more important."""
        try:
            await self._note(step)
        except Exception as error:
            _log.warning("%s: %s of a swap cannot be written down: %s", self._device.id, step, error)

    def _failed(self, error: DriverError, why: str, *, restored: bool = True) -> SwapFailed:
        after = f"{self.report.old} has the device as before" if restored else "the device is in error"
        failed = SwapFailed(
            f"{self.report.new}: {why}: {error.message}; {after}",
            driver_name=self._plugin.manifest.name,
            context={"device": self._device.id, "cause": error.to_public(), "restored": restored},
            original_error=error,
            remedy=error.remedy or "Correct the new driver, then swap again; the log has what it said.",
        )
        self.report.error = failed
        return failed

    async def _end(self, host: Host) -> None:
        """End a host that has nothing to do with the device any more."""
        host.connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(host.process.exited), 1.0)
        host.process.kill()


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is done to its end: a cancel that comes meanwhile counts afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break  # the task's own: told below
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
