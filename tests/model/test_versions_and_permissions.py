from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.permissions import Permissions, destination_allows, parse_destination
from vfab.model.versions import PLATFORM_VERSION, check_platform, compare_versions, parse_version

texts = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)).map(lambda v: ".".join(map(str, v)))


@settings(deadline=None)
@given(texts, texts)
def test_comparing_versions_is_pep_440s_order(left: str, right: str) -> None:
    a, b = ([int(part) for part in text.split(".")] for text in (left, right))
    assert compare_versions(left, right) == (a > b) - (a < b)
    assert compare_versions(right, left) == -compare_versions(left, right)


@pytest.mark.parametrize(("left", "right"), [("2.0rc1", "2.0"), ("1.9", "1.10"), ("1.0.dev1", "1.0a1"), ("1", "1.0.1")])
def test_the_older_of_two_versions(left: str, right: str) -> None:
    assert compare_versions(left, right) == -1


def test_equal_versions_may_be_written_differently() -> None:
    assert compare_versions("1.0", "1.0.0") == 0


@pytest.mark.parametrize("text", ["", "one", "1.x", "v"])
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like 1\.2\.0"):
        parse_version(text)


def test_a_platform_within_the_limits_fits() -> None:
    assert check_platform("1.0.0", None).compatible
    assert check_platform(PLATFORM_VERSION, PLATFORM_VERSION).compatible


def test_a_platform_too_old_says_to_upgrade() -> None:
    result = check_platform("9", None, "1.0")
    assert (result.compatible, result.reason) == (False, "it needs platform 9 or newer and this vfab has 1.0")
    assert result.remedy.startswith("Upgrade vfab")


def test_a_platform_too_new_says_to_take_a_newer_plugin() -> None:
    result = check_platform("1.0", "1.5", "2.0")
    assert (result.compatible, result.remedy) == (False, "Install a newer version of the plugin.")
    assert "up to 1.5" in result.reason


# --- permissions -------------------------------------------------------------------------------------------------


def test_the_default_allows_nothing() -> None:
    nothing = Permissions()
    assert nothing.problems() == []
    assert not nothing.may_connect("tcp://127.0.0.1:23")
    assert not nothing.may_use_device("usb:04d8:fd92:1")


@pytest.mark.parametrize(
    ("pattern", "address", "within"),
    [
        ("tcp://192.0.2.0/24:23", "tcp://192.0.2.7:23", True),
        ("tcp://192.0.2.0/24:23", "tcp://192.0.3.7:23", False),
        ("tcp://192.0.2.0/24:23", "tcp://192.0.2.7:24", False),
        ("tcp://192.0.2.7", "tcp://192.0.2.7:9", True),
        ("tcp://192.0.2.7:*", "tcp://192.0.2.7:9", True),
        ("udp://192.0.2.7", "tcp://192.0.2.7:9", False),
        ("tcp://*.example.org:80", "tcp://a.example.org:80", True),
        ("tcp://*.example.org:80", "tcp://example.com:80", False),
        ("tcp://[2001:db8::]/32:5", "tcp://[2001:db8::1]:5", True),
        ("tcp://[2001:db8::1]:5", "tcp://[2001:db8::1]:5", True),
        ("nonsense", "tcp://a:1", False),
        ("tcp://a:1", "nonsense", False),
    ],
)
def test_a_destination_lies_within_what_is_allowed_or_does_not(pattern: str, address: str, within: bool) -> None:
    assert destination_allows(pattern, address) is within
    assert Permissions(connect=(pattern,)).may_connect(address) is within


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("192.0.2.1:5", "write it as scheme"),
        ("tcp://a:0", "not between 1 and 65535"),
        ("tcp://a:70000", "not between 1 and 65535"),
        ("tcp://a/99:5", "is not a network"),
    ],
)
def test_what_is_no_destination_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_destination(text)
    (problem,) = Permissions(connect=(text,)).problems()
    assert problem[0] == "permissions.connect[0]"


def test_a_device_is_allowed_by_its_ids_or_by_a_glob() -> None:
    some = Permissions(devices=("usb:04d8:fd92", "serial:*"))
    assert some.may_use_device("usb:04d8:fd92:1234")
    assert some.may_use_device("usb:04d8:fd92")
    assert some.may_use_device("serial:ttyS0")
    assert not some.may_use_device("usb:04d8:fd920")


def test_each_wrong_permission_is_named() -> None:
    wrong = Permissions(devices=("x",), files=("y", "read:$PLUGIN"), network="all")
    assert [field for field, _, _ in wrong.problems()] == [
        "permissions.files[0]",
        "permissions.devices[0]",
        "permissions.network",
    ]
