"""GRBL 1.1 and grblHAL: the serial protocol of most desktop machines, sans I/O, both sides.

The host's side is `Client`; the firmware's is `Firmware`, a simulated machine that moves in simulated time.
Sources: the GRBL 1.1 wiki ("Interfacing", "Commands", "Configuration") and grblHAL's core.
"""

from __future__ import annotations

from vfab.protocols.grbl.client import LINE_TEXT_MAX, STATUS_INTERVAL_S, WINDOW_BYTES, Client, check_text
from vfab.protocols.grbl.codes import ALARMS, ERRORS, Meaning, alarm_meaning, error_meaning
from vfab.protocols.grbl.machine import Firmware, Observer
from vfab.protocols.grbl.messages import (
    Alarm,
    BuildInfo,
    Failed,
    Feedback,
    Help,
    Line,
    LineSplitter,
    Message,
    Modes,
    Offset,
    Ok,
    Options,
    Probe,
    Report,
    SettingLine,
    StartupLine,
    StartupRun,
    Unknown,
    Welcome,
    parse_line,
)
from vfab.protocols.grbl.planner import BLOCKS, Motion, Planner
from vfab.protocols.grbl.realtime import REALTIME_BYTES, Realtime
from vfab.protocols.grbl.server import RX_BYTES, InputBuffer
from vfab.protocols.grbl.settings import SETTINGS, Setting, check_setting, writes_eeprom
from vfab.protocols.grbl.status import Position, State, Status, StatusReader, format_status, parse_status

__all__ = [
    "ALARMS",
    "BLOCKS",
    "ERRORS",
    "LINE_TEXT_MAX",
    "REALTIME_BYTES",
    "RX_BYTES",
    "SETTINGS",
    "STATUS_INTERVAL_S",
    "WINDOW_BYTES",
    "Alarm",
    "BuildInfo",
    "Client",
    "Failed",
    "Feedback",
    "Firmware",
    "Help",
    "InputBuffer",
    "Line",
    "LineSplitter",
    "Meaning",
    "Message",
    "Modes",
    "Motion",
    "Observer",
    "Offset",
    "Ok",
    "Options",
    "Planner",
    "Position",
    "Probe",
    "Realtime",
    "Report",
    "Setting",
    "SettingLine",
    "StartupLine",
    "StartupRun",
    "State",
    "Status",
    "StatusReader",
    "Unknown",
    "Welcome",
    "alarm_meaning",
    "check_setting",
    "check_text",
    "error_meaning",
    "format_status",
    "parse_line",
    "parse_status",
    "writes_eeprom",
]
