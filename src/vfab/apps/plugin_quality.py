"""What a plugin's quality.yaml claims, held against its files and against what the contract suite saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfab.apps.contract.checks import CHECKS, RULE_CHECKS
from vfab.apps.contract.model import Result
from vfab.model.errors import ConfigurationError
from vfab.model.manifest import Manifest
from vfab.model.quality import EXEMPTIONS, QUALITY_FILE, quality_from_yaml
from vfab.model.settings import nearest
from vfab.model.yamltext import line_of, places

__all__ = ["Finding", "quality_findings", "refuted_claims"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: `level` is problem (it does not pass) or advice; the rest says where, and what to do."""

    level: str
    message: str
    file: str = ""
    line: int = 0
    field: str = ""
    remedy: str = ""


def quality_findings(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """What is wrong with quality.yaml, and claims in it that the plugin's files refute; nothing is run."""
    file = folder / QUALITY_FILE
    if not file.is_file():
        remedy = "Write quality.yaml: docs/plugin-guide.md lists its rules."
        yield Finding("advice", "it has no quality.yaml: nobody knows what it keeps", str(folder), remedy=remedy)
        return
    data = file.read_bytes()
    try:
        quality = quality_from_yaml(data, file=str(file))
    except ConfigurationError as error:
        for one in error.context["problems"]:
            message = f"{one['field'] or 'the whole file'}: found {one['found']}; {one['expected']}"
            remedy = f"Correct {one['field'] or 'it'} in {file}."
            yield Finding("problem", message, str(file), int(one["line"]), str(one["field"]), remedy)
        return
    where = places(data)
    known = [check.name for check in CHECKS]
    for name in quality.exemptions:
        if name not in known:
            field = f"{EXEMPTIONS}.{name}"
            message = f"there is no check {name!r}; {nearest(name, known)}"
            remedy = "`vfab driver test --list` lists the checks."
            yield Finding("problem", message, str(file), line_of(where, field), field, remedy)
    for rule, why in _refuted_by_files(folder, manifest):
        if quality.claims(rule):
            yield _refuted(str(file), line_of(where, rule), rule, why)
    if quality.unnamed:
        message = f"quality.yaml says nothing of {', '.join(quality.unnamed)}"
        yield Finding("advice", message, str(file), remedy="Say done, todo or exempt of each rule, and why.")


def refuted_claims(folder: Path, results: Sequence[Result]) -> Iterator[Finding]:
    """Claims that a run of the suite refutes, and exemptions that are not needed."""
    file = folder / QUALITY_FILE
    if not file.is_file():
        return
    data = file.read_bytes()
    quality, where = quality_from_yaml(data, file=str(file)), places(data)
    outcomes: dict[str, Any] = {result.name: result for result in results}
    for rule, checks in RULE_CHECKS.items():
        if not quality.claims(rule):
            continue
        for name in checks:
            result = outcomes.get(name)
            if result is None or result.outcome in {"passed", "skipped"}:
                continue
            if result.outcome == "exempt" and rule == "contract-suite":
                continue  # its exemptions are named, which is what the rule asks for
            yield _refuted(str(file), line_of(where, rule), rule, f"{name}: {result.note}")
    for name in quality.exemptions:
        result = outcomes.get(name)
        if result is not None and result.needless:
            field = f"{EXEMPTIONS}.{name}"
            message = f"{name} passes: its exemption is not needed"
            yield Finding(
                "problem", message, str(file), line_of(where, field), field, f"Remove {name} from {EXEMPTIONS}."
            )


def _refuted(file: str, line: int, rule: str, why: str) -> Finding:
    remedy = f"Correct it, or say `{rule}: {{status: todo, why: …}}`."
    return Finding("problem", f"{rule} is not done, as quality.yaml claims: {why}", file, line, rule, remedy)


def _refuted_by_files(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Rules that cannot be done, by the plugin's files alone, each with why."""
    if not manifest.simulator:
        yield "simulator", "plugin.yaml names no simulator"
        yield "tests-with-simulator", "plugin.yaml names no simulator"
        yield "contract-suite", "without a simulator the suite cannot be run"
    elif not _tests_of(folder):
        yield "tests-with-simulator", "it has no tests"
    if not manifest.match:
        yield "discovery-match", "plugin.yaml has no match rules"
    if not manifest.safe_stop:
        yield "safe-stop", "plugin.yaml has no safe_stop"
    if not manifest.commands:
        yield "manifest-complete", "plugin.yaml has no commands"
    if manifest.permissions.network == "host" and any(manifest.permissions.connect):
        yield "permissions-minimal", "network: host makes permissions.connect needless"
    if not _has_page(folder, manifest):
        yield "docs-page", "there is no README, docs folder or homepage"


def _tests_of(folder: Path) -> list[Path]:
    return [*folder.glob("test_*.py"), *folder.glob("tests/test_*.py")]


def _has_page(folder: Path, manifest: Manifest) -> bool:
    """A page of its own, or, of a driver that comes with vfab, one among vfab's documents."""
    if any(folder.glob("README*")) or (folder / "docs").is_dir() or manifest.homepage:
        return True
    return any((above / "docs" / "drivers" / f"{manifest.name}.md").is_file() for above in folder.parents)
