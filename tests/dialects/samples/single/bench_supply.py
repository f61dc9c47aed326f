"""Bench power supply with a line protocol over TCP, as a plugin of the driver architecture."""

import logging
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Optional, Type

from vfab.dialects import DriverPlugin

Path(__file__).with_suffix(".imported").write_text("this file was run\n")

logger = logging.getLogger(__name__)
DEFAULT_PORT = 5025


class SupplyError(RuntimeError):
    """The supply reports an error."""


class BenchSupplyManager:
    """Talks to the supply; one command at a time."""

    def __init__(self, **options):
        self.host = options.get("host", "127.0.0.1")
        self.port = int(options.get("port", DEFAULT_PORT))
        self.timeout = float(options.get("timeout", 2.0))
        self.max_voltage = options.get("max_voltage", 30.0)
        self._socket: Optional[socket.socket] = None
        self._lock = threading.Lock()

    def connect(self) -> bool:
        try:
            self._socket = socket.create_connection((self.host, self.port), timeout=self.timeout)
        except OSError as e:
            logger.error(f"Cannot reach supply at {self.host}:{self.port}: {e}")
            return False
        logger.info("connected to %s", self._ask("*IDN?"))
        return True

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def is_connected(self) -> bool:
        return self._socket is not None

    def test_connection(self) -> Dict[str, Any]:
        identity = self._ask("*IDN?")
        return {"success": True, "message": f"Supply answers: {identity}", "details": {"identity": identity}}

    def set_voltage(self, volts: float, channel: int = 1) -> float:
        """Set the output voltage.

        Args:
            volts: target voltage in volts
            channel: output channel
        """
        if volts > self.max_voltage:
            raise ValueError(f"{volts} V is above the limit of {self.max_voltage} V")
        self._ask(f"VOLT {channel},{volts}")
        return self.read_voltage(channel)

    def read_voltage(self, channel: int = 1) -> float:
        """Read the output voltage back."""
        return float(self._ask(f"VOLT? {channel}"))

    def ramp(self, steps: list, mode: str = "linear"):
        """Go through voltages."""
        return {"mode": mode, "reached": tuple(self.set_voltage(step) for step in steps)}

    def reset(self):
        self._ask("*RST")

    def log(self):
        """Read the supply's log."""
        return self._ask("LOG?").split(";")

    def _ask(self, line: str) -> str:
        if self._socket is None:
            raise ConnectionError("supply is not connected")
        with self._lock:
            self._socket.sendall(line.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                chunk = self._socket.recv(256)
                if not chunk:
                    raise ConnectionError("supply closed the connection")
                answer += chunk
        text = answer.decode().strip()
        if text.startswith("ERR"):
            raise SupplyError(text)
        return text


class BenchSupplyPlugin(DriverPlugin):
    """Programmable bench supply, two channels."""

    def __init__(self):
        super().__init__("bench_supply", "1.2.0")
        self.config: Dict[str, Any] = {}

    def get_driver_info(self):
        info = super().get_driver_info()
        info.update({"description": "Programmable bench supply"})
        return info

    def initialize(self, config: Dict[str, Any]) -> bool:
        if config.get("channels", 2) not in (1, 2):
            logger.error("a supply has one or two channels")
            return False
        self.config = config
        return True

    def get_manager_class(self) -> Type:
        return BenchSupplyManager
