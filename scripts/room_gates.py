"""The coverage gate as a pytest plugin: `--room-gates` fails the run when a room is below its gate.

Lines and branches count separately and each must reach the gate, so that many covered lines cannot hide branches that
no test takes. Child processes are included: pytest-cov has combined their data by the time this looks.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

GATE_PERCENT = 95.0
ROOMS = ("model", "protocols", "kernel", "host")


@dataclass(frozen=True)
class Tally:
    """What of a room the tests ran: lines and branches, covered of all there are, and the files not measured."""

    room: str
    lines: tuple[int, int]
    branches: tuple[int, int]
    unmeasured: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()

    @property
    def percents(self) -> tuple[float, float]:
        """Lines and branches covered, in percent; 100 where there are none."""
        return _percent(self.lines), _percent(self.branches)

    @property
    def passes(self) -> bool:
        """Whether the room may pass."""
        return min(self.percents) >= GATE_PERCENT and not self.unmeasured

    def told(self) -> str:
        """One line for people."""
        lines, branches = self.percents
        verdict = "ok" if self.passes else f"BELOW {GATE_PERCENT:g} %"
        text = f"{self.room:<10} lines {lines:6.2f} %   branches {branches:6.2f} %   {verdict}"
        if self.unmeasured:
            text += f"   never imported: {', '.join(self.unmeasured)}"
        elif not self.passes:
            text += f"   most missing: {', '.join(self.worst)}"
        return text


def _percent(part: tuple[int, int]) -> float:
    covered, total = part
    return 100.0 * covered / total if total else 100.0


def tally_room(room: str, folder: Path, files: Mapping[Path, Mapping[str, Any]]) -> Tally:
    """Add up a room. `files`: path -> entry of coverage.py's JSON report."""
    sources = sorted(folder.rglob("*.py"))
    found = {path: files[path]["summary"] for path in sources if path in files}
    missing = {path: f["num_statements"] - f["covered_lines"] + f["missing_branches"] for path, f in found.items()}
    worst = [path.name for path in sorted(missing, key=lambda path: -missing[path])[:3] if missing[path]]
    return Tally(
        room,
        (sum(f["covered_lines"] for f in found.values()), sum(f["num_statements"] for f in found.values())),
        (sum(f["covered_branches"] for f in found.values()), sum(f["num_branches"] for f in found.values())),
        tuple(path.name for path in sources if path not in files and path.read_text(encoding="utf-8").strip()),
        tuple(worst),
    )


def read_report(root: Path) -> dict[Path, Mapping[str, Any]]:
    """The entries of coverage.py's JSON report on the data in `root`, by absolute path."""
    measured = coverage.Coverage(data_file=str(root / ".cover" / "data"), config_file=str(root / "pyproject.toml"))
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.json"
        measured.json_report(outfile=str(target), ignore_errors=False)
        report = json.loads(target.read_text(encoding="utf-8"))
    return {(root / name).resolve(): entry for name, entry in report["files"].items()}


def tally_rooms(root: Path) -> list[Tally]:
    """One tally for each gated room that exists."""
    folders = {room: root / "src" / "vfab" / room for room in ROOMS}
    present = {room: folder for room, folder in folders.items() if any(folder.glob("*.py"))}
    files = read_report(root) if present else {}
    return [tally_room(room, folder, files) for room, folder in present.items()]


class RoomGates:
    """Judges the rooms when the tests are done. A gate that is missed is an error in pytest's own summary."""

    def __init__(self) -> None:
        self.tallies: list[Tally] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, after pytest-cov has combined the data of all processes."""
        try:
            self.tallies = tally_rooms(session.config.rootpath)
        except coverage.CoverageException as err:
            _add_error(session, "coverage of the gated rooms", f"coverage could not be read: {err}")
        for tally in self.tallies:
            if not tally.passes:
                _add_error(session, f"coverage of {tally.room}", tally.told())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one line a room."""
        terminalreporter.section("coverage of the gated rooms")
        for tally in self.tallies:
            terminalreporter.line(tally.told(), green=tally.passes, red=not tally.passes)


def _add_error(session: pytest.Session, name: str, text: str) -> None:
    """Make the run fail, and have pytest count and show why."""
    session.testsfailed += 1
    if session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        report = pytest.TestReport(name, (name, None, name), {}, "failed", text, "teardown")
        reporter.stats.setdefault("error", []).append(report)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--room-gates`."""
    parser.addoption("--room-gates", action="store_true", help="fail when a room's coverage is below its gate")


def pytest_configure(config: pytest.Config) -> None:
    """Judge in the process that combines the data, not in xdist's workers."""
    if config.getoption("--room-gates") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(RoomGates(), "vfab-room-gates")
