"""SCPI messages over VISA: what is no plain socket or serial line (VXI-11, HiSLIP, GPIB, USBTMC by libusb).

PyVISA is imported when a port is opened; with `@py` (pyvisa-py) no vendor's library is needed.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DependencyError,
    DeviceNotFound,
    DriverError,
    LinkLost,
    TimeoutExceeded,
)
from vfab.protocols.scpi import Framer
from vfab.sdk.cancel import current_token

__all__ = ["VisaPort"]

_SLICE_S = 0.05
_CHUNK = 1 << 20
_MESSAGE_AVAILABLE = 0x10


class VisaPort:
    """Messages of one VISA resource.

    Args:
        resource: its name, `TCPIP0::192.0.2.7::inst0::INSTR`.
        library: `@py`, `@sim`, `FILE.yaml@sim`, or the path of a vendor's VISA library; "" finds one.
        timeout_s: patience for opening.

    Raises DependencyError: PyVISA, or the back end, is not installed. ConfigurationError: the name is none.
    Raises DeviceNotFound, ConnectError: it cannot be opened.
    """

    queues = False

    def __init__(self, resource: str, library: str = "@py", *, timeout_s: float = 5.0) -> None:
        self.address = resource
        self._visa = _pyvisa()
        self._manager, self._resource = self._open(resource, library, timeout_s)
        self._has_status = True
        self._framer = Framer()
        self._came = bytearray()

    @property
    def closed(self) -> bool:
        """See `MessagePort`."""
        return self._resource is None

    def send(self, message: bytes) -> None:
        """See `MessagePort`."""
        try:
            self._open_resource().write_raw(message + b"\n")
        except Exception as error:
            raise self._translated(error, 0.0) from error

    def receive(self, timeout_s: float) -> bytes:
        """See `MessagePort`. A cancel is seen within 50 ms."""
        deadline = time.monotonic() + timeout_s
        came = self._came  # a message may come in the time of several calls
        while True:
            token = current_token.get()
            if token is not None:
                token.check()
            if not came and not self._may_read():
                data, status = b"", None
            else:
                data, status = self._read_slice()
            came += data
            found = self._framer.receive(data) if data else []
            if found:
                came.clear()
                return found[0]
            if status == self._visa.constants.StatusCode.success and came:
                self._framer.clear()
                self._came = bytearray()
                return bytes(came)  # it ended without a line end: the bus says where a message ends
            if time.monotonic() > deadline:
                raise TimeoutExceeded(f"{self.address} sent nothing for {timeout_s:g} s")

    def _may_read(self) -> bool:
        """Whether the status byte says that an answer is there; True where there is no status byte to ask.

        VXI-11, HiSLIP and USBTMC lose what they carried when a read is given up.
        """
        if not self._has_status:
            return True
        try:
            status = self._open_resource().read_stb()
        except DriverError:
            raise
        except Exception:
            self._has_status = False
            return True
        if status & _MESSAGE_AVAILABLE:
            return True
        time.sleep(_SLICE_S / 10)
        return False

    def _read_slice(self) -> tuple[bytes, Any]:
        resource = self._open_resource()
        try:
            data, status = resource.visalib.read(resource.session, _CHUNK)
        except Exception as error:
            translated = self._translated(error, _SLICE_S)
            if isinstance(translated, TimeoutExceeded):
                return b"", None
            raise translated from error
        return bytes(data), status

    def clear(self) -> None:
        """A device clear, where the resource has one."""
        self._framer.clear()
        self._came.clear()
        resource = self._open_resource()
        try:
            resource.clear()
        except Exception as error:
            codes = self._visa.constants.StatusCode
            if getattr(error, "error_code", None) in {codes.error_connection_lost, codes.error_io}:
                raise self._translated(error, 0.0) from error

    def close(self) -> None:
        """See `MessagePort`."""
        resource, self._resource = self._resource, None
        manager, self._manager = self._manager, None
        for part in (resource, manager):
            if part is not None:
                with suppress(Exception):  # it is gone already
                    part.close()

    def _open(self, resource: str, library: str, timeout_s: float) -> tuple[Any, Any]:
        try:
            manager = self._visa.ResourceManager(library)
        except (ValueError, OSError) as error:
            raise DependencyError(
                f"the VISA library {library or 'of this system'} cannot be used: {error}",
                context={"field": "visa_library", "value": library},
                remedy="Set visa_library to @py and `pip install 'vfab[visa]'`, or to the path of an installed one.",
                original_error=error,
            ) from error
        try:
            self._visa.rname.ResourceName.from_string(resource)
            opened = manager.open_resource(resource, open_timeout=int(timeout_s * 1000))
            opened.timeout = int(_SLICE_S * 1000)
            opened.read_termination = "\n"
            return manager, opened
        except Exception as error:
            manager.close()
            raise self._refused(resource, error) from error

    def _refused(self, resource: str, error: Exception) -> DriverError:
        codes = self._visa.constants.StatusCode
        code = getattr(error, "error_code", None)
        context = {"address": resource}
        if code == codes.error_invalid_resource_name or type(error).__name__ == "InvalidResourceName":
            return ConfigurationError(
                f"{resource!r} is not a VISA resource",
                context=context,
                remedy="Write it like TCPIP0::192.0.2.7::inst0::INSTR, GPIB0::24::INSTR or USB0::…::INSTR.",
            )
        if code == codes.error_resource_not_found:
            return DeviceNotFound(f"VISA finds nothing at {resource}", context=context, original_error=error)
        if isinstance(error, (ValueError, ImportError)):
            return DependencyError(f"{resource} cannot be opened: {error}", context=context, original_error=error)
        return ConnectError(f"{resource} cannot be opened: {error}", context=context, original_error=error)

    def _open_resource(self) -> Any:
        if self._resource is None:
            raise LinkLost(f"the link to {self.address} is closed", context={"address": self.address})
        return self._resource

    def _translated(self, error: Exception, timeout_s: float) -> DriverError:
        if isinstance(error, DriverError):
            return error
        context = {"address": self.address}
        if getattr(error, "error_code", None) == self._visa.constants.StatusCode.error_timeout:
            return TimeoutExceeded(f"{self.address} sent nothing for {timeout_s:g} s", context=context)
        return LinkLost(f"the link to {self.address} broke: {error}", context=context, original_error=error)


def _pyvisa() -> Any:
    try:
        import pyvisa
    except ImportError as error:
        raise DependencyError(
            "this address needs PyVISA, which is not installed",
            remedy="pip install 'vfab[visa]'; sockets (tcp://host:5025) and serial ports need none.",
            original_error=error,
        ) from error
    return pyvisa
