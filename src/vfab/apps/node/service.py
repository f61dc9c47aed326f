"""The node: its parts, how it stands, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

import vfab
from vfab.apps.node.drivers import NodeDrivers
from vfab.apps.node.events import NodeEvents
from vfab.apps.node.jobs import JobBook
from vfab.apps.node.keeping import KeepingSession, KeptDevice
from vfab.apps.node.left_out import LeftOut
from vfab.apps.node.swapping import NodeSwaps
from vfab.apps.node.upkeep import Upkeep
from vfab.apps.node.using import DeviceUse
from vfab.apps.node.working import StoreWork
from vfab.kernel.addresses import begins
from vfab.kernel.detection import device_dict
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import home_of
from vfab.model.lifecycle import DriverState, Life, device_state

__all__ = ["Node"]


class Node:
    """The node's service, for its API. Everything runs on one event loop.

    Args:
        session: the kernel's parts.
        work: the store.
        events: the bus.
        log: a structlog logger.

    Attributes:
        jobs: what takes long.
        left_out: drivers that may not be used.
        upkeep: keeps devices as wanted.
        drivers: switches drivers, knows what is installed.
        use: does what people ask of devices.
        swaps: replaces drivers while they run.
        stopping: set when the node is to end.
        notices: what people should know, for `vfab status`.
    """

    def __init__(self, session: KeepingSession, work: StoreWork, events: NodeEvents, log: Any) -> None:
        self.session = session
        self.work = work
        self.events = events
        self.jobs = JobBook()
        self.left_out = LeftOut()
        self.upkeep = Upkeep(session, work, self.left_out, log)
        self.drivers = NodeDrivers(session, work, self.left_out, self.upkeep)
        self.use = DeviceUse(session, work, events, self.jobs)
        self.swaps = NodeSwaps(session, work, self.drivers)
        self.stopping = asyncio.Event()
        self.notices: list[str] = []
        self._since = time.time()

    def status(self) -> dict[str, Any]:
        """How the node stands, for `vfab status`."""
        devices = [self._kept_dict(kept) for kept in self.session.kept.values()]
        return {
            "running": True,
            "pid": os.getpid(),
            "version": vfab.__version__,
            "since_s": self._since,
            "home": str(home_of(self.session.env)),
            "restored": self.upkeep.restored.is_set(),
            "devices": devices,
            "left_out": self.left_out.to_dicts(),
            "plugins": self.drivers.changes(),
            "disabled": sorted(self.left_out.disabled),
            "jobs": [job.to_dict() for job in self.jobs.all() if job.state == "running"],
            "notices": list(self.notices),
            "events": self.events.last,
        }

    def _kept_dict(self, kept: KeptDevice) -> dict[str, Any]:
        managed = kept.managed
        problem = kept.problem or (managed.last_error if managed and managed.state is DriverState.ERROR else None)
        return {
            "device": kept.device_id,
            "driver": kept.driver,
            "wanted": kept.wanted.value,
            "state": managed.device_state.value if managed else "unknown",
            "driver_state": managed.state.value if managed else "",
            "address": kept.address,
            "pid": managed.pid if managed else None,
            "confinement": _confinement_of(managed),
            "generation": managed.life.generation if managed else 0,
            "job": kept.job,
            "problem": problem.to_public() if problem else None,
        }

    def device_meant(self, text: str) -> str:
        """The id that `text` means in questions about events: a kept device's, or one that something happened to."""
        kept = self.session.kept_as(text)
        if kept is not None or not text:
            return kept.device_id if kept is not None else ""
        known = {event.device_id for event in self.events.get_recent_events()}
        begun = [device for device in known if begins(text, device)]
        return begun[0] if len(begun) == 1 and text not in known else text

    async def scan(self, **options: Any) -> dict[str, Any]:
        """What is there, as `vfab device scan --json` has it; options are those of `finding.scan`."""
        return (await self.session.scan(**options)).to_dict()

    async def devices(self) -> dict[str, Any]:
        """The devices that a driver fits, as `vfab device list --json` has it; those that are kept say so."""
        found = {device.id: device for device in (await self.session.scan()).devices if device.drivers}
        listed = []
        for device in found.values():
            kept = self.session.kept.get(device.id)
            holder = self.session.leases.holder_of(device.id)
            listed.append({**device_dict(device), "holder": holder, "node": self._kept_dict(kept) if kept else None})
        for kept in self.session.kept.values():
            if kept.device_id not in found:
                info = device_dict(kept.managed.info) if kept.managed else {"id": kept.device_id, "name": kept.address}
                holder = self.session.leases.holder_of(kept.device_id)
                listed.append({**info, "drivers": [kept.driver], "holder": holder, "node": self._kept_dict(kept)})
        return {"devices": listed}

    async def state(self, text: str) -> dict[str, Any]:
        """What is known of a device, as `vfab device state --json` has it, with its story where it is kept."""
        kept = self.session.kept_as(text)
        info = kept.managed.info if kept and kept.managed else await self.session.resolve(text)
        kept = kept or self.session.kept.get(info.id)
        holder = self.session.leases.holder_of(info.id)
        life = Life(present=True, state=DriverState.CONNECTED) if holder else Life(present=True)
        known: dict[str, Any] = {"state": device_state(life).value, "holder": holder, "device": device_dict(info)}
        if kept is not None:
            story = list(kept.managed.story) if kept.managed else []
            entry = self._kept_dict(kept)
            known.update(state=entry["state"], story=story, node=entry)
        return known

    async def close(self) -> None:
        """End jobs gently, leave every device safe, end every process."""
        await self.jobs.close()
        await asyncio.shield(self.session.end())
        self.events.close(timeout_s=0.0)
        for kept in self.session.kept.values():
            if kept.lease is not None:
                with contextlib.suppress(OSError):
                    kept.lease.release()


def _confinement_of(managed: ManagedDevice | None) -> dict[str, Any] | None:
    reached = managed.confinement if managed is not None else None
    return reached.to_dict() if reached is not None else None
