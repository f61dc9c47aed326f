"""Sensors on the real command line: a simulated receiver and a simulated converter."""

from __future__ import annotations

import json
import math

from apps.programs import Vfab


def simulator(vfab: Vfab, name: str, *options: object) -> str:
    process = vfab.start("sim", "run", name, *options)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    return str(json.loads(line)["address"])


def test_a_receiver_is_found_read_and_described(vfab: Vfab) -> None:
    simulator(vfab, "nmea-gps", "--rate", 10)
    found = vfab("device", "scan", "--json").json["devices"]
    (device,) = [device for device in found if device["id"].startswith("sim:nmea-gps")]
    assert device["drivers"][0] == "nmea-gps"
    reading = vfab("device", "send", device["id"], "read", "--json").json["result"]
    assert reading["units"]["latitude"] == "deg"
    assert math.hypot(reading["values"]["latitude"] - 48.137154, reading["values"]["longitude"] - 11.576124) < 0.01
    assert reading["status"] == "good"
    assert reading["uncertainties"]["altitude"] > 0
    raw = vfab("device", "send", device["id"], "raw", "--json").json["result"]
    assert raw["quality"] == 1
    info = vfab("device", "send", device["id"], "info", "--json").json["result"]
    assert {quantity["name"]: quantity["unit"] for quantity in info["quantities"]}["speed"] == "m/s"
    people = vfab("device", "send", device["id"], "read").out
    assert "latitude: 48." in people


def test_the_commands_of_a_sensor_take_their_parameters(vfab: Vfab) -> None:
    address = simulator(vfab, "iio")
    told = ("--device", address, "--json")
    assert (
        vfab("driver", "run", "iio", "threshold", "--threshold", 1, "--quantity", "temp", *told).json["result"] is True
    )
    done = vfab("driver", "run", "iio", "calibrate", "--reference", 20, "--quantity", "pressure", *told).json["result"]
    assert (done["quantity"], done["unit"], done["stored"]) == ("pressure", "Pa", True)
    again = vfab("driver", "run", "iio", "read", *told).json["result"]
    assert again["values"]["pressure"] == 20.0, "the calibration outlives the driver"
    cleared = vfab("driver", "run", "iio", "calibrate", "--point", "clear", "--quantity", "pressure", *told)
    assert cleared.json["result"]["gain"] == 1.0
    assert vfab("driver", "run", "iio", "status", *told).json["result"]["streaming"] is False
    for command in ("start", "stop", "interrupts-on", "interrupts-off", "thresholds-clear"):
        assert vfab("driver", "run", "iio", command, *told).code == 0, command
    changed = vfab("driver", "run", "iio", "configure", "--setting", "period_s", "--value", "0.5", *told)
    assert changed.json["result"] is True
    wrong = vfab("driver", "run", "iio", "configure", "--setting", "period_s", "--value", "often", *told)
    assert wrong.error["code"] == "bad_configuration"
    assert vfab("driver", "run", "iio", "threshold", "--threshold", 1, "--quantity", "mood", *told).error["remedy"]
