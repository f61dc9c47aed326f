"""Plugins in older shapes, used as a person uses them: vfab's detection knows nothing of their devices."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from apps.nodes import node_of
from apps.programs import Vfab
from vfab.apps.own_devices import named_device
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.errors import DeviceNotFound
from vfab.sdk.testing import soon

TICKER = """
    import time
    from sat_toolkit.core.base_plugin import BaseDeviceDriver
    from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
    from sat_toolkit.models.Device_Model import Device

    class TickerDriver(BaseDeviceDriver):
        def __init__(self):
            super().__init__()
            self.supported_commands = {"start": "Start", "stop": "Stop", "step": "Count in steps"}
            self.step = 1

        def _scan_impl(self):
            time.sleep(SCAN_S)
            return [Device(device_id="one", name="First"), Device(device_id="two", attributes={"slot": 2})]

        def _initialize_impl(self, device): return True
        def _connect_impl(self, device):
            self.device = device
            return True
        def _command_impl(self, device, command, args=None):
            if command == "start": self.start_streaming(device)
            if command == "stop": self.stop_streaming(device)
            if command == "step": self.step = int(args["by"])
            return f"{device.device_id} {device.attributes} {self.step}"
        def _reset_impl(self, device): return True
        def _close_impl(self, device): return True
        def _acquisition_loop(self):
            count = 0
            while self.is_acquiring.is_set():
                count += self.step
                self.stream_wrapper.broadcast_data(StreamData(
                    stream_type=StreamType.CUSTOM, channel=self.device.device_id, timestamp=time.time(),
                    source=StreamSource.SERVER, action=StreamAction.DATA, data=count))
                time.sleep(0.01)
"""
OVEN = """
    from pydantic import BaseModel, Field

    class OvenConfig(BaseModel):
        port: str | None = Field(None, description="Port")
        limit: float = Field(250.0, ge=50, le=300, description="Limit in degrees")

    def is_oven_available(): return True
    def get_oven_install_instructions(): return "pip install oven"
    def create_oven_manager(**kwargs): return OvenManager(OvenConfig(**kwargs))

    class OvenManager:
        def __init__(self, config): self.config, self.hot = config, None
        def connect(self):
            self.hot = 20.0
            return True
        def disconnect(self): self.hot = None
        def is_connected(self): return self.hot is not None
        def test_connection(self): return {"success": True, "message": f"oven at {self.config.port}", "details": {}}
        def heat(self, to: float):
            if to > self.config.limit: raise ValueError("too hot")
            return [self.config.port, to]
        def ramp(self, /, first: float, last: float):
            for degrees in (first, last): yield degrees
"""
METER = """
    from vfab.sdk import InstrumentDriver, driver_plugin

    @driver_plugin(name="meter", version="1.0.0", author="A", description="Meter", supported_methods=["mean"],
                   supported_models=["M1"])
    class Meter(InstrumentDriver):
        def __init__(self, resource_name, config=None): self.resource_name = resource_name
        def connect(self): return self.resource_name.startswith("BENCH")
        def disconnect(self): return True
        def reset(self): pass
        def get_identity(self): return {"manufacturer": "A", "model": "M1", "serial": "1", "firmware": "1"}
        def get_capabilities(self): return ["mean"]
        def configure(self, method, params): pass
        def measure(self, method, params): return {"mean": 4.5, "at": self.resource_name}
        def abort(self): pass
        def get_status(self): return {}
