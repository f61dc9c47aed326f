"""An MCP3X0X that is not there, clocked bit by bit as its datasheets' figures 5-1 and 5-2 show."""

from __future__ import annotations

from vfab.model.errors import LinkLost

from .driver import MODELS

__all__ = ["Mcp3x0xChip"]


class Mcp3x0xChip:
    """The chip behind the driver's bus.

    Attributes:
        inputs_v: voltage at each input.
        reference_v: voltage at Vref.
        present: it drives its output; otherwise the line floats high.
        controller: the bus is there.
        transfers: bytes of every transfer.
    """

    def __init__(self, model: str = "MCP3008", reference_v: float = 3.3) -> None:
        self.model = MODELS[model]
        self.inputs_v = [0.0] * self.model.inputs
        self.reference_v = reference_v
        self.present = True
        self.controller = True
        self.transfers: list[bytes] = []

    def bus(self, fd: int, *, mode: int, speed_hz: int) -> Mcp3x0xChip:
        """What the driver's `bus_factory` makes."""
        return self

    def transfer(self, data: bytes) -> bytes:
        """Clock `data` in, high bit first; the answer begins two clocks after the last of the selection's bits."""
        if not self.controller:
            raise LinkLost("the SPI controller is gone")
        self.transfers.append(data)
        if not self.present:
            return b"\xff" * len(data)
        sent = "".join(f"{byte:08b}" for byte in data)
        start = sent.find("1")
        if start < 0:
            return b"\xff" * len(data)
        selection = int(sent[start + 1 : start + 5], 2)
        number = f"{self._convert(selection):0{self.model.bits}b}"
        # one clock to sample, then the null bit, then the number; before that the output floats (high here)
        out = "1" * (start + 6) + "0" + number
        return int((out + "0" * len(sent))[: len(sent)], 2).to_bytes(len(data), "big")

    def _convert(self, selection: int) -> int:
        channel = selection & 0x7
        if self.model.inputs == 4:
            channel &= 0x3
        volts = self.inputs_v[channel] - (0.0 if selection & 0x8 else self.inputs_v[channel ^ 1])
        counts = int(volts / self.reference_v * self.model.steps)
        return max(0, min(self.model.steps - 1, counts))
