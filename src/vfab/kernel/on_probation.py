"""Watches a new driver while the old one is warm: looks at what happens, and has `probation.judge` decide."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from vfab.kernel.hosts import Host
from vfab.kernel.obituary import obituary
from vfab.kernel.probation import Look, Probation, Pulse, TakeBack, Trust, judge
from vfab.model.errors import DriverError, DriverFailed, HostDied, TimeoutExceeded
from vfab.model.lifecycle import DriverState

if TYPE_CHECKING:
    from vfab.kernel.managed import ManagedDevice

__all__ = ["OnProbation", "ProbationFailed"]

_LOOK_S = 0.02
_SAYS_S = 5.0
_DIES_S = 1.0


class ProbationFailed(Exception):
    """The new driver has not proved itself: why, in one line.

    Attributes:
        cause: what it said, or what is to be said of it.
    """

    def __init__(self, why: str, cause: DriverError) -> None:
        super().__init__(why)
        self.cause = cause


class OnProbation:
    """A host that has just taken over a device. Use it once.

    Args:
        device: the device.
        host: the host that has it now.
        pulses: streams that the driver before had running.
        lasts_s: for how long it is watched.
    """

    def __init__(self, device: ManagedDevice, host: Host, pulses: tuple[Pulse, ...], lasts_s: float) -> None:
        self._device = device
        self._host = host
        self._connected = device.state is not DriverState.READY
        self._calls = device.calls_made
        self._probation = Probation(
            time.monotonic(),
            lasts_s,
            device.failures.of_others(host.process.pid),
            pulses,
            host.plugin.manifest.state.silence_s,
        )

    @property
    def asked(self) -> bool:
        """People have called it meanwhile, or may have."""
        return self._device.calls_made > self._calls or self._device.has_channels

    async def passes(self) -> None:
        """Watch it. Raises ProbationFailed: it has not proved itself."""
        ends = self._probation.began_s + self._probation.lasts_s
        while True:
            verdict = judge(self._probation, await self._look())
            if isinstance(verdict, TakeBack):
                name = self._host.plugin.manifest.name
                raise ProbationFailed(verdict.why, verdict.error or DriverFailed(verdict.why, driver_name=name))
            if isinstance(verdict, Trust):
                return
            left_s = ends - time.monotonic()
            await asyncio.sleep(min(_LOOK_S, left_s) if left_s > 0 else _LOOK_S)

    async def _look(self) -> Look:
        """What is seen of it now."""
        device, connection = self._device, self._host.connection
        connected = await self._says_connected()
        return Look(
            time.monotonic(),
            connected=connected,
            died=await self._died(),
            failures=device.failures.of(self._host.process.pid),
            streams=device.streams.seen() if self._probation.pulses else {},
            asked=self.asked,
            unanswered=connection.unsettled,
            hurry=device.is_waited_for,
        )

    async def _says_connected(self) -> bool:
        """What it says itself; how it fails to say it is noted with what else fails."""
        if not self._connected:
            return True  # nobody wants it to be
        try:
            return bool(await self._host.connection.call("is_connected", timeout_s=_SAYS_S))
        except HostDied:
            return True  # it does not matter any more
        except TimeoutExceeded as error:
            self._device.failures.note(self._host.process.pid, "is_connected", error)
        except DriverError:
            pass  # noted where it was heard
        return True

    async def _died(self) -> DriverError | None:
        """Of what its process has ended; None: it lives."""
        host, manifest = self._host, self._host.plugin.manifest
        if host.connection.closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(host.process.exited), _DIES_S)
        if host.process.exited.done():
            return obituary(host.process, host.process.exited.result(), manifest, self._device.id)
        if host.connection.closed:
            return HostDied(f"{manifest.name} {manifest.version} is out of reach", driver_name=manifest.name)
        return None
