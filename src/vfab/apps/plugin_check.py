"""`vfab plugin check`: what a plugin is, what is wrong with it, and its driver's life on its simulator."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vfab.apps.contract import CHECKS, Outcome, Result, check_driver
from vfab.apps.finding import drivers_of
from vfab.apps.plugin_quality import Finding, quality_findings, refuted_claims
from vfab.apps.plugin_source import source_remarks
from vfab.apps.session import Session
from vfab.dialects import explain
from vfab.kernel.loader import MANIFEST_FILE, PluginLoader
from vfab.model.errors import ConfigurationError, DriverError
from vfab.model.manifest import Manifest
from vfab.model.permissions import Permissions
from vfab.model.plugins import DriverInfo
from vfab.model.yamltext import line_of, places

__all__ = ["Finding", "PluginReport", "check_plugins", "permissions_in_words", "plugin_place", "run_plugin"]


@dataclass(slots=True)
class PluginReport:
    """What was found out of one plugin.

    Attributes:
        name, path: which one; the name is "" when its manifest cannot be read.
        shape: `vfab.dialects.Explanation` as plain data; None when it cannot be read.
        permissions: what it may do, in words.
        findings: problems and advice.
        checks: what was seen when it ran.
        info: what the loader says of it.
    """

    name: str
    path: str
    shape: dict[str, Any] | None = None
    permissions: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    checks: list[Result] = field(default_factory=list)
    info: DriverInfo | None = None

    @property
    def passed(self) -> bool:
        """There is no problem, and no check failed."""
        problems = any(finding.level == "problem" for finding in self.findings)
        return not problems and not any(check.outcome == "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "name": self.name,
            "path": self.path,
            "passed": self.passed,
            "shape": self.shape,
            "permissions": self.permissions,
            "findings": [asdict(finding) for finding in self.findings],
            "checks": [check.to_dict() for check in self.checks],
        }


def plugin_place(path: Path, env: Mapping[str, str]) -> Path:
    """`path`; where nothing is there and a driver is called so, that plugin's folder, or its file if that is all."""
    if path.exists() or len(path.parts) != 1:
        return path
    info = next((info for info in drivers_of(env).drivers if info.name == str(path)), None)
    if info is None:
        return path
    folder = Path(info.folder)
    return folder if (folder / MANIFEST_FILE).is_file() else Path(info.manifest.runtime.source)


def check_plugins(path: Path) -> list[PluginReport]:
    """Look at every plugin in `path`, a plugin's folder or file, or a folder with some; nothing of them is run.

    Raises ConfigurationError: there is no plugin.
    """
    root = path.absolute()
    found = PluginLoader().load_from_path(root) if root.exists() else []
    beside = {str(Path(info.folder).parent) for info in found}  # where a class may lie that is not in its plugin
    loader = PluginLoader(search=sorted({str(root), str(root.parent), *beside}))
    found = loader.load_from_path(root) if root.exists() else []
    reports = [_static(loader, info) for info in found]
    reports += [PluginReport("", each.path, findings=_of_error(each.error)) for each in loader.problems]
    if not reports:
        raise ConfigurationError(
            f"{root} holds no plugin" if root.exists() else f"{root} does not exist, and no driver is called so",
            context={"folder": str(root)},
            remedy="Name a folder with plugin.yaml, or begin one: vfab plugin new NAME --category sensor",
        )
    return reports


def _static(loader: PluginLoader, info: DriverInfo) -> PluginReport:
    manifest, folder = info.manifest, Path(info.folder)
    report = PluginReport(info.name, manifest.runtime.source or info.folder, explain(manifest).to_dict(), info=info)
    report.permissions = permissions_in_words(manifest.permissions)
    for error in loader.problems_of(info):
        report.findings += _of_error(error)
    if manifest.runtime.dialect == "native":
        for remark in source_remarks(folder, manifest):
            level = "problem" if remark.certain else "advice"
            report.findings.append(
                Finding(level, remark.message, remark.file, remark.line, remark.field, remark.remedy)
            )
        report.findings += _advice(folder, manifest)
        report.findings += quality_findings(folder, manifest)
    return report


