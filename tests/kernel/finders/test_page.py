"""docs/detection.md tells the truth: kinds, settings and listings are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vfab.kernel.config_file import ConfigFile
from vfab.kernel.detection_settings import DETECTION_SCHEMA, DetectionSettings
from vfab.kernel.detector import default_detection
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.detection import DetectionHandler

PAGE = (Path(__file__).parents[3] / "docs" / "detection.md").read_text(encoding="utf-8")


def listings(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_kind_has_a_line_in_the_table(tmp_path: Path) -> None:
    kinds = {h.name for h in default_detection({"VFAB_HOME": str(tmp_path)}).handlers if not h.describes}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == kinds


def test_the_configuration_shows_every_setting(tmp_path: Path) -> None:
    (text,) = listings("yaml detection")
    (tmp_path / "config.yaml").write_text(text)
    said = DetectionSettings.of(ConfigFile(tmp_path / "config.yaml"))
    assert said.hosts
    shown = yaml.safe_load(text)["detection"]
    for name, schema in DETECTION_SCHEMA["properties"].items():
        assert set(schema.get("properties", ())) == (set(shown[name]) if isinstance(shown[name], dict) else set())


def test_the_fragments_of_manifests_are_valid() -> None:
    base = {"name": "a", "version": "1", "author": "b", "description": "c", "driver_class": "d.E"}
    fragments = listings("yaml manifest")
    assert len(fragments) == 2
    for text in fragments:
        manifest_from_dict({**base, **yaml.safe_load(text)})


def test_the_finder_finds_what_the_page_says() -> None:
    (text,) = listings("python finder")
    names: dict[str, type[DetectionHandler]] = {}
    exec(text, names)  # type: ignore[arg-type]
    finder = names["LabFinder"]("lab")
    with pytest.raises(NotImplementedError, match="only a plugin that vfab runs"):
        finder.detect()
    assert finder.is_compatible({"name": "Stage"})


def test_the_base_of_finders_finds_nothing_and_fits_everything() -> None:
    base = DetectionHandler("lab", 3)
    assert (base.name, base.priority) == ("lab", 3)
    assert base.is_compatible({})
    with pytest.raises(NotImplementedError):
        base.detect()
