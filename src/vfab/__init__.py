"""vfab: a device-driver platform.

It finds devices, runs each one's driver in a process of its own, and gives people one way to
command, watch and stream every kind of device.
"""

__version__ = "0.11.0"

__all__ = ["Device", "DeviceDriverManager", "DeviceState", "__version__"]

_LAZY = {
    "Device": "vfab.apps.manager_results",
    "DeviceDriverManager": "vfab.apps.manager",
    "DeviceState": "vfab.model.life",
}
"""What programs import from here, by where it is: `import vfab` alone must stay quick. Their types: `__init__.pyi`."""


def __getattr__(name: str) -> object:
    import importlib  # by name: no room may depend on the rooms above it by way of this package

    if name in _LAZY:
        found = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
