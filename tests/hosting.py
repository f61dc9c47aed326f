"""Running a driver that a test wrote, in a real host, under a real supervisor."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from vfab.kernel.confining import ConfinementPolicy
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import DriverState, RestartPolicy
from vfab.model.manifest import Manifest, manifest_from_dict
from vfab.sdk.testing import patience

QUICK = RestartPolicy(first_s=0.01, longest_s=0.1)

HEAD = """
import asyncio, ctypes, os, signal, sys, threading, time
from pathlib import Path
from vfab.sdk import BaseDriver, command
from vfab.model.errors import *
"""


def write_plugin(folder: Path, source: str, *, head: str = HEAD, **fields: Any) -> Manifest:
    """A plugin in `folder` whose driver.py is `source` (with everything imported); its class must be D."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "driver.py").write_text(head + textwrap.dedent(source))
    data = {"name": "mine", "version": "1", "author": "a test", "description": "d", "driver_class": "driver.D"}
    return manifest_from_dict({**data, **fields})


@dataclass
class Told:
    """All that a supervisor told."""

    events: list[DriverEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: DriverEvent) -> None:
        self.events.append(event)
        self.changed.set()


@dataclass
class Rig:
    """A supervisor with its spawner and all that it told."""

    folder: Path
    supervisor: Supervisor
    spawner: ZygoteSpawner
    told: Told
    count: int = 0

    @property
    def events(self) -> list[DriverEvent]:
        return self.told.events

    def adopt(self, source: str, *, address: str = "/dev/null", **fields: Any) -> ManagedDevice:
        """A device whose driver is `source`."""
        self.count += 1
        folder = self.folder / f"plugin{self.count}"
        manifest = write_plugin(folder, source, **fields)
        info = DeviceInfo(id=f"dev{self.count}", bus="test", address=address)
        return self.supervisor.adopt(info, manifest, folder)

    def of(self, kind: str) -> list[DriverEvent]:
        """Events of one kind."""
        return [event for event in self.events if event.event_type == kind]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait for `condition`, which is looked at after each event, and now and then."""
        async with asyncio.timeout(patience(timeout_s)):
            while not condition():
                self.told.changed.clear()
                try:
                    await asyncio.wait_for(self.told.changed.wait(), 0.02)
                except TimeoutError:
                    continue

    async def until_state(self, device: ManagedDevice, *states: DriverState) -> None:
        await self.until(lambda: device.state in states)


def whose_files(folder: Path) -> ConfinementPolicy:
    """Confined, with the test's own folder to write into: that is how its drivers tell what they did."""
    policy = ConfinementPolicy.of(os.environ)
    return msgspec.structs.replace(policy, files=(*policy.files, f"write:{folder}"))


@asynccontextmanager
async def rig(
    folder: Path,
    *,
    policy: RestartPolicy = QUICK,
    confined: bool = False,
    policy_of_confinement: ConfinementPolicy | None = None,
    interpreter: str = sys.executable,
    **options: Any,
) -> AsyncIterator[Rig]:
    """A supervisor that is closed in the end; nothing may be left of it.

    Its drivers may write in `folder`, unless they are `confined` to what everybody's are. The zygote is run by
    `interpreter`.
    """
    confinement = policy_of_confinement or (ConfinementPolicy() if confined else whose_files(folder))
    spawner, told = ZygoteSpawner(interpreter, policy=confinement), Told()
    supervisor = Supervisor(spawner, on_event=told.take, policy=policy, **options)
    made = Rig(folder, supervisor, spawner, told)
    try:
        yield made
    finally:
        zygote, hosts = spawner.zygote_pid, [device.pid for device in supervisor.devices() if device.pid]
        await supervisor.close()
        for pid in [zygote, *hosts]:
            assert pid is None or not alive(pid), f"process {pid} was left"


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The processes that `pid` has started, by the numbers that they have here; an init's only child stands for it."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(number) for path in lists for number in path.read_text().split()]
    if found and Path(f"/proc/{pid}/comm").read_text().strip() == "vfab:init":
        return [*children(found[0]), *found[1:]]
    return found


def descriptors(pid: int | str = "self") -> int:
    """How many descriptors the process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
