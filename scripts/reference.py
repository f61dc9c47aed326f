"""Writes docs/reference/*.md, and the lifecycle diagram in docs/architecture.md, from the code.

Run it after a change of manifest, errors, a built-in driver's settings, or the lifecycle:

    .venv/bin/python scripts/reference.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vfab.apps.own_settings import OWN_SECTIONS
from vfab.model.errors import DriverError, DriverErrorType
from vfab.model.lifecycle import mermaid
from vfab.model.manifest import json_schema

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HEAD = "<!-- written by scripts/reference.py; do not edit -->\n"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<", "pattern": "pattern"}
    return ", ".join(f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema)


def _rows(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| field | type | default | meaning |\n|---|---|---|---|"
    for name, field in schema["properties"].items():
        default = "**required**" if name in schema.get("required", []) else f"`{field.get('default')!r}`"
        meaning = field.get("description", "").replace("|", "\\|")
        bounds = _bounds(field).replace("|", "\\|")
        yield f"| `{name}` | {_type(field)} | {default} | {meaning}{f' ({bounds})' if bounds else ''} |"


def manifest_page() -> str:
    """Every field of plugin.yaml."""
    parts = [HEAD, "# plugin.yaml\n", "`vfab config schema --manifest` prints this as JSON Schema.\n"]
    definitions = json_schema()["$defs"]
    for name in ["Manifest", *sorted(set(definitions) - {"Manifest"})]:
        title = "The file" if name == "Manifest" else name
        about = "" if name == "Manifest" else definitions[name].get("description", "").split("\n")[0]
        parts += [f"## {title}\n", *([about + "\n"] if about else []), "\n".join(_rows(definitions[name])) + "\n"]
    return "\n".join(parts)


def _all(kind: type[DriverError]) -> Iterator[type[DriverError]]:
    for child in kind.__subclasses__():
        if child.__module__ == "vfab.model.errors":
            yield child
            yield from _all(child)


def errors_page() -> str:
    """Every error, by family."""
    parts = [HEAD, "# Errors\n"]
    parts.append(
        'With `--json` an error is `{"error": {"code", "message", "remedy", "context"}}` on standard error; the exit\n'
        "code is its family's. 1 and 2 are left to the shell and to wrong use of the command line.\n"
    )
    for family in DriverErrorType:
        parts.append(f"## {family.value} (exit code {family.exit_code})\n")
        parts.append("| code | class | meaning | try again? | what to do |\n|---|---|---|---|---|")
        for kind in sorted(set(_all(DriverError)), key=lambda kind: kind.code):
            if kind.default_type is family:
                meaning = (inspect.getdoc(kind) or "").split("\n")[0]
                again = "yes" if kind.default_retryable else "no"
                parts.append(f"| `{kind.code}` | `{kind.__name__}` | {meaning} | {again} | {kind.default_remedy} |")
        parts[-1] += "\n"
    return "\n".join(parts)


def config_page() -> str:
    """The settings of vfab's own commands and of the built-in drivers."""
    import yaml

    parts = [HEAD, "# Settings\n"]
    parts.append(
        "Each can be given, strongest first, on the command line, as environment variable, in `config.yaml` below\n"
        "`device: NAME:`, or is the default. `vfab config show` says where a value comes from. Those of a command\n"
        "are below its name: `plot: {driver: grbl}`, or `VFAB_PLOT_DRIVER`.\n"
    )
    for name, section in OWN_SECTIONS.items():
        parts += [f"## vfab {name}\n", "\n".join(_rows(section)) + "\n"]
    for path in sorted((ROOT / "src/vfab/drivers").glob("*/plugin.yaml")):
        manifest = yaml.safe_load(path.read_text())
        schema = manifest.get("config_schema") or {"properties": {}}
        parts += [f"## {manifest['name']}\n", "\n".join(_rows(schema)) + "\n"]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {"manifest": manifest_page, "errors": errors_page, "config": config_page}


def main() -> None:
    """Write all pages."""
    (DOCS / "reference").mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (DOCS / "reference" / f"{name}.md").write_text(page())
    architecture = DOCS / "architecture.md"
    text = re.sub(r"```mermaid\n.*?```", lambda _: f"```mermaid\n{mermaid()}```", architecture.read_text(), flags=re.S)
    architecture.write_text(text)


if __name__ == "__main__":
    main()
