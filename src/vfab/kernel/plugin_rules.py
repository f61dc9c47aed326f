# ruff: noqa: PTH114, PTH115, PTH118
# Strings and os.path: this runs at every start, and pathlib costs more than the work itself.
"""Rules of a plugin's folder that its manifest alone cannot show: files there, links inside, a sound config schema."""

from __future__ import annotations

import os
from pathlib import Path

from vfab.model.errors import BadManifest, DriverError
from vfab.model.manifest import Manifest

__all__ = ["driver_file", "file_problems"]


def driver_file(folder: str | Path, manifest: Manifest) -> Path | None:
    """The file of the manifest's `driver_class`: `driver.AxiDrawDriver` is in `driver.py` or `driver/__init__.py`."""
    if manifest.runtime.source:
        source = Path(manifest.runtime.source)
        return source if source.is_file() else None
    parts = manifest.driver_class.split(".")[:-1]
    base = Path(folder, *parts)
    for candidate in (base.with_suffix(".py"), base / "__init__.py", base.with_suffix(".js"), base.with_suffix(".mjs")):
        if candidate.is_file():
            return candidate
    return None


def file_problems(folder: str, manifest: Manifest) -> list[DriverError]:
    """What is wrong with the files of the plugin in `folder`; looks at every file, runs none."""
    file = os.path.join(folder, "plugin.yaml")
    one_file = bool(manifest.runtime.source) and not Path(file).is_file()
    if one_file:
        file = manifest.runtime.source
    found: list[DriverError] = []
    if driver_file(folder, manifest) is None:
        module = manifest.driver_class.rpartition(".")[0].replace(".", "/")
        found.append(_bad(file, "driver_class", manifest.driver_class, f"there is no {module}.py in {folder}"))
    if manifest.simulator and not Path(folder, manifest.simulator).is_file():
        found.append(_bad(file, "simulator", manifest.simulator, f"there is no such file in {folder}"))
    found += _dependency_problems(file, manifest)
    found += _schema_problems(file, manifest)
    if not one_file:  # else the folder is not the plugin's own
        found += _escaping_links(folder)
    return found


def _dependency_problems(file: str, manifest: Manifest) -> list[DriverError]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    found: list[DriverError] = []
    for index, text in enumerate(manifest.dependencies):
        try:
            Requirement(text)
        except InvalidRequirement as error:
            why = f"write a requirement like numpy>=2 (PEP 508): {str(error).splitlines()[0]}"
            found.append(_bad(file, f"dependencies[{index}]", text, why))
    if manifest.runtime.language == "python":
        try:
            SpecifierSet(manifest.runtime.version)
        except InvalidSpecifier:
            found.append(_bad(file, "runtime.version", manifest.runtime.version, "write it like >=3.11 (PEP 440)"))
    return found


def _schema_problems(file: str, manifest: Manifest) -> list[DriverError]:
    if not manifest.config_schema:
        return []
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(manifest.config_schema)
    except SchemaError as error:
        field = ".".join(["config_schema", *map(str, error.absolute_path)])
        return [_bad(file, field, repr(error.instance), f"it is not JSON Schema: {error.message}")]
    return []


def _escaping_links(folder: str) -> list[DriverError]:
    root = os.path.realpath(folder)
    found: list[DriverError] = []
    for parent, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            path = os.path.join(parent, name)
            if os.path.islink(path) and os.path.commonpath([os.path.realpath(path), root]) != root:
                found.append(_bad(path, "", f"a link to {os.readlink(path)}", "links may not leave the plugin"))
    return found


def _bad(file: str, field: str, found: str, expected: str) -> BadManifest:
    name = f"{field}: " if field else ""
    return BadManifest(
        f"{file}: {name}found {found}; {expected}",
        context={"file": file, "field": field, "found": found, "expected": expected},
        remedy=f"Correct {field or 'it'} in {file}." if field else f"Remove {file}, or put a copy of the file there.",
    )
