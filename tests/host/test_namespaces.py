"""Namespaces of a host from within and without: number 1, its signals, its orphans, its view of the files."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hosting import alive, children, rig
from vfab.host.confine import landlock
from vfab.kernel.confining import ConfinementPolicy, probe
from vfab.kernel.managed import ManagedDevice
from vfab.model.confinement import Level
from vfab.model.errors import DriverError
from vfab.model.manifest import manifest_from_dict

NAMED = {"name": "mine", "version": "1", "author": "a test", "description": "d", "driver_class": "driver.D"}

DRIVER = """
import subprocess
class D(BaseDriver):
    @command
    def run(self, code, values={}):
        space = dict(globals(), self=self, **values)
        exec(code, space)
        return space.get("got")
    @command
    def stuck(self):
        ctypes.PyDLL(None).pause()  # in native code, and nobody else gets the interpreter
"""


def reached(tmp_path: Path) -> frozenset[str]:
    """Which namespaces this machine gives."""
    return frozenset(probe(ConfinementPolicy(), manifest_from_dict(NAMED), tmp_path, os.environ).namespaces)


@pytest.fixture
def apart(tmp_path: Path) -> None:
    if not reached(tmp_path) >= {"pid", "mnt"} or landlock.abi() == 0:
        pytest.skip("this machine lets nobody make PID and mount namespaces, or has no Landlock")


def confined(tmp_path: Path) -> Any:
    return rig(tmp_path, state_root=tmp_path / "state", confined=True)


@pytest.mark.usefixtures("apart")
def test_a_driver_sees_no_process_but_its_own_and_vfab_knows_it_by_its_number_outside(tmp_path: Path) -> None:
    code = "got = [os.getpid(), os.getppid(), [n for n in os.listdir('/proc/self/task')], os.readlink('/proc/self')]"

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions={"files": ["read:/proc"]})
            await device.connect()
            assert device.confinement is not None and device.confinement.read_only
            number, parent, _, shown = await device.call("run", code)
            assert (number, parent, shown) == (1, 0, "1")
            assert await device.call("run", "got = [n for n in os.listdir('/proc') if n.isdigit()]") == ["1"]
            assert device.pid is not None and device.pid > 1
            status = Path(f"/proc/{device.pid}/status").read_text()
            assert f"NSpid:\t{device.pid}\t1\n" in status
            assert "vfab:mine" in status

    asyncio.run(main())


async def end(r: Any, device: ManagedDevice, number: int) -> DriverError | None:
    pid = device.pid
    assert pid is not None
    told = len(r.of("host_died"))
    os.kill(pid, number)
    await r.until(lambda: len(r.of("host_died")) > told)
    assert not alive(pid)
    return device.last_error


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGABRT", "SIGXCPU", "SIGUSR1", "SIGSEGV", "SIGKILL"])
def test_a_signal_ends_a_host_even_in_native_code_and_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER)
            await device.connect()
            stuck = asyncio.create_task(device.call("stuck", timeout_s=60))
            await asyncio.sleep(0.1)  # it is in there, or about to be: it ends either way
            error = await end(r, device, getattr(signal, name))
            assert error is not None and name in str(error)
            with pytest.raises(DriverError, match=name):
                await stuck
            await device.ready_again()

    asyncio.run(main())


SUICIDES = {
    "os.kill(os.getpid(), signal.SIGKILL)": r"SIG(KILL|SYS)",
    "os.kill(os.getpid(), signal.SIGTERM)": "SIGTERM",
    "os.abort()": "SIGABRT",
    "signal.setitimer(signal.ITIMER_REAL, 0.01)": "SIGALRM",
}


@pytest.mark.parametrize("permissions", [{}, {"subprocess": True}])
@pytest.mark.parametrize(("code", "told"), SUICIDES.items())
def test_a_driver_can_end_itself(tmp_path: Path, permissions: dict[str, Any], code: str, told: str) -> None:
    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions=permissions)
            await device.connect()
            with pytest.raises(DriverError, match=told):
                await device.call("run", f"{code}; threading.Event().wait(20)")  # it may come a moment later
            await device.ready_again()

    asyncio.run(main())


def test_orphans_are_collected_and_what_a_driver_started_is_its_own_to_wait_for(tmp_path: Path) -> None:
    code = """
done = subprocess.run(["/bin/sh", "-c", "sleep 0.05 & sleep 0.05 & exit 7"])
waiting = subprocess.Popen(["/bin/sh", "-c", "exit 9"])
D.waiting = waiting
got = done.returncode
"""

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions={"subprocess": True})
            await device.connect()
            assert await device.call("run", code) == 7
            pid = device.pid
            assert pid is not None
            # the one that it has not asked for yet stays; where there is no namespace, orphans are nobody's here
            await r.until(lambda: len(children(pid)) == 1)
            await asyncio.sleep(0)
            assert await device.call("run", "got = D.waiting.wait()") == 9
            assert children(pid) == []

    asyncio.run(main())


def test_whatever_a_driver_started_ends_with_it(tmp_path: Path) -> None:
    code = "subprocess.run(['/bin/sh', '-c', 'exec 1>&- 2>&-; sleep 600 & sleep 600 &'])"

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions={"subprocess": True})
            await device.connect()
            pid = device.pid
            assert pid is not None
            await device.call("run", code)
            left = [child for child in children(pid) if alive(child)]
            await end(r, device, signal.SIGKILL)
            await r.until(lambda: not any(alive(child) for child in left))
            if device.confinement is not None and "pid" in device.confinement.namespaces:
                assert len(left) == 2

    asyncio.run(main())


@pytest.mark.usefixtures("apart")
def test_a_driver_may_do_with_its_own_files_what_it_likes(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "one").write_text("old")
    code = """
