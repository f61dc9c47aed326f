import logging
import socket
import threading
import time
from pathlib import Path
from typing import Dict, List, Optional

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.models.Device_Model import Device

from .frames import decode, encode

Path(__file__).with_suffix(".imported").write_text("this file was run\n")

logger = logging.getLogger(__name__)

__version__ = "0.9"


class CanGatewayDriver(BaseDeviceDriver):
    """CAN gateway reached over TCP."""

    def __init__(self):
        super().__init__()
        self.device = None
        self.sock = None
        self.lock = threading.Lock()
        self.sent = 0
        self.state = DeviceState.UNKNOWN
        self.supported_commands = {
            "start": "Start receiving frames",
            "stop": "Stop receiving frames",
            "status": "Get gateway status",
            "send": {"description": "Send one frame"},
            "reset": "Reset the counters",
        }

    def _scan_impl(self) -> List[Device]:
        found = []
        for channel in (0, 1):
            found.append(
                Device(
                    device_id=f"gw{channel}",
                    name=f"CAN gateway channel {channel}",
                    device_type="CAN",
                    attributes={"channel": channel},
                )
            )
        found.append(Device(device_id="bare"))
        return found

    def _initialize_impl(self, device: Device) -> bool:
        self.device = device
        self.state = DeviceState.INITIALIZED
        return True

    def _connect_impl(self, device: Device) -> bool:
        try:
            address = (device.attributes["host"], int(device.attributes["port"]))
            self.sock = socket.create_connection(address, timeout=2)
            return True
        except Exception as e:
            logger.error(f"Connection failed: {str(e)}")
            raise

    def _command_impl(self, device: Device, command: str, args: Optional[Dict] = None) -> Optional[str]:
        try:
            if command == "start":
                self.start_streaming(device)
                return "Started streaming"
            elif command == "stop":
                self.stop_streaming(device)
                return "Stopped streaming"
            elif command == "status":
                return f"sent={self.sent} acquiring={self.is_acquiring.is_set()}"
            elif command == "send":
                return self._send(args)
            elif command == "reset":
                self.sent = 0
                return "Reset"
            else:
                raise ValueError(f"Unknown command: {command}")
        except Exception as e:
            logger.error(f"Command execution failed: {str(e)}")
            raise

    def _send(self, args):
        can_id = int(args["id"])
        if can_id > 0x7FF:
            raise ValueError(f"CAN id {can_id:#x} has more than 11 bits")
        data = bytes.fromhex(args.get("data", "00"))
        with self.lock:
            self.sock.sendall(encode(can_id, data))
        self.sent += 1
        return f"Sent {can_id:#x}"

    def _reset_impl(self, device: Device) -> bool:
        self.sent = 0
        return True

    def _close_impl(self, device: Device) -> bool:
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        return True

    def _setup_acquisition(self, device: Device):
        self.sock.settimeout(0.05)

    def _cleanup_acquisition(self, device: Device):
        self.sock.settimeout(2)
        logger.info("acquisition cleaned up")

    def _acquisition_loop(self):
        held = b""
        while self.is_acquiring.is_set():
            try:
                held += self.sock.recv(256)
            except socket.timeout:
                continue
            except Exception as e:
                logger.error(f"Error in acquisition loop: {str(e)}")
                time.sleep(0.1)
                continue
            *lines, held = held.split(b"\n")
            for line in lines:
                can_id, data = decode(line)
                self.stream_wrapper.broadcast_data(
                    StreamData(
                        stream_type=StreamType.CAN if can_id < 0x700 else StreamType.CAN_DIAGNOSTIC,
                        channel=self.device.device_id,
                        timestamp=time.time(),
                        source=StreamSource.SERVER,
                        action=StreamAction.DATA,
                        data={"id": can_id, "data": data},
                    )
                )
