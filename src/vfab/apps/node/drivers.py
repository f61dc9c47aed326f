"""What people ask of drivers at the node: switch them, start them anew; and which plugins are installed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from vfab.apps.node.installed import changes, installed
from vfab.apps.node.keeping import KeepingSession, KeptDevice
from vfab.apps.node.left_out import LeftOut
from vfab.apps.node.upkeep import Upkeep
from vfab.apps.node.working import StoreWork
from vfab.store.records import InstalledPlugin, Verdict

__all__ = ["NodeDrivers"]


class NodeDrivers:
    """The drivers of a node.

    Args:
        session: the kernel's parts.
        work: the store.
        left_out: drivers that may not be used.
        upkeep: brings devices back.
    """

    def __init__(self, session: KeepingSession, work: StoreWork, left_out: LeftOut, upkeep: Upkeep) -> None:
        self._session = session
        self._work = work
        self._left_out = left_out
        self._upkeep = upkeep
        self._before: list[InstalledPlugin] = []
        self._installed: list[InstalledPlugin] = []

    def changes(self) -> list[Mapping[str, Any]]:
        """Which plugins are new, changed or vanished since the node was last started."""
        return changes(self._before, self._installed)

    async def remember(self) -> None:
        """Learn from the store what was installed when the node was last running; before the first look."""
        self._before = await self._work.do(lambda store: store.plugins.all())

    def is_disabled(self, name: str) -> bool:
        """Whether somebody switched the driver off."""
        return name in self._left_out.disabled

    async def look_and_note(self) -> None:
        """Look in every place again, and note in the store which plugins are installed."""
        self.look_again()
        await self._note()

    async def _note(self) -> None:
        drivers, disabled = list(self._session.drivers.drivers), self._left_out.disabled
        self._installed = await self._work.do(lambda store: store.plugins.sync(installed(drivers, disabled)))

    async def enable(self, name: str) -> dict[str, Any]:
        """Let a driver be used again, disabled or left out, and bring its devices back."""
        self._session.drivers.get(name)
        async with self._work.journaled("enable", "", name):
            changed = await self._work.do(
                lambda store: any([store.switches.set(name, enabled=True), store.crashes.acquit(name)])
            )
        self._left_out.disabled -= {name}
        self._left_out.suspects.pop(name, None)
        if changed:
            self._session.let_in(name)
            await self._note()
        return {"driver": name, "enabled": True, "changed": changed, "devices": await self._upkeep.restore_driver(name)}

    async def disable(self, name: str) -> dict[str, Any]:
        """Let nobody use a driver: its devices are left safe and let go; they stay wanted."""
        self._session.drivers.get(name)
        async with self._work.journaled("disable", "", name):
            changed = await self._work.do(lambda store: store.switches.set(name, enabled=False))
            self._left_out.disabled |= {name}
            self._left_out.apply(self._session)
            await self._note()
            kept = [k for k in self._session.kept.values() if k.driver == name and k.managed is not None]
            await asyncio.gather(*(self._stop(device) for device in kept))
        return {"driver": name, "enabled": False, "changed": changed, "devices": [k.device_id for k in kept]}

    def look_again(self) -> None:
        """Look in every place again, and leave out who is to be left out."""
        self._session.drivers.discover_drivers()
        self._left_out.apply(self._session)

    async def _stop(self, kept: KeptDevice) -> None:
        async with kept.changing:
            await self._session.let_go(kept)
            kept.problem = self._left_out.why(kept.driver)

    async def restart(self, name: str) -> dict[str, Any]:
        """Start the driver's processes anew, with its code as it is on disk now."""
        await self.look_and_note()
        self._session.drivers.get(name)
        async with self._work.journaled("restart", "", name):
            for kept in [k for k in self._session.kept.values() if k.driver == name and k.managed is not None]:
                async with kept.changing:
                    await self._session.let_go(kept)
        return {"driver": name, "devices": await self._upkeep.restore_driver(name)}

    async def accused(self, driver: str, verdict: Verdict | None, reason: str) -> None:
        """A suspect was tried out: None lets it in again, another verdict keeps it out."""
        if verdict is None:
            await self._work.do(lambda store: store.crashes.acquit(driver))
            self._left_out.suspects.pop(driver, None)
            if driver not in self._left_out.disabled:
                self._session.let_in(driver)
            await self._upkeep.restore_driver(driver)
            return
        await self._work.do(lambda store: store.crashes.accuse(driver, verdict, reason))
        self._left_out.suspects = {s.driver: s for s in await self._work.do(lambda store: store.crashes.suspects())}
        self._left_out.apply(self._session)
