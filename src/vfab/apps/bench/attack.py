"""One driver attacks, another one is called all the while: how long its calls take then, and in peace."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Any, TypeVar

from vfab.apps.bench.attackers import ATTACKS, make_attacker
from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import make_plugin
from vfab.apps.bench.measure import spread
from vfab.apps.session import Session as VfabSession
from vfab.kernel.channel import BlockingChannel
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError

__all__ = ["KEYS", "run"]

T = TypeVar("T")

KEYS = ("call_us_under_attack", "call_async_us_under_attack")
PEACE = "in peace"

_NOTE = (
    "the worst of {} attacks, which was that it {}; `in peace` is the same call while the attacker only waits, and "
    "each other line is one attack. All in one node: its event loop, which makes the asynchronous calls, takes in what "
    "the attacker sends, and another thread makes the others. The attacker's limits are held by the watch, as in every "
    "node; when it is ended it is started again and attacks again"
)
_BEGUN_S = 0.3
_FEWEST = 100


def run(session: Session) -> None:
    """Measure `KEYS`."""
    calls, limit_s = session.many(300, 3000), float(session.many(1, 5))
    home = session.folder / "attack"
    paths = [make_plugin(home / "plugins"), make_attacker(home / "plugins")]
    env = {"VFAB_HOME": str(home), "VFAB_PLUGIN_PATH": ":".join(str(path) for path in paths)}
    found: dict[str, dict[str, list[float]]] = {key: {} for key in KEYS}
    with _Node(env) as node:
        for how in ("", *ATTACKS):
            session.say(f"{', '.join(KEYS)}: {how or PEACE}")
            for key, samples in zip(KEYS, node.times_us(how, calls, limit_s), strict=True):
                found[key][how] = samples
    for key, attacks in found.items():
        for how, samples in attacks.items():
            session.findings.distribution(key, samples, f"it {how}" if how else PEACE)
        worst = max(ATTACKS, key=lambda how: spread(attacks[how])["p99"])
        session.findings.distribution(key, attacks[worst])
        session.findings.notes[key] = _NOTE.format(len(ATTACKS), worst)


class _Node:
    """A session with its watch, as a node has it, on a loop in a thread; and one driver that is called."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bench-node", daemon=True)
        self._number = 0

    def __enter__(self) -> _Node:
        self._thread.start()
        self._session = VfabSession(self._env)
        self._wait(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._wait(self._session.end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _begin(self) -> None:
        self._session.begin()
        self.victim = self._adopt("bench")
        await self.victim.connect()
        self._channel: BlockingChannel = await self.victim.open_channel()

    def _adopt(self, driver: str) -> ManagedDevice:
        self._number += 1
        found = self._session.drivers.get(driver)
        info = DeviceInfo(id=f"{driver}:{self._number}", bus="bench", address="/dev/null")
        return self._session.supervisor.adopt(info, found.manifest, Path(found.folder))

    def times_us(self, how: str, calls: int, limit_s: float) -> tuple[list[float], list[float]]:
        """How long calls take while another driver attacks: those of a thread, and those of the loop.

        So many are made of each, or as many as `limit_s` is enough for.
        """
        attack = self._wait(self._start(how))
        plain: list[float] = []
        began = monotonic()
        while monotonic() < began + _BEGUN_S:  # until it is under way
            self._channel.call("nop", timeout_s=60)
        began = monotonic()
        while len(plain) < calls and (monotonic() < began + limit_s or len(plain) < _FEWEST):
            start = perf_counter_ns()
            self._channel.call("nop", timeout_s=60)
            plain.append((perf_counter_ns() - start) / 1e3)
        later = self._wait(self._calls(calls, limit_s))
        self._wait(self._stop(attack))
        return plain, later

    async def _calls(self, calls: int, limit_s: float) -> list[float]:
        taken: list[float] = []
        began = monotonic()
        while len(taken) < calls and (monotonic() < began + limit_s or len(taken) < _FEWEST):
            start = perf_counter_ns()
            await self.victim.call("nop", timeout_s=60)
            taken.append((perf_counter_ns() - start) / 1e3)
        return taken

    async def _start(self, how: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._attacked(how))

    @staticmethod
    async def _stop(attack: asyncio.Task[None]) -> None:
        """End the attack, and wait until the attacker is gone."""
        attack.cancel()
        await asyncio.wait([attack])

    async def _attacked(self, how: str) -> None:
        async with self._attacker() as attacker:
            while True:
                with contextlib.suppress(DriverError):
                    if how:
                        await attacker.call("attack", how, timeout_s=3600)
                    else:
                        await asyncio.sleep(3600)
                with contextlib.suppress(DriverError):
                    await attacker.ready_again()

    @asynccontextmanager
    async def _attacker(self) -> AsyncIterator[ManagedDevice]:
        attacker = self._adopt("attacker")
        try:
            await attacker.connect()
            yield attacker
        finally:
            await asyncio.shield(self._session.supervisor.release(attacker.id))
