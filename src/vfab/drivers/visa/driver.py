"""The driver for any SCPI instrument that only VISA reaches."""

from __future__ import annotations

from vfab.sdk.scpi_expressions import ExpressionInstrument

__all__ = ["VisaDriver"]


class VisaDriver(ExpressionInstrument):
    """Any SCPI instrument whose address is a VISA resource: `TCPIP0::192.0.2.7::inst0::INSTR`, `GPIB0::24::INSTR`.

    It differs from `scpi-generic` in what it may touch and needs: the network of the host, and PyVISA.
    """
