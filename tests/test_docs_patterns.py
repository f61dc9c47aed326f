"""docs/patterns.md: every listing runs, and every name of seed 001 that it promises is there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import vfab.sdk
from hosting import rig

TEXT = (Path(__file__).parent.parent / "docs" / "patterns.md").read_text(encoding="utf-8")
LISTING = re.compile(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRELUDE = re.findall(r"^```python prelude\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[0]
DEVICE = re.findall(r"^```python device\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[0]
LISTINGS = dict(LISTING.findall(TEXT))


def run(code: str, name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(PRELUDE, "patterns.md, the manager", "exec"), names)
    exec(compile(code, f"patterns.md, {name}", "exec"), names)
    return names


def test_every_section_has_its_listing() -> None:
    assert len(LISTINGS) == TEXT.count("\n## ") - 1 == TEXT.count("```python\n")


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_runs(name: str) -> None:
    run(LISTINGS[name], name)


def test_the_listing_with_a_device_runs_on_a_real_one(tmp_path: Path) -> None:
    code = "\nclass D(BaseDriver):\n    @command\n    def temperature(self): return 21.5\n"

    async def main() -> None:
        async with rig(tmp_path) as r:
            states = await run(DEVICE, "device")["work"](r.adopt(code))
            assert "connected" in [state.value for state in states]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("EventManager", "subscribe unsubscribe emit get_recent_events event_history max_history"),
        ("ConnectionPool", "get_connection release_connection available in_use total_created"),
        ("DriverCache", "get set invalidate"),
        ("ErrorHandler", "handle_operation"),
        ("ConnectionRecovery", "connect_with_recovery"),
        ("DriverLifecycle", "add_state_listener initialize connect shutdown state"),
        ("ResourceManager", "register_resource cleanup_all resources"),
        ("DriverContext", "__enter__ __exit__ __aenter__ __aexit__"),
    ],
)
def test_the_sdk_has_the_names_of_seed_001(name: str, members: str) -> None:
    assert name in vfab.sdk.__all__
    assert f"`{name}`" in TEXT
    for member in members.split():
        assert hasattr(getattr(vfab.sdk, name), member), member


def test_a_name_that_the_sdk_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        vfab.sdk.nonsense  # noqa: B018
