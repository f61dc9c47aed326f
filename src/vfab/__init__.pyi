# What type checkers see. `__init__.py` imports these at first use only: no room may depend on those above by way of it.
from vfab.apps.manager import DeviceDriverManager as DeviceDriverManager
from vfab.apps.manager_results import Device as Device
from vfab.model.life import DeviceState as DeviceState

__all__ = ["Device", "DeviceDriverManager", "DeviceState", "__version__"]

__version__: str
