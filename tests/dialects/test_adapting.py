"""The driver made of an older plugin, in this process: how the author's classes are made, called and let go."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from vfab.dialects import names, read_plugins
from vfab.dialects.instrument_plugin import _visa_resource, adapt_class
from vfab.model.devices import SCANNED
from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DependencyError,
    DriverFailed,
    LinkLost,
    UnknownCommand,
)
from vfab.model.manifest import Manifest, manifest_from_dict
from vfab.sdk import BaseDriver, InstrumentDriver
from vfab.sdk.testing import DriverBench


@pytest.fixture(autouse=True)
def finders() -> Iterator[None]:
    """What a host's process may be told, this one forgets."""
    before = list(sys.meta_path)
    yield
    sys.meta_path[:] = before
    for name in names.MODULES:
        sys.modules.pop(name, None)


def load(path: Path, manifest: Manifest) -> type[BaseDriver]:
    """The driver class of a plugin file, as a host makes it."""

    def module() -> ModuleType:
        made = ModuleType(f"authors_{path.stem}")
        sys.modules[made.__name__] = made
        exec(compile(path.read_bytes(), str(path), "exec"), vars(made))
        return made

    cls: type[BaseDriver] = importlib.import_module(f"vfab.dialects.{manifest.runtime.dialect}").adapt(manifest, module)
    return cls


def bench(folder: Path, text: str, address: str = "", name: str = "p.py", **config: Any) -> DriverBench[Any]:
    """The only plugin in `text`, on a test bench."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    (manifest,) = read_plugins(str(path), path.read_bytes())
    return DriverBench(load(path, manifest), manifest, address, config=config)


PLUGIN = """
from vfab.dialects import DriverPlugin
import asyncio, collections
class P(DriverPlugin):
    def __init__(self):
        super().__init__("p", "1")
    def initialize(self, config):
        self.config = config
        return True
    def get_manager_class(self):
        return M
