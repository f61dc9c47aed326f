from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vfab.model.devices import DeviceInfo, MatchRule
from vfab.model.errors import BadManifest
from vfab.model.identify import Identify
from vfab.model.limits import Limits
from vfab.model.manifest import (
    SCHEMA_VERSION,
    Command,
    Manifest,
    Parameter,
    Runtime,
    StateRule,
    json_schema,
    manifest_from_dict,
    unescape,
)
from vfab.model.manifest_text import manifest_from_yaml
from vfab.model.metadata import PluginMetadata
from vfab.model.permissions import Permissions

GOOD: dict[str, Any] = {
    "name": "axidraw",
    "version": "1.2.0",
    "author": "Somebody",
    "description": "A plotter",
    "driver_class": "driver.AxiDrawDriver",
}
COMMAND: dict[str, Any] = {"help": "Raise the pen"}

WRONG: dict[str, Any] = {
    "name": "no spaces allowed",
    "version": "one",
    "author": "",
    "description": 5,
    "min_platform_version": "x",
    "max_platform_version": "y.z",
    "supported_methods": "iv_sweep",
    "supported_models": [2400],
    "driver_class": "NoModule",
    "dependencies": {"numpy": 2},
    "config_schema": {"type": "array"},
    "schema_version": SCHEMA_VERSION + 1,
    "state": [1],
    "state.version": -1,
    "state.reads": "1",
    "state.writes": [1.5],
    "state.silence_s": -0.5,
    "category": "toaster",
    "match": [{"vid": "4d8"}],
    "permissions": {"network": "all"},
    "safe_stop": ["\\xzz"],
    "runtime": {"language": "cobol"},
    "commands": {"Pen Up": COMMAND},
    "simulator": "../elsewhere.py",
    "license": 2.0,
    "homepage": False,
    "match[0].bus": 1,
    "match[0].vid": "zzzz",
    "match[0].pid": 1027,
    "match[0].manufacturer": [],
    "match[0].product": {},
    "match[0].serial_number": 12,
    "match[0].address": True,
    "match[0].name": 1.5,
    "match[0].attributes": {"driver": 5},
    "identify": [{"send": "V\\r"}],
    "detection": "finder",
    "identify[0].scheme": "i2c",
    "identify[0].send": "\\x1",
    "identify[0].expect": "(",
    "identify[0].baudrates": [],
    "identify[0].timeout_s": 60,
    "permissions.devices": ["camera"],
    "permissions.connect": ["192.0.2.1"],
    "permissions.probe": "yes",
    "permissions.files": ["/etc/passwd"],
    "permissions.subprocess": 1,
    "permissions.network": "some",
    "runtime.language": "rust",
    "runtime.dialect": "esperanto",
    "runtime.source": "/somewhere/else.py",
    "runtime.version": 3.11,
    "runtime.start_timeout_s": 0,
    "runtime.initialize_timeout_s": "long",
    "runtime.connect_timeout_s": 1e9,
    "runtime.limits": 500,
    "runtime.limits.memory_mb": -1,
    "runtime.limits.cpu_percent": "all",
    "runtime.limits.cpu_window_s": 0,
    "runtime.limits.threads": 2.5,
    "runtime.limits.over_s": -1,
    "runtime.limits.open_files": -1,
    "runtime.limits.file_mb": None,
    "runtime.limits.state_mb": -1,
    "runtime.limits.state_files": 0.5,
    "runtime.limits.free_mb": "all",
    "runtime.limits.address_space_mb": "1G",
    "runtime.limits.warn_share": 2,
    "commands.pen-up.help": "",
    "commands.pen-up.method": "__init__",
    "commands.pen-up.parameters": {"Height": {}},
    "commands.pen-up.needs": "luck",
    "commands.pen-up.concurrent": "no",
    "commands.pen-up.timeout_s": -1,
    "commands.pen-up.progress": None,
    "commands.pen-up.parameters.height_mm.type": "float",
    "commands.pen-up.parameters.height_mm.help": 3,
    "commands.pen-up.parameters.height_mm.default": [1],
    "commands.pen-up.parameters.height_mm.required": "true",
    "commands.pen-up.parameters.height_mm.minimum": "0",
    "commands.pen-up.parameters.height_mm.maximum": "9",
    "commands.pen-up.parameters.height_mm.choices": "a",
}
"""A wrong value for every field that there is; a test below sees that none is missing."""


