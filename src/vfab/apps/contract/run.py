"""Runs the suite: finds or starts the peer, runs each check by itself, and reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vfab.apps.contract.bench import ContractBench
from vfab.apps.contract.checks import CHECKS, FIRST
from vfab.apps.contract.model import Broken, Check, Outcome, Report, Result, Skip
from vfab.apps.own_devices import finds_by_itself, opens_by_itself, own_device
from vfab.apps.session import Session
from vfab.apps.simulate import simulator_file, start_simulator
from vfab.kernel.loader import PluginLoader
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DriverError
from vfab.model.plugins import DriverInfo
from vfab.model.quality import QUALITY_FILE, Quality, quality_from_yaml
from vfab.model.settings import nearest

__all__ = ["cannot_be_checked", "check_driver", "check_folder", "chosen_checks", "quality_in"]

_EXEMPT_S = 20.0
"""A check that is exempt counts as not passed when it takes longer."""

Tell = Callable[[Result], None]
Begin = Callable[[Check, int, int], None]


def quality_in(folder: str | Path) -> Quality | None:
    """What quality.yaml in a plugin's folder says; None without one. Raises ConfigurationError: it is none."""
    file = Path(folder) / QUALITY_FILE
    return quality_from_yaml(file.read_bytes(), file=str(file)) if file.is_file() else None


def cannot_be_checked(drivers: DriverRegistry, driver: DriverInfo) -> str:
    """Why the suite cannot be run over `driver` without a device; "" when it can."""
    if not driver.usable:
        return driver.problem or driver.status.value
    lacking = drivers.load_driver(driver.name).missing()
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    return "" if driver.manifest.simulator else "it has no simulator"


async def check_driver(
    env: Mapping[str, str],
    name: str,
    *,
    device: str | None = None,
    simulated: bool | None = None,
    overrides: Mapping[str, Any] | None = None,
    exemptions: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    tell: Tell = lambda result: None,
    begin: Begin = lambda check, number, count: None,
) -> Report:
    """Run the suite over the driver `name`.

    Args:
        env: `VFAB_HOME`, `VFAB_PLUGIN_PATH`, as every program of vfab reads them.
        name: the driver, by the name that discovery found.
        device: the id or address of its device; None starts its own simulator.
        simulated: nothing real can break at `device`: run everything.
        overrides: settings.
        exemptions: check -> why it may fail, over those of the driver's quality.yaml.
        only: names of the checks to run; none for all.
        tell, begin: called with each result, and before each check with its number and how many there are.

    Raises DriverError: there is no such driver or check, its files are broken, or there is nothing to check it against.
    """
    checks = chosen_checks(only)
    async with Session.open(env) as session:
        driver = session.drivers.get(name)
        quality = quality_in(driver.folder) or Quality()
        exempt = {**quality.exemptions, **(exemptions or {})}
        config = session.checked(driver, overrides)
        async with _peer(session, env, driver, device, config) as address:
            found = await session.resolve(address, driver=name)
            with session.leases.acquire(found.id):
                safe = (device is None and bool(driver.manifest.simulator)) if simulated is None else simulated
                bench = ContractBench(session, driver, found, config, simulated=safe)
                report = Report(name, found.id)
                await _Run(bench, report, exempt, tell, begin).all(checks, bool(only))
                return report


def check_folder(folder: Path, *, only: Collection[str] = (), env: Mapping[str, str] | None = None) -> Report:
    """Run the suite over the plugin in `folder` on its simulator, in a home of its own; for the tests of its author.

    Raises DriverError: it holds no good plugin, or one without a simulator.
    """
    found = PluginLoader().load_from_path(folder.absolute())
    if len(found) != 1:
        raise ConfigurationError(
            f"{folder} holds {len(found) or 'no'} plugins",
            context={"folder": str(folder)},
            remedy="Name the folder with the plugin's plugin.yaml.",
        )
    with tempfile.TemporaryDirectory(prefix="vfab-contract-") as home:
        given = dict(os.environ if env is None else env)
        own = {**given, "VFAB_HOME": home, "VFAB_PLUGIN_PATH": str(folder.absolute())}
        return asyncio.run(check_driver(own, found[0].name, only=only))


