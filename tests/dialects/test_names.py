"""What the documents name is there for a plugin, whichever module its author looks for it in."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pytest

from hosting import rig
from vfab.dialects.names import is_named
from vfab.dialects.neighbours import imported_names, unknown_imports
from vfab.kernel.loader import PluginLoader
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DependencyError, DriverError, DriverErrorType
from vfab.sdk.testing import defaults_of

LAMP = """
class LampManager:
    def connect(self):
        return True
    def disconnect(self):
        pass
    def is_connected(self):
        return True
    def test_connection(self):
        return {"success": True, "message": "shines"}

class LampPlugin(DriverPlugin):
    def __init__(self):
        super().__init__("lamp", "1")
    def initialize(self, config):
        return True
    def get_manager_class(self):
        return LampManager
"""

METER = """
class Meter(InstrumentDriver):
    def __init__(self, resource_name, config=None):
        pass
    def connect(self):
        return True
    def disconnect(self):
        return True
    def reset(self):
        pass
    def get_identity(self):
        return {"manufacturer": "m", "model": "M", "serial": "1", "firmware": "1"}
    def get_capabilities(self):
        return ["mean"]
    def configure(self, method, params):
        pass
    def measure(self, method, params):
        return {"mean": 0}
    def abort(self):
        pass
    def get_status(self):
        return {}
"""
DECORATED = (
    """
@driver_plugin(
    name="meter", version="1", author="a", description="d", supported_methods=["mean"], supported_models=["M"]
)"""
    + METER
)


def write(place: Path, **files: str) -> Path:
    for name, text in files.items():
        file = place / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return place


def connected(place: Path, name: str) -> dict[str, Any]:
    """Connect the plugin `name` in a host of its own; what its `test_connection` says."""
    (info,) = [info for info in PluginLoader().load_from_path(place) if info.name == name]

    async def work() -> dict[str, Any]:
        async with rig(place) as kernel:
            device = DeviceInfo(id="dev", bus="none", address="")
            used = kernel.supervisor.adopt(device, info.manifest, Path(info.folder), defaults_of(info.manifest))
            await used.connect()
            report: dict[str, Any] = await used.operate("test_connection")
            return report

    return asyncio.run(work())


@pytest.mark.parametrize(
    "line",
    [
        "from vfab import DriverPlugin",
        "from vfab.drivers import DriverPlugin, DriverError as Wrong",
        "from vfab.plugins import DriverPlugin",
        "from vfab.core.plugin_system import DriverPlugin, DriverErrorType",
        "from some_framework.base import DriverPlugin",
        "from .base import DriverPlugin",
    ],
)
def test_a_driver_plugin_runs_wherever_its_author_looks_for_the_base(tmp_path: Path, line: str) -> None:
    assert connected(write(tmp_path, lamp=line + LAMP), "lamp")["message"] == "shines"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("meter", "from app.drivers.plugin_manager import InstrumentDriver, driver_plugin"),
        ("lab__inner__meter", "from .plugin_manager import InstrumentDriver, driver_plugin"),
        ("meter", "from drivers import driver_plugin\nfrom vfab.kernel.base import InstrumentDriver"),
    ],
)
def test_an_instrument_runs_wherever_its_author_looks_for_the_base(tmp_path: Path, file: str, line: str) -> None:
    write(tmp_path, **{file: line + DECORATED})
    assert connected(tmp_path, "meter")["success"] is True


def test_files_beside_the_plugin_find_the_names_too_and_their_errors_are_vfabs(tmp_path: Path) -> None:
    write(
        tmp_path,
        failing="""
            from vfab.errors import DriverError, DriverErrorType
            def fail():
                raise DriverError("no lamp", DriverErrorType.CONNECTION_ERROR, "lamp", context={"socket": 3})
            """,
        lamp="from failing import fail\nfrom vfab.plugins import DriverPlugin"
        + LAMP.replace("return True", "return fail()", 1),
    )
    with pytest.raises(DriverError, match="no lamp") as caught:
        connected(tmp_path, "lamp")
    assert (caught.value.error_type, caught.value.context["socket"]) == (DriverErrorType.CONNECTION_ERROR, 3)


def test_a_module_that_is_there_is_the_one_that_is_used(tmp_path: Path) -> None:
    own = """
        class DriverPlugin:
            def __init__(self, name, version):
                print("the author's own")
            def shade(self):
                return "green"
        """
    shaded = LAMP.replace("return LampManager", "LampManager.colour = self.shade()\n        return LampManager")
    shaded = shaded.replace('"message": "shines"', '"message": self.colour')
    write(tmp_path, vendor_base=own, lamp="from vendor_base import DriverPlugin" + shaded)
    assert connected(tmp_path, "lamp")["message"] == "green"


def test_what_no_document_names_is_missing_and_told_before_anybody_runs_it(tmp_path: Path) -> None:
    write(tmp_path, lamp="from vfab.plugins import DriverPlugin, Wizard\nimport vfab.sdk\nimport nowhere.at.all" + LAMP)
    assert unknown_imports(str(tmp_path / "lamp.py")) == ("vfab.plugins", "nowhere")
    with pytest.raises(DependencyError, match=r"vfab\.plugins"):
        connected(tmp_path, "lamp")
    write(tmp_path, lamp="from vfab.plugins import DriverPlugin\nfrom sat_toolkit.odd import BaseDeviceDriver" + LAMP)
    assert unknown_imports(str(tmp_path / "lamp.py")) == ()


def test_imports_are_read_within_functions_too_and_a_name_for_nothing_is_none(tmp_path: Path) -> None:
    write(tmp_path, a="def f():\n    from x.y import One, Two\nfrom .b import Three", b="from x.y import Four")
    found = imported_names(str(tmp_path / "a.py"))
    assert found == {"x.y": {"One", "Two", "Four"}, ".b": {"Three"}}
    assert imported_names(str(tmp_path / "none.py")) == {}
    assert is_named(["DriverPlugin", "InstrumentDriver"])
    assert not is_named(["DriverPlugin", "One"])
    assert not is_named([])