def with_field(field: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(GOOD)
    if "." not in field:
        return {**data, field: value}
    *path, last = field.replace("[0]", "").split(".")
    node: Any = data
    for key in path:
        inside: Any = dict(COMMAND) if key == "pen-up" else {}
        if key == "identify":
            inside["expect"] = "EBB"
            data["permissions"] = {"probe": True}
        node[key] = [inside] if key in {"match", "identify"} else inside
        node = inside
    node[last] = value
    return data


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_field_is_refused_by_its_name(field: str) -> None:
    with pytest.raises(BadManifest) as caught:
        manifest_from_dict(with_field(field, WRONG[field]), file="there/plugin.yaml")
    context = caught.value.context
    assert context["file"] == "there/plugin.yaml"
    assert str(context["field"]).startswith(field)
    assert context["found"] not in ("", None)
    assert context["expected"] not in ("", None)
    assert field in caught.value.message
    assert caught.value.remedy


def test_every_field_there_is_has_a_wrong_value_above() -> None:
    parts: list[tuple[str, type[msgspec.Struct]]] = [
        ("", Manifest),
        ("match[0].", MatchRule),
        ("identify[0].", Identify),
        ("permissions.", Permissions),
        ("runtime.", Runtime),
        ("state.", StateRule),
        ("runtime.limits.", Limits),
        ("commands.pen-up.", Command),
        ("commands.pen-up.parameters.height_mm.", Parameter),
    ]
    assert {where + name for where, kind in parts for name in kind.__struct_fields__} == set(WRONG)


@pytest.mark.parametrize("field", ["name", "version", "author", "description", "driver_class"])
def test_a_missing_field_is_named(field: str) -> None:
    data = {key: value for key, value in GOOD.items() if key != field}
    with pytest.raises(BadManifest) as caught:
        manifest_from_dict(data)
    assert caught.value.context["field"] == field
    assert "required" in caught.value.message


@pytest.mark.parametrize(
    ("field", "near"),
    [
        ("verzion", "version"),
        ("permissions.probes", "probe"),
        ("runtime.langage", "language"),
        ("match[0].vidd", "vid"),
    ],
)
def test_an_unknown_field_suggests_the_nearest_name(field: str, near: str) -> None:
    with pytest.raises(BadManifest, match=f"did you mean {near}") as caught:
        manifest_from_dict(with_field(field, "x"))
    assert caught.value.context["field"] == field


def test_an_unknown_field_like_no_other_lists_the_fields() -> None:
    with pytest.raises(BadManifest, match="the fields are name, version"):
        manifest_from_dict({**GOOD, "qqqqq": 1})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BadManifest, match="and 1 more") as caught:
        manifest_from_dict({**GOOD, "bad": 1, "worse": 2})
    assert [problem["field"] for problem in caught.value.context["problems"]] == ["bad", "worse"]


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_a_manifest_that_is_no_mapping_is_refused(data: object) -> None:
    with pytest.raises(BadManifest, match="a mapping of fields"):
        manifest_from_dict(data)


def test_a_newer_schema_version_says_what_to_upgrade() -> None:
    with pytest.raises(BadManifest) as caught:
        manifest_from_dict({**GOOD, "schema_version": SCHEMA_VERSION + 1})
    assert "pip install --upgrade vfab" in caught.value.remedy


def test_a_wrong_choice_lists_the_right_ones() -> None:
    with pytest.raises(BadManifest, match="write one of nothing, initialized, connected"):
        manifest_from_dict(with_field("commands.pen-up.needs", "luck"))


def test_a_command_with_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadManifest):
        manifest_from_dict({**GOOD, "commands": {1: COMMAND}})


def test_a_required_parameter_has_no_default() -> None:
    field = "commands.pen-up.parameters.height_mm"
    with pytest.raises(BadManifest, match="drop one of the two"):
        manifest_from_dict(with_field(field, {"required": True, "default": 1}))


def test_a_driver_in_another_language_may_name_its_class_its_own_way() -> None:
    manifest = manifest_from_dict({**GOOD, "driver_class": "index", "runtime": {"language": "node"}})
    assert manifest.driver_class == "index"


def test_a_manifest_survives_being_written_and_read() -> None:
    manifest = manifest_from_dict({**with_field("commands.pen-up.timeout_s", 2), "match": [{"vid": "0x04D8"}]})
    assert manifest_from_dict(manifest.to_dict()) == manifest


def test_the_safe_stop_bytes_are_unescaped_in_order() -> None:
    manifest = manifest_from_dict({**GOOD, "safe_stop": ["SP,1\\r", "\\x18"]})
    assert manifest.safe_stop_bytes() == b"SP,1\r\x18"
    assert unescape("µ\\n") == b"\xb5\n"