def _of_error(error: DriverError) -> list[Finding]:
    """A finding for each problem that an error of a manifest tells."""
    told = error.context
    file = str(told.get("file", ""))
    several = told.get("problems") or []
    if len(several) < 2:
        where = str(told.get("field", ""))
        line = int(told.get("line") or 0) or _line(file, where)
        return [Finding("problem", error.message, file, line, where, error.remedy)]
    return [
        Finding(
            "problem",
            f"{one['field'] or 'the whole file'}: found {one['found']}; {one['expected']}",
            file,
            int(one.get("line") or 0),
            one["field"],
            f"Correct {one['field'] or 'it'} in {file}.",
        )
        for one in several
    ]


def _line(file: str, where: str) -> int:
    if not where or not file.endswith(MANIFEST_FILE) or not Path(file).is_file():
        return 0
    return line_of(places(Path(file).read_bytes()), where)


def _advice(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """What a good plugin has and this one has not."""
    file = str(folder / MANIFEST_FILE)
    if not manifest.simulator:
        remedy = "Write simulator.py and name it: `vfab plugin new` writes one to look at."
        yield Finding(
            "advice", "it has no simulator: nobody can try it without the device", file, 0, "simulator", remedy
        )
    if not manifest.match:
        remedy = "Write match: rules; `vfab device scan --json` shows the ids of a device."
        yield Finding(
            "advice", "it has no match rules: its devices are not found by themselves", file, 0, "match", remedy
        )
    if not manifest.config_schema:
        remedy = "Write config_schema: with a default for each, if it has any."
        yield Finding("advice", "it has no settings", file, 0, "config_schema", remedy)
    if not any(folder.glob("test_*.py")) and not any(folder.glob("tests/test_*.py")):
        yield Finding("advice", "it has no tests", str(folder), remedy="Write test_driver.py with vfab.sdk.testing.")
    if not any(folder.glob("README*")) and not (folder / "docs").is_dir() and not manifest.homepage:
        remedy = "Write README.md, or homepage: in plugin.yaml."
        yield Finding("advice", "it has no documentation", str(folder), remedy=remedy)


def permissions_in_words(given: Permissions) -> list[str]:
    """What a plugin may do, one sentence each."""
    words = ["It uses the link to its own device, which vfab opens."]
    if given.devices:
        words.append("It may be handed other devices: " + ", ".join(given.devices) + ".")
    if given.connect:
        words.append("vfab may connect it to: " + ", ".join(given.connect) + ".")
    if given.network == "host":
        words.append("It may open any network connection and port by itself.")
    if given.files:
        words.append("It uses files: " + ", ".join(given.files) + ".")
    if given.subprocess:
        words.append("It may start other programs.")
    if given.probe:
        words.append("vfab may write to unknown ports to find its devices.")
    if len(words) == 1:
        words.append("Nothing else: no other device, no network of its own, no other program.")
    return words


async def run_plugin(report: PluginReport, env: Mapping[str, str], tell: Callable[[Result], None]) -> None:
    """Run a plugin whose files are in order, in a process and a home of its own; what is seen is added to the report.

    With a simulator it is the contract suite of `vfab driver test`; without one, it is loaded and initialised.
    """
    info = report.info
    assert info is not None
    with tempfile.TemporaryDirectory(prefix="vfab-check-") as home:
        own = {**env, "VFAB_HOME": home, "VFAB_PLUGIN_PATH": _place(info)}
        try:
            if info.manifest.simulator:
                report.checks += (await check_driver(own, info.name, tell=tell)).results
                report.findings += refuted_claims(Path(info.folder), report.checks)
            else:
                await _load(report, own, tell)
        except DriverError as error:
            report.findings += _of_error(error)


def _place(info: DriverInfo) -> str:
    """The folder to search for it: that of its file; for a class that lies elsewhere in its place, the place."""
    source = info.manifest.runtime.source
    if not source:
        return info.folder
    return os.path.dirname(info.folder if Path(info.folder, MANIFEST_FILE).is_file() else source)  # noqa: PTH120


async def _load(report: PluginReport, env: Mapping[str, str], tell: Callable[[Result], None]) -> None:
    began = time.monotonic()
    async with Session.open(env) as session, session.without_device(report.name) as managed:
        try:
            await managed.initialize()
            outcome: Outcome = "passed"
            note = f"process {managed.pid}"
        except DriverError as error:
            outcome, note = "failed", f"{error.code}: {error.message}"
    result = Result(CHECKS[0].name, CHECKS[0].sentence, outcome, round(time.monotonic() - began, 3), note)
    report.checks.append(result)
    tell(result)
