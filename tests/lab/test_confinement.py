"""Confinement in another kernel, by root, with cgroups of version 2: the suite's attacks, the levels, a memory bomb.

Debian 12's kernel has Landlock 2, which knows nothing of truncation, of devices, of TCP, of signals.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bubbles import confined, descendants, put, runs_node, script
from host.test_attacks import ATTACKER, GOOD, HIDDEN, REFUSALS, REFUSED, Scene, rig_of
from host.test_attacks import scene as _scene
from host.test_bubble import aims as _aims
from host.test_bubble import done_by as done_in_bwrap
from hosting import Rig, rig
from needs import program
from vfab.dialects.js_start import find_node
from vfab.host.confine import landlock
from vfab.kernel.confining import ConfinementPolicy
from vfab.model.confinement import Level
from vfab.model.errors import DriverError

scene, aims = _scene, _aims


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """The first process that imports all of it takes as long as a zygote may take to answer."""
    subprocess.run([sys.executable, "-c", "import vfab.host.zygote"], check=True)


MEMORY_MB = 200.0
EMPTY = [name for name in REFUSED if name.startswith(("empty", "truncate"))]


async def done_by(r: Rig, scene: Scene, names: Iterable[str]) -> dict[str, str]:
    """What each of those attacks did that the system should have refused; a neighbour goes on all the while."""
    done: dict[str, str] = {}
    device, good = r.adopt(ATTACKER), r.adopt(GOOD)
    await device.connect()
    await good.connect()
    before, values = good.pid, {**scene.values, "zygote": r.spawner.zygote_pid}
    for name in names:
        try:
            got = await device.call("attack", REFUSED[name], values, timeout_s=60)
            done[name] = f"was done: {got!r}"
        except DriverError as error:
            text = str(error)
            words = (*REFUSALS, "No such file", "No such process") if name in HIDDEN else REFUSALS
            if "\n" in text.strip() or "loot" in str(error.to_dict()) or not any(word in text for word in words):
                done[name] = text
        assert await good.call("ping", timeout_s=60) == "pong"
    assert good.pid == before and not [e for e in r.of("host_died") if e.device_id == good.id]
    return done


def test_every_attack_is_refused_by_this_kernel_too_and_the_neighbour_is_never_started_again(scene: Scene) -> None:
    async def main() -> dict[str, str]:
        async with rig_of(scene) as r:
            return await done_by(r, scene, REFUSED)

    assert asyncio.run(main()) == {}


def test_without_namespaces_nothing_that_may_only_be_read_can_be_emptied_either(scene: Scene) -> None:
    async def main() -> dict[str, str]:
        policy = ConfinementPolicy(namespaces=False)
        root = scene.folder / "state"
        async with rig(scene.folder, state_root=root, confined=True, policy_of_confinement=policy) as r:
            return await done_by(r, scene, EMPTY)

    assert asyncio.run(main()) == {}


def test_the_highest_level_is_reached_and_every_part_of_it_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, confined=True) as r:
            device = r.adopt(GOOD, runtime={"limits": {"memory_mb": MEMORY_MB, "threads": 40}})
            await device.connect()
            reached = device.confinement
            assert reached is not None
            assert reached.level is Level.ISOLATED, reached
            assert reached.landlock_abi == landlock.abi() and reached.seccomp and not reached.capabilities
            group = Path(reached.cgroup)
            assert str(device.pid) in (group / "cgroup.procs").read_text().split()
            assert int((group / "memory.max").read_text()) == int(MEMORY_MB * 1.25 * (1 << 20))
            assert int((group / "pids.max").read_text()) == 40
            for name in reached.namespaces:
                assert Path(f"/proc/{device.pid}/ns/{name}").stat().st_ino != Path("/proc/self/ns", name).stat().st_ino
            await device.close()
            assert not group.exists(), "its cgroup goes with it"

    asyncio.run(main())


def test_node_within_bwrap_reaches_the_highest_level_and_every_attack_is_refused(
    tmp_path: Path, aims: dict[str, Any]
) -> None:
    program("bwrap", package="bubblewrap")
    if find_node() is None:
        pytest.skip("there is no Node on this machine")
    file = script(tmp_path)

    async def main() -> None:
        async with confined(tmp_path) as r:
            device = put(r, file)
            await device.connect()
            reached = device.confinement
            assert reached is not None
            assert (reached.level, reached.program, reached.missing) == (Level.ISOLATED, "bwrap", ()), reached
            assert device.pid is not None
            (node,) = [pid for pid in descendants(device.pid) if runs_node(pid)]
            assert str(node) in (Path(reached.cgroup) / "cgroup.procs").read_text().split()
            assert await done_in_bwrap(device, aims) == {}

    asyncio.run(main())


def test_a_memory_bomb_is_ended_by_its_cgroup_and_by_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, confined=True) as r:
            limits = {"limits": {"memory_mb": MEMORY_MB}}
            device, good = r.adopt(ATTACKER, runtime=limits), r.adopt(GOOD, runtime=limits)
            await device.connect()
            await good.connect()
            before = good.pid
            bomb = "held = []\nwhile True: held.append(bytearray(b'\\1' * (16 << 20)))"
            attack = asyncio.create_task(device.call("attack", bomb, {}, timeout_s=120))
            while not attack.done():
                assert await good.call("ping", timeout_s=60) == "pong"
            with pytest.raises(DriverError) as caught:
                await attack
            assert caught.value.code == "limit_exceeded" and "memory" in caught.value.message, caught.value
            assert "\n" not in str(caught.value).strip()
            assert good.pid == before and not [e for e in r.of("host_died") if e.device_id == good.id]
            await device.ready_again()

    asyncio.run(main())


def test_a_fork_bomb_meets_the_limit_of_its_cgroup(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, confined=True) as r:
            limits = {"limits": {"threads": 30}}
            device, good = r.adopt(ATTACKER, runtime=limits, permissions={"subprocess": True}), r.adopt(GOOD)
            await device.connect()
            await good.connect()
            code = (
                "got = 0\ntry:\n  while got < 500:\n    if not os.fork():\n      time.sleep(600)\n    got += 1\n"
                "except OSError: pass"
            )
            assert 0 < await device.call("attack", code, {}, timeout_s=120) < 30
            assert await good.call("ping") == "pong"
            assert len((Path(device.confinement.cgroup) / "cgroup.procs").read_text().split()) <= 30
            await device.close()

    asyncio.run(main())
