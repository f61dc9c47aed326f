"""Asking at ports who is there: what manifests list in `identify`, and only when the user wants it.

A port is asked under its lease and its lock, with the link code that drivers get their links from; its settings are put
back afterwards. Ports in use are left alone.
"""

from __future__ import annotations

import contextlib
import os
import termios
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from vfab.kernel.detection import DetectionHandler
from vfab.kernel.leases import LeaseBook
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DeviceBusy, DriverError, LinkLost, TimeoutExceeded
from vfab.model.identify import ANSWER_MAX, Identify

if TYPE_CHECKING:
    from vfab.sdk.link import Link

__all__ = ["Identifier", "Question", "ask_link"]

_FIELDS = {
    "name": "name",
    "product": "product",
    "model": "product",
    "manufacturer": "manufacturer",
    "serial_number": "serial_number",
}
_AT_ONCE = 16
_DRAIN_BYTES = 1 << 16

Question = tuple[str, Identify]
"""(name of the driver, what its manifest asks)."""


class Identifier(DetectionHandler):
    """Asks at serial ports and TCP hosts who is there.

    Args:
        questions: what the drivers ask, best first; read when ports are asked.
        leases: who uses which device.
        opener: opens an address; by default what the broker opens them with.
        is_known: whether it is clear already what a device is; such a one is not asked.
    """

    describes = True
    probe_timeout_s = 120.0

    def __init__(
        self,
        questions: Callable[[], Iterable[Question]],
        leases: LeaseBook,
        *,
        opener: Callable[..., int] | None = None,
        is_known: Callable[[DeviceInfo], bool] = lambda device: False,
    ) -> None:
        super().__init__("identify", priority=100)
        self._questions = questions
        self._leases = leases
        self._opener = opener
        self._is_known = is_known

    def find(self) -> list[DeviceInfo]:
        """Nothing: it describes what others find."""
        return []

    def is_compatible(self, device_info: DeviceInfo) -> bool:
        """Whether a device's port can be asked: a serial port, or a host."""
        return _scheme(device_info) is not None

    def probe(self, devices: tuple[DeviceInfo, ...]) -> list[DeviceInfo]:
        """Those of `devices` that answered, described by their answer; ports side by side.

        Attributes: `identified` names the driver whose question was answered, `baudrate` the rate of a serial port.
        """
        questions = list(self._questions())
        asked = [device for device in devices if device.accessible and self.is_compatible(device)]
        if not asked or not questions:
            return []
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(asked), _AT_ONCE), thread_name_prefix="identify") as pool:
            answers = list(pool.map(lambda device: self._ask(device, questions), asked))
        return [device for device in answers if device is not None]

    def _ask(self, device: DeviceInfo, questions: Sequence[Question]) -> DeviceInfo | None:
        scheme = _scheme(device)
        mine = [each for each in questions if each[1].scheme == scheme]
        if not mine or "simulates" in device.attributes or self._is_known(device):
            return None
        try:
            with self._leases.acquire(device.id):
                return self._ask_serial(device, mine) if scheme == "serial" else self._ask_host(device, mine)
        except DeviceBusy:  # its user knows what it is
            return None
        except DriverError as error:
            attributes = {**device.attributes, "not_identified": error.message}
            return msgspec.structs.replace(device, attributes=attributes)

    def _ask_serial(self, device: DeviceInfo, questions: Sequence[Question]) -> DeviceInfo | None:
        rates = dict.fromkeys(rate for _, question in questions for rate in question.baudrates)
        first = next(iter(rates))
        with _settings(device.address) as before, self._opened(device.address, baudrate=first) as link:
            try:
                return _asked_at(link, device, questions, list(rates))
            finally:
                if before is not None:
                    with contextlib.suppress(termios.error):  # it was unplugged
                        termios.tcsetattr(link.fileno(), termios.TCSANOW, before)

    def _ask_host(self, device: DeviceInfo, questions: Sequence[Question]) -> DeviceInfo | None:
        for driver, question in questions:  # a connection each: what one asks may close it, or confuse the next
            link = self._opened(device.address, timeout_s=question.timeout_s)
            with contextlib.suppress(LinkLost), link:
                said = ask_link(link, question)
                if said is not None:
                    return _described(device, driver, said)
        return None

    def _opened(self, address: str, **settings: Any) -> Link:
        from vfab.sdk.link import Link, open_address

        return Link((self._opener or open_address)(address, **settings), address)


def _asked_at(link: Link, device: DeviceInfo, questions: Sequence[Question], rates: Sequence[int]) -> DeviceInfo | None:
    """Ask at every rate in turn; the link is set to the first one already."""
    from vfab.sdk.link import make_raw

    for number, rate in enumerate(rates):
        if number:
            make_raw(link.fileno(), rate, device.address)
        for driver, question in questions:
            said = ask_link(link, question) if rate in question.baudrates else None
            if said is not None:
                return _described(device, driver, said, baudrate=str(rate))
    return None


def ask_link(
    link: Link, question: Identify, *, clock: Callable[[], float] = time.monotonic
) -> Mapping[str, str] | None:
    """Ask at `link`, and wait for the answer as long as the question says; None: it was not given.

    What came before is thrown away where something is sent; where one only listens it may be the answer.

    Raises LinkLost: the peer is gone.
    """
    held = b""
    data = question.send_bytes()
    ends = clock() + question.timeout_s
    try:
        if data:
            for _ in range(_DRAIN_BYTES // ANSWER_MAX):
                if not link.read_available(ANSWER_MAX):
                    break
            link.write(data, timeout_s=question.timeout_s)
        while len(held) < ANSWER_MAX and (left := ends - clock()) > 0:
            held += link.read(ANSWER_MAX, timeout_s=left)
            said = question.read(held)
            if said is not None:
                return said
    except TimeoutExceeded:
        pass
    return None


def _scheme(device: DeviceInfo) -> str | None:
    if device.address.startswith(("tcp://", "telnet://")):
        return "tcp"
    terminal = device.address.startswith(("/dev/tty", "/dev/cu.", "/dev/pts/", "/dev/serial/"))
    return "serial" if terminal else None


def _described(device: DeviceInfo, driver: str, said: Mapping[str, str], **learned: str) -> DeviceInfo:
    """`device` with what it said of itself."""
    changes: dict[str, Any] = {_FIELDS[key]: value for key, value in said.items() if key in _FIELDS}
    rest = {key: value for key, value in said.items() if key not in _FIELDS}
    if "product" in changes and "name" not in changes:
        changes["name"] = changes["product"]
    attributes = {**device.attributes, **rest, "identified": driver, **learned}
    return msgspec.structs.replace(device, attributes=attributes, **changes)


@contextlib.contextmanager
def _settings(path: str) -> Iterator[list[Any] | None]:
    """The terminal settings of `path`; None where it has none, or cannot be opened.

    It stays open meanwhile: a port that is closed and opened again resets many boards.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # whoever opens it next says what is wrong
        yield None
        return
    try:
        yield termios.tcgetattr(fd) if os.isatty(fd) else None
    finally:
        os.close(fd)
