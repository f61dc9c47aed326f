"""Replacing the driver of a device while it runs: one device, two hosts for a moment, exactly one that owns it.

prepare    a new host is started, loads its plugin and initialises; the old one works on
drain      new calls wait; the operation under way reaches a safe point, or ends
hand over  the old driver saves its state and lets go; the links stay open in the kernel, the streams' memory too
cut        the new driver takes over; from here on calls go to it
probation  what it does is looked at for a while, and judged by `probation`; the old host waits, warm
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
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from vfab.kernel.hosts import Host
from vfab.kernel.on_probation import OnProbation, ProbationFailed
from vfab.kernel.probation import Pulse
from vfab.kernel.swap_words import NewPlugin, SwapOptions, SwapReport
from vfab.kernel.uncancelled import to_the_end
from vfab.model.errors import DriverError, DriverFailed, HostDied, Refused, SwapFailed, TimeoutExceeded
from vfab.model.lifecycle import DriverState
from vfab.model.limits import limits_and_settings
from vfab.model.manifest import Manifest
from vfab.protocols.hostwire import LET_GO, SAFE_POINT, TAKE_OVER

if TYPE_CHECKING:
    from vfab.kernel.managed import ManagedDevice

__all__ = ["Swap", "SwapOptions", "SwapReport"]

_LOOK_S = 0.02
_LOOK_AGAIN_S = 0.25
_ASK_AGAIN_S = 1.0
_DIES_S = 1.0
_KILLED_S = 5.0
_RUNNING = frozenset({DriverState.READY, DriverState.CONNECTED, DriverState.BUSY})
_log = logging.getLogger("vfab.swap")
S = DriverState


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
        self._pulses: tuple[Pulse, ...] = ()
        self._watch: OnProbation | None = None
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
                self._pulses = device.streams.pulses()  # while nobody waits
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
            host = Host(device.voice, self._plugin, self._config, process)
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
            await to_the_end(self._change_hands(old, new, version))
            device.open_gate()
            device.move_channels()
            self._watch = OnProbation(device, new, self._pulses, self._options.probation_s)
            await self._watch.passes()
            await to_the_end(self._commit(new))
        except BaseException as error:
            if self.report.outcome != "committed":
                if self._handed:
                    await to_the_end(self._roll_back(old, new, error))
                await device.stay_with_channels()
                if isinstance(error, DriverError | ProbationFailed) and self._handed:
                    raise self._undone(error) from error
            raise
        finally:
            device.whole_again()
            if self.report.outcome == "committed":
                await to_the_end(self._end(old))
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
        seen = device.streams.seen() if self._pulses and self._handed["streaming"] is not None else {}
        self._pulses = tuple(replace(p, records=seen[p.name].records) for p in self._pulses if p.name in seen)
        device.permit(self._plugin.manifest)
        await self._give(new, self._handed)
        device.exchange(new, on_probation=True)
        self.report.blackout_s = time.monotonic() - began

    async def _give(self, host: Host, handed: Mapping[str, Any]) -> None:
        """Have `host` take the device over, with all that the kernel holds of it."""
        told = {**handed, "ahead": self._device.ahead(host)}
        await host.connection.call(TAKE_OVER, told, timeout_s=self._options.hand_over_s)

    async def _commit(self, new: Host) -> None:
        """The new driver is the one, from the moment in which that is written."""
        await self._note("commit")
        self.report.outcome = "committed"
        self._device.trusted(new)
        self._device.publish("swapped", self.report.to_dict())

    async def _roll_back(self, old: Host, new: Host, error: BaseException) -> None:
        """The old driver takes the device back, because of `error`."""
        device, was_cut = self._device, self._device.host() is new
        device.close_gate()
        await self._note_if_possible("roll_back")
        newer = await self._taken_back(old, new) if was_cut else None
        unsafe = newer is None if was_cut else isinstance(error, HostDied | TimeoutExceeded)
        await self._kill(new)
        if unsafe:
            await device.make_safe()  # it had the device, and did not let go of it by itself
        device.failures.forget(new.process.pid)
        self.report.outcome = "rolled_back"
        device.permit(old.plugin.manifest)
        try:
            await self._give_back(old, newer, unread=not was_cut)
        except DriverError as second:
            self.report.outcome = "lost"
            if was_cut:
                device.exchange(old)
            device.lost_in_swap(second)
        else:
            if was_cut:
                device.exchange(old)
        device.publish("swap_rolled_back", self.report.to_dict())

    async def _taken_back(self, old: Host, new: Host) -> Mapping[str, Any] | None:
        """Have the new driver let go; what the old one is to go on from, or None: it does not let go."""
        device, patience_s, handed = self._device, self._options.hand_over_s, self._handed
        if device.calls_under_way and not new.connection.closed:
            with contextlib.suppress(DriverError):  # they go on in the old one from a safe point, or end, or are ended
                await new.connection.call(SAFE_POINT, timeout_s=patience_s)
            await device.wait_for_calls(patience_s)
            device.cancel_operations()
            await device.wait_for_calls(_DIES_S)
        asked = self._watch is not None and self._watch.asked
        failed = any(failure.method.startswith("stream ") for failure in device.failures.of(new.process.pid))
        own = self._plugin.manifest.state
        back = own.common(old.plugin.manifest.state)
        try:
            version = own.version if back is None else back
            said: Mapping[str, Any] = await new.connection.call(LET_GO, version, timeout_s=patience_s)
        except DriverError:
            return None
        state = handed if back is None else said
        return {
            **said,
            **{key: state[key] for key in ("state", "version")},
            "connected": handed["connected"],
            "streaming": (said if asked and not failed else handed)["streaming"],
        }

    async def _give_back(self, old: Host, newer: Mapping[str, Any] | None, *, unread: bool) -> None:
        """Have the old driver go on from what is newer, or, where it cannot make sense of that, from its own state.

        What it had not read it reads now only if it is still `unread`: else the new one has read it, and more.
        """
        own = self._handed if unread else {**self._handed, "unread": newer["unread"] if newer is not None else {}}
        if newer is not None:
            try:
                await self._give(old, newer)
                return
            except (HostDied, TimeoutExceeded):
                raise
            except DriverError as error:
                _log.warning("%s: %s does not take the newer state: %s", self._device.id, self.report.old, error)
        await self._give(old, own)

    # -- words and small things ---------------------------------------------------------------------------------------

    def _where(self) -> dict[str, Any]:
        return {"device": self._device.id, "old": self.report.old, "new": self.report.new}

    async def _note(self, step: str) -> None:
        """Tell that `step` comes now. Raises SwapFailed: it cannot be written down."""
        detail = {"old": self.report.old, "new": self.report.new}
        self._device.publish("swap", {"step": step, **detail})
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

    def _undone(self, error: DriverError | ProbationFailed) -> SwapFailed:
        """The error for a swap that was undone after the old driver had let go."""
        restored = self.report.outcome == "rolled_back"
        if isinstance(error, ProbationFailed):
            return self._failed(error.cause, "it failed on probation", said=str(error), restored=restored)
        cause = error.original_error if isinstance(error, SwapFailed) else error
        cause = cause if isinstance(cause, DriverError) else error
        return self._failed(cause, "it could not take over", restored=restored)

    def _failed(self, error: DriverError, why: str, *, said: str = "", restored: bool = True) -> SwapFailed:
        after = f"{self.report.old} has the device as before" if restored else "the device is in error"
        failed = SwapFailed(
            f"{self.report.new}: {why}: {said or error.message}; {after}",
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
            await asyncio.wait_for(asyncio.shield(host.process.exited), _DIES_S)
        await self._kill(host)

    async def _kill(self, host: Host) -> None:
        """End a host at once; on return it is gone, unless the machine is too busy to say so."""
        host.process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(host.process.exited), _KILLED_S)
