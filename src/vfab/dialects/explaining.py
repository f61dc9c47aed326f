"""What shape a plugin is written in, and what its author gains by writing it as a native one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vfab.model.manifest import Dialect, Manifest

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `vfab plugin check` tells of a plugin's shape.

    Attributes:
        dialect: the manifest's `runtime.dialect`.
        title: the shape, for people.
        document: the document that describes it, "" for a native plugin.
        recognised_by: what made vfab take the file for one.
        gains: what a native plugin has and this one has not, one sentence each.
        steps: how to make it native.
    """

    dialect: Dialect
    title: str
    document: str
    recognised_by: str
    gains: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


_SHAPES: dict[Dialect, tuple[str, str, str]] = {
    "native": ("a native plugin", "", "plugin.yaml and a class that derives from vfab.sdk.BaseDriver"),
    "driver_plugin": ("a DriverPlugin in one file", "001 §7", "a class that derives from DriverPlugin"),
    "function_contract": (
        "a module with the three functions",
        "001 §2",
        "create_X_manager beside is_X_available or get_X_install_instructions",
    ),
    "drv_module": ("a drv_NAME.py", "002", "a file called drv_….py with a class that derives from BaseDeviceDriver"),
    "instrument_plugin": (
        "an InstrumentDriver",
        "004",
        "plugin.yaml or @driver_plugin(…), and a class that derives from InstrumentDriver",
    ),
    "js_driver": ("a driver in JavaScript", "003", "a CommonJS file that requires ./base-driver and exports a class"),
}
_MATCH = "`match` rules: vfab finds the devices that it fits by itself, by USB ids or names."
_LINK = (
    "the link comes from vfab's broker: the driver needs no right to /dev or the network, and a new process takes the "
    "open link over without a reset of the device."
)
_STOP = "`safe_stop`: vfab puts the device into a safe state when the driver dies."
_CANCEL = "a caller's cancel and deadline reach a call that runs; here they only end the process after two seconds."
_PERMISSIONS = "`permissions`: it runs with what it needs and no more; an older shape may open any connection."
_COMMANDS = "commands with ranges, units, timeouts and progress, checked before the driver is called."
_SIMULATOR = "`simulator`: `vfab driver test` and users try it without the device."
_CATEGORY = "a category's contract: what works with every plotter, camera or sensor works with it."


def explain(manifest: Manifest) -> Explanation:
    """What shape the plugin of `manifest` is written in, what a native one gains, and how to get there."""
    dialect = manifest.runtime.dialect
    title, document, by = _SHAPES[dialect]
    if dialect == "native":
        return Explanation(dialect, title, document, by)
    gains = [text for missing, text in _gains(manifest) if missing]
    module, _, name = manifest.driver_class.rpartition(".")
    steps = [
        f"make a folder {manifest.name} with a plugin.yaml; `vfab plugin new` writes one with its tests",
        f"move {module}.{name} into driver.py there and derive the driver from vfab.sdk.BaseDriver",
    ]
    if dialect != "js_driver":
        steps.insert(
            1,
            f"or, as a first step, keep the file as it is beside a plugin.yaml with driver_class: {module}.{name} and "
            f"runtime: {{dialect: {dialect}}}: match rules, settings and commands are yours to write then",
        )
    return Explanation(dialect, title, document, by, tuple(gains), tuple(steps))


def _gains(manifest: Manifest) -> list[tuple[bool, str]]:
    own_class = manifest.runtime.dialect != "instrument_plugin"
    in_node = manifest.runtime.dialect == "js_driver"
    return [
        (not manifest.match, _MATCH),
        (not in_node, _LINK),
        (not manifest.safe_stop, _STOP),
        (own_class and not in_node, _CANCEL),
        (manifest.permissions.network == "host", _PERMISSIONS),
        (True, _COMMANDS),
        (not manifest.simulator, _SIMULATOR),
        (own_class, _CATEGORY),
    ]
