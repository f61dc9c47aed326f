"""What a driver's author says of its quality: `quality.yaml`, one status a rule, with the reason for what is not done.

    reconnect: {status: done}
    streams: {status: exempt, why: the device has no continuous data}
    contract-exemptions:
      slow-peer: the firmware forgets a command that takes longer than 10 ms

Nothing here is believed: `vfab plugin check` holds what is claimed to be done against the plugin and the contract
suite. Exemptions name the suite's checks that the driver does not pass, each with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

from vfab.model.errors import ConfigurationError
from vfab.model.yamltext import YamlProblem, line_of, parse_yaml, places

__all__ = ["EXEMPTIONS", "QUALITY_FILE", "RULES", "Quality", "RuleStatus", "quality_from_dict", "quality_from_yaml"]

QUALITY_FILE = "quality.yaml"
"""Its name, beside plugin.yaml."""

EXEMPTIONS = "contract-exemptions"
"""The field with the checks of the contract suite that the driver does not pass."""

RULES: Mapping[str, str] = MappingProxyType(
    {
        "manifest-complete": "the manifest says what the driver fits, what it can be told and what it needs",
        "permissions-minimal": "it asks for no permission that it does not use",
        "simulator": "it can be tried without the device",
        "tests-with-simulator": "its tests run it on its simulator",
        "tests-with-foreign-peer": "its tests run it against a device or program that its author did not write",
        "errors-with-remedy": "each error is of vfab's tree and says what to do",
        "reconnect": "it connects again after whatever ended the connection",
        "unplug": "a device that goes in the middle of an operation is told at once, and used again when it is back",
        "cancel": "a call that is cancelled ends soon and leaves the device usable",
        "safe-stop": "the device is left safe when the driver dies",
        "streams": "its streams can be started, stopped and read",
        "units": "numbers have units: in names, in the manifest's help, in readings",
        "discovery-match": "vfab finds its devices by itself",
        "docs-page": "it has a page that says how it is found and used",
        "contract-suite": "it passes the contract suite",
    }
)
"""The rules, and what each promises."""

Status = Literal["done", "todo", "exempt"]


class RuleStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a driver stands to a rule; `why` says it for what is not done."""

    status: Status
    why: str = ""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed `quality.yaml`.

    Attributes:
        rules: the rules that it names.
        exemptions: check of the contract suite -> why the driver does not pass it.
    """

    rules: dict[str, RuleStatus] = {}
    exemptions: dict[str, str] = {}

    def claims(self, rule: str) -> bool:
        """It says that `rule` is done."""
        found = self.rules.get(rule)
        return found is not None and found.status == "done"

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Rules that it says nothing of."""
        return tuple(rule for rule in RULES if rule not in self.rules)


def quality_from_yaml(data: bytes, *, file: str = QUALITY_FILE) -> Quality:
    """The quality that the YAML text `data` describes.

    Raises ConfigurationError: the context has `file`, `line`, `field`, `found`, `expected`; `problems` lists them all.
    """
    try:
        plain = parse_yaml(data)
    except YamlProblem as error:
        raise _bad(file, [("", error.found, error.expected)], [error.line]) from error
    problems = _problems(plain)
    if problems:
        where = places(data)
        raise _bad(file, problems, [line_of(where, field) for field, _, _ in problems])
    return _made(plain)


def quality_from_dict(data: object, *, file: str = QUALITY_FILE) -> Quality:
    """The quality that `data` (the parsed YAML) describes. Raises ConfigurationError as `quality_from_yaml`."""
    problems = _problems(data)
    if problems:
        raise _bad(file, problems, [0] * len(problems))
    return _made(data)


def _made(data: Any) -> Quality:
    rules = {name: msgspec.convert(value, RuleStatus) for name, value in data.items() if name != EXEMPTIONS}
    return Quality(rules=rules, exemptions=dict(data.get(EXEMPTIONS) or {}))


_Problem = tuple[str, str, str]
"""Field, what was found, what would be right."""


def _problems(data: object) -> list[_Problem]:
    if not isinstance(data, Mapping):
        return [("", _shown(data), "a mapping of rules, like `reconnect: {status: done}`")]
    found: list[_Problem] = []
    for name, value in data.items():
        if name == EXEMPTIONS:
            found += _of_exemptions(value)
        elif name not in RULES:
            found.append((str(name), "a rule that there is not", f"one of {', '.join(RULES)}, {EXEMPTIONS}"))
        else:
            found += _of_rule(name, value)
    return found


def _of_rule(name: str, value: object) -> list[_Problem]:
    if not isinstance(value, Mapping):
        return [(name, _shown(value), "a mapping, like {status: done} or {status: todo, why: …}")]
    known = get_args(Status)
    others = [key for key in value if key not in {"status", "why"}]
    found: list[_Problem] = [
        (f"{name}.{key}", "an unknown field", "status or why; put a reason with a comma into quotes") for key in others
    ]
    status, why = value.get("status"), value.get("why", "")
    if status not in known:
        found.append((f"{name}.status", _shown(status), f"one of {', '.join(known)}"))
    if not isinstance(why, str):
        found.append((f"{name}.why", _shown(why), "a text"))
    elif status in known[1:] and not why.strip():
        found.append((f"{name}.why", "nothing", f"a reason: it is needed for {status}"))
    return found


def _of_exemptions(value: object) -> list[_Problem]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [(EXEMPTIONS, _shown(value), "a mapping of checks to reasons, like `slow-peer: why`")]
    return [
        (f"{EXEMPTIONS}.{name}", _shown(why), "a text that says why the driver does not pass this check")
        for name, why in value.items()
        if not isinstance(why, str) or not why.strip()
    ]


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:80]


def _bad(file: str, problems: list[_Problem], lines: list[int]) -> ConfigurationError:
    (field, found, expected), line = problems[0], lines[0]
    place = f"{file}:{line}" if line else file
    return ConfigurationError(
        f"{place}: {field + ': ' if field else ''}found {found}; {expected}",
        context={
            "file": file,
            "line": line,
            "field": field,
            "found": found,
            "expected": expected,
            "problems": [
                {"field": one[0], "found": one[1], "expected": one[2], "line": number}
                for one, number in zip(problems, lines, strict=True)
            ],
        },
        remedy=f"Correct {field or 'it'} in {file}; docs/plugin-guide.md lists the rules.",
    )
