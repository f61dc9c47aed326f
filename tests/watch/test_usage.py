"""Resource usage of real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

from hosting import rig
from vfab.model.devices import DeviceInfo
from vfab.model.events import DriverEvent
from vfab.sdk.testing import troublemaker
from vfab.watch.usage import ResourceLimits, ResourceMonitor, ResourceUsage


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_leaking_driver_is_seen_and_warned_of_once_for_each_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            folder, manifest = troublemaker("LeakyDriver")
            info = DeviceInfo(id="leaky", bus="test", address="/dev/null")
            device = r.supervisor.adopt(info, manifest, folder, {"leak_bytes": 4 << 20})
            told: list[DriverEvent] = []
            clock = Clock()
            limits = ResourceLimits(cpu_percent=0, memory_mb=0, open_files=40, thread_count=20)
            monitor = ResourceMonitor(
                "LeakyDriver", lambda: device.pid, on_event=told.append, limits=limits, device_id="leaky", clock=clock
            )
            assert monitor.sample() is None
            await device.connect()
            before = monitor.sample()
            assert before is not None
            assert told == []
            await device.call("leak", 20)
            clock.now += 1
            after = monitor.sample()
            assert after is not None
            assert after.memory_mb > before.memory_mb + 60
            assert after.open_files >= before.open_files + 40
            assert after.thread_count >= before.thread_count + 20
            assert before.pss_mb is not None
            assert after.pss_mb is not None
            assert before.pss_mb < before.memory_mb, "a forked host shares most of its pages"
            assert [event.data["resource"] for event in told] == ["open_files", "thread_count"]
            assert told[0].event_type == "resource_warning"
            assert (told[0].device_id, told[0].driver_name) == ("leaky", "LeakyDriver")
            assert told[0].data["value"] > told[0].data["limit"] == 40
            assert monitor.sample() is not None
            assert len(told) == 2, "once for each crossing, not for each sample"
            pid = device.pid
            await device.close()
            assert monitor.sample() is None
            await device.connect()
            assert device.pid != pid
            assert monitor.sample() is not None
            await device.call("leak", 20)
            monitor.sample()
            assert len(told) == 4, "a new process may cross the limits again"

    asyncio.run(main())


def test_a_limit_warns_again_only_after_the_value_fell_well_below_it() -> None:
    told: list[float] = []
    monitor = ResourceMonitor("me", os.getpid, limits=ResourceLimits(cpu_percent=0, memory_mb=0, open_files=100))

    def see(open_files: float) -> None:
        told.extend(event.data["value"] for event in monitor._crossings(ResourceUsage(0, 0, open_files, 0, 0.0)))

    for value in (99, 101, 150, 95, 102, 89, 103):
        see(value)
    assert told == [101, 103]


def test_the_average_is_of_the_last_seconds_only_and_history_is_bounded() -> None:
    clock = Clock()
    monitor = ResourceMonitor("me", os.getpid, clock=clock, max_history=3)
    assert monitor.get_average_usage() == ResourceUsage(0, 0, 0, 0, 1000.0)
    for at, memory in ((1000, 1.0), (1010, 10.0), (1020, 20.0), (1030, 40.0)):
        monitor.usage_history.append(ResourceUsage(1, memory, 2, 3, at, memory / 2 if memory > 10 else None))
    clock.now = 1030.0
    assert len(monitor.usage_history) == 3
    assert monitor.get_average_usage(10) == ResourceUsage(1, 30.0, 2, 3, 1030.0, 15.0)
    clock.now = 1018.0
    monitor.usage_history = type(monitor.usage_history)([ResourceUsage(1, 10.0, 2, 3, 1010)])
    assert monitor.get_average_usage(10).pss_mb is None


def test_monitoring_goes_on_until_it_is_stopped_and_a_process_that_ended_is_no_error() -> None:
    sampled = threading.Event()
    asked = 0

    def pid() -> int:
        nonlocal asked
        asked += 1
        if asked > 3:
            sampled.set()
        return child.pid

    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        monitor = ResourceMonitor("d", pid)
        monitor.stop_monitoring()
        monitor.start_monitoring(0.01)
        monitor.start_monitoring(0.01)
        assert monitor.monitoring
        assert sampled.wait(10)
        monitor.stop_monitoring()
        assert not monitor.monitoring
        assert monitor.usage_history
        child.kill()
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        assert monitor.sample() is None, "a process that has ended and waits to be collected uses nothing"
    assert monitor.sample() is None
    assert ResourceMonitor("d", lambda: 999_999_999).sample() is None