"""


@pytest.fixture
def drivers(tmp_path: Path) -> DriverRegistry:
    (tmp_path / "meter.py").write_text(textwrap.dedent(METER))
    return DriverRegistry(Places.only(tmp_path))


def placed(vfab: Vfab, **files: str) -> None:
    place = vfab.home / "home" / "plugins"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / f"{name}.py").write_text(textwrap.dedent(text))


def test_what_a_drv_module_scans_is_found_named_as_it_names_it_and_streamed(vfab: Vfab) -> None:
    placed(vfab, drv_ticker=TICKER.replace("SCAN_S", "0"))
    found: dict[str, Any] = {}

    def seen() -> bool:
        """A busy machine may take longer than a look around lasts."""
        found.update({d["id"]: d for d in vfab("device", "scan", "--kind", "drv_ticker", "--json").json["devices"]})
        return bool(found)

    soon(seen)
    assert set(found) == {"drv_ticker:one", "drv_ticker:two"}
    assert found["drv_ticker:one"]["name"] == "First"
    assert found["drv_ticker:two"]["drivers"] == ["drv_ticker"]
    sent = vfab("device", "send", "two", "step", "by=4", "--json")
    assert sent.json["result"] == "two {'slot': 2} 4"
    lines = vfab("stream", "drv_ticker:one", "--count", "2", "--format", "csv").out.splitlines()
    assert len(lines) == 3, lines
    refused = vfab("driver", "run", "drv_ticker", "step", "--by", "2")
    assert "drv_ticker:one" in refused.err and "--device" in refused.err
    assert "found one, two, and not three" in vfab("device", "connect", "drv_ticker:three").err


def test_a_scan_that_takes_longer_than_a_look_around_is_waited_for_when_its_device_is_named(vfab: Vfab) -> None:
    placed(vfab, drv_ticker=TICKER.replace("SCAN_S", "2"))
    assert "no answer after" in vfab("device", "scan").out
    connected = vfab("device", "connect", "two", "--json")
    assert connected.json["device"] == "drv_ticker:two"


def test_a_manager_opens_its_device_by_itself_unless_one_is_named(vfab: Vfab) -> None:
    placed(vfab, oven=OVEN)
    assert "opens by itself" in vfab("driver", "info", "oven").out
    assert vfab("driver", "run", "oven", "heat", "--to", "80", "--json").json["result"] == [None, 80.0]
    assert "too hot" in vfab("driver", "run", "oven", "heat", "--to", "80", "--set", "limit=60").err
    assert vfab("driver", "run", "oven", "ramp", "--first", "1", "--last", "2", "--json").json["result"] == [1.0, 2.0]
    named = vfab("driver", "run", "oven", "heat", "--to", "80", "--device", "COM3", "--json").json
    assert (named["device"], named["result"]) == ("oven:COM3", ["COM3", 80.0])
    assert vfab("device", "connect", "oven", "--json").json["result"]["message"] == "oven at None"
    tested = vfab("driver", "test", "oven")
    assert tested.code == 0, tested.out + tested.err
    assert "commands" in tested.out


def test_an_instrument_is_told_its_resource_by_name_or_by_a_setting(vfab: Vfab) -> None:
    placed(vfab, meter=METER)
    measured = vfab("measure", "mean", "--model", "M1", "--device", "BENCH::3", "--json")
    assert measured.json["result"]["at"] == "BENCH::3", measured.out + measured.err
    refused = vfab("driver", "run", "meter", "get-status")
    assert refused.code != 0
    assert "--device" in refused.err
    done = vfab("driver", "run", "meter", "get-identity", "--set", "resource_name=BENCH::4", "--json")
    assert done.json["result"]["model"] == "M1"


def test_files_below_plugins_import_each_other_also_in_a_confined_process(vfab: Vfab) -> None:
    folder = vfab.home / "place" / "plugins" / "devices" / "sums"
    folder.mkdir(parents=True)
    (folder / "beside.py").write_text("def double(value): return 2 * value\n")
    (folder.parent / "shared.py").write_text("UNIT = 'kg'\n")
    (folder / "drv_sums.py").write_text(
        textwrap.dedent("""
        import beside
        from plugins.devices.shared import UNIT
        from sat_toolkit.core.base_plugin import BaseDeviceDriver
        from sat_toolkit.core.stream_manager import StreamManager
        from sat_toolkit.models.Device_Model import Device

        class Sums(BaseDeviceDriver):
            supported_commands = dict(double="Double it")
            def _scan_impl(self): return [Device("s")]
            def _connect_impl(self, device): return True
            def _close_impl(self, device): return True
            def _command_impl(self, device, command, args=None):
                return f"{beside.double(int(args['value']))} {UNIT}"
        """)
    )
    vfab.env["VFAB_PLUGIN_PATH"] = str(vfab.home / "place")
    done = vfab("driver", "run", "drv_sums", "double", "--value", "4", "--json")
    assert done.code == 0, done.err
    assert done.json["result"] == "8 kg"


def test_what_is_called_by_an_address_after_the_drivers_name_is_the_device_at_it(drivers: DriverRegistry) -> None:
    named = lambda text: named_device(text, drivers.drivers)  # noqa: E731
    seen = [
        named(text)
        for text in ("meter", "meter:BENCH 3", "meter:GPIB0::9::INSTR", "meter:TCPIP0::h.local::5025::SOCKET")
    ]
    assert [(d and d.id, d and d.address) for d in seen] == [
        ("meter", ""),
        ("meter:BENCH 3", "BENCH 3"),
        ("visa:GPIB0::9::INSTR", "GPIB0::9::INSTR"),
        ("tcp:h.local:5025", "tcp://h.local:5025"),
    ]
    assert all(d is not None and d.drivers == ("meter",) and d.attributes["identified"] == "meter" for d in seen)
    with pytest.raises(DeviceNotFound, match="nothing is at /dev/not-here"):
        named("meter:/dev/not-here")


def test_an_instrument_that_nothing_finds_is_measured_once_its_resource_is_set(vfab: Vfab) -> None:
    placed(vfab, meter=METER)
    refused = vfab("measure", "mean", "--json").error
    assert "GPIB0::24::INSTR" in refused["remedy"]
    assert "vfab sim run" not in refused["remedy"], "there is none to be run"
    vfab.env["VFAB_METER_RESOURCE_NAME"] = "BENCH::5"
    assert vfab("measure", "mean", "--json").json["result"]["at"] == "BENCH::5"


@pytest.mark.slow
def test_a_node_keeps_such_devices_also_when_it_comes_back(vfab: Vfab) -> None:
    placed(vfab, oven=OVEN, drv_ticker=TICKER.replace("SCAN_S", "0"))
    node = node_of(vfab)
    node.up()
    assert vfab("device", "connect", "COM7", "--driver", "oven", "--json").json["device"] == "oven:COM7"
    assert vfab("device", "connect", "two", "--json").json["device"] == "drv_ticker:two"
    node.kill()
    node.up()
    assert vfab("device", "send", "oven:COM7", "heat", "to=50", "--json").json["result"] == ["COM7", 50.0]
    assert vfab("device", "send", "two", "step", "by=1", "--json").json["result"] == "two {'slot': 2} 1"
    assert vfab("device", "close", "oven:COM7", "--json").json["released"] is True
