"""The GRBL driver: pen plotters whose controller runs GRBL 1.1 or grblHAL."""

from __future__ import annotations

import re
import threading
from typing import Any

from vfab.model.errors import DriverError, HardwareError, Refused
from vfab.protocols import grbl
from vfab.protocols.grbl import Message, Realtime, State
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import Environment, command
from vfab.sdk.motion import Plan, Resume
from vfab.sdk.plot_job import PlotJob, shielded
from vfab.sdk.plotter import Machine
from vfab.sdk.wired_plotter import WiredPlotter

from .connection import Conversation
from .settings import Controller, Settings
from .streaming import MODES, SYNC, Streamer

__all__ = ["GrblDriver"]

_OFFSETS = ("G54", "G92")
_REFUSED_RAW = ("$RST", "$SLP", "$X", "$H", "$J", "$C", "$REBOOT")
_MOVED_MM = 0.01
_HOMING_ENDED = 6
"""The alarm of a homing cycle that was ended by a reset."""
_WORDS = re.compile(r"(?:[A-Z][-+]?(?:\d+\.?\d*|\.\d+))+\Z|\$")
_PEN_WORDS = re.compile(r"M0*[34](?!\d)|Z|G0*28|G0*30")


class GrblDriver(WiredPlotter[Conversation, Streamer]):
    """Drives a plotter with a GRBL controller. Home, the page's corner, is its position `origin_x_mm`, `origin_y_mm`.

    Machines without switches count from where they stood when they were switched on. Those with switches (`$22=1`) know
    their place once `home` has run.
    """

    hands_over = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._settings = Settings(self.config)
        self._jog_stop = threading.Event()

    # -- the connection -----------------------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Open the link, find the controller, bring it to rest, reset it with its position kept, raise the pen.

        A controller that is locked by an alarm is unlocked if it has no homing cycle; otherwise it stays locked, and
        `home` or `unlock` is what it needs.

        Raises ProtocolError: something else answers. TimeoutExceeded: nothing does. ConnectError and its kind: the
            link cannot be opened. Nothing is left open then.
        """
        return self._begin()

    def _open(self) -> None:
        link = self.open_link(self.config["port"] or None, baudrate=self.config["baudrate"])
        self._talk = Conversation(link, float(self.config["timeout_s"]), tell=self._told)
        self._set_up(self._talk, boot_s=float(self.config["boot_s"]))

    def _told(self, message: Message) -> None:
        self.log.info("the controller says: %s", message.raw)

    def _set_up(self, talk: Conversation, boot_s: float) -> None:
        """Bring a controller in whatever state to: still, modes set, pen up, position known."""
        before = talk.begin(boot_s)
        booted = before is None or talk.forgetful
        talk.forgetful = False
        self._read_controller(talk)
        locked = talk.alarm is not None
        if locked and not self._settings.controller.homes:
            self.log.warning("the controller was locked by an alarm: unlocked, the position is taken as it is counted")
            talk.ask("$X")
            talk.alarm = None
        # a reset at rest changes the work offset at most: what was told before it is still true
        status = before if before is not None and before.mpos is not None else talk.status()
        streamer = self._streamer = Streamer(talk, self._settings, (0.0, 0.0))
        at = streamer.position = streamer.place(status) or (0.0, 0.0)
        moved = status.mpos is not None and any(abs(value) > _MOVED_MM for value in status.mpos[:2])
        if booted or locked or not moved:
            self._count_from_now()
        else:
            self._counted_since_s = self._read_counted_since()
        if talk.alarm is None:
            streamer.prepare()
        self.log.info("GRBL %s at %s, pen at %s", self._settings.controller.version, talk.link.address, at)

    def _read_controller(self, talk: Conversation) -> None:
        """Settings, build and offsets; clones that lack one of these commands are used without it."""
        settings: dict[int, float] = {}
        version = options = ""
        offset = [0.0, 0.0, 0.0]
        for message in [said for ask in ("$$", "$I", "$#") for said in self._asked(talk, ask)]:
            match message:
                case grbl.SettingLine(number=number, value=float(value)):
                    settings[number] = value
                case grbl.BuildInfo():
                    version = message.version
                case grbl.Options():
                    options = message.letters
                case grbl.Offset(name=name, values=values) if name in _OFFSETS:
                    offset = [a + b for a, b in zip(offset, [*values, 0.0, 0.0][:3], strict=True)]
                case grbl.Offset(name="TLO", values=values) if values:
                    offset[2] += values[-1]
                case _:
                    pass
        welcome = talk.client.welcome
        version = version or (welcome.version if welcome else "")
        told = Controller(settings, tuple(offset), version, options)
        self._settings = Settings(self.config, told, self._settings.origin)
        talk.client.know_offset(told.wco)

    def _asked(self, talk: Conversation, line: str) -> list[Message]:
        try:
            return talk.ask(line)
        except DriverError as error:
            if not talk.sound:
                raise
            self.log.warning("the controller does not know %s: %s", line, error.message)
            return []

    def disconnect(self) -> None:
        """Raise the pen, close the link. A running job is told to stop first. Never raises: what fails is logged."""
        self._jog_stop.set()
        job, talk, streamer = self._job, self._talk, self._streamer
        if job is not None:
            job.ask_stop()
        if talk is not None and (job is not None or not talk.sound):
            if not talk.lost:
                talk.stop_blindly()
        elif talk is not None and streamer is not None and not streamer.pen_up and talk.alarm is None:
            try:
                streamer.pen(up=True)
            except DriverError as error:
                self.log.warning("the pen could not be raised on disconnect: %s", error.message)
        self._hang_up()

    def save_state(self, version: int) -> dict[str, Any]:
        """Where home was put by `set_origin`; the rest is the controller's to know."""
        return {"origin": self._settings.origin}

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """See `save_state`."""
        origin = state.get("origin")
        self._settings = Settings(self.config, self._settings.controller, (origin[0], origin[1]) if origin else None)

    def reset(self) -> None:
        """Reset the controller, at rest, and set it up again: pen up, position kept if possible.

        Raises what `connect` raises.
        """
        if self._talk is None or self._talk.lost:
            self.connect()
            return
        with shielded():
            self._set_up(self._talk, float(self.config["timeout_s"]))

    @command
    def test_connection(self) -> dict[str, Any]:
        """Ask the controller for its status: `{"success", "message", "details"}`."""
        if not self.is_connected():
            return {"success": False, "message": "not connected", "details": {}}
        try:
            details = self.board()
        except DriverError as error:
            return {"success": False, "message": error.message, "details": error.to_public()}
        message = f"GRBL {details['firmware']}, {details['state']}"
        return {"success": details["alarm"] is None, "message": message, "details": details}

    # -- the plotter's primitives -------------------------------------------------------------------------------------

    def machine(self) -> Machine:
        """Travel and limits, by the settings and by what the controller told."""
        return self._settings.machine

    def stream(self, plan: Plan, job: PlotJob) -> Resume | None:
        """See `PlotterDriver.stream`."""
        return self._ready()[1].run(plan, job)

    def lift(self) -> None:
        """Raise the pen and wait until it is up."""
        self._ready()[1].pen(up=True)

    def lower(self) -> None:
        """Lower the pen and wait until it is down."""
        self._ready()[1].pen(up=False)

    def idle(self, job: PlotJob) -> None:
        """Find out whether the controller still lives and is as it was left."""
        self._ready()[0].pump(0.0)

    def keeps_position(self, since_s: float) -> bool:
        """Whether the controller has counted without a break since before `since_s`."""
        self._ready()
        return self._counted_since_s < since_s

    def _connected(self) -> tuple[Conversation, Streamer]:
        talk, streamer = self._in_use()
        if not talk.sound:
            with shielded():
                self._set_up(talk, float(self.config["timeout_s"]))
        return talk, self._streamer or streamer

    def _ready(self) -> tuple[Conversation, Streamer]:
        """The controller, in step with us and not locked.

        Raises IllegalTransition: not connected. HardwareError: an alarm locks it. What `connect` raises.
        """
        talk, streamer = self._connected()
        if talk.alarm is not None:
            meaning = grbl.alarm_meaning(talk.alarm)
            raise HardwareError(
                f"the machine is locked: {meaning.text}" if talk.alarm else "the machine is locked until it is homed",
                context={"alarm": talk.alarm},
                remedy="Run `home`, or put the pen where it is counted to be and run `unlock`.",
            )
        return talk, streamer

    # -- the contract, where GRBL has more ----------------------------------------------------------------------------

    @command
    def home(self) -> dict[str, Any]:
        """Lift the pen; with switches (`$22=1`) run the homing cycle; travel to home (0, 0). Returns `position()`.

        Raises HardwareError: the homing cycle failed; the machine stays locked. Cancelled: likewise.
        """
        self._refuse_while_plotting("home")
        talk, streamer = self._connected()
        if not self._settings.controller.homes:
            self._ready()
            return super().home()
        if talk.alarm is None:
            streamer.pen(up=True)
        token = current_token.get()
        with shielded():
            talk.send("$H", lasts_s=float(self.config["homing_timeout_s"]))
            while not talk.client.idle and not _given_up(token):
                talk.pump()
            if not talk.client.idle:
                talk.reset()
                talk.alarm = _HOMING_ENDED
        self.checkpoint()
        with shielded():
            talk.alarm = None
            streamer.position = streamer.place(talk.status()) or streamer.position
            streamer.prepare()
        self._count_from_now()
        return super().home()

    @command
    def unlock(self) -> dict[str, Any]:
        """Clear an alarm without homing, and raise the pen: the position is taken as it is counted.

        Returns `position()`.
        """
        self._refuse_while_plotting("unlock")
        talk, streamer = self._connected()
        with shielded():
            talk.ask("$X")
            talk.alarm = None
            streamer.position = streamer.place(talk.status()) or streamer.position
            streamer.prepare()
        return self.position()

    @command
    def set_origin(self) -> dict[str, Any]:
        """Where the pen stands now is home from now on, until this driver ends. Returns `position()`."""
        self._refuse_while_plotting("set_origin")
        _, streamer = self._ready()
        self._settings = Settings(self.config, self._settings.controller, self._settings.to_machine(streamer.position))
        streamer.settings, streamer.position = self._settings, (0.0, 0.0)
        self._count_from_now()
        return self.position()

    @command
    def jog(self, dx_mm: float = 0.0, dy_mm: float = 0.0, speed_mm_s: float = 20.0) -> dict[str, Any]:
        """Lift the pen and move by (dx_mm, dy_mm), x right, y down; `jog_cancel` stops it. Returns `position()`.

        Raises Refused: it leads out of reach, nothing moved. Cancelled: the machine slowed down and stands still.
        """
        self._refuse_while_plotting("jog")
        talk, streamer = self._ready()
        (x, y), _ = self.where()
        target = (x + dx_mm, y + dy_mm)
        self._check_points([target])
        if not streamer.pen_up:
            streamer.pen(up=True)
        token = current_token.get()
        self._jog_stop.clear()
        with shielded():
            talk.ask(f"$J=G90G21{self._settings.words(target)}F{max(speed_mm_s, 0.1) * 60:.0f}")
            while talk.status().state is State.JOG and not self._jog_stop.is_set():
                if _given_up(token):
                    break
            streamer.position = streamer.place(self._rest(talk)) or streamer.position
        self.checkpoint()
        return self.position()

    def _rest(self, talk: Conversation) -> grbl.Status:
        """End a jog, if there still is one; the status at rest."""
        while (status := talk.status()).state is State.JOG:
            talk.realtime(Realtime.JOG_CANCEL)
        return status

    @command(concurrent=True)
    def jog_cancel(self) -> dict[str, Any]:
        """Stop a jog: the machine slows down, and its call returns. Otherwise it does nothing. Returns `status()`."""
        self._jog_stop.set()
        return self.status()

    @command(concurrent=True)
    def limits(self) -> dict[str, Any]:
        """What the machine may do, and which of its limits are switched on.

        Returns: `{"width_mm", "height_mm", "top_speed_mm_s", "acceleration_mm_s2", "soft_limits", "hard_limits",
            "homing"}`; the last three are null while no controller is connected.
        """
        machine, told = self.machine(), self._settings.controller.settings
        switches = {"soft_limits": 20, "hard_limits": 21, "homing": 22}
        return {
            "width_mm": machine.width_mm,
            "height_mm": machine.height_mm,
            "top_speed_mm_s": round(machine.top_speed_mm_s, 3),
            "acceleration_mm_s2": machine.profile.pen_down.acceleration_mm_s2,
            **{name: bool(told[number]) if number in told else None for name, number in switches.items()},
        }

    @command
    def sleep(self) -> dict[str, Any]:
        """Raise the pen and switch the motors off. The next movement wakes the controller; home must be set anew.

        Returns `status()`.
        """
        self._refuse_while_plotting("sleep")
        talk, streamer = self._ready()
        streamer.pen(up=True)
        talk.ask("$SLP")
        talk.sound, talk.forgetful = False, True
        return self.status()

    # -- what only this driver has ------------------------------------------------------------------------------------

    @command
    def board(self) -> dict[str, Any]:
        """Ask the controller: `{"firmware", "options", "state", "alarm", "mpos", "pins", "window_bytes"}`.

        `mpos` is in the controller's own coordinates and units; `alarm` is null, or the number of the alarm that locks
        the machine (0: it did not say which).
        """
        self._refuse_while_plotting("board")
        talk, _ = self._connected()
        status, told = talk.status(), self._settings.controller
        state = status.state.value if status.substate is None else f"{status.state.value}:{status.substate}"
        return {
            "firmware": told.version,
            "options": told.options,
            "state": state,
            "alarm": talk.alarm,
            "mpos": list(status.mpos or ()),
            "pins": status.pins,
            "window_bytes": talk.client.window,
        }

    @command
    def settings(self) -> list[dict[str, Any]]:
        """The controller's settings: a list of `{"number", "name", "unit", "value"}`."""
        self._refuse_while_plotting("settings")
        talk, _ = self._connected()
        found = [said for said in talk.ask("$$") if isinstance(said, grbl.SettingLine)]
        known = grbl.SETTINGS
        return [
            {
                "number": said.number,
                "name": known[said.number].name if said.number in known else said.note,
                "unit": known[said.number].unit if said.number in known else "",
                "value": said.value,
            }
            for said in found
        ]

    @command
    def set_setting(self, number: int, value: float) -> dict[str, Any]:
        """Change `$number`; it lasts. Returns `{"number", "value"}` as the controller has it afterwards.

        Raises Refused: out of the setting's range, nothing was sent. ProtocolError: the controller refused it.
        """
        self._refuse_while_plotting("set_setting")
        line = grbl.check_setting(number, float(value))
        talk, streamer = self._connected()
        talk.ask(line, lasts_s=1.0)
        self._read_controller(talk)
        streamer.settings = self._settings
        return {"number": number, "value": self._settings.controller.settings.get(number)}

    @command
    def send(self, line: str) -> dict[str, Any]:
        """Send one line and wait until what it does is over: `{"replies", "x_mm", "y_mm", "pen"}`.

        After a line that may have lowered the pen it counts as down. What a line draws is not checked against the page.

        Raises Refused: no G-code and no $ command, real-time bytes, a $ command that has a command of its own here, or
            a line that writes the EEPROM; nothing was sent. ProtocolError: the controller refused it.
        """
        self._refuse_while_plotting("send")
        text = line.strip()
        upper = text.upper().replace(" ", "")
        grbl.check_text(text)
        if not _WORDS.match(upper) or upper.startswith(_REFUSED_RAW) or grbl.writes_eeprom(upper):
            raise Refused(
                f"{text[:40]!r} is not sent as it is",
                context={"line": text[:80]},
                remedy="Send G-code words such as G1X10F600, or a $ command that asks; for the rest use home, unlock, "
                "sleep, jog and set-setting.",
            )
        talk, streamer = self._ready()
        replies = [said.raw for said in talk.ask(text, lasts_s=60.0)]
        with shielded():
            talk.ask(SYNC, MODES)
            if _PEN_WORDS.search(upper):
                streamer.pen_up = False
            streamer.position = streamer.place(talk.status()) or streamer.position
        return {"replies": replies, **self.position()}


def _given_up(token: CancelToken | None) -> bool:
    """Whether the caller of the running call does not wait any more."""
    try:
        if token is not None:
            token.check()
    except DriverError:
        return True
    return False
