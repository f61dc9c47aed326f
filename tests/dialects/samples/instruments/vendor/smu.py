"""The SMU's driver, next to the vendor's other drivers."""
import logging
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

from plugin_manager import InstrumentDriver

Path(__file__).with_suffix(".imported").write_text("this file was run\n")
logger = logging.getLogger(__name__)


class SourceMeter(InstrumentDriver):
    def __init__(self, resource_name: str, config: Optional[Dict[str, Any]] = None):
        self.resource_name = resource_name
        self.config = config or {}
        self.connected = False
        self._abort = threading.Event()
        self._method: Optional[str] = None

    def connect(self) -> bool:
        self.connected = "nowhere" not in self.resource_name
        return self.connected

    def disconnect(self) -> bool:
        self.connected = False
        return True

    def reset(self) -> None:
        self._method = None

    def get_identity(self) -> Dict[str, str]:
        return {"manufacturer": "Vendor", "model": "2400", "serial": "7", "firmware": self.resource_name}

    def get_capabilities(self) -> List[str]:
        return ["iv_sweep", "hold"]

    def configure(self, method: str, params: Dict[str, Any]) -> None:
        if method not in self.get_capabilities():
            raise ValueError(f"Method '{method}' is not supported")
        self._method = method
        self._params = params

    def measure(self, method: str, params: Dict[str, Any]) -> Dict[str, Any]:
        if not self.connected:
            raise RuntimeError("not connected")
        if method == "hold":
            self._abort.clear()
            if self._abort.wait(params.get("seconds", 30)):
                return {"aborted": True}
        points = params.get("points", 3)
        volts = [params["start"] + i * (params["stop"] - params["start"]) / (points - 1) for i in range(points)]
        return {"voltage": volts, "current": [v / 1e3 for v in volts], "compliance": self.config.get("compliance_a")}

    def abort(self) -> None:
        logger.warning("abort")
        self._abort.set()

    def get_status(self) -> Dict[str, Any]:
        return {"connected": self.connected, "method": self._method}
