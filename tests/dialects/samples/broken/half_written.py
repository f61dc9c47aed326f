from vfab.dialects import DriverPlugin


class HalfWritten(DriverPlugin):
    def __init__(self
        super().__init__("half_written", "1.0")
