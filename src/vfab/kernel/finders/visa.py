"""Instruments by VISA: what pyvisa lists, in a child process, because VISA libraries hang and crash."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from vfab.kernel.detection import DetectionHandler
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConnectError, TimeoutExceeded

__all__ = ["VisaHandler", "has_visa_library", "list_in_child"]

_NO_INSTRUMENT = re.compile(r"(PRLGX-)?ASRL|.*::INTFC$")
_LIBRARIES = ("libvisa.so", "libvisa.so.0", "libiovisa.so", "librsvisa.so")
_FOLDERS = (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"), Path("/usr/lib/x86_64-linux-gnu"))
_FRAMEWORK = Path("/Library/Frameworks/VISA.framework")


def has_visa_library(folders: Sequence[Path] = _FOLDERS, dev: Path = Path("/dev"), mac: Path = _FRAMEWORK) -> bool:
    """Whether a vendor's VISA library, or a GPIB board, is on this machine."""
    libraries = any((folder / name).exists() for folder in folders for name in _LIBRARIES)
    return libraries or mac.exists() or any(dev.glob("gpib[0-9]*"))


def list_in_child(library: str, network: bool, timeout_s: float) -> dict[str, list[str]]:
    """`{"resources", "problems"}` of `library`, listed by a process that is killed after `timeout_s` seconds.

    Raises TimeoutExceeded, ConnectError: it did not answer, or failed.
    """
    import subprocess

    command = [sys.executable, "-P", "-m", "vfab.kernel.finders.visa_list", library, "network" if network else "here"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=True)
        answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise TimeoutExceeded(
            f"VISA ({library}) listed nothing within {timeout_s:g} s and was ended",
            remedy="Unplug an instrument that hangs, or take detection.visa out of config.yaml.",
        ) from error
    except (subprocess.CalledProcessError, OSError, ValueError, IndexError) as error:
        said = getattr(error, "stderr", b"") or b""
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2] or str(error)
        raise ConnectError(
            f"VISA ({library}) failed: {last}",
            remedy="`pyvisa-info` tells what is installed; correct detection.visa.libraries in config.yaml.",
        ) from error
    return answer


class VisaHandler(DetectionHandler):
    """Finds VISA resources. Serial ports are left out, which are found as what they are, and so are bare interfaces.

    Args:
        libraries: what pyvisa calls libraries: `@py`, `@ivi`, `@sim`, or a path.
        network: let the library search networks, too; pyvisa-py then broadcasts on every interface.
        always: ask at every scan; otherwise only when VISA is asked for.
        list_resources: lists the resources of one library.
        installed: whether pyvisa is there.
    """

    keep_s = 60.0

    def __init__(
        self,
        libraries: Sequence[str] = ("@py",),
        *,
        network: bool = False,
        always: bool = False,
        timeout_s: float = 1.8,
        list_resources: Callable[[str, bool, float], dict[str, list[str]]] = list_in_child,
        installed: Callable[[], bool] = lambda: find_spec("pyvisa") is not None,
    ) -> None:
        super().__init__("visa", priority=5, timeout_s=timeout_s)
        self.on_request = not always
        self._libraries = tuple(libraries)
        self._network = network
        self._list = list_resources
        self._installed = installed

    def limitation(self) -> str:
        """What cannot be found without pyvisa."""
        return "" if self._installed() else "VISA instruments are found with pyvisa only: pip install 'vfab[visa]'"

    def find(self) -> list[DeviceInfo]:
        """Every resource. Raises DriverError: a library failed or hangs."""
        if not self._installed():
            return []
        found: dict[str, DeviceInfo] = {}
        patience = self.timeout_s * 0.9 / max(len(self._libraries), 1)
        for library in self._libraries:
            for resource in self._list(library, self._network, patience)["resources"]:
                if not _NO_INSTRUMENT.match(resource.upper()):
                    found.setdefault(resource, _device(resource, library))
        return list(found.values())


def _device(resource: str, library: str) -> DeviceInfo:
    kind = resource.partition("::")[0].rstrip("0123456789").upper()
    usb = re.match(r"USB\d*::(0x[0-9a-f]+|\d+)::(0x[0-9a-f]+|\d+)::([^:]+)", resource, re.IGNORECASE)
    ids = [f"{int(text, 0):04x}" for text in usb.groups()[:2]] if usb else []  # some write them decimal, some not
    return DeviceInfo(
        id=f"visa:{resource}",
        bus="visa",
        address=resource,
        name=f"VISA {resource}",
        vid=ids[0] if ids else "",
        pid=ids[1] if ids else "",
        serial_number=usb[3] if usb else "",
        attributes={"interface": kind.lower(), "library": library},
    )