import shutil
own = self.environment.state_dir
(own / "a").write_text("x"); os.chmod(own / "a", 0o640); os.utime(own / "a", (1, 1))
shutil.copy(own / "a", shared + "/b"); shutil.copytree(own, own / "copy", ignore=lambda d, n: ["copy"])
os.rename(own / "copy", own / "moved"); os.link(own / "a", own / "hard"); os.symlink("a", own / "soft")
open(one, "w").write("new")
got = oct(os.stat(own / "a").st_mode & 0o777)
"""
    asked = [f"write:{tmp_path}/shared", f"write:{tmp_path}/one", f"read:{tmp_path}/shared/within", "write:/not/there"]

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions={"files": asked})
            await device.connect()
            values = {"shared": f"{tmp_path}/shared", "one": f"{tmp_path}/one"}
            assert await device.call("run", code, values) == "0o640"
            for wrong in ("os.chmod(beside, 0o777)", "os.utime(beside)", "os.chown(one, 1, 1)"):
                with pytest.raises(DriverError, match=r"Read-only|not permitted"):
                    await device.call("run", wrong, {**values, "beside": str(tmp_path)})
        assert (tmp_path / "one").read_text() == "new"

    asyncio.run(main())


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device nodes")
def test_device_nodes_in_a_folder_that_was_granted_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    os.mknod(tmp_path / "nodes" / "zero", 0o20600, os.makedev(1, 5))

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions={"files": [f"write:{tmp_path}/nodes"]})
            await device.connect()
            code = "f = open(path, 'r+b', buffering=0); f.write(b'x'); got = f.read(3).hex()"
            assert await device.call("run", code, {"path": str(tmp_path / "nodes" / "zero")}) == "000000"
            with pytest.raises(DriverError, match=r"denied|not permitted"):
                await device.call(
                    "run", "os.mknod(path + '/1', 0o20600, os.makedev(1, 5))", {"path": str(tmp_path / "nodes")}
                )

    asyncio.run(main())


def test_a_right_to_a_path_of_its_own_folder_is_none_to_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("loot")
    asked = ["read:$STATE/tables", "write:$STATE/pictures", "read:$PLUGIN/../secret", "write:$STATE/../../other"]

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = r.adopt(DRIVER, permissions={"files": asked})
            await device.connect()
            plant = "for name in ('tables', 'pictures'): os.symlink(secret, self.environment.state_dir / name)"
            await device.call("run", plant, {"secret": str(tmp_path / "secret")})
            await device.reset()
            await end(r, device, signal.SIGKILL)
            await device.ready_again()
            for name in ("tables", "pictures"):
                with pytest.raises(DriverError, match="denied"):
                    await device.call("run", f"got = open(self.environment.state_dir / '{name}' / 'key').read()")
                with pytest.raises(DriverError, match=r"denied|Read-only"):
                    await device.call("run", f"open(self.environment.state_dir / '{name}' / 'mine', 'w')")
            with pytest.raises(DriverError, match="denied"):
                await device.call("run", "got = open(secret + '/key').read()", {"secret": str(tmp_path / "secret")})

    asyncio.run(main())


def test_without_a_read_only_view_modes_are_refused_by_the_filter(tmp_path: Path) -> None:
    policy = ConfinementPolicy(namespaces=False)

    async def main() -> None:
        async with rig(tmp_path, state_root=tmp_path, confined=True, policy_of_confinement=policy) as r:
            device = r.adopt(DRIVER)
            await device.connect()
            assert device.confinement is not None
            assert device.confinement.level is Level.FILTERED and not device.confinement.read_only
            for code in ("os.chmod(victim, 0o777)", "os.utime(victim)", "os.chmod('/proc/self/fd/0', 0o600)"):
                with pytest.raises(DriverError, match="not permitted"):
                    await device.call("run", code, {"victim": str(tmp_path)})
            # the number that it has in the /proc of everybody
            assert await device.call("run", "got = os.listdir('/proc/self/fd') != []") is True

    asyncio.run(main())


def test_two_hosts_at_once_keep_each_others_temporary_files_and_remove_those_of_the_dead(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, state_root=tmp_path / "state", confined=True) as r:
            device = r.adopt(DRIVER)
            await device.connect()
            make = "import tempfile\nD.made = tempfile.mkdtemp()\ngot = D.made"
            made = Path(await device.call("run", make))
            assert made.is_dir()
            beside = made.parent.parent / "left-by-somebody"
            beside.mkdir()
            await end(r, device, signal.SIGKILL)
            await device.ready_again()
            again = Path(await device.call("run", make))
            assert again.is_dir() and not made.exists() and not beside.exists()

    asyncio.run(main())
