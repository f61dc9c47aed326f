"""Requirements are judged as `packaging` judges them, without importing it where they are plain."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from vfab.sdk.requirements import installed_versions, missing_requirements

VERSIONS = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))


def test_every_distribution_is_found_as_importlib_finds_it() -> None:
    found = installed_versions()
    for one in distributions():
        name = one.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        assert found[name] == one.version


@given(installed=VERSIONS, least=VERSIONS)
def test_a_least_version_is_compared_as_packaging_compares_it(installed: str, least: str) -> None:
    from vfab.sdk.requirements import _is_met

    text = f"some_thing >= {least}"
    assert _is_met(text, {"some-thing": installed}) == Requirement(text).specifier.contains(installed)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("msgspec", True),
        ("MsgSpec>=0.1", True),
        ("msgspec>=999", False),
        ("msgspec[toml]>=0.1,<999", True),
        ("msgspec==0.1", False),
        ("no-such-package", False),
        ("no-such-package; python_version < '3'", True),
        ("json", True),  # no distribution, and yet it is there
        ("what is this", False),
        ("", False),
    ],
)
def test_what_is_not_met_is_told_as_it_is_written(text: str, met: bool) -> None:
    assert missing_requirements([text, "msgspec"]) == ([] if met else [text])


def test_versions_that_are_no_plain_numbers_are_judged_by_packaging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Odd.Name-2.0rc1.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert missing_requirements(["odd_name>=2", "odd-name>=1.9"]) == ["odd_name>=2"]


def test_plain_requirements_import_no_packaging() -> None:
    code = (
        "import sys; from vfab.sdk.requirements import missing_requirements as missing;"
        "assert missing(['msgspec>=0.1']) == []; assert not {'packaging', 'importlib.metadata'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