"""


def test_a_manager_may_be_asynchronous(tmp_path: Path) -> None:
    text = PLUGIN + textwrap.dedent("""
        class M:
            def __init__(self): self.on = False
            async def connect(self): self.on = True
            async def disconnect(self): self.on = False
            async def is_connected(self): return self.on
            async def test_connection(self): return self.on
            async def read(self, n: int = 1):
                if n > 9: raise ConnectionResetError("gone")
                return (n,)
        """)

    async def work(driver: Any) -> None:
        assert await driver.connect() is True and await driver.is_connected() is True
        assert await driver.test_connection() == {"details": {}, "success": True, "message": "the device works"}
        assert await driver.read(n=2) == [2]
        with pytest.raises(ConnectError, match="gone"):
            await driver.read(n=10)
        await driver.disconnect()

    with bench(tmp_path, text) as on_bench:
        driver = on_bench.driver
        assert driver.is_connected() is False and driver.disconnect() is None
        driver.initialize()
        asyncio.run(work(driver))
        driver._manager.disconnect = lambda: None


@pytest.mark.parametrize(
    ("signature", "seen"),
    [
        ("self, host='h', port=1", "['192.0.2.1', 23]"),
        ("self, host, *, port: int", "['192.0.2.1', 23]"),
        ("self, config", "[{'host': '192.0.2.1', 'port': 23}]"),
        ("self, config: Optional[PConfig] = None", "[PConfig(host='192.0.2.1', port=23)]"),
        ("self, options: 'no such name', host=None", "[{'host': '192.0.2.1', 'port': 23}, '192.0.2.1']"),
        ("self", "[]"),
        ("self, **options", "[{'host': '192.0.2.1', 'port': 23}]"),
    ],
)
def test_a_managers_constructor_gets_its_settings_as_it_asks_for_them(
    tmp_path: Path, signature: str, seen: str
) -> None:
    text = PLUGIN + textwrap.dedent(f"""
        from dataclasses import dataclass
        from typing import Optional
        @dataclass
        class PConfig:
            host: str = "localhost"
            port: int = 5025
        class M:
            def __init__({signature}):
                self.seen = repr([v for k, v in locals().items() if k != "self"])
            def connect(self): return True
            def disconnect(self): raise RuntimeError("says no at the end")
        """)
    with bench(tmp_path, text, "tcp://192.0.2.1:23") as on_bench:
        driver = on_bench.driver
        driver.initialize()
        assert driver._manager.seen == seen
        driver.connect()
        assert driver.is_connected() is True, "a manager that cannot say so is what its connect made it"
        assert driver.test_connection()["success"] is True
        assert driver.reset() is None
        driver.initialize()  # an earlier manager is let go of, whatever it says
        with pytest.raises(DriverFailed, match="says no at the end"):
            driver.disconnect()
        driver._manager.disconnect = lambda: None


def test_an_address_fills_only_the_settings_that_are_meant_for_one(tmp_path: Path) -> None:
    text = PLUGIN + textwrap.dedent("""
        class M:
            def __init__(self, port="/dev/ttyS0", speed=9600): self.seen = (port, speed)
            def connect(self): ...
            def disconnect(self): ...
        """)
    for address, expected in (
        ("/dev/ttyUSB7", "/dev/ttyUSB7"),
        ("tcp://h:1", "/dev/ttyS0"),
        ("GPIB0::1", "/dev/ttyS0"),
    ):
        with bench(tmp_path, text, address) as on_bench:
            on_bench.driver.initialize()
            assert on_bench.driver._manager.seen == (expected, 9600)
    with bench(tmp_path, text, "/dev/ttyUSB7", port="/dev/mine") as on_bench:
        on_bench.driver.initialize()
        assert on_bench.driver._manager.seen[0] == "/dev/mine"


def test_foreign_errors_of_a_serial_port_are_lost_links_and_meant_ones_are_refusals(tmp_path: Path) -> None:
    text = PLUGIN + textwrap.dedent("""
        class SerialException(IOError): ...
        class M:
            def connect(self): ...
            def disconnect(self): ...
            def unplug(self): raise SerialException("device reports readiness but returned no data")
            def choose(self, key): raise KeyError(key)
            def missing(self): import not_there_at_all
            def die(self): raise SystemExit(3)
            def reset(self): return "reset"
        """)
    with bench(tmp_path, text) as on_bench:
        driver = on_bench.driver
        driver.initialize()
        with pytest.raises(ConnectError, match="readiness"):
            driver.unplug()
        assert driver.reset() is None, "nothing is reset over a broken link"
        driver.initialize()
        driver.connect()
        assert driver.reset() == "reset"
        with pytest.raises(LinkLost, match="unplug: device reports readiness"):
            driver.unplug()
        with pytest.raises(DriverFailed, match=r"sys\.exit"):
            driver.die()
        with pytest.raises(ConfigurationError, match="choose: red"):
            driver.choose("red")
        with pytest.raises(DependencyError, match="not_there_at_all"):
            driver.missing()
        with pytest.raises(UnknownCommand):
            driver.call_method("connect")
        with pytest.raises(UnknownCommand):
            driver._forward("nothing", (), {})


def test_a_class_that_vanished_since_it_was_read_is_told(tmp_path: Path) -> None:
    samples = {
        "driver_plugin": ("p.py", "class P(DriverPlugin): ...", "with get_manager_class"),
        "function_contract": ("f.py", "def create_x_manager(): ...\ndef is_x_available(): ...", "has no function"),
        "drv_module": ("drv_x.py", "class D(BaseDeviceDriver): ...", "is not a BaseDeviceDriver"),
        "instrument_plugin": (
            "i.py",
            "@driver_plugin('i', '1', 'a', 'd', [], [])\nclass D(InstrumentDriver): ...",
            "does not implement the InstrumentDriver interface",
        ),
    }
    for dialect, (name, text, words) in samples.items():
        path = tmp_path / name
        (manifest,) = read_plugins(str(path), text.encode())
        assert manifest.runtime.dialect == dialect
        path.write_text("")
        with pytest.raises(DriverFailed, match=words):
            load(path, manifest)


def test_a_contract_without_one_of_its_functions_still_runs(tmp_path: Path) -> None:
    text = """
        def get_x_install_instructions():
            return "Install it"
        def create_x_manager(**kwargs):
            raise ImportError("the vendor's library")
        """
    with bench(tmp_path, text) as on_bench:
        assert on_bench.driver.is_available() is True
        with pytest.raises(DependencyError, match="the vendor's library") as caught:
            on_bench.driver.initialize()
        assert caught.value.remedy == "Install it"
    text = "def is_x_available(): return False\ndef create_x_manager(): ...\n"
    with bench(tmp_path, text, name="y.py") as on_bench, pytest.raises(DependencyError, match="not available here"):
        on_bench.driver.initialize()


def test_a_drv_modules_refusals_by_false_are_errors(tmp_path: Path) -> None:
    text = """
        from sat_toolkit.core.base_plugin import BaseDeviceDriver
        from sat_toolkit.models.Device_Model import Device
        class D(BaseDeviceDriver):
            def _scan_impl(self):
                if self.config.get("scan") == "fails": raise OSError("no bus")
                return [Device(device_id="d1", attributes={"host": "192.0.2.1", "port": 23})]
            def _initialize_impl(self, device): return self.config.get("initialize", True)
            def _connect_impl(self, device): return self.config.get("connect", True)
            def _reset_impl(self, device): return False
            def _command_impl(self, device, command, args=None): return (device.device_id, command, args)
            def _acquisition_loop(self): self.is_acquiring.wait()
        """
    with bench(tmp_path, text, "tcp://192.0.2.1:23", "drv_a.py") as on_bench:
        driver = on_bench.driver
        driver.disconnect()
        driver.initialize()
        assert driver.connect() is True and driver.test_connection()["success"] is True
        assert driver.execute_command("anything", {"a": 1}) == ["d1", "anything", {"a": 1}]
        assert driver.start_streaming() is True
        with pytest.raises(DriverFailed, match="_reset_impl returned False for d1"):
            driver.reset()
    with bench(tmp_path, text, "", "drv_a.py") as on_bench:
        on_bench.driver.initialize()
        assert on_bench.driver.connect() is True, "the only device there is"
    with bench(tmp_path, text, "/dev/ttyX", "drv_a.py", scan="fails", connect=False) as on_bench:
        on_bench.driver.initialize()
        found = on_bench.driver._found
        assert (found.device_id, found.attributes["port"]) == ("/dev/ttyX", "/dev/ttyX")
        with pytest.raises(ConnectError, match="_connect_impl returned False"):
            on_bench.driver.connect()
        on_bench.driver._is_broken = True
        on_bench.driver.reset()
    with bench(tmp_path, text, "", "drv_a.py") as on_bench:
        told = json.dumps({"host": "192.0.2.9", "port": 24})
        attributes = {"device_id": "d9", "device_type": "CAN", "host": "192.0.2.9", "port": "24", SCANNED: told}
        on_bench.driver.device = msgspec.structs.replace(on_bench.driver.device, attributes=attributes, name="Nine")
        on_bench.driver.initialize()
        found = on_bench.driver._found
        assert (found.device_id, found.name, found.device_type) == ("d9", "Nine", "CAN")
        assert found.attributes == {"host": "192.0.2.9", "port": 24}, "as an earlier scan told it"
    with bench(tmp_path, text, "x", "drv_a.py", initialize=False) as on_bench:
        refused = pytest.raises(DriverFailed, match="_initialize_impl returned False")
        with refused:
            on_bench.driver.initialize()


class Instrument(InstrumentDriver):
    """Does as it is told."""

    def __init__(self, resource_name: str, config: dict[str, Any] | None = None) -> None:
        self.resource_name, self.config = resource_name, config
        self.calls: list[str] = []
        self.fails = ""

    def _note(self, name: str) -> bool:
        self.calls.append(name)
        if self.fails == name:
            raise ConnectionError(f"{name} failed")
        return self.fails != f"no {name}"

    def connect(self) -> bool:
        return self._note("connect")

    def disconnect(self) -> bool:
        return self._note("disconnect")

    def reset(self) -> None:
        self._note("reset")

    def get_identity(self) -> dict[str, str]:
        return ["Maker"] if self.fails == "list" else {"model": "M", "serial": "1"}  # type: ignore[return-value]

    def get_capabilities(self) -> list[str]:
        return ["x"]

    def configure(self, method: str, params: dict[str, Any]) -> None:
        self._note("configure")

    def measure(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"method": method, **params}

    def abort(self) -> None:
        self._note("abort")

    def get_status(self) -> dict[str, Any]:
        return {}

    def output_on(self, volts: float) -> float:
        return volts


NATIVE = {
    "name": "i",
    "version": "1",
    "author": "a",
    "description": "d",
    "driver_class": "driver.Instrument",
    "commands": {"output-on": {"help": "on"}, "beep": {"help": "no method of the class"}},
}


def test_an_instrument_with_a_native_manifest_offers_that_manifests_commands() -> None:
    manifest = manifest_from_dict(NATIVE)
    with DriverBench(adapt_class(manifest, Instrument), manifest, "/dev/ttyUSB0") as on_bench:
        driver: Any = on_bench.driver
        assert driver.get_capabilities() == ["x"], "constructed when it is first needed"
        assert driver.test_connection()["success"] is False
        driver.reset()
        driver.connect()
        assert driver.test_connection()["message"] == "M 1"
        driver._instrument.fails = "list"
        assert driver.test_connection()["message"] == "['Maker']"
        assert driver.measure("x", '{"a": 1}', b=2) == {"method": "x", "a": 1, "b": 2}
        assert driver.output_on(2.5) == 2.5
        with pytest.raises(UnknownCommand, match="Instrument has no method 'beep'"):
            driver.beep()
        driver.reset()
        driver._instrument.fails = "configure"
        with pytest.raises(ConnectError, match="configure failed"):
            driver.configure("x")
        calls = driver._instrument.calls
        driver.reset()
        assert calls == ["connect", "reset", "configure", "disconnect"], "over a broken link it is only let go of"
        driver.initialize()
        driver.connect()
        driver._instrument.fails = "no disconnect"
        driver.initialize()
        driver._instrument.fails = "abort"
        driver._abort_quietly()


def test_addresses_become_visa_resources_for_drivers_that_use_pyvisa(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _visa_resource("tcp://[::1]:5025/") == "TCPIP0::::1::5025::SOCKET"
    assert _visa_resource("tcp://192.0.2.1:5025") == "TCPIP0::192.0.2.1::5025::SOCKET"
    assert _visa_resource("/dev/ttyUSB0") == "ASRL/dev/ttyUSB0::INSTR"
    assert _visa_resource("GPIB0::1::INSTR") == "GPIB0::1::INSTR"
    monkeypatch.setitem(sys.modules, "pyvisa", ModuleType("pyvisa"))
    manifest = manifest_from_dict(NATIVE)
    with DriverBench(adapt_class(manifest, Instrument), manifest, "/dev/ttyUSB0") as on_bench:
        driver: Any = on_bench.driver
        driver.initialize()
        assert driver._instrument.resource_name == "ASRL/dev/ttyUSB0::INSTR"


def test_an_instrument_of_the_documents_own_base_is_one_too_and_a_native_driver_stays_native(tmp_path: Path) -> None:
    path = tmp_path / "i.py"
    methods = [name for name, value in vars(Instrument).items() if inspect.isfunction(value) and name[0] != "_"]
    path.write_text(
        "class InstrumentDriver:\n    pass\nclass D(InstrumentDriver):\n    def __init__(self, r, c=None): pass\n"
        + "".join(f"    def {name}(self, *a): return True\n" for name in methods)
    )
    manifest = manifest_from_dict({**NATIVE, "driver_class": "i.D", "commands": {}})
    as_instrument = manifest_from_dict({**NATIVE, "driver_class": "i.D", "runtime": {"dialect": "instrument_plugin"}})
    assert manifest.runtime.dialect == "native"
    assert issubclass(load(path, as_instrument), BaseDriver)
    path.write_text("from vfab.sdk import BaseDriver\nclass D(BaseDriver): pass\n")
    assert load(path, as_instrument).__name__ == "D"


def test_a_node_that_is_not_there_is_no_defect_and_pydantics_refusal_is_a_line(tmp_path: Path) -> None:
    text = PLUGIN + textwrap.dedent("""
        from pydantic import BaseModel, field_validator
        class C(BaseModel):
            speed: int = 2
            @field_validator("speed")
            @classmethod
            def even(cls, value):
                if value % 2: raise ValueError("must be even")
                return value
        class M:
            def __init__(self, **options): C(**options)
            def connect(self): open("/dev/no-such-tty")
            def disconnect(self): ...
        """)
    with bench(tmp_path, text, "") as on_bench:
        on_bench.driver.initialize()
        with pytest.raises(ConnectError, match=r"connect: .*No such file or directory: '/dev/no-such-tty'"):
            on_bench.driver.connect()
    with bench(tmp_path, text, "", speed=3) as on_bench:
        with pytest.raises(ConfigurationError) as caught:
            on_bench.driver.initialize()
        assert caught.value.message.endswith(": speed: Value error, must be even")


def test_what_a_generator_yields_is_the_result_and_one_without_end_is_refused() -> None:
    from collections import deque
    from itertools import count

    from vfab.dialects.adapting import plain

    assert plain(value for value in (1, {2})) == [1, [2]]
    assert plain({"range": range(2), "last": deque([3])}) == {"range": [0, 1], "last": [3]}
    with pytest.raises(DriverFailed, match="goes on after 100000 values"):
        plain(value for value in count())
