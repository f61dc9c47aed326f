"""The supervisor on the real thing: zygote, hosts, signals, and every way they can die."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hosting import HEAD, QUICK, alive, descriptors, rig
from vfab.kernel.spawner import how_it_ended
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    Cancelled,
    ConnectError,
    DeviceNotFound,
    DriverError,
    HardwareError,
    HostDied,
    IllegalTransition,
    LimitExceeded,
    LinkLost,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.model.lifecycle import DeviceState, DriverState, RestartPolicy
from vfab.protocols.hostwire import HEADER

S = DriverState

STEPS = """
BAR = Path(__file__).parent / "hang"

class D(BaseDriver):
    def __init__(self, environment):
        super().__init__(environment)
        self._step("construct")
    def _step(self, name):
        with open(Path(__file__).parent / "steps", "a") as log:
            log.write(name + "\\n")
        while BAR.exists() and name in BAR.read_text().split():
            self.emit("hangs", where=name)
            self.checkpoint()
            time.sleep(0.02)
    def initialize(self): self._step("initialize")
    def connect(self): self._step("connect")
    def disconnect(self): self._step("disconnect")
    def reset(self): self._step("reset")
    @command
    def work(self): self._step("work"); return "done"
    @command
    def refuse(self): raise Refused("off the page")
    @command
    def give_up(self): raise Cancelled("by myself")
    @command
    def lose(self): raise LinkLost("unplugged")
    @command
    def burn(self): raise HardwareError("on fire")
    @command
    def deaf(self):
        while True: time.sleep(1)
    @command(concurrent=True)
    def status(self): return "fine"
