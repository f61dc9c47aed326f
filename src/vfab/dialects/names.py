"""The modules that older plugins import by name, there in hosts only.

`sat_toolkit.…` and `plugin_manager` are named by the documents. Of other classes the documents do not say where they
lie, and each author imports them from somewhere else: `vfab.plugins`, `app.drivers.plugin_manager`, `.base`. Such a
module is there too, where nothing else is and the plugin takes nothing from it but what a document names.

They are made when somebody imports them; a process that does not call `install` knows nothing of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MODULES", "install", "is_named", "provide_for"]

_TOOLKIT = "vfab.dialects.toolkit"
_STREAMS = ("StreamData", "StreamType", "StreamSource", "StreamAction", "StreamWrapper", "StreamManager")

_HOSTED = "vfab_plugin_"
"""The package that a plugin's folder is in its host begins with this."""

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

_ORIGINS: dict[str, tuple[str, ...]] = {
    "vfab.dialects": ("DriverPlugin",),
    "vfab.model.life": ("DriverState",),
    "vfab.model.events": ("DriverEvent",),
    "vfab.sdk.detection": ("DetectionHandler",),
    "vfab.sdk": (
        *("BaseDriver", "CameraDriver", "SensorDriver", "CommunicationDriver", "DriverError", "DriverErrorType"),
        *("ErrorHandler", "ConnectionRecovery", "DriverLifecycle", "ResourceManager", "DriverContext"),
        *("EventManager", "ConnectionPool", "DriverCache", "ImageData", "CameraCapabilities", "CameraInfo"),
        *("SensorReading", "SensorInfo", "CalibrationResult", "Response", "EventStream", "ConnectionInfo"),
    ),
}
"""Classes that the documents name without a module, by where they are; those of `MODULES` besides."""


@cache
def _named() -> Mapping[str, str]:
    """Every name of the documents -> the module where it is."""
    tables = [_ORIGINS, *(table for table in MODULES.values() if table)]
    return {name: origin for table in tables for origin, names in table.items() for name in names}


def is_named(names: Iterable[str]) -> bool:
    """Whether there are names, and the documents name all of them."""
    given = list(names)
    return bool(given) and all(name in _named() for name in given)


class _Modules(MetaPathFinder, Loader):
    """Makes modules of names that are elsewhere: those of `MODULES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        table = self.table(fullname)
        if table is None:
            return None
        return ModuleSpec(fullname, self, origin="vfab.dialects", is_package=not table)

    def exec_module(self, module: ModuleType) -> None:
        for origin, names in (self.table(module.__name__) or {}).items():
            source = import_module(origin)
            for name in names:
                setattr(module, name, getattr(source, name))

    def table(self, module: str) -> Mapping[str, Iterable[str]] | None:
        """What `module` has, by where that is; empty for a package, None where it is no module of ours."""
        return (MODULES[module] or {}) if module in MODULES else None


class _Expected(_Modules):
    """Those from which the plugin in `file` imports what the documents name: asked when there is no such module."""

    file = ""
    _imports: dict[str, set[str]] | None = None

    def table(self, module: str) -> Mapping[str, Iterable[str]] | None:
        names = self._expected_of(module) if self.file else None
        if names is None:
            return None
        return {origin: [n for n in names if _named()[n] == origin] for origin in {_named()[n] for n in names}}

    def _expected_of(self, module: str) -> set[str] | None:
        """What the plugin imports from `module`, if the documents name all of it; empty for a package around one."""
        if self._imports is None:
            from vfab.dialects.neighbours import imported_names

            self._imports = {}  # until they are read: reading may ask for modules, too
            self._imports = {m: names for m, names in imported_names(self.file).items() if is_named(names)}
        for wanted, names in self._imports.items():
            beside = wanted.startswith(".") and module.startswith(_HOSTED)
            if wanted == module or (beside and module.endswith(f".{wanted.lstrip('.')}")):
                return names
        return set() if any(wanted.startswith(f"{module}.") for wanted in self._imports) else None


_MODULES = _Modules()
_EXPECTED = _Expected()


def install(*, first: bool = False) -> None:
    """Let this process import the modules above. With `first` they win over installed ones of the same names."""
    if _MODULES in sys.meta_path:
        sys.meta_path.remove(_MODULES)
    sys.meta_path.insert(0 if first else len(sys.meta_path), _MODULES)


def provide_for(file: str) -> None:
    """Let this process find what the documents name wherever the plugin in `file`, or a file near it, looks for it."""
    _EXPECTED.file, _EXPECTED._imports = file, None
    if _EXPECTED not in sys.meta_path:
        sys.meta_path.append(_EXPECTED)
        for package in ("vfab", "vfab.drivers"):  # modules that are there: many look for the names in them
            _lend(import_module(package))


def _lend(module: ModuleType) -> None:
    """Let `module` have what the documents name, besides what it has."""
    own: Callable[[str], object] | None = getattr(module, "__getattr__", None)

    def find(name: str) -> object:
        if own is not None and name not in _named():
            return own(name)
        if name in _named():
            return getattr(import_module(_named()[name]), name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    module.__getattr__ = find  # type: ignore[method-assign]
