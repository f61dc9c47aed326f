"""An AxiDraw that is not there: the firmware's behaviour on a pseudo-terminal or a TCP port, and what its pen drew.

In a test::

    with AxiDrawSimulator(firmware="3", speed="instant", faults=["unplug@120"]) as sim:
        ...  # talk to sim.address
        sim.press_button()
        sim.strokes  # what was drawn, in millimetres

As a program: `python simulator.py [--firmware 2.8|3] [--speed real|N|instant] [--record OUT.svg] [--fault KIND@AFTER]
[--tcp PORT] [--page WxH]` prints one JSON line and serves until SIGTERM. SIGUSR1 presses the button, SIGUSR2
plugs the cable in again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vfab.sdk.ebb import EbbSimulator
from vfab.sdk.simulation import arguments, page_mm, serve

__all__ = ["AxiDrawSimulator", "main"]


class AxiDrawSimulator(EbbSimulator):
    """An EiBotBoard in an AxiDraw. Arguments and attributes are those of `EbbSimulator`."""


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM, SIGINT or the end of its terminal; the process's exit code."""
    parser = arguments("axidraw", "A simulated AxiDraw.")
    parser.add_argument("--firmware", default="3", help="2.8 or 3, or a whole version")
    options = parser.parse_args(list(argv))
    return serve(
        "axidraw",
        lambda: AxiDrawSimulator(
            options.firmware,
            options.speed,
            page_mm=page_mm(options.page),
            faults=options.fault,
            address="pty" if options.tcp is None else "tcp",
            port=options.tcp or 0,
        ),
        options.record,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
