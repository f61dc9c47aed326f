"""Devices that announce themselves on the network: DNS-based service discovery over multicast DNS (RFC 6762, 6763)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.finders.interfaces import Interface, chosen_interfaces
from vfab.model.devices import DeviceInfo

__all__ = ["MdnsHandler", "service_device"]

_SCHEMES = {
    "_http._tcp": "http",
    "_https._tcp": "https",
    "_rtsp._tcp": "rtsp",
    "_mqtt._tcp": "mqtt",
    "_secure-mqtt._tcp": "mqtts",
    "_ws._tcp": "ws",
    "_wss._tcp": "wss",
    "_hislip._tcp": "hislip",
    "_modbus._tcp": "modbus",
    "_telnet._tcp": "telnet",
    "_rfc2217._tcp": "rfc2217",
}
"""What is spoken at a service, where vfab has a word for it; the rest is a plain connection."""
_SETTLE_S = 0.3
_PATH = re.compile(r"/[\w./~%?=&-]*")


class MdnsHandler(DetectionHandler):
    """Finds services of the types that drivers' match rules name (`attributes: {service: _rtsp._tcp}`).

    Args:
        services: the types to look for, asked when the search begins.
        interfaces: names or addresses of the network interfaces to look on; none: this machine alone, and only when
            mDNS is asked for.
        wait_s: how long to listen, in seconds.
        resolve: looks the interfaces up.
        installed: whether zeroconf is there.
    """

    keep_s = 30.0

    def __init__(
        self,
        services: Callable[[], Iterable[str]] = tuple,
        interfaces: Sequence[str] = (),
        *,
        wait_s: float = 1.2,
        resolve: Callable[[Sequence[str]], list[Interface]] = chosen_interfaces,
        installed: Callable[[], bool] = lambda: find_spec("zeroconf") is not None,
    ) -> None:
        super().__init__("mdns", priority=15)
        self.on_request = not interfaces
        self._services = services
        self._interfaces = tuple(interfaces)
        self._wait_s = wait_s
        self._resolve = resolve
        self._installed = installed

    def limitation(self) -> str:
        """What cannot be found without zeroconf."""
        return "" if self._installed() else "Services on the network need zeroconf: pip install 'vfab[net]'"

    def find(self) -> list[DeviceInfo]:
        """Every service that answers in time. Raises ConfigurationError: an interface is not there."""
        types = sorted({text.removesuffix(".").removesuffix(".local") for text in self._services()})
        if not types or not self._installed():
            return []
        addresses = [each.address for each in self._resolve(self._interfaces)] if self._interfaces else ["127.0.0.1"]
        return [
            service_device(type_, name, info)
            for type_, name, info in _browse(types, addresses, self._wait_s)
            if info is not None
        ]


def _browse(types: Sequence[str], addresses: Sequence[str], wait_s: float) -> list[tuple[str, str, Any]]:
    """(type, name, ServiceInfo) of what is there. Ends early when nothing new has come for a while."""
    from zeroconf import ServiceBrowser, ServiceListener, Zeroconf

    seen: dict[str, str] = {}
    news = threading.Event()

    class Listener(ServiceListener):
        def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            seen[name] = type_
            news.set()

        def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            """What changed is asked for below."""

        def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            seen.pop(name, None)

    ends = time.monotonic() + wait_s
    with Zeroconf(interfaces=list(addresses)) as network:
        browser = ServiceBrowser(network, [f"{type_}.local." for type_ in types], Listener())
        while (left := ends - time.monotonic()) > 0:
            news.clear()
            if not news.wait(min(left, _SETTLE_S) if seen else left):
                break
        found = [
            (type_, name, network.get_service_info(type_, name, timeout=300))
            for name, type_ in sorted(dict(seen).items())
        ]
        browser.cancel()
    return found


def service_device(type_: str, name: str, info: Any) -> DeviceInfo:
    """The device that a service announces itself as; `info` is like zeroconf's ServiceInfo."""
    service = type_.removesuffix(".").removesuffix(".local")
    instance = name.removesuffix(f".{type_}")
    addresses = info.parsed_addresses()
    host = next((address for address in addresses if ":" not in address), None) or (addresses or [info.server])[0]
    written = f"[{host}]" if ":" in host else host.rstrip(".")
    said = {_text(key): _text(value) for key, value in (info.properties or {}).items() if value is not None}
    default = "udp" if service.endswith("._udp") else "tcp"
    scheme = _SCHEMES.get(service, default)
    path = said.get("path", "") if scheme in {"http", "https", "ws", "wss", "rtsp"} else ""
    return DeviceInfo(
        id=f"mdns:{service}:{instance.replace(' ', '_')}",
        bus="mdns",
        address=f"{scheme}://{written}:{info.port}{path if _PATH.fullmatch(path) else ''}",
        name=instance,
        manufacturer=said.get("Manufacturer", said.get("manufacturer", "")),
        product=said.get("Model", said.get("model", said.get("ty", ""))),
        serial_number=said.get("SerialNumber", said.get("serial", "")),
        attributes={
            "service": service,
            "host": (info.server or "").rstrip("."),
            **{f"txt.{key}": value for key, value in said.items() if value},
        },
    )


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
