"""A host is killed: how long until its driver answers the next call."""

from __future__ import annotations

import os
import signal
from time import perf_counter_ns

from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import LiveKernel
from vfab.model.errors import HostDied, IllegalTransition

__all__ = ["KEYS", "run"]

KEYS = ("crash_to_ready_ms",)


def run(session: Session) -> None:
    """Measure `KEYS`."""
    times = session.many(5, 40)
    session.say(f"crash_to_ready_ms: {times} × kill -9")
    with LiveKernel(session.folder) as kernel:
        samples = [kernel.run(_recovery_ms(kernel)) for _ in range(times)]
    session.findings.distribution("crash_to_ready_ms", samples)
    session.findings.notes["crash_to_ready_ms"] = "the first death of a device; the back-off grows with further ones"


async def _recovery_ms(kernel: LiveKernel) -> float:
    device = await kernel.connected()
    await device.call("nop")
    pid = device.pid
    assert pid is not None
    begun = perf_counter_ns()
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            await device.call("nop")
        except (HostDied, IllegalTransition):
            await device.ready_again()
        else:
            if device.pid != pid:
                break
    took_ms = (perf_counter_ns() - begun) / 1e6
    await kernel.supervisor.release(device.id)
    return took_ms