"""


def steps_of(folder: Path) -> list[str]:
    return (folder / "steps").read_text().split()


def test_a_device_goes_through_every_state_and_each_change_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            assert (device.state, device.device_state) == (S.UNINITIALIZED, DeviceState.DISCOVERED)
            await device.initialize()
            await device.connect()
            await device.connect()
            assert await device.operate("work") == "done"
            await device.reset()
            await device.disconnect()
            assert device.device_state is DeviceState.DISCONNECTED
            await device.disconnect()
            await device.connect()
            await device.close()
            await device.close()
            assert device.state is S.SHUTDOWN
            assert steps_of(tmp_path / "plugin1") == [
                "construct",
                "initialize",
                "connect",
                "work",
                "reset",
                "initialize",
                "connect",
                "disconnect",
                "initialize",
                "connect",
                "disconnect",
                "disconnect",
            ]
            told = [event.data["to"] for event in r.of("state_changed")]
            assert told == [
                "initializing",
                "ready",
                "connecting",
                "connected",
                "busy",
                "connected",
                "initializing",
                "connecting",
                "connected",
                "disconnecting",
                "disconnected",
                "initializing",
                "ready",
                "connecting",
                "connected",
                "shutting_down",
                "shutdown",
            ]
            assert all(event.device_id == "dev1" and event.source == "kernel" for event in r.of("state_changed"))

    asyncio.run(main())


def test_how_an_operation_ends_says_what_becomes_of_the_device(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            with pytest.raises(IllegalTransition):
                await device.operate("work")
            with pytest.raises(IllegalTransition, match="no driver running"):
                await device.call("work")
            with pytest.raises(IllegalTransition, match="no driver running"):
                await device.open_channel()
            await device.connect()
            for method, kind, state in (
                ("refuse", Refused, S.CONNECTED),
                ("give_up", Cancelled, S.CONNECTED),
                ("lose", LinkLost, S.ERROR),
                ("burn", HardwareError, S.ERROR),
            ):
                with pytest.raises(kind):
                    await device.operate(method)
                assert device.state is state, method
                if state is S.ERROR:
                    assert isinstance(device.last_error, kind)
                    assert r.of("state_changed")[-1].data["error"]["code"] == kind.code
                    with pytest.raises(IllegalTransition):
                        await device.operate("work")
                    with pytest.raises(kind):
                        await device.ready_again()
                    with pytest.raises(IllegalTransition):
                        await device.connect()
                    assert isinstance(device.last_error, kind), "a refused request forgot the error"
                    await device.reset()
                    if device.state is S.READY:
                        await device.connect()
            (tmp_path / "plugin1" / "hang").write_text("work")
            slow = asyncio.create_task(device.operate("work"))
            await r.until(lambda: bool(r.of("hangs")))
            assert device.state is S.BUSY
            other = asyncio.create_task(device.operate("work"))
            await device.call("status")
            (tmp_path / "plugin1" / "hang").unlink()
            assert await slow == await other == "done"
            assert device.state is S.CONNECTED

    asyncio.run(main())


@pytest.mark.parametrize("where", ["construct", "initialize", "connect", "work", "idle", "connected"])
def test_a_host_killed_anywhere_is_started_again_and_comes_back_to_where_it_was(tmp_path: Path, where: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            bar = tmp_path / "plugin1" / "hang"
            bar.write_text(where)
            task = None
            if where in {"construct", "initialize"}:
                task = asyncio.create_task(device.initialize())
            elif where == "idle":
                await device.initialize()
            else:
                await device.initialize()
                task = asyncio.create_task(device.connect())
                if where != "connect":
                    await task
                    task = asyncio.create_task(device.operate("work")) if where == "work" else None
            if where == "construct":
                await r.until(lambda: (tmp_path / "plugin1" / "steps").exists() and device.pid is not None)
            elif task is not None:
                await r.until(lambda: bool(r.of("hangs")))
            pid = device.pid
            assert pid is not None
            bar.unlink()
            os.kill(pid, signal.SIGKILL)
            if task is not None:
                with pytest.raises(HostDied, match="SIGKILL"):
                    await task
            await r.until(lambda: device.pid not in {pid, None})
            await device.ready_again()
            wanted = S.CONNECTED if where in {"connect", "work", "connected"} else S.READY
            await r.until_state(device, wanted)
            assert not alive(pid)
            if wanted is S.READY:
                await device.connect()
            assert await device.operate("work") == "done"

    asyncio.run(main())


@pytest.mark.parametrize("leave", ["disconnect", "close"])
def test_a_host_killed_while_it_disconnects_is_not_started_again(tmp_path: Path, leave: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            await device.connect()
            (tmp_path / "plugin1" / "hang").write_text("disconnect")
            task = asyncio.create_task(getattr(device, leave)())
            await r.until(lambda: bool(r.of("hangs")))
            pid = device.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await task
            assert device.state is (S.DISCONNECTED if leave == "disconnect" else S.SHUTDOWN)
            assert device.pid is None
            assert not r.of("restart_planned")

    asyncio.run(main())


def test_restarts_are_further_and_further_apart_and_end_loudly(tmp_path: Path) -> None:
    async def main() -> None:
        policy = RestartPolicy(first_s=0.01, factor=2, longest_s=0.03, max_attempts=3)
        async with rig(tmp_path, policy=policy) as r:
            device = r.adopt("class D(BaseDriver):\n    def initialize(self): os._exit(4)\n")
            with pytest.raises(HostDied, match="exit status 4"):
                await device.initialize()
            with pytest.raises(HostDied):
                await device.ready_again()
            assert [event.data["delay_s"] for event in r.of("restart_planned")] == [0.01, 0.02, 0.03]
            assert r.of("gave_up")[0].data == {"attempts": 4}
            assert device.state is S.ERROR
            assert device.life.attempts == 4
            assert device.life.generation == 4
            with pytest.raises(HostDied):
                await device.reset()
            await device.disconnect()
            assert device.state is S.DISCONNECTED

    asyncio.run(main())


def test_staying_over_a_limit_is_given_up_however_long_each_host_lived(tmp_path: Path) -> None:
    async def main() -> None:
        policy = replace(QUICK, stable_s=0.0, max_attempts=2)
        async with rig(tmp_path, policy=policy) as r:
            device = r.adopt(STEPS)
            await device.connect()
            for round_ in range(1, 4):
                ended = device.pid
                assert ended is not None
                assert device.life.attempts == 0  # stable at once
                why = LimitExceeded("it used 180 % of a core over 60 s")
                assert device.end_host(ended, why) and device.end_host(ended, why)  # the watch may look twice
                await r.until(partial(lambda ended: device.pid != ended, ended))
                assert device.life.offences == round_
                if round_ < 3:
                    await r.until(lambda: device.pid is not None and device.state is S.CONNECTED)
                    await r.until(lambda: device.life.attempts == 0)
            assert r.of("gave_up")[0].data == {"attempts": 3}
            assert device.state is S.ERROR and device.life.wanted is None
            assert isinstance(device.last_error, LimitExceeded)
            await device.reset()
            assert device.life.offences == 0

    asyncio.run(main())


def test_who_keeps_within_the_limits_for_long_is_pardoned(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, policy=replace(QUICK, pardon_s=1.0)) as r:
            device = r.adopt(STEPS)
            await device.connect()
            ended = device.pid
            assert ended is not None
            device.end_host(ended, LimitExceeded("too much"))
            await r.until(lambda: device.pid != ended)
            assert device.life.offences == 1
            await device.ready_again()
            await r.until(lambda: device.life.offences == 0)

    asyncio.run(main())


def test_a_host_that_lived_long_enough_is_forgiven(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, policy=replace(QUICK, stable_s=0.05)) as r:
            device = r.adopt(STEPS)
            await device.connect()
            assert device.pid is not None
            os.kill(device.pid, signal.SIGKILL)
            await r.until_state(device, S.ERROR)
            assert device.life.attempts == 1
            await device.ready_again()
            await r.until(lambda: device.life.attempts == 0)

    asyncio.run(main())


def test_when_the_zygote_is_killed_every_host_is_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            devices = [r.adopt(STEPS) for _ in range(3)]
            for device in devices:
                await device.connect()
            zygote, hosts = r.spawner.zygote_pid, [device.pid for device in devices]
            assert zygote is not None
            os.kill(zygote, signal.SIGKILL)
            await r.until(lambda: all(d.pid not in {None, *hosts} and d.state is S.CONNECTED for d in devices))
            assert r.spawner.zygote_pid not in {zygote, None}
            assert not any(alive(pid) for pid in hosts if pid)
            for device in devices:
                assert await device.operate("work") == "done"

    asyncio.run(main())


KERNEL = """
import asyncio, json, os, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.manifest import manifest_from_dict

