"""`from vfab import …`: quick at run time, typed for checkers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import vfab

STUB = Path(vfab.__file__).with_suffix(".pyi")

PROGRAM = """
from typing import assert_type

from vfab import Device, DeviceDriverManager, DeviceState, __version__

with DeviceDriverManager() as manager:
    result = manager.scan_devices("axidraw")
    assert_type(manager, DeviceDriverManager)
device = Device(device_id="a")
assert_type(device.device_id, str)
assert_type(DeviceState("connected"), DeviceState)
assert_type(__version__, str)
"""


def test_a_checker_knows_the_types_of_what_vfab_offers(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    program.write_text("from vfab import DeviceDriverManager\nDeviceDriverManager().scan_all_the_devices()\n")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "attr-defined" in done.stdout


def test_the_stub_and_the_lazy_names_are_the_same() -> None:
    imported = {
        name.asname: node.module
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert imported == vfab._LAZY
    assert set(vfab.__all__) == {*imported, "__version__"}
    assert set(vfab.__all__) <= set(dir(vfab))


def test_what_is_offered_is_imported_at_first_use_only() -> None:
    code = (
        "import sys, vfab; before = set(sys.modules); assert 'vfab.apps' not in before; vfab.DeviceState; "
        "assert 'DeviceState' in vars(vfab); assert 'vfab.apps' not in sys.modules\n"
        "try: vfab.nothing\nexcept AttributeError as error: assert 'nothing' in str(error)\n"
        "from vfab import *; assert DeviceDriverManager"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
