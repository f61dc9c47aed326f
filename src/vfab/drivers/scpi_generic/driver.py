"""The driver for any SCPI instrument that the broker can open."""

from __future__ import annotations

from vfab.sdk.scpi_expressions import ExpressionInstrument

__all__ = ["ScpiGenericDriver"]


class ScpiGenericDriver(ExpressionInstrument):
    """Any SCPI instrument at `tcp://host:5025`, on a serial port, or at `/dev/usbtmcN`."""
