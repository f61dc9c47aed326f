"""The modules that older plugins import by name: `sat_toolkit.…` and `plugin_manager`, there in hosts only.

They are made when somebody imports them; a process that does not call `install` knows nothing of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MODULES", "install"]

_TOOLKIT = "vfab.dialects.toolkit"
_STREAMS = ("StreamData", "StreamType", "StreamSource", "StreamAction", "StreamWrapper", "StreamManager")

MODULES: dict[str, dict[str, tuple[str, ...]] | None] = {
    "sat_toolkit": None,
    "sat_toolkit.core": None,
    "sat_toolkit.models": None,
    "sat_toolkit.core.base_plugin": {_TOOLKIT: ("BasePlugin", "BaseDeviceDriver")},
    "sat_toolkit.core.stream_manager": {_TOOLKIT: _STREAMS},
    "sat_toolkit.core.device_manager": {_TOOLKIT: ("DeviceDriverManager", "DeviceState")},
    "sat_toolkit.core.device_spec": {_TOOLKIT: ("DeviceState",)},
    "sat_toolkit.models.Device_Model": {_TOOLKIT: ("Device",)},
    "plugin_manager": {
        "vfab.sdk.instrument": ("InstrumentDriver", "driver_plugin"),
        "vfab.model.metadata": ("PluginMetadata",),
        "vfab.model.plugins": ("PluginInfo", "PluginStatus"),
    },
}
"""Module -> what it has, by where that comes from; None for a package."""


class _Names(MetaPathFinder, Loader):
    """Finds the modules above, after everything else was asked: what is really installed wins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, origin="vfab.dialects", is_package=MODULES[fullname] is None)

    def exec_module(self, module: ModuleType) -> None:
        for origin, names in (MODULES[module.__name__] or {}).items():
            source = import_module(origin)
            for name in names:
                setattr(module, name, getattr(source, name))


_NAMES = _Names()


def install(*, first: bool = False) -> None:
    """Let this process import the modules above. With `first` they win over installed ones of the same names."""
    if _NAMES in sys.meta_path:
        sys.meta_path.remove(_NAMES)
    sys.meta_path.insert(0 if first else len(sys.meta_path), _NAMES)