def test_the_best_rule_is_the_score() -> None:
    manifest = manifest_from_dict({**GOOD, "match": [{"bus": "usb"}, {"vid": "04d8", "pid": "fd92"}]})
    assert manifest.score(DeviceInfo(id="a", bus="usb", address="", vid="04d8", pid="fd92")) == 20
    assert manifest.score(DeviceInfo(id="a", bus="usb", address="")) == 1
    assert manifest.score(DeviceInfo(id="a", bus="tcp", address="")) == 0
    assert manifest_from_dict(GOOD).score(DeviceInfo(id="a", bus="usb", address="")) == 0


def test_the_json_schema_describes_every_field_and_accepts_a_good_manifest() -> None:
    from jsonschema import Draft202012Validator

    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid(GOOD)
    assert not validator.is_valid({**GOOD, "category": "toaster"})
    described = schema["$defs"]["Manifest"]["properties"]
    assert set(described) == set(Manifest.__struct_fields__)
    assert all(field.get("description") for field in described.values())


# --- from text ---------------------------------------------------------------------------------------------------

TEXT = b"name: axidraw\nversion: '1.2'\nauthor: me\ndescription: x\ndriver_class: d.E\n"


def test_numbers_in_versions_and_models_are_the_text_that_was_written() -> None:
    text = TEXT.replace(b"'1.2'", b"1.10") + b"min_platform_version: 1.0\nsupported_models: [2400, 02, 1e3, B2901A]\n"
    manifest = manifest_from_yaml(text)
    assert (manifest.version, manifest.min_platform_version) == ("1.10", "1.0")
    assert manifest.supported_models == ("2400", "02", "1e3", "B2901A")
    with pytest.raises(BadManifest, match=r"plugin.yaml:5: driver_class: found 7"):
        manifest_from_yaml(text.replace(b"d.E", b"7"))


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        (b"category: toaster\n", 6, "write one of plotter"),
        (b"match:\n  - bus: usb\n    vid: 0403\n", 8, 'put it in quotes: "0403"'),
        (b"name: again\n", 6, "a second time"),
        (b"x: [\n", 7, "not YAML"),
        (b"schema_version: 99\n", 6, "reads up to"),
        (b"match: [{}]\n", 6, "an empty rule"),
    ],
)
def test_the_line_of_a_mistake_is_told(more: bytes, line: int, words: str) -> None:
    with pytest.raises(BadManifest) as caught:
        manifest_from_yaml(TEXT + more, file="p/plugin.yaml")
    assert caught.value.context["line"] == line
    assert caught.value.message.startswith(f"p/plugin.yaml:{line}:")
    assert words in caught.value.message


def test_a_missing_field_has_no_line() -> None:
    with pytest.raises(BadManifest) as caught:
        manifest_from_yaml(b"schema_version: 1\n")
    assert caught.value.context["line"] == 0
    assert caught.value.message.startswith("plugin.yaml: name:")


def test_several_mistakes_have_a_line_each() -> None:
    with pytest.raises(BadManifest, match="and 1 more") as caught:
        manifest_from_yaml(TEXT + b"a1: 1\nb1: 2\n")
    assert [problem["line"] for problem in caught.value.context["problems"]] == [6, 7]


def test_text_that_is_too_long_is_refused_without_a_line() -> None:
    with pytest.raises(BadManifest, match="1 MiB") as caught:
        manifest_from_yaml(b"#" * (1 << 20) + b"\n")
    assert caught.value.context["line"] == 0
    assert caught.value.remedy == "Correct plugin.yaml."


# --- seed 004's view ---------------------------------------------------------------------------------------------


def test_seed_004s_metadata_is_a_view_of_the_manifest(tmp_path: Any) -> None:
    file = tmp_path / "plugin.yaml"
    file.write_bytes(TEXT + b"supported_methods: [iv_sweep]\n")
    metadata = PluginMetadata.from_yaml(file)
    assert metadata.supported_methods == ["iv_sweep"]
    assert PluginMetadata.from_dict(metadata.to_dict()) == metadata
    assert list(metadata.to_dict()) == [
        *("name", "version", "author", "description", "min_platform_version", "max_platform_version"),
        *("supported_methods", "supported_models", "driver_class", "dependencies", "config_schema"),
    ]


def test_seed_004s_metadata_refuses_what_the_manifest_refuses() -> None:
    with pytest.raises(BadManifest):
        PluginMetadata.from_dict({"name": "x"})


def test_asking_at_ports_needs_the_permission_to() -> None:
    with pytest.raises(BadManifest, match=r"add permissions: \{probe: true\}") as caught:
        manifest_from_dict({**GOOD, "identify": [{"expect": "EBB"}]})
    assert caught.value.context["field"] == "permissions.probe"


def test_an_unknown_field_of_a_question_suggests_the_nearest_name() -> None:
    with pytest.raises(BadManifest, match="did you mean expect"):
        manifest_from_dict({**GOOD, "identify": [{"expects": "EBB"}]})
