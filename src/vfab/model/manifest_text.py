"""A manifest from the text of `plugin.yaml`: what is wrong is told with its line. No I/O."""

from __future__ import annotations

from typing import Any

from vfab.model.errors import BadManifest
from vfab.model.manifest import Manifest, manifest_from_dict
from vfab.model.yamltext import Place, YamlProblem, line_of, parse_yaml, places

__all__ = ["manifest_from_yaml"]


def manifest_from_yaml(data: bytes, *, file: str = "plugin.yaml") -> Manifest:
    """The manifest that the YAML text `data` describes.

    Raises BadManifest: the context has `file`, `line` (from 1, 0 for none), `field`, `found`, `expected`, and
    `problems`, a list of all of them.
    """
    try:
        plain = parse_yaml(data)
    except YamlProblem as problem:
        raise _not_yaml(problem, file) from problem
    try:
        return manifest_from_dict(plain, file=file)
    except BadManifest as error:
        where = places(data)
        meant = _as_written(plain, where)
        if meant is None:
            raise _with_lines(error, where, file) from error.__cause__
    try:
        return manifest_from_dict(meant, file=file)
    except BadManifest as error:
        raise _with_lines(error, where, file) from error.__cause__


def _as_written(plain: Any, where: dict[str, Place]) -> dict[str, Any] | None:
    """`plain` with the text of versions and models in place of the numbers that YAML makes of them; None without any.

    `version: 1.10` means 1.10, not 1.1, and a model 2400 is called so: there is nothing that either could mean else.
    """
    if not isinstance(plain, dict):
        return None
    changed: dict[str, Any] = {}
    for field in ("version", "min_platform_version", "max_platform_version"):
        if _is_number(plain.get(field)):
            changed[field] = where[field].text
    models = plain.get("supported_models")
    if isinstance(models, list) and any(map(_is_number, models)):
        named = [where[f"supported_models[{i}]"].text if _is_number(m) else m for i, m in enumerate(models)]
        changed["supported_models"] = named
    return {**plain, **changed} if changed else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not_yaml(problem: YamlProblem, file: str) -> BadManifest:
    where = f"{file}:{problem.line}" if problem.line else file
    told = {"field": "", "found": problem.found, "expected": problem.expected, "line": problem.line}
    return BadManifest(
        f"{where}: found {problem.found}; {problem.expected}",
        context={"file": file, **told, "column": problem.column, "problems": [told]},
        remedy=f"Correct line {problem.line} of {file}." if problem.line else f"Correct {file}.",
    )


def _with_lines(error: BadManifest, where: dict[str, Place], file: str) -> BadManifest:
    """`error` with the line of every problem, and values as they were written: 0403, where YAML says 259."""
    problems = [_located(problem, where) for problem in error.context.get("problems", [])]
    if not problems:
        line = line_of(where, str(error.context.get("field", "")))
        message = error.message.replace(f"{file}:", f"{file}:{line}:", 1) if line else error.message
        return BadManifest(message, context={**error.context, "line": line}, remedy=error.remedy)
    first = problems[0]
    place = f"{file}:{first['line']}" if first["line"] else file
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    name = first["field"] or "the whole file"
    return BadManifest(
        f"{place}: {name}: found {first['found']}; {first['expected']}{more}",
        context={"file": file, **first, "problems": problems},
        remedy=error.remedy,
    )


def _located(problem: dict[str, Any], where: dict[str, Place]) -> dict[str, Any]:
    field, found, expected = problem["field"], problem["found"], problem["expected"]
    place = where.get(field)
    if place is not None and place.text is not None and found not in {repr(place.text), "an unknown field"}:
        expected = expected.replace(f'"{found}"', f'"{place.text}"')
        found = place.text
    return {"field": field, "found": found, "expected": expected, "line": line_of(where, field)}
