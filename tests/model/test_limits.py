"""What a driver's process may use: the manifest's figures, and settings that change them."""

from __future__ import annotations

from typing import Any

import pytest

from vfab.model.errors import BadManifest
from vfab.model.limits import Limits, limits_and_settings, settings_schema
from vfab.model.manifest import manifest_from_dict
from vfab.model.settings import faults, leaves

MANIFEST = {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "driver.D"}


def with_limits(**limits: Any) -> dict[str, Any]:
    return {**MANIFEST, "runtime": {"limits": limits}}


def test_a_manifest_says_what_its_driver_needs_and_the_rest_is_usual() -> None:
    limits = manifest_from_dict(with_limits(memory_mb=300, threads=0)).runtime.limits
    assert (limits.memory_mb, limits.threads, limits.open_files) == (300, 0, Limits().open_files)


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"memory": 3}, "runtime.limits.memory"),
        ({"memory_mb": -1}, "runtime.limits.memory_mb"),
        ({"threads": 1.5}, "runtime.limits.threads"),
        ({"cpu_window_s": 0}, "runtime.limits.cpu_window_s"),
        ({"warn_share": 2}, "runtime.limits.warn_share"),
    ],
)
def test_a_wrong_limit_in_a_manifest_is_named(limits: dict[str, Any], field: str) -> None:
    with pytest.raises(BadManifest) as caught:
        manifest_from_dict(with_limits(**limits))
    assert caught.value.context["field"] == field


def test_every_limit_is_a_setting_with_the_manifests_figure_as_default() -> None:
    own = {"type": "object", "additionalProperties": False, "properties": {"port": {"type": "string"}}}
    schema = settings_schema(own, Limits(memory_mb=300))
    fields = dict(leaves(schema))
    assert next(iter(fields)) == "port"
    assert {name.removeprefix("runtime.limits.") for name in fields if name != "port"} == set(Limits.__struct_fields__)
    assert fields["runtime.limits.memory_mb"]["default"] == 300
    assert faults(schema, {"runtime": {"limits": {"memory_mb": -1}}})
    assert faults(schema, {"runtime": {"limits": {"memory": 1}}})
    assert not faults(schema, {"port": "x", "runtime": {"limits": {"threads": 3}}})
    assert own["properties"] == {"port": {"type": "string"}}, "the driver's own schema is left as it was"


def test_settings_change_the_limits_and_are_not_given_to_the_driver() -> None:
    config = {"port": "x", "runtime": {"limits": {"memory_mb": 200}}}
    limits, own = limits_and_settings(None, Limits(threads=9), config)
    assert (limits, own) == (Limits(memory_mb=200, threads=9), {"port": "x"})
    assert limits_and_settings(None, Limits(threads=9), {"a": 1}) == (Limits(threads=9), {"a": 1})
    assert "runtime" in config


def test_a_driver_that_has_a_setting_of_that_name_keeps_it() -> None:
    own = {"type": "object", "properties": {"runtime": {"type": "string"}}}
    assert settings_schema(own, Limits()) == own
    assert limits_and_settings(own, Limits(), {"runtime": "x"}) == (Limits(), {"runtime": "x"})
