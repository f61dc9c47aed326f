"""What the zygote does so that memory stays shared, each in a process of its own: it is done for good."""

from __future__ import annotations

import os
import subprocess
import sys

PAGES = """
import sys
from vfab.host.sharing import settle
empty = sys.getsizeof(b"")
scattered = [bytes(64 - empty) for _ in range(2400)]
del scattered[::8]  # a hole in every eighth place
if sys.argv[1] == "settled":
    settle()
made = [bytes(64 - empty) for _ in range(256)]  # four pages of 4 KiB
print(len({id(one) // 4096 for one in made}))
"""
NAMES = """
import gc, sys
from vfab.host.sharing import settle
class Looked: pass
name = "-".join(["looked", "up"])
hasattr(Looked(), name)
looked_up = sys.getrefcount(name)
settle()
print(looked_up - sys.getrefcount(name), gc.get_freeze_count() > 0)
"""


def told(code: str, *arguments: str) -> str:
    """What a process says that nobody measures: coverage leaves holes of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def test_what_a_host_makes_lies_together_and_not_in_holes_between_what_it_shares() -> None:
    assert int(told(PAGES, "not")) > 20, "nothing was to be mended"
    assert int(told(PAGES, "settled")) <= 8


def test_names_that_were_looked_up_are_forgotten_so_that_pushing_them_out_writes_to_no_page() -> None:
    assert told(NAMES).split() == ["1", "True"]
