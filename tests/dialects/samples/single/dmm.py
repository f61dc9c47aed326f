"""Digital multimeter; its class carries the metadata."""
import random
import socket
from typing import Any, Dict, List, Optional

from vfab.sdk import InstrumentDriver, driver_plugin

MODELS = ["DM1", "DM1A"]


@driver_plugin(
    name="dmm_dm1",
    version="2.0.0",
    author="Lab Team",
    description="DM1 multimeter",
    supported_methods=["dc_voltage", "resistance"],
    supported_models=MODELS,
    min_platform_version="1.0.0",
)
class DM1Driver(InstrumentDriver):
    """DM1 over a raw socket."""

    def __init__(self, resource_name: str, config: Optional[Dict[str, Any]] = None):
        self.resource_name = resource_name
        self.config = config or {}
        self.timeout = self.config.get("timeout", 2.0)
        self._link = None

    def connect(self) -> bool:
        host, port = self.resource_name.split("://")[-1].rsplit(":", 1)
        self._link = socket.create_connection((host, int(port)), timeout=self.timeout).makefile("rw", newline="\n")
        return True

    def disconnect(self) -> bool:
        self._link.close()
        return True

    def reset(self) -> None:
        self._query("*RST")

    def get_identity(self) -> Dict[str, str]:
        fields = self._query("*IDN?").split(",")
        return dict(zip(("manufacturer", "model", "serial", "firmware"), fields))

    def get_capabilities(self) -> List[str]:
        return ["dc_voltage", "resistance"]

    def configure(self, method: str, params: Dict[str, Any]) -> None:
        self._query(f"CONF {method}")

    def measure(self, method: str, params: Dict[str, Any]) -> Dict[str, Any]:
        if method not in self.get_capabilities():
            raise ValueError(f"unknown method {method}")
        return {"method": method, "values": [float(self._query(f"MEAS? {method}")) for _ in range(params.get("count", 1))]}

    def abort(self) -> None:
        pass

    def get_status(self) -> Dict[str, Any]:
        return {"connected": self._link is not None, "noise": random.random() < 2}

    def set_range(self, volts: float) -> None:
        """Choose the measuring range."""
        self._query(f"RANG {volts}")

    def _query(self, line: str) -> str:
        self._link.write(line + "\n")
        self._link.flush()
        answer = self._link.readline()
        if not answer:
            raise ConnectionError("the meter closed the connection")
        return answer.strip()
