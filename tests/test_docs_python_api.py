"""The listings of docs/python-api.md run, as programs, with one simulated device plugged in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from apps.manager_home import make_home

PAGE = (Path(__file__).parent.parent / "docs" / "python-api.md").read_text()
LISTINGS = re.findall(r"^```python run\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_has_listings_and_all_of_them_are_run() -> None:
    assert len(LISTINGS) == PAGE.count("```python") == 3


@pytest.mark.parametrize("number", range(len(LISTINGS)))
def test_a_listing_runs_as_it_stands_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    home = make_home(tmp_path)
    with home.announced():
        command = [sys.executable, "-W", "error", "-c", LISTINGS[number]]
        done = subprocess.run(command, env=home.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not home.processes()


def test_the_table_names_every_operation() -> None:
    from vfab import DeviceDriverManager

    operations = [name for name in vars(DeviceDriverManager) if name.endswith(("_device", "_devices", "_command"))]
    assert len(operations) == 7
    assert all(f"`{name}(" in PAGE for name in operations)
