"""A command through `DeviceDriverManager`, from a program without an event loop: what the façade costs."""

from __future__ import annotations

import os
from contextlib import ExitStack

from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import LiveKernel, make_plugin
from vfab.apps.bench.measure import take_turns
from vfab.apps.manager import DeviceDriverManager
from vfab.model.devices import DeviceInfo

__all__ = ["KEYS", "run"]

KEYS = ("manager_command_us",)
CHANNEL = "blocking channel, no states"
_NAME = "bench"


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    home = session.folder / "manager-home"
    make_plugin(home / "plugins")
    env = {**os.environ, "VFAB_HOME": str(home)}
    device = DeviceInfo(id="bench:manager", bus="bench", address="bench://manager")
    with ExitStack() as stack:
        manager = stack.enter_context(DeviceDriverManager(env))
        manager.connect_device(_NAME, device).check()
        kernel = stack.enter_context(LiveKernel(session.folder))
        channel = stack.enter_context(kernel.run(kernel.run(kernel.connected()).open_channel()))
        rounds, each = session.many(10, 60), 100
        session.say(f"manager_command_us: {rounds * each} commands")
        candidates = {
            "": lambda: manager.execute_command(_NAME, "nop", device_id=device.id).check(),
            CHANNEL: lambda: channel.call("nop"),
        }
        for name, samples in take_turns(candidates, rounds=rounds, each=each, warm=50, per_s=1e6).items():
            session.findings.distribution("manager_command_us", samples, name or None)
