"""The order of the tests, and what could not be installed for them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["room_gates"]

# No deadline: a machine with other work to do is no defect. In CI a change is judged by the same examples as the one
# before it; rare examples are found by people's own runs, and by `pytest --hypothesis-profile=thorough`.
settings.register_profile("vfab", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=5000)
settings.load_profile("ci" if os.environ.get("CI") else "vfab")


ROOMS = ("model", "protocols", "sdk", "store", "watch", "dialects", "host", "kernel", "drivers", "apps")
HERE = Path(__file__).parent


def pytest_configure() -> None:
    """Programs that tests start inherit what is ignored here: by nohup, or by a shell that began this with `&`."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def _rank(item: pytest.Item) -> tuple[int, int]:
    """Quick answers come first: fast tests, slow ones, then those by an outside referee; each room by room, upwards."""
    kind = 2 if item.get_closest_marker("referee") else 1 if item.get_closest_marker("slow") else 0
    room = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else "drivers"
    return kind, ROOMS.index(room) if room in ROOMS else len(ROOMS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    could_not = os.environ.get("VFAB_TEST_COULD_NOT", "")
    if could_not:
        terminalreporter.section("could not be installed")
        for line in could_not.splitlines():
            terminalreporter.line(line, yellow=True)
