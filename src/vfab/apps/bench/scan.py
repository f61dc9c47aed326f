"""A scan with every detection handler of this machine, and one more that hangs."""

from __future__ import annotations

import os
import threading

from vfab.apps.bench.findings import Session
from vfab.apps.bench.measure import take_turns
from vfab.kernel.detection import DetectionHandler
from vfab.kernel.detector import default_detection
from vfab.model.devices import DeviceInfo

__all__ = ["KEYS", "run"]

KEYS = ("scan_ms",)


class HangingHandler(DetectionHandler):
    """Answers when it is released, and not before."""

    def __init__(self) -> None:
        super().__init__("hanging")
        self.released = threading.Event()

    def find(self) -> list[DeviceInfo]:
        """Nothing, late."""
        self.released.wait()
        return []


def run(session: Session) -> None:
    """Measure `KEYS`."""
    session.say("scan_ms: every handler and one that hangs")
    hanging: list[HangingHandler] = []
    problems: set[str] = set()

    def scan() -> None:
        detection = default_detection(os.environ)
        hanging.append(HangingHandler())
        detection.register_handler(hanging[-1])
        problems.update(problem.handler for problem in detection.scan().problems)

    try:
        samples = take_turns({"": scan}, rounds=session.many(1, 5), warm=0)[""]
    finally:
        for handler in hanging:
            handler.released.set()
    session.findings.distribution("scan_ms", samples)
    session.findings.notes["scan_ms"] = f"handlers named as failed or hanging: {', '.join(sorted(problems))}"
