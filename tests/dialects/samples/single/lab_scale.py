"""Laboratory scale on a serial line."""

import logging
import threading
import time
from enum import Enum
from typing import Any, Dict, Optional

from pydantic import BaseModel, Field, field_validator

__version__ = "0.3.1"
CATEGORY = "sensor"

logger = logging.getLogger(__name__)

try:
    import serial
except ImportError:
    serial = None


class Unit(str, Enum):
    GRAM = "g"
    OUNCE = "oz"


class LabScaleConfig(BaseModel):
    """Settings of the scale."""

    port: str = Field("/dev/ttyUSB0", description="Serial port of the scale")
    baudrate: int = Field(9600, ge=300, le=115200, description="Speed, bits per second")
    timeout: float = Field(default=2.0, gt=0, description="Seconds to wait for a reading")
    unit: Unit = Unit.GRAM
    tare_on_connect: bool = False
    label: Optional[str] = None

    @field_validator("baudrate")
    @classmethod
    def known_speed(cls, value):
        if value not in (9600, 19200, 38400, 115200):
            raise ValueError(f"the scale does not know {value} baud")
        return value


def is_lab_scale_available() -> bool:
    return serial is not None


def get_lab_scale_install_instructions() -> str:
    return "Install the serial library: pip install pyserial"


def create_lab_scale_manager(**kwargs) -> "LabScaleManager":
    if not is_lab_scale_available():
        raise ImportError(get_lab_scale_install_instructions())
    return LabScaleManager(LabScaleConfig(**kwargs))


class LabScaleManager:
    """The scale answers W with the weight, T with OK."""

    def __init__(self, config: LabScaleConfig):
        self.config = config
        self._serial = None
        self._watcher: Optional[threading.Thread] = None
        self._watching = threading.Event()
        self.readings = []

    def connect(self) -> bool:
        self._serial = serial.Serial(self.config.port, self.config.baudrate, timeout=self.config.timeout)
        if self.config.tare_on_connect:
            self.tare()
        return True

    def disconnect(self) -> None:
        self._watching.clear()
        if self._watcher is not None:
            self._watcher.join(timeout=1)
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    @property
    def is_connected(self) -> bool:
        return self._serial is not None and self._serial.is_open

    def test_connection(self) -> Dict[str, Any]:
        return {"success": self.weigh() is not None, "message": "the scale weighs"}

    def weigh(self, samples: int = 1) -> Dict[str, Any]:
        """Weigh what lies on the scale.

        Args:
            samples: how many readings to average
        """
        values = [float(self._command(b"W")) for _ in range(samples)]
        return {"weight": sum(values) / len(values), "unit": self.config.unit}

    def tare(self) -> None:
        """Set the present weight to zero."""
        self._command(b"T")

    def watch(self, count: int):
        """Read the weight in the background."""
        self._watching.set()

        def loop():
            while self._watching.is_set() and len(self.readings) < count:
                self.readings.append(self.weigh()["weight"])
                time.sleep(0.001)

        self._watcher = threading.Thread(target=loop)
        self._watcher.start()

    def watched(self):
        """What the watch has read."""
        return list(self.readings)

    def _command(self, command: bytes) -> bytes:
        self._serial.write(command + b"\r\n")
        answer = self._serial.readline().strip()
        if not answer:
            raise TimeoutError(f"the scale did not answer {command!r}")
        return answer
