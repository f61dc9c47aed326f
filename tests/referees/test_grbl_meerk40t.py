"""MeerK40t's GRBL emulator as a plotter: written by others, and lacking much of GRBL. Tolerance, not conformance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import vfab.drivers.grbl
from vfab.drivers.grbl.driver import GrblDriver
from vfab.sdk.testing import DriverBench, manifest_in

pytest.importorskip("meerk40t.grbl.emulator")
pytestmark = pytest.mark.referee
FOLDER = Path(vfab.drivers.grbl.__file__).parent
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="100mm" height="100mm" viewBox="0 0 100 100" fill="none">'
    b'<rect x="10" y="10" width="40" height="40" stroke="black"/><circle cx="60" cy="70" r="15" stroke="black"/></svg>'
)


def test_a_foreign_emulator_is_plotted_on_to_its_end() -> None:
    argv = [sys.executable, str(Path(__file__).parent / "meerk40t_emulator.py")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        address = f"tcp://127.0.0.1:{int(peer.stdout.readline())}"
        config = {"travel_mm_s": 8, "speed_mm_s": 8}
        with DriverBench(GrblDriver, manifest_in(FOLDER), address, config=config) as bench:
            driver = bench.driver
            driver.connect()
            driver.unlock()
            assert driver.limits()["width_mm"] == 200, "it has settings, and they are read"
            assert driver.draw_path([[5, 5], [20, 5]])["pen_down_mm"] == pytest.approx(15)
            assert driver.position() == {"x_mm": 20, "y_mm": 5, "pen": "up"}
            report = driver.plot(SVG, {"home": False})
            assert report["completed"]
            assert report["max_deviation_mm"] < 0.02
            ended = driver.position()
        said, _ = peer.communicate()
    at = json.loads(said)
    assert (at["x"], -at["y"]) == pytest.approx((ended["x_mm"], ended["y_mm"]), abs=0.01)
