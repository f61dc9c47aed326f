from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from vfab.model.errors import BadManifest
from vfab.model.events import DriverEvent
from vfab.model.manifest import manifest_from_dict
from vfab.model.plugins import DriverInfo, HasInfo, PluginProblem, PluginStatus, Shadowed

MANIFEST = manifest_from_dict(
    {"name": "a", "version": "1", "author": "me", "description": "d", "driver_class": "x.Y", "category": "sensor"}
)


def test_a_driver_read_from_the_index_is_the_one_read_from_its_file() -> None:
    fresh = DriverInfo(MANIFEST, "/p/a", "home")
    kept = DriverInfo.from_packed("a", "1", msgspec.msgpack.encode(MANIFEST), "/p/a", "home")
    assert (kept.name, kept.version) == ("a", "1")
    assert kept == fresh
    assert hash(kept) == hash(fresh)
    assert kept.manifest is kept.manifest
    assert (kept.category, kept.description) == ("sensor", "d")


def test_a_changed_driver_is_another_value() -> None:
    info = DriverInfo(MANIFEST, "/p/a", "home")
    broken = info.changed(status=PluginStatus.ERROR, problem="p", remedy="r", shadows=(Shadowed("0.9", "/q", "x"),))
    assert info.usable
    assert not broken.usable
    assert broken != info
    assert info != "a"
    plain = broken.to_dict()
    assert (plain["name"], plain["status"], plain["place"]) == ("a", "error", "home")
    assert plain["shadows"] == [{"version": "0.9", "folder": "/q", "place": "x"}]
    assert repr(broken) == "DriverInfo(a 1, /p/a, error)"


def test_a_driver_has_a_manifest() -> None:
    with pytest.raises(AssertionError):
        DriverInfo(None, "/p")


def test_a_problem_is_plain_data() -> None:
    problem = PluginProblem("/p", "home", BadManifest("m", context={"line": 2}, remedy="r"))
    assert problem.to_dict() == {
        "path": "/p",
        "place": "home",
        "code": "bad_manifest",
        "message": "m",
        "remedy": "r",
        "context": {"line": 2},
    }


def test_whatever_can_say_which_driver_it_is_counts() -> None:
    class Thing:
        def get_info(self) -> DriverInfo:
            return DriverInfo(MANIFEST, "/p")

    assert isinstance(Thing(), HasInfo)
    assert not isinstance("text", HasInfo)


def test_an_event_comes_from_the_driver_unless_it_says_otherwise() -> None:
    event = DriverEvent("log", datetime(2026, 1, 1, tzinfo=UTC), "a")
    assert (event.source, event.generation, event.data) == ("driver", 0, {})
