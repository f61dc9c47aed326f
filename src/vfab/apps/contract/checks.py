"""The checks, in the order in which they run; which rules of quality.yaml each of them refutes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vfab.apps.contract import calls, categories, faults, leaks, life, streaming
from vfab.apps.contract.model import Check

__all__ = ["CHECKS", "FIRST", "RULE_CHECKS"]

FIRST = "starts"
"""Without it no other check can be run."""

CHECKS: tuple[Check, ...] = (
    Check(FIRST, "starts in a process of its own and initialises", life.starts, simulated=False),
    Check("connects", "connects, and says that it is connected", life.connects, simulated=False),
    Check("test-connection", "test_connection says that the device works", life.test_connection, simulated=False),
    Check("connect-twice", "a second connect harms nothing", life.connect_twice, simulated=False),
    Check("close-twice", "a second disconnect or close harms nothing", life.close_twice, simulated=False),
    Check("reset", "resets and is usable again", life.reset, simulated=False),
    Check("reconnect", "connects again and again in one process", life.reconnect, simulated=False),
    Check("commands", "every command of the manifest can be called, or is refused", calls.commands),
    Check("unknown-command", "what is no command is refused", calls.unknown_command, simulated=False),
    Check("host-killed", "works again after its process was killed", life.host_killed),
    Check("safe-stop", "the safe_stop bytes arrive when its process is killed", life.safe_stop, through_proxy=True),
    Check("nothing-left", "closes and leaves no process", life.nothing_left, simulated=False),
    Check("nobody-there", "says so when nobody is there, and connects later", faults.nobody_there, through_proxy=True),
    Check("silent-peer", "says so when nothing answers", faults.silent_peer, through_proxy=True),
    Check("garbage-at-connect", "says so when nonsense answers", faults.garbage_at_connect, through_proxy=True),
    Check("garbage-reply", "takes no nonsense for an answer", faults.garbage_reply, through_proxy=True),
    Check("peer-killed", "says so when its peer goes in the middle", faults.peer_killed, through_proxy=True),
    Check("peer-gone", "says so when its peer has gone", faults.peer_gone, through_proxy=True),
    Check("slow-peer", "understands a peer whose bytes come one by one", faults.slow_peer, through_proxy=True),
    Check("flood", "survives bytes without end", faults.flood, through_proxy=True),
    Check("cancel", "ends a call that is cancelled, and is not confused by the late answer", calls.cancel,
          through_proxy=True),
    Check("stop-streaming", "stops streaming, again and again", streaming.stop_streaming),
    Check("disconnect-streaming", "can be disconnected and closed while it streams", streaming.disconnect_streaming),
    Check("peer-gone-streaming", "stops when its peer goes while it streams", streaming.peer_gone_streaming,
          through_proxy=True),
    Check("square", "plots a square of 20 mm where it should be", categories.plots_square, "plotter"),
    Check("image", "captures an image of the size and format that it says", categories.captures, "camera", False),
    Check("reading", "reads a value with its unit", categories.reads, "sensor", simulated=False),
    Check("sensor-info", "says what it senses", categories.sensor_info, "sensor", simulated=False),
    Check("identity", "says who made the instrument, and which it is", categories.identity, "instrument", False),
    Check("capabilities", "measures what its manifest says, and refuses what it cannot",
          categories.measures_what_it_says, "instrument", simulated=False),
    Check("error-queue", "reads the instrument's error queue", categories.error_queue, "instrument", simulated=False),
    Check("answer", "sends, and tells what comes back", categories.answers, "communication"),
    Check("connection-info", "says what it is connected to", categories.connection_info, "communication", False),
    Check("leak", f"has what it had after {leaks.CONNECTS} connects", leaks.leak, limit_s=300.0),
)  # fmt: skip
"""Every check; a name stays what it is, since exemptions name it."""

_FAULTS = (
    "nobody-there",
    "silent-peer",
    "garbage-at-connect",
    "garbage-reply",
    "peer-killed",
    "peer-gone",
    "slow-peer",
)

RULE_CHECKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "simulator": ("starts", "connects"),
        "manifest-complete": ("commands",),
        "errors-with-remedy": _FAULTS,
        "reconnect": ("reset", "reconnect", "host-killed", "nobody-there", "leak"),
        "unplug": ("peer-killed", "peer-gone", "peer-gone-streaming"),
        "cancel": ("cancel",),
        "safe-stop": ("safe-stop",),
        "streams": ("stop-streaming", "disconnect-streaming", "peer-gone-streaming"),
        "units": ("reading",),
        "contract-suite": tuple(check.name for check in CHECKS),
    }
)
"""A rule of quality.yaml that claims to be done is refuted by each of these checks that fails."""
