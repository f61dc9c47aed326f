"""Folders of plugins to measure discovery with: as many as wanted, each like a real one of this size."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_plugin_tree"]

_MANIFEST = """\
name: bench_{number}
version: 1.{number}.0
author: Bench
description: Source-measure unit number {number}, as a laboratory would describe it
min_platform_version: "1.0.0"
category: instrument
supported_methods: [iv_sweep, cv_measurement, transient_{tenth}]
supported_models: ["M{number}", "M{number}A", "M{number}B"]
driver_class: driver.BenchDriver
license: MIT
homepage: https://example.org/bench/{number}
match:
  - bus: usb
    vid: "1234"
    pid: "{number:04x}"
  - bus: tcp
    name: "*bench {number}*"
permissions:
  connect: ["tcp://192.0.2.0/24:5025"]
safe_stop: ["OUTP OFF\\\\n"]
commands:
  identify:
    help: Ask the instrument who it is
    needs: connected
  source:
    help: Put a voltage on the output
    timeout_s: 5
    parameters:
      voltage_v: {{type: number, help: volts on the output, minimum: -210, maximum: 210, required: true}}
      compliance_a: {{type: number, help: largest current in amperes, default: 0.1, minimum: 0, maximum: 1.05}}
config_schema:
  type: object
  additionalProperties: false
  properties:
    port:
      type: string
      description: address of the instrument
    timeout_s:
      type: number
      default: 5.0
      minimum: 0.1
      maximum: 60
      description: seconds to wait for an answer
    integration_nplc:
      type: number
      default: 1.0
      minimum: 0.01
      maximum: 10
    auto_zero:
      type: boolean
      default: true
    retry_count: {{type: integer, default: 3, minimum: 0, maximum: 10}}
"""

_DRIVER = '''\
"""A driver that is only looked at."""


class BenchDriver:
    """Nothing."""
'''


def make_plugin_tree(folder: Path, count: int) -> list[Path]:
    """Write `count` plugins below `folder`; their folders. The manifests are all different, about 1.5 kB each."""
    made: list[Path] = []
    for number in range(count):
        plugin = folder / f"bench_{number:05d}"
        plugin.mkdir(parents=True)
        text = _MANIFEST.format(number=number, tenth=number // 10)
        (plugin / "plugin.yaml").write_text(text, encoding="utf-8")
        (plugin / "driver.py").write_text(_DRIVER, encoding="utf-8")
        made.append(plugin)
    return made
