"""saxi's own EBB class (npm, in a process of its own) plans and draws on our simulated board."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vfab.drivers.axidraw.simulator import AxiDrawSimulator

pytestmark = pytest.mark.referee

HERE = Path(__file__).parent
INSTALL_S = 180
STEP_MM = 1 / 80


@pytest.fixture(scope="session")
def modules() -> Path:
    """Where saxi is installed; installs it when npm is there and saxi is not."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"saxi: {tool} is not installed (Debian: nodejs, npm)")
    own = HERE / "node_modules"
    for place in (own, HERE.parent / "saxi_planner" / "node_modules"):
        if (place / "saxi" / "dist" / "server" / "ebb.js").is_file():
            return place
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"saxi: npm ci took longer than {INSTALL_S} s")
    if done.returncode:
        pytest.skip(f"saxi: npm ci failed: {done.stderr.strip()[-300:]}")
    return own


@pytest.mark.parametrize("firmware", ["2.8", "3"])
@pytest.mark.parametrize("kind", ["pty", "tcp"])
def test_saxi_draws_what_it_planned(firmware: str, kind: str, modules: Path) -> None:
    with AxiDrawSimulator(firmware, address=kind) as sim:
        done = subprocess.run(
            ["node", str(HERE / "drive.js"), sim.address, str(modules)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        strokes = sim.strokes
        assert sim.board.enabled == [False, False]
    assert said["version"] == list(sim.board.firmware)
    assert said["supportsLM"] and said["supportsSR"] and said["powered"]
    assert said["button"] is False
    assert "Unknown command 'BB:4242'" in said["refused"]
    assert said["steps"] == ["0,0"]
    assert len(strokes) == 3
    expected = [
        [(10, 10), (60, 10), (60, 40), (10, 40), (10, 10)],
        [(20, 20), (35, 32.5)],
        [(40, 15), (45, 20), (41, 27), (52, 31)],
    ]
    for drawn, planned in zip(strokes, expected, strict=True):
        for x, y in planned:
            nearest = min(max(abs(x - px), abs(y - py)) for px, py in drawn)
            assert nearest <= 2 * STEP_MM, (x, y, drawn)
