"""Drivers that use more than they may: refused by the system or ended, said why, started again; others are left."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from apps.programs import Vfab
from hosting import alive
from vfab.apps.session import Session
from vfab.apps.watching import UsageWatch
from vfab.host.limits import DIES_FIRST
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverFailed, LimitExceeded
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import DriverState
from vfab.sdk.testing import troublemaker
from vfab.watch.vitals import Vitals

MIB = 1 << 20


@dataclass
class Bench:
    """A session whose watch looks often."""

    session: Session
    watch: UsageWatch
    events: list[DriverEvent] = field(default_factory=list)

    def adopt(
        self, name: str, device: str = "d", *, config: dict[str, Any] | None = None, **limits: Any
    ) -> ManagedDevice:
        folder, manifest = troublemaker(name)
        info = DeviceInfo(id=device, bus="test", address="/dev/null")
        settings = {**(config or {}), "runtime": {"limits": limits}}
        return self.session.supervisor.adopt(info, manifest, folder, settings)

    def of(self, kind: str, device: str = "d") -> list[DriverEvent]:
        return [event for event in self.events if (event.event_type, event.device_id) == (kind, device)]


@asynccontextmanager
async def bench(home: Path) -> AsyncIterator[Bench]:
    events: list[DriverEvent] = []
    async with Session.open({"VFAB_HOME": str(home)}, events.append) as session:
        watch = UsageWatch(session.supervisor.devices, session._warn, session._end_host, interval_s=0.02)
        watch.start()
        try:
            yield Bench(session, watch, events)
        finally:
            watch.close()


async def exceeded(bench: Bench, device: ManagedDevice, method: str, *args: Any) -> LimitExceeded:
    """The error of a call under which the host is ended."""
    pid = device.pid
    assert pid is not None
    with pytest.raises(LimitExceeded) as caught:
        await device.call(method, *args, timeout_s=60)
    assert not alive(pid)
    await device.ready_again(20)
    assert device.pid not in {None, pid}, "it is started again, by itself"
    assert await device.operate("ping") == "pong"
    (died,) = bench.of("host_died")
    assert died.data["code"] == "limit_exceeded"
    assert bench.of("restart_planned")
    return caught.value


def test_a_driver_that_eats_memory_is_ended_and_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", config={"leak_bytes": 120 * MIB}, memory_mb=100, over_s=0.0)
            other = b.adopt("SlowDriver", "other", memory_mb=100, over_s=0.0)
            await device.connect()
            await other.connect()
            before = other.pid
            assert (await device.call("leak", 1, "threads"))["threads"] >= 1, "within its limits nothing happens"
            hog = asyncio.ensure_future(exceeded(b, device, "leak", 100, "memory"))
            error = await hog
            assert error.context["limit"] == "memory_mb"
            assert error.context["value"] > error.context["allowed"] == 100
            assert "MiB of memory" in error.message
            assert "vfab config set LeakyDriver runtime.limits.memory_mb" in error.remedy
            assert b.of("resource_warning")[0].data == {**b.of("resource_warning")[0].data, "limit": 80}
            assert other.pid == before
            assert not b.of("host_died", "other")

    asyncio.run(main())


def test_a_driver_that_starts_threads_without_end_is_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", threads=40, over_s=0.0)
            await device.connect()
            await device.call("leak", 5, "threads")
            leak = asyncio.ensure_future(device.call("leak", 60, "threads"))
            await asyncio.wait([leak])  # it may be done before anybody looks
            while not b.of("host_died"):
                await device._next_change()
            await device.ready_again(20)
            (died,) = b.of("host_died")
            assert died.data["context"]["limit"] == "threads"

    asyncio.run(main())


def test_a_driver_that_computes_without_end_is_ended_when_somebody_limited_that(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("DeafDriver", cpu_percent=20, cpu_window_s=0.3)
            await device.connect()
            error = await exceeded(b, device, "spin")
            assert error.context["limit"] == "cpu_percent"
            assert "% of a core" in error.message
            usual = b.adopt("DeafDriver", "usual")
            await usual.connect()
            assert await usual.call("spin", 0.7) == "done"
            assert not b.of("host_died", "usual")

    asyncio.run(main())


def test_a_program_that_the_driver_started_counts(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", memory_mb=100, over_s=0.0)
            await device.connect()
            error = await exceeded(b, device, "start_program", "b = bytearray(b'1' * (150 << 20)); input()")
            assert error.context["limit"] == "memory_mb"

    asyncio.run(main())


def test_a_driver_that_keeps_descriptors_is_refused_more_of_them_and_told_which_limit_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", open_files=40)
            await device.connect()
            assert (await device.operate("leak", 5, "files"))["descriptors"] == 10
            with pytest.raises(DriverFailed, match="as many descriptors open as it may") as caught:
                await device.operate("leak", 40, "files")
            assert caught.value.context["limit"] == "open_files"
            assert "runtime.limits.open_files" in caught.value.remedy
            assert device.state is DriverState.ERROR
            assert device.pid is not None, "the driver is told; it is not ended for it"

    asyncio.run(main())


def test_a_file_may_not_grow_beyond_its_limit_and_memory_not_beyond_the_address_space(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", config={"leak_bytes": 900 * MIB}, file_mb=1, address_space_mb=800)
            await device.connect()
            assert await device.call("write", MIB) == MIB
            with pytest.raises(DriverFailed, match="a file as large as that") as caught:
                await device.call("write", MIB + 1)
            assert caught.value.context["limit"] == "file_mb"
            with pytest.raises(DriverFailed, match="more address space") as caught:
                await device.call("leak", 1, "memory")
            assert "runtime.limits.address_space_mb" in caught.value.remedy

    asyncio.run(main())


@pytest.mark.parametrize(
    ("how", "limits", "limit"),
    [
        ("files", {"state_mb": 8}, "state_mb"),
        ("one", {"state_mb": 8}, "state_mb"),
        ("hidden", {"state_mb": 8}, "state_mb"),
        ("empty", {"state_files": 500}, "state_files"),
    ],
)
def test_a_driver_that_fills_its_folder_without_end_is_ended_and_told_why_in_one_line(
    tmp_path: Path, how: str, limits: dict[str, Any], limit: str
) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", **limits)
            other = b.adopt("SlowDriver", "other")
            await device.connect()
            await other.connect()
            before = other.pid
            error = await exceeded(b, device, "fill", how)
            assert error.context["limit"] == limit
            assert error.context["value"] >= error.context["allowed"]
            assert "state folder" in error.message and "\n" not in error.message
            assert f"vfab config set LeakyDriver runtime.limits.{limit}" in error.remedy
            assert other.pid == before
            assert await other.call("ping") == "pong"

    asyncio.run(main())


def test_a_driver_whose_folder_is_full_may_clean_up_and_is_ended_once_it_writes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("LeakyDriver", state_mb=4)
            assert device.state_dir is not None
            device.state_dir.mkdir(parents=True)
            (device.state_dir / "of an earlier life").write_bytes(b"\x01" * 6 * MIB)
            await device.connect()
            await asyncio.to_thread(looked_at, b, device)
            assert not b.of("host_died")
            (device.state_dir / "of an earlier life").unlink()
            assert await device.call("write", MIB) == MIB
            await asyncio.to_thread(looked_at, b, device)
            assert not b.of("host_died")
            assert (await exceeded(b, device, "fill", "one")).context["limit"] == "state_mb"

    asyncio.run(main())


def looked_at(b: Bench, device: ManagedDevice) -> None:
    """The watch has sampled the device twice since."""
    for _ in range(2):
        b.watch.sample()


def test_a_driver_that_takes_the_last_of_the_disk_is_ended_before_it_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(small)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("nobody but root makes a small file system")

    async def main() -> None:
        async with bench(small) as b:
            device = b.adopt("LeakyDriver", free_mb=32)
            await device.connect()
            error = await exceeded(b, device, "fill", "one")
            assert error.context["limit"] == "free_mb"
            assert 0 < error.context["value"] < 32
            assert str(small) in error.remedy

    try:
        asyncio.run(main())
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_hosts_are_looked_at_between_samples_when_the_machine_has_less_by_the_second(tmp_path: Path) -> None:
    left = [Vitals(1000, {1: 5000})]
    looked = threading.Event()
    watch = UsageWatch(lambda: [], lambda event: None, interval_s=3600, vitals=lambda folders: left[-1])
    watch.sample = looked.set  # type: ignore[method-assign]
    watch.start()
    try:
        assert not looked.wait(0.6), "nothing shrinks"
        left.append(Vitals(1000, {1: 4000}))
        assert looked.wait(60)
    finally:
        watch.close()


def test_the_system_ends_a_driver_first_when_memory_runs_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("SlowDriver")
            await device.initialize()
            assert int(Path(f"/proc/{device.pid}/oom_score_adj").read_text()) >= DIES_FIRST

    asyncio.run(main())


def test_a_crash_leaves_no_copy_of_the_drivers_memory_and_no_limit_of_the_system_is_raised(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("SlowDriver", open_files=10**9)
            usual = b.adopt("SlowDriver", "usual")
            for each in (device, usual):
                await each.initialize()
                assert each.pid is not None
                assert resource.prlimit(each.pid, resource.RLIMIT_CORE) == (0, 0)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            assert device.pid is not None
            assert usual.pid is not None
            assert resource.prlimit(device.pid, resource.RLIMIT_NOFILE)[1] == hard
            assert resource.prlimit(usual.pid, resource.RLIMIT_NOFILE) == (1024, 1024)

    asyncio.run(main())


def test_who_is_no_longer_the_host_is_not_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as b:
            device = b.adopt("SlowDriver")
            assert not device.end_host(1, LimitExceeded("late"))
            await device.initialize()
            assert device.pid is not None
            assert not device.end_host(device.pid + 1, LimitExceeded("late"))
            assert device.state is DriverState.READY

    asyncio.run(main())


def test_limits_are_settings_like_others(vfab: Vfab) -> None:
    done = vfab("config", "set", "axidraw", "runtime.limits.memory_mb", "300", "--json").json
    assert (done["value"], done["changed"]) == (300, True)
    env = {"VFAB_AXIDRAW_RUNTIME__LIMITS__THREADS": "9"}
    shown = {
        one["field"]: one for one in vfab("config", "show", "axidraw", "--json", env=env).json["drivers"]["axidraw"]
    }
    assert shown["runtime.limits.memory_mb"]["source"].startswith("config.yaml line")
    assert shown["runtime.limits.threads"]["value"] == 9
    refused = vfab("config", "set", "axidraw", "runtime.limits.memory_mb", "much")
    assert refused.code == 13
    assert "runtime.limits.memory_mb" in refused.err

    async def main() -> None:
        async with Session.open({**vfab.env, **env}) as session, session.without_device("axidraw") as device:
            limits = device.manifest.runtime.limits
            assert (limits.memory_mb, limits.threads) == (300, 9)
            assert "runtime" not in device.config
            await device.initialize()

    asyncio.run(main())
