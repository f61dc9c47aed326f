"""The order of the tests, and what could not be installed for them."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest_plugins = ["room_gates"]

# No deadline: a machine with other work to do is no defect. In CI a change is judged by the same examples as the one
# before it; rare examples are found by people's own runs, and by `pytest --hypothesis-profile=thorough`.
settings.register_profile("vfab", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=5000)
settings.load_profile("ci" if os.environ.get("CI") else "vfab")


def _rank(item: pytest.Item) -> int:
    """0 for fast tests, 1 for slow ones, 2 for those that need an outside referee: quick answers come first."""
    if item.get_closest_marker("referee"):
        return 2
    return 1 if item.get_closest_marker("slow") else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    could_not = os.environ.get("VFAB_TEST_COULD_NOT", "")
    if could_not:
        terminalreporter.section("could not be installed")
        for line in could_not.splitlines():
            terminalreporter.line(line, yellow=True)