def chosen_checks(only: Collection[str]) -> list[Check]:
    """The checks of those names; all for none. Raises ConfigurationError: there is none of a name."""
    known = {check.name: check for check in CHECKS}
    for name in only:
        if name not in known:
            raise ConfigurationError(
                f"there is no check {name!r}; {nearest(name, list(known))}",
                context={"check": name, "known": list(known)},
                remedy="`vfab driver test --list` lists the checks.",
            )
    return [check for check in CHECKS if not only or check.name in only]


@asynccontextmanager
async def _peer(
    session: Session, env: Mapping[str, str], driver: DriverInfo, device: str | None, config: Mapping[str, Any]
) -> AsyncIterator[str]:
    """Where the device is: the one that was named, or that the driver has itself, or a simulator started for this."""
    if device is not None:
        yield device
        return
    own = [] if driver.manifest.simulator else await _own_devices(session, driver, config)
    if own:
        yield own[0].id
        return
    if not driver.manifest.simulator:
        raise ConfigurationError(
            f"{driver.name} has no simulator to be tested against",
            driver_name=driver.name,
            remedy=f"Test it on a device: vfab driver test {driver.name} --device ID",
        )
    with start_simulator(driver.name, _speed(driver), env) as simulation:
        await asyncio.to_thread(simulation.wait_until_it_serves)
        yield simulation.address


async def _own_devices(session: Session, driver: DriverInfo, config: Mapping[str, Any]) -> list[DeviceInfo]:
    """The devices that a driver of an older shape finds, or opens, by itself."""
    if finds_by_itself(driver):
        return await session.own_scan(driver)
    return [own_device(driver)] if opens_by_itself(driver, config) else []


def _speed(driver: DriverInfo) -> Sequence[str]:
    """As fast as it goes, for a simulator that has a choice."""
    text = simulator_file(driver).read_text(encoding="utf-8", errors="replace")
    return ("--speed", "instant") if "--speed" in text else ()


class _Run:
    """One run over one bench."""

    def __init__(
        self, bench: ContractBench, report: Report, exempt: Mapping[str, str], tell: Tell, begin: Begin
    ) -> None:
        self._bench = bench
        self._report = report
        self._exempt = exempt
        self._tell = tell
        self._begin = begin
        self._starts = True

    async def all(self, checks: Sequence[Check], chosen: bool) -> None:
        """Run each check; one that fails does not end the others."""
        category = self._bench.manifest.category
        checks = [check for check in checks if not check.category or check.category == category]
        if chosen and all(check.name != FIRST for check in checks):
            await self._outcome(CHECKS[0])  # nobody asked to hear of it, but it learns what the driver offers
            await self._learn()
        for number, check in enumerate(checks, 1):
            self._begin(check, number, len(checks))
            result = await self._one(check)
            if check.name == FIRST:
                await self._learn()
            self._report.results.append(result)
            self._tell(result)

    async def _learn(self) -> None:
        if self._starts and self._bench.simulated:
            with contextlib.suppress(DriverError, OSError):
                await self._bench.learn()

    async def _one(self, check: Check) -> Result:
        began = time.monotonic()
        outcome, note = await self._outcome(check)
        needless = False
        why = self._exempt.get(check.name)
        if why is not None and outcome == "failed":
            outcome, note = "exempt", f"{why} ({note})"
        elif why is not None and outcome == "passed":
            needless, note = True, f"passes, although quality.yaml exempts it: {why}"
        return Result(check.name, check.sentence, outcome, round(time.monotonic() - began, 3), note, needless)

    async def _outcome(self, check: Check) -> tuple[Outcome, str]:
        limit_s = min(check.limit_s, _EXEMPT_S) if check.name in self._exempt else check.limit_s
        why_not = check.why_not(self._bench) if self._starts else "it does not start"
        if why_not:
            return "skipped", why_not
        try:
            async with asyncio.timeout(limit_s):
                return "passed", await check.run(self._bench)
        except Skip as skip:
            return "skipped", str(skip)
        except Broken as broken:
            note = str(broken)
        except DriverError as error:
            note = f"{error.code}: {error.message}"
        except TimeoutError:
            note = f"it hangs: not over after {limit_s:g} s"
        except Exception as error:  # a kernel or a check that fails is told, and the other checks run
            note = f"{type(error).__name__}: {error}"
        if check.name == FIRST:
            self._starts = False
        return "failed", note
