"""What `ALARM:n` and `error:n` mean, and what to do: GRBL 1.1's tables, and the codes that grblHAL adds.

Source: the GRBL 1.1 wiki, "Interfacing" and the code tables; grblHAL's `errors.c` and `alarms.c` for what is above 38
and 9. Texts are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALARMS", "ERRORS", "Meaning", "alarm_meaning", "error_meaning"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """One code.

    Attributes:
        code: the number.
        text: what happened, without a full stop.
        remedy: what to do.
        keeps_position: alarms only: the position is still known, so unlocking is enough.
    """

    code: int
    text: str
    remedy: str
    keeps_position: bool = False


_HOME = "Clear the way, then home the machine; without switches push it home and unlock."
_LINE = "The line was not executed: correct it."
_LOST = "Bytes were probably lost on the way: try another cable or a lower speed."
_WIRING = "Check limit switches and their wiring, and the homing settings $22 to $27 and $130 to $132."
_SETTING = "Give a value that the firmware takes; `$$` lists the settings."
_LOCKED = "Home the machine or unlock it first."
_BOARD = "Switch the controller off and on; if it stays, the board needs attention."
_MACRO = "Only macro files on the controller use this: correct the file."


def _alarms(*rows: tuple[int, str, str, bool]) -> dict[int, Meaning]:
    return {code: Meaning(code, text, remedy, kept) for code, text, remedy, kept in rows}


ALARMS = _alarms(
    (1, "a limit switch was hit; the sudden stop probably lost steps", _HOME, False),
    (2, "a target lies beyond the soft limits; nothing was lost", "Unlock, and stay within the travel.", True),
    (3, "reset while moving; the sudden stop probably lost steps", _HOME, False),
    (4, "the probe was not in the state that it must begin with", "Check the probe, then unlock.", True),
    (5, "the probe touched nothing within its travel", "Check the probe and its travel, then unlock.", True),
    (6, "homing was ended by a reset", _HOME, False),
    (7, "homing was ended by the safety door", "Close the door, then home again.", False),
    (8, "homing could not leave the limit switch", _WIRING, False),
    (9, "homing found no limit switch", _WIRING, False),
    (10, "emergency stop, or a dual axis found no second switch", "Release it, then reset and home.", False),
    (11, "homing is required", "Home the machine.", False),
    (12, "a limit switch is engaged", "Move the machine off its switch, then reset.", False),
    (13, "the probe protection has tripped", "Free the probe, then reset.", True),
    (14, "the spindle did not reach its speed in time", "Check the spindle, then reset.", True),
    (15, "homing found no second switch of an auto-squared axis", _WIRING, False),
    (16, "the power-on self-test failed", _BOARD, False),
    (17, "a motor driver reports a fault", _BOARD, False),
    (18, "homing is configured wrongly", _WIRING, False),
    (19, "the Modbus spindle does not answer", "Check the spindle's cable and settings, then reset.", True),
    (20, "the input/output expander does not answer", _BOARD, True),
    (21, "the persistent settings could not be read or written", _BOARD, True),
)  # fmt: skip
"""All alarms by number."""


def _errors(*rows: tuple[int, str, str]) -> dict[int, Meaning]:
    return {code: Meaning(code, text, remedy) for code, text, remedy in rows}


ERRORS = _errors(
    (1, "a G-code word must begin with a letter", _LOST),
    (2, "a number is missing or malformed", _LOST),
    (3, "this $ command is not known", "Check the command; older firmware and clones lack some."),
    (4, "the value is negative", _SETTING),
    (5, "homing is not switched on", "Set $22=1 if the machine has limit switches."),
    (6, "the step pulse is shorter than 3 µs", _SETTING),
    (7, "stored settings could not be read; defaults were restored", "Check all settings: `$$`."),
    (8, "this is only possible while the machine is idle", "Wait until it stands still."),
    (9, "G-code is locked by an alarm or a jog", _LOCKED),
    (10, "soft limits need homing", "Set $22=1 before $20=1."),
    (11, "the line is too long for the firmware", "Send shorter lines."),
    (12, "the setting asks for more steps a second than the firmware makes", "Lower $100 to $102 or $110 to $112."),
    (13, "the safety door is open", "Close the door, then resume."),
    (14, "the line is too long to be stored", "Shorten the startup line or build info."),
    (15, "the jog's target is beyond the machine's travel", "Jog within the machine's travel."),
    (16, "this jog is malformed", "A jog is $J= with axis words, F, and G20/G21/G53/G90/G91 only."),
    (17, "laser mode needs a PWM output", "Build the firmware with variable spindle, or set $32=0."),
    (18, "a reset is asserted", _BOARD),
    (19, "the value must be above zero", _SETTING),
    (20, "this G-code command is not supported", _LINE),
    (21, "two commands of one modal group in a line", _LINE),
    (22, "there is no feed rate yet", "Give an F word before the first G1."),
    (23, "the command needs a whole number", _LINE),
    (24, "two commands of a line both need the axis words", _LINE),
    (25, "a word is repeated", _LINE),
    (26, "the command has no axis words", _LINE),
    (27, "the line number is out of range", "Use N1 to N9999999."),
    (28, "the command lacks a value word", _LINE),
    (29, "the work coordinate system is not supported", "Use G54 to G59."),
    (30, "G53 goes with G0 and G1 only", _LINE),
    (31, "axis words that no command uses", _LINE),
    (32, "the arc has no axis word in its plane", _LINE),
    (33, "the target of the motion is invalid", _LINE),
    (34, "the arc's radius cannot be", _LINE),
    (35, "the arc has no centre offset in its plane", _LINE),
    (36, "value words that nothing uses", _LINE),
    (37, "G43.1 is not for this axis", _LINE),
    (38, "the tool number is too large", _LINE),
    (39, "a value is out of range", _LINE),
    (40, "a tool change is pending", "Finish the tool change first."),
    (41, "the spindle does not turn", "Start the spindle before this motion."),
    (42, "threading works in plane ZX only", _LINE),
    (43, "the feed rate is above the machine's", "Lower the feed rate."),
    (44, "the spindle speed is out of range", "Stay between $31 and $30."),
    (45, "a limit switch is engaged: only homing is possible", "Home the machine."),
    (46, "the machine must be homed first", "Home the machine."),
    (47, "the current tool is not known", "Set it with M61."),
    (48, "two value words contradict each other", _LINE),
    (49, "the power-on self-test failed", _BOARD),
    (50, "the emergency stop is active", "Release it, then reset."),
    (51, "a motor driver reports a fault", _BOARD),
    (52, "the setting's value is out of range", _SETTING),
    (53, "the setting is not available on this board", _SETTING),
    (54, "the retract height is below the hole's depth", _LINE),
    (55, "two auto-squared axes cannot be homed at once", _WIRING),
    (56, "the coordinate system is locked", "Unlock it in the firmware's settings."),
    (57, "a file's end mark was not expected", _MACRO),
    (58, "the port is not available", "Name a port that the board has."),
    (60, "the SD card could not be mounted", "Check the card."),
    (61, "the SD card could not be read", "Check the card."),
    (62, "the folder could not be opened", "Check the card."),
    (63, "there is no such folder", "Name another folder."),
    (64, "no SD card is mounted", "Mount it by $FM."),
    (65, "no file system is mounted", "Mount it first."),
    (66, "the file system is read-only", "Name another place."),
    (70, "Bluetooth could not be started", _BOARD),
    (71, "an expression has an unknown operation", _MACRO),
    (72, "an expression divides by zero", _MACRO),
    (73, "an expression's argument is out of range", _MACRO),
    (74, "an expression's argument is invalid", _MACRO),
    (75, "an expression is malformed", _MACRO),
    (76, "an expression has no finite result", _MACRO),
    (77, "the controller wants a password", "Log in by $PW=."),
    (78, "access is denied", "Log in with more rights."),
    (79, "not possible during a critical event", "Clear the alarm, then reset."),
    (80, "flow control works in macro files only", _MACRO),
    (81, "unknown flow control", _MACRO),
    (82, "flow control is nested too deeply", _MACRO),
    (83, "flow control is out of memory", _MACRO),
    (84, "a file could not be opened", "Check the card and the file's name."),
    (253, "the macro raised an error", _MACRO),
)
"""All errors by number."""


def alarm_meaning(code: int) -> Meaning:
    """What `ALARM:code` means; an unknown number gets a text, too."""
    return ALARMS.get(code) or Meaning(code, "an alarm that this table does not have", _HOME)


def error_meaning(code: int) -> Meaning:
    """What `error:code` means; an unknown number gets a text, too."""
    return ERRORS.get(code) or Meaning(code, "an error that this table does not have", _LINE)
