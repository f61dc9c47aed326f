"""An AxiDraw on a real USB bus: the simulated board behind /dev/ttyGS0, which the host side sees as /dev/ttyACM0."""

from __future__ import annotations

import os
import tty
from contextlib import suppress
from pathlib import Path

from lab.modules import until
from vfab.sdk.ebb import EbbSimulator
from vfab.sdk.simulation.links import PtyLink

__all__ = ["UsbAxiDraw"]

GADGET = "gadget.0"
DRIVER = Path("/sys/bus/gadget/drivers/g_serial")
BOARD_END = "/dev/ttyGS0"
HOST_END = "/dev/ttyACM0"
"""The node on the host side; while a program holds on to that of a pulled cable, the next one gets another number."""


class UsbCable(PtyLink):
    """`PtyLink` with a USB cable for its terminal: binding the gadget plugs it in, unbinding pulls it."""

    def __init__(self) -> None:
        super().__init__("vfab-lab-")
        self.address = HOST_END

    def plug_in(self) -> None:
        """Bind the gadget, and serve its end."""
        if self._master >= 0:
            return
        if not (DRIVER / GADGET).exists():
            (DRIVER / "bind").write_text(GADGET)
        self._master = os.open(BOARD_END, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._master)

    def unplug(self) -> None:
        """Unbind the gadget: on the host side the device is gone, with everything that was on its way."""
        if self._master < 0:
            return
        os.close(self._master)
        self._master = -1
        self._unsent.clear()
        with suppress(OSError):
            (DRIVER / "unbind").write_text(GADGET)


class UsbAxiDraw(EbbSimulator):
    """The simulated board on a USB cable.

    `unplug()` and the fault `unplug@COMMANDS` really take the device from the bus, and /dev/ttyACM0 with it.
    """

    SERIAL = "LAB1"
    MODULE_OPTIONS = (
        "idVendor=0x04d8",
        "idProduct=0xfd92",
        "iManufacturer=SchmalzHaus",
        "iProduct=EiBotBoard",
        f"iSerialNumber={SERIAL}",
    )

    def __init__(self, *, speed: str = "instant", faults: tuple[str, ...] = ()) -> None:
        super().__init__("3", speed, faults=faults)
        self._link.close()
        self._link = UsbCable()

    @property
    def id(self) -> str:
        """The device's id in vfab."""
        return f"usb:04d8:fd92:{self.SERIAL}"

    def wait_for_node(self) -> None:
        """Wait until the host side has enumerated the board; `address` is then its node."""
        nodes = until(lambda: sorted(Path("/dev").glob("ttyACM*")), "there is a /dev/ttyACM*")
        self._link.address = str(nodes[0])

    def wait_until_gone(self) -> None:
        """Wait until the host side has noticed that the board is gone."""
        until(lambda: not list(Path("/dev").glob("ttyACM*")), "there is no /dev/ttyACM* any more")

    def put_home(self) -> None:
        """What a person does after a loss of power: push the carriage to its home corner."""
        self.board.recording.touch(False)
        self.board.recording.go(0, 0)
        self.board.place = (0, 0)
