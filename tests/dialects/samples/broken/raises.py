"""A plugin that cannot be imported."""
from vfab.dialects import DriverPlugin

raise RuntimeError("this file must not be run by whoever looks for plugins")


class Raises(DriverPlugin):
    def __init__(self):
        super().__init__("raises", "1.0")
