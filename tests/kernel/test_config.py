from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfab.kernel.config import MASK, ConfigurationManager, env_prefix
from vfab.kernel.config_document import Configuration, disabled_drivers
from vfab.kernel.config_file import ConfigFile
from vfab.model.errors import ConfigurationError, DriverNotFound
from vfab.model.yamltext import parse_yaml

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "port": {"type": ["string", "null"], "default": None, "description": "where it is"},
        "speed": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000},
        "auto_connect": {"type": "boolean", "default": False},
        "colours": {"type": "array", "items": {"type": "string"}},
        "pen": {
            "type": "object",
            "properties": {
                "up_mm": {"type": "number", "default": 5.0, "minimum": 0},
                "angles": {"type": "object", "properties": {"down": {"type": "integer", "default": 30}}},
            },
        },
        "password": {"type": "string", "format": "password", "maxLength": 8},
    },
}
TEXT = """\
# settings of this bench
device:
  axidraw:  # the plotter
    port: /dev/ttyACM0  # left one
    speed: 2000
    pen:
      up_mm: 3

  other:
    x: 1
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile.of({"VFAB_HOME": str(tmp_path)})


def write(file: ConfigFile, text: str) -> ConfigFile:
    file.path.write_text(text, encoding="utf-8")
    file.path.chmod(0o600)
    file.reload()
    return file


def manager(file: ConfigFile, cli: dict[str, Any] | None = None, **env: Any) -> ConfigurationManager:
    return ConfigurationManager(
        "axidraw", SCHEMA, file=file, env=env, cli=cli, other_drivers=["axidraw", "axidraw_mini"]
    )


def whole(file: ConfigFile, **env: str) -> Configuration:
    return Configuration(file, env, {"axidraw": SCHEMA, "other": None})


# --- which source wins -------------------------------------------------------------------------------------------


def test_the_sources_win_in_order_and_each_value_says_where_it_came_from(file: ConfigFile) -> None:
    write(file, TEXT)
    config = manager(file, {"pen.up_mm": "4"}, VFAB_AXIDRAW_SPEED="7", VFAB_AXIDRAW_PEN__UP_MM="9").resolve()
    assert {field: (value.value, value.source) for field, value in config.values.items()} == {
        "port": ("/dev/ttyACM0", "config.yaml line 4"),
        "speed": (7, "env VFAB_AXIDRAW_SPEED"),
        "auto_connect": (False, "default"),
        "colours": (None, "unset"),
        "pen.up_mm": (4.0, "cli"),
        "pen.angles.down": (30, "default"),
        "password": (None, "unset"),
    }
    assert config["speed"] == 7
    assert config.to_dict() == {
        "port": "/dev/ttyACM0",
        "speed": 7,
        "auto_connect": False,
        "pen": {"up_mm": 4.0, "angles": {"down": 30}},
    }


@given(present=st.lists(st.booleans(), min_size=3, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_highest_source_that_gives_a_value_wins(file: ConfigFile, present: list[bool]) -> None:
    in_file, in_env, in_cli = present
    write(file, "device: {axidraw: {speed: 1}}" if in_file else "")
    env = {"VFAB_AXIDRAW_SPEED": "2"} if in_env else {}
    value = manager(file, {"speed": 3} if in_cli else None, **env).get_config()["speed"]
    assert value == (3 if in_cli else 2 if in_env else 1 if in_file else 1000)


def test_without_any_source_the_defaults_of_the_schema_hold(file: ConfigFile) -> None:
    assert manager(file).get_config()["speed"] == 1000
    assert ConfigurationManager("x", None, file=file, env={}).get_config() == {}


def test_the_command_line_takes_nested_values_dashes_and_typed_values(file: ConfigFile) -> None:
    cli = {"pen": {"angles": {"down": "12"}}, "auto-connect": "yes", "speed": 5, "port": None, "pen__up_mm": "1"}
    config = manager(file, cli).get_config()
    assert (config["pen"], config["auto_connect"], config["speed"]) == ({"up_mm": 1.0, "angles": {"down": 12}}, True, 5)
    assert config["port"] is None


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("VFAB_AXIDRAW_PORT", "5", "port", "5"),
        ("vfab_axidraw_port", "true", "port", "true"),
        ("VFAB_AXIDRAW_PORT", "null", "port", None),
        ("VFAB_AXIDRAW_AUTO_CONNECT", "ON", "auto_connect", True),
        ("VFAB_AXIDRAW_COLOURS", "red, blue", "colours", ["red", "blue"]),
        ("VFAB_AXIDRAW_PEN__ANGLES__DOWN", "8", "pen.angles.down", 8),
        ("VFAB_AXIDRAW_SPEED", "", "speed", 1000),
    ],
)
def test_a_variable_is_read_by_the_type_of_its_field(
    file: ConfigFile, name: str, text: str, field: str, value: Any
) -> None:
    got = manager(file, None, **{name: text}).resolve()[field]
    assert (got, type(got)) == (value, type(value))


def test_variables_of_vfab_and_of_a_driver_with_a_longer_name_are_left_alone(file: ConfigFile) -> None:
    manager(file, VFAB_AXIDRAW_MINI_SPEED="1", VFAB_HOME="/x", OTHER="1").resolve()
    plugin = ConfigurationManager("plugin", {}, file=file, env={"VFAB_PLUGIN_PATH": "/x"})
    assert plugin.problems() == []
    assert env_prefix("my-driver.2") == "VFAB_MY_DRIVER_2_"


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "field", "words"),
    [
        ("device:\n  axidraw:\n    speed: 20000\n", 3, "speed", "a whole number from 1 to 10000"),
        ("device:\n  axidraw:\n    speed: fast\n", 3, "speed", "found 'fast'"),
        ("device:\n  axidraw:\n    port: 5\n", 3, "port", 'put it in quotes: "5"'),
        ("device:\n  axidraw:\n    sped: 5\n", 3, "sped", "did you mean speed?"),
        ("device:\n  axidraw:\n    pen:\n      up: 5\n", 4, "pen.up", "did you mean"),
        ("device:\n  axidraw:\n    pen: 5\n", 3, "pen", "a mapping with pen.up_mm, pen.angles.down"),
        ("device:\n  axidraw: 5\n", 2, "", "a mapping: names"),
        ("device:\n  axidraw:\n    colours:\n      - red\n      - 5\n", 5, "colours[1]", "a text"),
    ],
)
def test_a_wrong_value_in_the_file_is_told_with_its_line(
    file: ConfigFile, text: str, line: int, field: str, words: str
) -> None:
    write(file, text)
    with pytest.raises(ConfigurationError) as caught:
        manager(file).resolve()
    error = caught.value
    assert error.context["file"] == str(file.path)
    assert error.context["line"] == line
    assert error.context["field"] == ("device.axidraw." + field).rstrip(".")
    assert f"{file.path}:{line}: " in error.message
    assert words in error.message
    assert error.remedy


@pytest.mark.parametrize(
    ("env", "field", "words"),
    [
        ({"VFAB_AXIDRAW_SPEED": "0"}, "speed", "found 0; a whole number from 1 to 10000"),
        ({"VFAB_AXIDRAW_SPEED": "fast"}, "speed", "found 'fast'; a whole number"),
        ({"VFAB_AXIDRAW_SPED": "1"}, "", "did you mean VFAB_AXIDRAW_SPEED"),
        ({"VFAB_AXIDRAW_PASSWORD": "far too long a secret"}, "password", "found a secret value"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(file: ConfigFile, env: dict[str, str], field: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        manager(file, None, **env).resolve()
    (name,) = env
    assert (caught.value.context["variable"], caught.value.context["field"]) == (name, field)
    assert words in caught.value.message
    assert "far too long" not in str(caught.value.to_dict())
    assert f"environment variable {name}" in caught.value.remedy


@pytest.mark.parametrize(
    ("cli", "option", "words"),
    [
        ({"speed": "x"}, "--speed", "a whole number from 1 to 10000"),
        ({"speed": 0}, "--speed", "found 0"),
        ({"auto-conect": "1"}, "--auto-conect", "did you mean auto_connect?"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(file: ConfigFile, cli: dict[str, Any], option: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=r".") as caught:
        manager(file, cli).resolve()
    assert caught.value.context["option"] == option
    assert words in caught.value.message


def test_all_problems_are_told_together(file: ConfigFile) -> None:
    bad = manager(file, {"speed": "x"}, VFAB_AXIDRAW_SPED="1")
    assert len(bad.problems()) == 2
    with pytest.raises(ConfigurationError) as caught:
        bad.resolve()
    assert len(caught.value.context["problems"]) == 2


def test_a_required_setting_that_nobody_gave_says_how_to_give_it(file: ConfigFile) -> None:
    schema = {"type": "object", "properties": {"host": {"type": "string"}}, "required": ["host"]}
    with pytest.raises(ConfigurationError, match="it is required: a text") as caught:
        ConfigurationManager("cam", schema, file=file, env={}).resolve()
    assert "VFAB_CAM_HOST" in caught.value.remedy
    assert "vfab config set cam host" in caught.value.remedy


def test_a_rule_over_several_settings_is_checked_and_shows_no_secret(file: ConfigFile) -> None:
    schema = {**SCHEMA, "dependentRequired": {"password": ["colours"]}}
    env = {"VFAB_AXIDRAW_PASSWORD": "hunter2"}
    with pytest.raises(ConfigurationError) as caught:
        ConfigurationManager("axidraw", schema, file=file, env=env).resolve()
    assert "colours" in caught.value.message
    assert "hunter2" not in str(caught.value.to_dict())
    assert "config schema --driver axidraw" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device: [1\n", ":2: found text that is not YAML"),
        ("a: 1\na: 2\n", ":2: found the key 'a' a second time"),
        ("- 1\n", "found a list"),
        ("device: 5\n", ":1: device: found 5; a mapping"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_refused(file: ConfigFile, text: str, words: str) -> None:
    write(file, text)
    (problem, *_) = manager(file).problems()
    assert words in problem.message
    with pytest.raises(ConfigurationError):
        manager(file).resolve()


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        _ = ConfigFile(tmp_path / "config.yaml").data


def test_empty_sections_are_no_settings(file: ConfigFile) -> None:
    for text in ("", "device:\n", "device:\n  axidraw:\n", "device:\n  axidraw:\n    pen:\n"):
        write(file, text)
        assert manager(file).get_config()["speed"] == 1000


# --- show --------------------------------------------------------------------------------------------------------


def test_a_secret_is_masked_wherever_it_is_shown(file: ConfigFile) -> None:
    write(file, "device: {axidraw: {password: hunter2}}")
    config = whole(file).resolve("axidraw")
    assert config.to_dict()["password"] == "hunter2"
    shown = {row["field"]: row for row in config.show()}
    assert (shown["password"]["value"], shown["password"]["secret"]) == (MASK, True)
    assert shown["port"]["value"] is None
    assert shown["speed"]["allowed"] == "a whole number from 1 to 10000"
    assert shown["port"]["description"] == "where it is"


# --- set ---------------------------------------------------------------------------------------------------------


def test_setting_a_value_keeps_everything_else_with_its_comments(file: ConfigFile) -> None:
    write(file, TEXT)
    config = whole(file)
    done = config.set_value("axidraw", "speed", "1500")
    assert (done.value, done.source) == (1500, "config.yaml line 5")
    after = file.path.read_text(encoding="utf-8")
    assert after == TEXT.replace("speed: 2000", "speed: 1500")
    config.set_value("axidraw", "pen.angles.down", 10)
    text = file.path.read_text(encoding="utf-8")
    assert all(comment in text for comment in ("# settings of this bench", "# the plotter", "# left one"))
    assert config.resolve("axidraw").to_dict()["pen"] == {"up_mm": 3, "angles": {"down": 10}}


@pytest.mark.parametrize("text", ["", "# nothing yet", "device:\n", "device:\n  axidraw:\n"])
def test_the_first_value_makes_its_sections(file: ConfigFile, text: str) -> None:
    if text:
        write(file, text)
    whole(file).set_value("axidraw", "pen.up_mm", "2.5")
    assert file.data == {"device": {"axidraw": {"pen": {"up_mm": 2.5}}}}
    assert file.path.read_text(encoding="utf-8").startswith(text.partition("\n")[0])
    assert file.path.stat().st_mode & 0o777 == 0o600


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Co", "Cn"]), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_every_text_that_is_set_is_read_back(file: ConfigFile, text: str) -> None:
    file.set(["device", "axidraw", "port"], text)
    assert parse_yaml(file.path.read_bytes()) == {"device": {"axidraw": {"port": text}}}


@pytest.mark.parametrize("word", ["yes", "0403", "null", "1e3", "~", "2024-01-01", "a: b", "# no", "'"])
def test_texts_that_look_like_something_else_stay_texts(file: ConfigFile, word: str) -> None:
    file.set(["device", "axidraw", "colours"], [word])
    assert parse_yaml(file.path.read_bytes())["device"]["axidraw"]["colours"] == [word]


def test_mappings_can_be_set(file: ConfigFile) -> None:
    file.set(["a"], {"b": ["yes", 1]})
    assert file.data == {"a": {"b": ["yes", 1]}}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("speed", "0", "found 0; a whole number from 1 to 10000"),
        ("speed", "x", "found 'x'"),
        ("sped", "1", "did you mean speed?"),
        ("pen", "1", "an unknown field"),
        ("password", "much too long", "a secret value"),
    ],
)
def test_a_wrong_value_is_not_written(file: ConfigFile, field: str, value: str, words: str) -> None:
    write(file, TEXT)
    with pytest.raises(ConfigurationError, match=r".") as caught:
        whole(file).set_value("axidraw", field, value)
    assert words in caught.value.message
    assert "much too long" not in str(caught.value.to_dict())
    assert file.path.read_text(encoding="utf-8") == TEXT


def test_a_broken_file_is_not_changed(file: ConfigFile) -> None:
    for text in ("device: [1\n", "device: 5\n"):
        write(file, text)
        with pytest.raises(ConfigurationError):
            whole(file).set_value("axidraw", "speed", 5)
        assert file.path.read_text(encoding="utf-8") == text


def test_a_change_that_would_touch_something_else_is_refused(file: ConfigFile) -> None:
    text = "since: 2024-01-01 5:00:00 -5\nport: x\n"
    write(file, text)
    with pytest.raises(ConfigurationError, match="cannot be edited by program; edit it by hand"):
        file.set(["port"], "y")
    assert file.path.read_text(encoding="utf-8") == text


def test_numbers_as_yaml_1_1_writes_them_stay_as_they_are(file: ConfigFile) -> None:
    write(file, "device:\n  axidraw: {port: 017}\nmode: 0o17\nbig: 1_000\n")
    file.set(["device", "axidraw", "speed"], 5)
    assert file.data == {"device": {"axidraw": {"port": 15, "speed": 5}}, "mode": "0o17", "big": 1000}


def test_a_value_can_be_taken_out_again(file: ConfigFile) -> None:
    write(file, TEXT)
    config = whole(file)
    assert config.unset_value("axidraw", "speed")
    assert not config.unset_value("axidraw", "speed")
    assert config.resolve("axidraw")["speed"] == 1000
    with pytest.raises(ConfigurationError, match="unknown field"):
        config.unset_value("axidraw", "nothing")


def test_the_mode_of_the_file_and_a_link_to_it_stay(file: ConfigFile, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    real.write_text(TEXT, encoding="utf-8")
    real.chmod(0o640)
    file.path.symlink_to(real)
    whole(file).set_value("axidraw", "speed", 5)
    assert file.path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "speed: 5" in real.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".config.yaml.lock", "config.yaml", "dotfiles.yaml"]


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def work(number: int) -> None:
        ConfigFile(tmp_path / "config.yaml").set(["device", f"d{number}"], {"x": number})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ConfigFile(tmp_path / "config.yaml").section("device") == {f"d{n}": {"x": n} for n in range(6)}


# --- the whole document ------------------------------------------------------------------------------------------


def test_check_tells_everything_that_is_wrong(file: ConfigFile) -> None:
    write(file, "device:\n  axidraw: {sped: 1}\n  axidrw: {}\ndevic: 1\ndrivers: {disabled: axidraw}\n")
    told = [(error.context.get("line"), error.message.partition(": ")[2]) for error in whole(file).check()]
    assert told == [
        (4, "devic: found an unknown section; did you mean device?"),
        (5, "drivers.disabled: found 'axidraw'; a list"),
        (3, "device.axidrw: found the settings of a driver that is not there; did you mean axidraw?"),
        (2, "device.axidraw.sped: found an unknown field; did you mean speed?"),
    ]
    assert whole(write(file, "device: {axidraw: {speed: 5}}")).check() == []
    assert "VFAB_AXIDRAW_SPEED" in whole(file, VFAB_AXIDRAW_SPEED="x").check()[0].message


@pytest.mark.parametrize("text", ["device: 5\n", "device: [\n"])
def test_check_of_a_broken_file_tells_that(file: ConfigFile, text: str) -> None:
    assert whole(write(file, text)).check()


def test_check_tells_of_a_secret_that_others_can_read(file: ConfigFile) -> None:
    write(file, "device: {axidraw: {password: hunter2}, other: 5}")
    assert len(whole(file).check()) == 1
    file.path.chmod(0o644)
    assert any(error.remedy == f"Run: chmod 600 {file.path}" for error in whole(file).check())


def test_check_of_no_file_is_fine(file: ConfigFile) -> None:
    assert whole(file).check() == []
    assert not file.is_readable_by_others()


def test_the_schema_of_the_document_is_composed_from_the_drivers(file: ConfigFile) -> None:
    from jsonschema import Draft202012Validator

    config = Configuration(file, {}, {"axidraw": SCHEMA, "other": None}, sections={"node": {"type": "object"}})
    schema = config.schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"device": {"axidraw": {"speed": 5}, "other": {"x": 1}}, "drivers": {"disabled": ["a"]}})
    assert not validator.is_valid({"device": {"axidraw": {"speed": 0}}})
    assert not validator.is_valid({"device": {"nobody": {}}})
    assert config.schema("axidraw") == SCHEMA
    assert config.schema("other") == {"type": "object", "properties": {}}
    assert "node" in schema["properties"]


def test_a_driver_that_is_not_there_is_refused(file: ConfigFile) -> None:
    for ask in (whole(file).schema, whole(file).resolve):
        with pytest.raises(DriverNotFound, match="did you mean axidraw"):
            ask("axidrw")


def test_drivers_can_be_switched_off(file: ConfigFile) -> None:
    assert disabled_drivers(file) == frozenset()
    assert disabled_drivers(write(file, "drivers: {disabled: [a, b]}")) == {"a", "b"}
    with pytest.raises(ConfigurationError, match="a list"):
        disabled_drivers(write(file, "drivers: {disabled: a}"))


def test_lines_are_known_without_asking_for_the_data_first(file: ConfigFile) -> None:
    write(file, TEXT)
    assert file.line("device.axidraw.speed") == 5
    assert file.where("nothing") == "config.yaml"
    assert file.section("device", "nobody", "deeper") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        ConfigFile(tmp_path / "config.yaml").set(["a"], 1)


def test_a_schema_that_says_it_is_not_all_allows_further_names_from_anywhere(file: ConfigFile) -> None:
    schema = {
        "type": "object",
        "additionalProperties": True,
        "properties": {"host": {"type": "string", "default": "h"}, "pen": {"properties": {"up": {"type": "number"}}}},
    }

    def made(text: str) -> ConfigurationManager:
        return ConfigurationManager("p", schema, file=write(file, text), env={}, cli={"label": "x"})

    with pytest.raises(ConfigurationError, match="a mapping with"):
        made("device:\n  p:\n    channels: 2\n    pen: 5\n").get_config()
    config = made("device:\n  p:\n    channels: 2\n").get_config()
    assert (config["host"], config["channels"], config["label"]) == ("h", 2, "x")
