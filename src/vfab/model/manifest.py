"""The manifest: everything vfab knows about a driver without running it.

`plugin.yaml` is read by `kernel.loader`; this module has the fields, their rules and the words for what is wrong. Every
field of seed 004's `PluginMetadata` is here under its own name. One definition drives validation, the JSON Schema that
`vfab config schema --manifest` prints, and the reference in the docs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from vfab.model.alike import alike
from vfab.model.devices import DeviceInfo, MatchRule
from vfab.model.errors import BadManifest
from vfab.model.escapes import unescape
from vfab.model.identify import Identify
from vfab.model.limits import Limits
from vfab.model.permissions import Permissions
from vfab.model.references import without_references
from vfab.model.settings import faults
from vfab.model.versions import parse_version

__all__ = [
    "SCHEMA_VERSION",
    "Command",
    "Manifest",
    "Parameter",
    "StateRule",
    "json_schema",
    "manifest_from_dict",
    "unescape",
]

SCHEMA_VERSION = 1
"""The newest manifest schema that this vfab reads."""

Category = Literal["plotter", "camera", "sensor", "instrument", "communication"]
Dialect = Literal["native", "driver_plugin", "function_contract", "drv_module", "instrument_plugin", "js_driver"]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$", description="letters, digits, _ . and -")]
Text = Annotated[str, Meta(min_length=1)]
_CLASS = re.compile(r"^([A-Za-z_]\w*\.)+[A-Za-z_]\w*$")


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One parameter of a command: becomes an option of the generated sub-command."""

    type: Annotated[
        Literal["string", "number", "integer", "boolean"], Meta(description="the JSON type of the value")
    ] = "string"
    help: Annotated[str, Meta(description="one line for `--help`; name the unit")] = ""
    default: Annotated[str | float | int | bool | None, Meta(description="used when the caller gives none")] = None
    required: Annotated[bool, Meta(description="the caller must give a value")] = False
    minimum: Annotated[float | None, Meta(description="smallest allowed number")] = None
    maximum: Annotated[float | None, Meta(description="largest allowed number")] = None
    choices: Annotated[tuple[str, ...], Meta(description="the only allowed texts")] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        bounds = {"minimum": self.minimum, "maximum": self.maximum, "enum": list(self.choices) or None}
        return {"type": self.type, **{word: bound for word, bound in bounds.items() if bound is not None}}


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One command that a driver offers: `vfab driver run NAME COMMAND`, and `vfab device send DEVICE COMMAND`."""

    help: Annotated[Text, Meta(description="one line: what it does")]
    method: Annotated[str | None, Meta(description="method of the driver class; default: the name with _ for -")] = None
    parameters: Annotated[dict[str, Parameter], Meta(description="parameters by name")] = {}
    needs: Annotated[
        Literal["nothing", "initialized", "connected"], Meta(description="the state the device must be in")
    ] = "connected"
    concurrent: Annotated[bool, Meta(description="may run while another command of the same device runs")] = False
    timeout_s: Annotated[float, Meta(gt=0, description="seconds until the caller gives up")] = 30.0
    progress: Annotated[bool, Meta(description="takes long and reports progress")] = False


class Runtime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What runs the driver."""

    language: Annotated[Literal["python", "node"], Meta(description="the language of the driver's host")] = "python"
    dialect: Annotated[
        Dialect, Meta(description="the shape that the driver is written in; discovery says it of older shapes")
    ] = "native"
    source: Annotated[
        str,
        Meta(
            description="the file with the driver's class, when it is not below the plugin's folder; set by discovery"
        ),
    ] = ""
    version: Annotated[str, Meta(description="PEP 440 specifier of the interpreter's version, for example >=3.11")] = ""
    start_timeout_s: Annotated[float, Meta(gt=0, le=300, description="seconds from start to ready")] = 20.0
    initialize_timeout_s: Annotated[float, Meta(gt=0, le=3600, description="seconds for initialize")] = 10.0
    connect_timeout_s: Annotated[float, Meta(gt=0, le=3600, description="seconds for connect, disconnect, reset")] = (
        10.0
    )
    limits: Annotated[Limits, Meta(description="what its process may use; settings of the same name change it")] = (
        Limits()
    )

    @property
    def asks_the_broker(self) -> bool:
        """Whether its drivers open their links through the broker. The older shapes in Python open them themselves."""
        return self.dialect in {"native", "js_driver"}


class StateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest's `state`: the schema of what the driver hands to the next one when it is replaced."""

    version: Annotated[int, Meta(ge=0, description="version of the state that the driver saves; 0: it saves none")] = 0
    reads: Annotated[tuple[int, ...], Meta(description="other versions that it can take over, and migrates")] = ()
    writes: Annotated[tuple[int, ...], Meta(description="older versions that it can save, for going back")] = ()
    silence_s: Annotated[
        float,
        Meta(
            ge=0,
            description="seconds until the first record of a stream that ran before; later, it is taken for dead. 0: "
            "5 s, or four times the longest wait before",
        ),
    ] = 0.0

    def common(self, new: StateRule) -> int | None:
        """The version in which state goes from this driver to a `new` one, or None: there is no way."""
        readable = {new.version, *new.reads, 0} if self.version == 0 else {new.version, *new.reads}
        return max((v for v in (self.version, *self.writes) if v in readable), default=None)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A parsed `plugin.yaml`. Fields up to `config_schema` are seed 004's `PluginMetadata`."""

    name: Annotated[Name, Meta(description="the plugin's name, unique among all plugins")]
    version: Annotated[Text, Meta(description="PEP 440 version of the plugin")]
    author: Annotated[Text, Meta(description="who made it")]
    description: Annotated[Text, Meta(description="one sentence for lists")]
    min_platform_version: Annotated[str, Meta(description="oldest platform it runs on, inclusive")] = "1.0.0"
    max_platform_version: Annotated[str | None, Meta(description="newest platform it runs on, inclusive")] = None
    supported_methods: Annotated[tuple[str, ...], Meta(description="measurement methods, for the method index")] = ()
    supported_models: Annotated[tuple[str, ...], Meta(description="model names, for the model index")] = ()
    driver_class: Annotated[str, Meta(description="module.Class below the plugin's folder: driver.AxiDrawDriver")]
    dependencies: Annotated[
        tuple[str, ...], Meta(description="PEP 508 requirements, installed into the plugin's own environment")
    ] = ()
    config_schema: Annotated[dict[str, Any] | None, Meta(description="JSON Schema of the driver's configuration")] = (
        None
    )

    schema_version: Annotated[int, Meta(ge=1, description="version of this manifest format")] = 1
    category: Annotated[
        Category, Meta(description="the contract that the driver keeps; seed 004's manifests are instruments")
    ] = "instrument"
    match: Annotated[tuple[MatchRule, ...], Meta(description="which found devices it fits, any of the rules")] = ()
    identify: Annotated[
        tuple[Identify, ...],
        Meta(description="what to ask at ports that say nothing of themselves; needs permissions.probe"),
    ] = ()
    detection: Annotated[
        str, Meta(description="module.Class below the plugin's folder that finds devices itself: finder.LabFinder")
    ] = ""
    permissions: Annotated[Permissions, Meta(description="what it may touch beyond its own device")] = Permissions()
    safe_stop: Annotated[
        tuple[str, ...],
        Meta(description="bytes sent on its link when the driver dies, in order; escapes as in Python: \\r \\x18"),
    ] = ()
    runtime: Annotated[Runtime, Meta(description="what runs it")] = Runtime()
    state: Annotated[StateRule, Meta(description="what it hands to the driver that replaces it while it runs")] = (
        StateRule()
    )
    commands: Annotated[dict[str, Command], Meta(description="commands it offers, by name")] = {}
    simulator: Annotated[str, Meta(description="file below the plugin's folder that simulates the device")] = ""
    license: Annotated[str, Meta(description="SPDX expression")] = ""
    homepage: Annotated[str, Meta(description="where its documentation lives")] = ""

    def safe_stop_bytes(self) -> bytes:
        """What is sent on the driver's link when the driver dies."""
        return b"".join(unescape(text) for text in self.safe_stop)

    def score(self, device: DeviceInfo) -> int:
        """How well the driver fits `device`; 0 means not at all."""
        return max((rule.score(device) for rule in self.match), default=0)

    def to_dict(self) -> dict[str, Any]:
        """This manifest as plain data."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `plugin.yaml` (draft 2020-12)."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "vfab plugin.yaml"}
    schema.update(msgspec.json.schema(Manifest))
    return schema


_BY_WHERE: tuple[tuple[re.Pattern[str], type[msgspec.Struct]], ...] = (
    (re.compile(r"^$"), Manifest),
    (re.compile(r"^permissions$"), Permissions),
    (re.compile(r"^runtime$"), Runtime),
    (re.compile(r"^runtime\.limits$"), Limits),
    (re.compile(r"^state$"), StateRule),
    (re.compile(r"^match\[\d+\]$"), MatchRule),
    (re.compile(r"^identify\[\d+\]$"), Identify),
    (re.compile(r"^commands\.[^.]+$"), Command),
    (re.compile(r"^commands\.[^.]+\.parameters\.[^.]+$"), Parameter),
)


def manifest_from_dict(data: object, *, file: str = "plugin.yaml") -> Manifest:
    """The manifest that `data` (the parsed YAML) describes.

    Raises BadManifest: the context has `file`, `field` (dotted), `found`, `expected`; the first problem is told, and
    `problems` lists them all.
    """
    if not isinstance(data, Mapping):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise _bad(file, [("", found, "a mapping of fields, starting with name: and version:")])
    schema_version = data.get("schema_version", 1)
    if isinstance(schema_version, int) and not isinstance(schema_version, bool) and schema_version > SCHEMA_VERSION:
        raise BadManifest(
            f"{file}: schema_version: found {schema_version}, this vfab reads up to {SCHEMA_VERSION}",
            context={"file": file, "field": "schema_version", "found": schema_version, "expected": SCHEMA_VERSION},
            remedy="Upgrade vfab (pip install --upgrade vfab), or install an older version of the plugin.",
        )
    try:
        manifest = msgspec.convert(data, Manifest, strict=True)
    except msgspec.ValidationError as error:
        raise _bad(file, _structural(data) or [_translate(error, data)]) from error
    problems = _rules(manifest)
    if problems:
        raise _bad(file, problems)
    try:
        return msgspec.structs.replace(manifest, config_schema=without_references(manifest.config_schema))
    except ValueError as error:
        reference, expected = error.args
        raise _bad(file, [("config_schema", f"the $ref {reference!r}", expected)]) from error


def _bad(file: str, problems: list[tuple[str, str, str]]) -> BadManifest:
    field, found, expected = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return BadManifest(
        f"{file}: {field or 'the whole file'}: found {found}; {expected}{more}",
        context={
            "file": file,
            "field": field,
            "found": found,
            "expected": expected,
            "problems": [{"field": f, "found": a, "expected": e} for f, a, e in problems],
        },
        remedy=f"Correct {field or 'the file'} in {file}; `vfab config schema --manifest` prints the format.",
    )


def _structural(data: Mapping[Any, Any], where: str = "") -> list[tuple[str, str, str]]:
    """Unknown and missing fields at every level, which msgspec would tell one at a time."""
    kind = next((kind for pattern, kind in _BY_WHERE if pattern.match(where)), None)
    found: list[tuple[str, str, str]] = []
    if kind is not None:
        names = kind.__struct_fields__
        for key in data:
            if key not in names:
                near = alike(str(key), names, 1)
                hint = f"did you mean {near[0]}?" if near else "the fields are " + ", ".join(names)
                found.append((_join(where, str(key)), "an unknown field", hint))
        required = [f.name for f in msgspec.structs.fields(kind) if f.required]
        found += [(_join(where, name), "nothing", "this field is required") for name in required if name not in data]
    for key, value in data.items():
        here = _join(where, str(key))
        if isinstance(value, Mapping) and not here.startswith("config_schema"):
            found += _structural(value, here)
        elif isinstance(value, (list, tuple)) and key in {"match", "identify"}:
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    found += _structural(item, f"{here}[{index}]")
    return found


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _translate(error: msgspec.ValidationError, data: Mapping[Any, Any], where: str = "") -> tuple[str, str, str]:
    """The message of msgspec about `data`, which stands at `where`, as (field, found, expected)."""
    text, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").removeprefix("$").lstrip(".")
    before, unnamed, _ = field.partition("[...]")
    if unnamed and not before.startswith("key in"):
        return _translate_within(_walk(data, before), _join(where, before)) or (_join(where, before), "", text)
    value = _walk(data, field)
    expected = text[0].lower() + text[1:]
    if text.startswith("Invalid enum value"):
        expected = "write one of " + ", ".join(_choices(_join(where, field)))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and "`str" in text:
        expected += f'; put it in quotes: "{value}"'
    return _join(where, field) if field else where, repr(value), expected


def _translate_within(values: Mapping[Any, Any], where: str) -> tuple[str, str, str] | None:
    """The first problem of the named things at `where`: msgspec does not say which of them it means."""
    for key, value in values.items():
        here = _join(where, str(key))
        kind = next((kind for pattern, kind in _BY_WHERE if pattern.match(here)), str)
        try:
            msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            return _translate(error, value, here)
    return None


def _walk(data: Any, field: str) -> Any:
    """The value at the dotted `field`; as far as it can be followed."""
    for key in re.findall(r"[^.\[\]]+", field):
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, (list, tuple)) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
    return data


def _choices(field: str) -> tuple[str, ...]:
    """What a field with a fixed set of values may be."""
    where, _, name = field.rpartition(".")
    kind = next(kind for pattern, kind in _BY_WHERE if pattern.match(where))
    choices: tuple[str, ...] = get_args(get_type_hints(kind)[name])
    return choices


def _rules(manifest: Manifest) -> list[tuple[str, str, str]]:
    """What breaks a rule that types cannot say."""
    found: list[tuple[str, str, str]] = []
    for field in ("version", "min_platform_version", "max_platform_version"):
        text = getattr(manifest, field)
        try:
            if text is not None:
                parse_version(text)
        except ValueError as error:
            found.append((field, repr(text), str(error)))
    if not _CLASS.match(manifest.driver_class) and manifest.runtime.language == "python":
        found.append(
            ("driver_class", repr(manifest.driver_class), "write it as module.Class, like driver.AxiDrawDriver")
        )
    found += _finding_rules(manifest)
    if manifest.runtime.source:
        expected = "leave it out: discovery writes it; the class is looked up by driver_class"
        found.append(("runtime.source", repr(manifest.runtime.source), expected))
    found += manifest.permissions.problems()
    for index, text in enumerate(manifest.safe_stop):
        try:
            unescape(text)
        except (UnicodeDecodeError, UnicodeEncodeError):
            found.append((f"safe_stop[{index}]", repr(text), r"write bytes as text with escapes: SP,1\r or \x18"))
    found += _command_rules(manifest)
    if manifest.simulator and (manifest.simulator.startswith("/") or ".." in manifest.simulator.split("/")):
        found.append(("simulator", repr(manifest.simulator), "name a file inside the plugin's folder"))
    schema = manifest.config_schema
    if schema is not None and schema.get("type", "object") != "object":
        found.append(("config_schema.type", repr(schema.get("type")), 'must be "object": settings have names'))
    return found


def _finding_rules(manifest: Manifest) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for index, rule in enumerate(manifest.match):
        found += rule.problems(f"match[{index}]")
    for index, question in enumerate(manifest.identify):
        found += question.problems(f"identify[{index}]")
    if manifest.identify and not manifest.permissions.probe:
        expected = "add permissions: {probe: true}; without it nothing is asked"
        found.append(("permissions.probe", "false beside identify", expected))
    if manifest.detection and not _CLASS.match(manifest.detection):
        found.append(("detection", repr(manifest.detection), "write it as module.Class, like finder.LabFinder"))
    return found


def _command_rules(manifest: Manifest) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for name, command in manifest.commands.items():
        where = f"commands.{name}"
        if not re.match(r"^[a-z][a-z0-9-]*$", name):
            found.append((where, repr(name), "command names are lower case with - between words: pen-up"))
        method = command.method if command.method is not None else name.replace("-", "_")
        if not re.match(r"^[a-z]\w*$", method):
            found.append((f"{where}.method", repr(method), "name a public method of the driver class"))
        for key, parameter in command.parameters.items():
            if not re.match(r"^[a-z]\w*$", key):
                found.append((f"{where}.parameters.{key}", repr(key), "parameter names are like x_mm"))
            if parameter.required and parameter.default is not None:
                found.append((f"{where}.parameters.{key}", "required with a default", "drop one of the two"))
            if parameter.default is not None:
                wrong = faults(parameter.schema, parameter.default, f"{where}.parameters.{key}.default")
                found += [(fault.field, fault.found, fault.expected) for fault in wrong]
    return found