async def main():
    spawner = ZygoteSpawner()
    supervisor = Supervisor(spawner)
    folder = Path({folder!r})
    manifest = manifest_from_dict({{"name": "m", "version": "1", "author": "a", "description": "d",
                                   "driver_class": "driver.D"}})
    infos = [DeviceInfo(id=f"d{{n}}", bus="t", address="/dev/null") for n in range(3)]
    devices = [supervisor.adopt(info, manifest, folder) for info in infos]
    try:
        for device in devices:
            await device.connect()
        busy = asyncio.create_task(devices[0].operate("work"))
        deaf = asyncio.create_task(devices[1].call("deaf"))
        print(json.dumps([spawner.zygote_pid, *(d.pid for d in devices)]), flush=True)
        await asyncio.Event().wait()
    finally:
        await supervisor.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_kernel_ends_no_process_is_left_and_devices_are_left_safe(tmp_path: Path, how: signal.Signals) -> None:
    async def main() -> None:
        (tmp_path / "driver.py").write_text(HEAD + STEPS)
        (tmp_path / "hang").write_text("work")
        source = KERNEL.format(paths=sys.path, folder=str(tmp_path))
        kernel = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", source),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "VFAB_CONFINEMENT_FILES": f"write:{tmp_path}"},
        )
        assert kernel.stdout is not None
        import json

        pids = json.loads(await asyncio.wait_for(kernel.stdout.readline(), 30))
        assert all(alive(pid) for pid in pids)
        kernel.send_signal(how)
        started = asyncio.get_running_loop().time()
        while any(alive(pid) for pid in pids):
            left_s = 3.0 if how is signal.SIGKILL else 8.0  # in good order a deaf driver is given its time
            assert asyncio.get_running_loop().time() - started < left_s, "processes were left"
            await asyncio.sleep(0.02)
        await kernel.wait()
        assert steps_of(tmp_path).count("disconnect") >= 3, "each driver had its chance to leave its device safe"

    asyncio.run(main())


def test_a_deaf_driver_is_ended_and_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            await device.connect()
            pid = device.pid
            with pytest.raises(TimeoutExceeded):
                await device.call("deaf", timeout_s=0.05)
            for _ in range(50):
                with pytest.raises(TimeoutExceeded):
                    await device.call("work", timeout_s=0.001)
            assert len(device._tasks) < 10, "one watch a connection, not one a call"
            await r.until(lambda: bool(r.of("deaf")))
            await r.until(lambda: device.pid not in {pid, None} and device.state is S.CONNECTED)
            assert len(r.of("deaf")) == 1
            assert await device.operate("work") == "done"

    asyncio.run(main())


def test_a_driver_that_settles_each_call_is_never_deaf_however_many_are_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            await device.connect()
            pid = device.pid
            (tmp_path / "plugin1" / "hang").write_text("work")
            end = asyncio.get_running_loop().time() + 2.6

            async def give_up_all_the_time() -> None:
                while asyncio.get_running_loop().time() < end:
                    with pytest.raises(TimeoutExceeded):
                        await device.call("work", timeout_s=0.03)

            await asyncio.gather(*(give_up_all_the_time() for _ in range(4)))
            assert device.pid == pid
            assert not r.of("deaf")

    asyncio.run(main())


