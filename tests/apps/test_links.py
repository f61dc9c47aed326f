"""Communication links through the real command line: simulators are started, asked, and their streams shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from apps.programs import Vfab, processes_of
from vfab.sdk.testing import soon


def simulated(vfab: Vfab, name: str, *options: object) -> str:
    """The address of a simulator that `vfab sim run` started."""
    process = vfab.start("sim", "run", name, *options)
    line = process.stdout.readline()
    assert line, process.stderr.read()
    address = json.loads(line)["address"]
    assert isinstance(address, str)
    return address


def text_of(result: dict[str, Any]) -> str:
    return str(result["text"])


@pytest.mark.parametrize(
    ("driver", "options", "command", "answer"),
    [
        ("tcp", [], "*IDN?", "vfab,TCP simulator,0,1.0"),
        ("serial-link", [], "ECHO hello", "hello"),
        ("serial-link", ["--rfc2217"], "ECHO hello", "hello"),
        ("websocket-link", [], "hello", "hello"),
        ("modbus", [], "input 7 2", "7,8"),
        ("modbus", ["--rtu"], "input 7 2", "7,8"),
    ],
)
def test_a_simulated_device_is_asked_and_its_answer_shown(
    vfab: Vfab, driver: str, options: list[str], command: str, answer: str
) -> None:
    address = simulated(vfab, driver, *options)
    done = vfab("driver", "run", driver, "query", "--device", address, "--command", command, "--json")
    assert done.code == 0, done.err
    assert text_of(done.json["result"]) == answer
    sent = vfab("device", "send", address, "query", f"command={command}", "--driver", driver, "--json")
    assert text_of(sent.json["result"]) == answer
    soon(lambda: not hosts_of(vfab))


def hosts_of(vfab: Vfab) -> list[int]:
    """Processes that are left besides the simulators."""
    ours = {process.pid for process in vfab.started}
    return [pid for pid in processes_of(vfab.home / "home") if pid not in ours]


def test_registers_are_written_and_read_by_their_options(vfab: Vfab) -> None:
    address = simulated(vfab, "modbus")

    def modbus(*words: object) -> Any:
        done = vfab("driver", "run", "modbus", *words, "--device", address, "--json")
        assert done.code == 0, done.err
        return done.json["result"]

    modbus("write-registers", "--address", 4, "--values", "2.5,-1", "--type", "float32")
    assert modbus("read-holding", "--address", 4, "--count", 2, "--type", "float32") == [2.5, -1.0]
    refused = vfab("driver", "run", "modbus", "read-holding", "--address", 5000, "--device", address, "--json")
    assert refused.code != 0
    assert refused.error["code"] == "refused"
    assert "40001" in refused.error["remedy"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda vfab: vfab("driver", "run", "socketcan", "scan", "--json"), '"result"'),
        (lambda vfab: vfab("driver", "info", "mqtt"), "publish"),
        (lambda vfab: vfab("driver", "info", "ble"), "characteristic"),
    ],
)
def test_drivers_without_a_device_tell_what_they_can(vfab: Vfab, call: Callable[[Vfab], Any], says: str) -> None:
    done = call(vfab)
    assert done.code == 0, done.err
    assert says in done.out


def test_polled_registers_are_streamed(vfab: Vfab) -> None:
    address = simulated(vfab, "modbus")
    done = vfab(
        "stream", address, "--driver", "modbus", "--count", 3, "--set", "poll_s=0.05", "--set", 'poll=["input 7 2"]',
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert '"input 7 2"' in done.out


@pytest.mark.parametrize("address", ["can://udp_multicast/239.74.163.2", "ble://C4:BE:84:00:00:01"])
def test_an_address_of_a_drivers_own_library_is_a_device(vfab: Vfab, address: str) -> None:
    driver = "socketcan" if address.startswith("can") else "ble"
    done = vfab("driver", "run", driver, "status", "--device", address, "--json")
    assert done.code == 0, done.err
    assert done.json["result"]["state"] == "disconnected"