@pytest.mark.parametrize("how", ["deaf", "listening"])
def test_a_hang_in_connect_is_told_and_the_driver_is_ended_if_it_does_not_listen(tmp_path: Path, how: str) -> None:
    loop = "time.sleep(0.01)" if how == "deaf" else "self.checkpoint()"
    source = f"class D(BaseDriver):\n    def connect(self):\n        while True: {loop}\n"

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(source, runtime={"connect_timeout_s": 0.1})
            await device.initialize()
            pid = device.pid
            with pytest.raises(TimeoutExceeded):
                await device.connect()
            assert device.state is S.ERROR
            if how == "deaf":
                await r.until(lambda: pid is not None and not alive(pid))
                await r.until(lambda: not device.life.host_alive)
                assert device.state is S.ERROR
                assert isinstance(device.last_error, TimeoutExceeded)
            else:
                assert device.pid == pid
            await device.disconnect()
            assert device.state is S.DISCONNECTED

    asyncio.run(main())


def test_a_connect_that_says_false_has_failed(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt("class D(BaseDriver):\n    def connect(self): return False\n")
            with pytest.raises(ConnectError, match="could not connect"):
                await device.connect()

    asyncio.run(main())


@pytest.mark.parametrize("leave", ["disconnect", "close"])
def test_leaving_while_it_connects_ends_well(tmp_path: Path, leave: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            await device.initialize()
            (tmp_path / "plugin1" / "hang").write_text("connect")
            task = asyncio.create_task(device.connect())
            await r.until(lambda: bool(r.of("hangs")))
            await getattr(device, leave)()
            assert device.state is (S.DISCONNECTED if leave == "disconnect" else S.SHUTDOWN)
            assert steps_of(tmp_path / "plugin1")[-1] == "disconnect"
            with pytest.raises(DriverError):
                await task

    asyncio.run(main())


@pytest.mark.parametrize("state", [S.UNINITIALIZED, S.INITIALIZING, S.READY, S.CONNECTING, S.CONNECTED, S.BUSY,
                                   S.ERROR, S.DISCONNECTING, S.DISCONNECTED, S.SHUTDOWN])  # fmt: skip
def test_a_close_in_any_state_leaves_no_process_no_task_and_no_descriptor(tmp_path: Path, state: DriverState) -> None:
    hangs = {S.INITIALIZING: "initialize", S.CONNECTING: "connect", S.BUSY: "work", S.DISCONNECTING: "disconnect"}

    async def main() -> None:
        async with rig(tmp_path) as r:
            first = r.adopt(STEPS)
            await first.connect()
            await first.close()
            before = descriptors()
            device = r.adopt(STEPS)
            bar = tmp_path / "plugin2" / "hang"
            bar.write_text(hangs.get(state, ""))
            tasks = []
            if state is S.INITIALIZING:
                tasks = [asyncio.create_task(device.initialize())]
            elif state is S.READY:
                await device.initialize()
            elif state is S.CONNECTING:
                tasks = [asyncio.create_task(device.connect())]
            elif state not in {S.UNINITIALIZED, S.SHUTDOWN}:
                await device.connect()
            if state is S.BUSY:
                tasks = [asyncio.create_task(device.operate("work"))]
            elif state is S.ERROR:
                with pytest.raises(HardwareError):
                    await device.operate("burn")
            elif state is S.DISCONNECTING:
                tasks = [asyncio.create_task(device.disconnect())]
            elif state is S.DISCONNECTED:
                await device.disconnect()
            elif state is S.SHUTDOWN:
                await device.close()
            if hangs.get(state):
                await r.until(lambda: bool(r.of("hangs")))
            assert device.state is state
            pid = device.pid
            await device.close()
            assert device.state is S.SHUTDOWN
            assert pid is None or not alive(pid)
            assert not device._tasks
            assert descriptors() <= before
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_a_close_in_the_moment_of_the_start_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            first = r.adopt(STEPS)
            await first.initialize()
            for turns in range(1, 12):
                device = r.adopt(STEPS)
                task = asyncio.create_task(device.initialize())
                for _ in range(turns):
                    await asyncio.sleep(0)
                await device.close()
                assert device.state is S.SHUTDOWN
                assert device.pid is None
                with pytest.raises(DriverError):
                    await task
            await r.until(lambda: len(children_of(r.spawner.zygote_pid)) == 1)

    asyncio.run(main())


def test_a_close_in_the_moment_of_a_restart_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            for wait_s in (0.0, 0.005, 0.01, 0.012, 0.015, 0.02):
                device = r.adopt(STEPS)
                await device.connect()
                assert device.pid is not None
                os.kill(device.pid, signal.SIGKILL)
                await r.until_state(device, S.ERROR)
                await asyncio.sleep(wait_s)
                await asyncio.wait_for(device.close(), 10)
                assert device.pid is None
            await r.until(lambda: children_of(r.spawner.zygote_pid) == [])
            planned = len(r.of("state_changed"))
            await asyncio.sleep(0.1)
            assert len(r.of("state_changed")) == planned, "a timer fired after the close"

    asyncio.run(main())


def children_of(pid: int | None) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split() if alive(int(child))]


@pytest.mark.slow
def test_two_hundred_lives_leave_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            await device.connect()
            await device.close()
            gc.collect()
            before, tasks = descriptors(), len(asyncio.all_tasks())
            for n in range(200):
                await device.connect()
                if n % 3 == 0:
                    await device.disconnect()
                    await device.connect()
                (await device.open_channel()).close()
                await device.close()
            gc.collect()
            assert descriptors() <= before
            assert len(asyncio.all_tasks()) <= tasks
            assert children_of(r.spawner.zygote_pid) == []
            assert descriptors(r.spawner.zygote_pid or "self") <= 12

    asyncio.run(main())


def test_a_waiter_is_not_left_when_the_state_it_waits_for_lasts_for_a_moment_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            await device.connect()

            async def come_back() -> None:
                while device.state is not S.DISCONNECTED:
                    await device._next_change()
                await device.initialize()

            back = asyncio.create_task(come_back())
            await asyncio.sleep(0)
            await asyncio.wait_for(device.disconnect(), 10)
            await back

    asyncio.run(main())


def test_a_host_that_breaks_the_protocol_is_ended(tmp_path: Path) -> None:
    source = """
    class D(BaseDriver):
        @command
        def rubbish(self, data):
            import socket
            for fd in range(3, 30):
                try: sock = socket.socket(fileno=os.dup(fd))
                except OSError: continue
                try: sock.send(data)
                except OSError: pass
                sock.detach()
            threading.Event().wait(60)
    """

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(source)
            await device.connect()
            pid = device.pid
            with pytest.raises(ProtocolError):
                await device.call("rubbish", HEADER.pack(1 << 31, 0))
            await r.until(lambda: device.pid not in {pid, None} and device.state is S.CONNECTED)
            with pytest.raises(ProtocolError):
                await device.operate("rubbish", HEADER.pack(3, 0) + b"abc")
            assert device.state is S.ERROR

    asyncio.run(main())


def test_the_supervisor_knows_its_devices(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(STEPS)
            assert r.supervisor.device("dev1") is device
            assert r.supervisor.devices() == [device]
            info = DeviceInfo(id="dev1", bus="t", address="/dev/null")
            assert r.supervisor.adopt(info, device.manifest, tmp_path) is device
            with pytest.raises(DeviceNotFound):
                r.supervisor.device("nobody")
            await device.connect()
            await r.supervisor.release("dev1")
            await r.supervisor.release("dev1")
            assert device.state is S.SHUTDOWN
            assert r.supervisor.devices() == []

    asyncio.run(main())


def test_a_listener_that_fails_does_not_stop_the_supervisor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        from hosting import whose_files, write_plugin
        from vfab.kernel.spawner import ZygoteSpawner
        from vfab.kernel.supervisor import Supervisor

        def fail(event: object) -> None:
            raise RuntimeError("a listener's defect")

        supervisor = Supervisor(ZygoteSpawner(policy=whose_files(tmp_path)), on_event=fail, policy=QUICK)
        manifest = write_plugin(tmp_path, STEPS)
        device = supervisor.adopt(DeviceInfo(id="d", bus="t", address="/dev/null"), manifest, tmp_path)
        await device.connect()
        await supervisor.close()
        assert "a listener failed" in caplog.text

    asyncio.run(main())


def test_waiting_for_a_recovery_that_does_not_come_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, policy=RestartPolicy(first_s=60.0, longest_s=60.0)) as r:
            device = r.adopt(STEPS)
            await device.connect()
            assert device.pid is not None
            os.kill(device.pid, signal.SIGKILL)
            await r.until_state(device, S.ERROR)
            with pytest.raises(TimeoutExceeded, match="did not recover"):
                await device.ready_again(timeout_s=0.05)

    asyncio.run(main())


def test_an_exit_is_told_in_words() -> None:
    assert how_it_ended(3) == "exit status 3"
    assert how_it_ended(-9) == "signal SIGKILL"
    assert how_it_ended(-200) == "signal 200"


def test_the_source_of_the_test_kernel_is_valid() -> None:
    compile(textwrap.dedent(KERNEL.format(paths=[], folder="")), "kernel", "exec")
