"""The driver of plotters with an EiBotBoard: the board, its motors and its pen. The machine is a subclass' affair."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from vfab.model.errors import DriverError, HardwareError
from vfab.protocols import ebb
from vfab.protocols.ebb import Firmware
from vfab.sdk.driver import Environment, command
from vfab.sdk.ebb.connection import Conversation
from vfab.sdk.ebb.settings import EbbSettings
from vfab.sdk.ebb.streaming import Streamer, queue_depth, shortest_move_s
from vfab.sdk.motion import Plan, Resume
from vfab.sdk.plot_job import PlotJob, shielded
from vfab.sdk.plotter import Machine
from vfab.sdk.wired_plotter import WiredPlotter

__all__ = ["SUPPLY_MIN_V", "EbbPlotter"]

_OURS = 183
"""Kept in the board's byte variable while its step counters count from home: it is 0 after power-on."""
SUPPLY_MIN_V = 5.0
"""Below this the power supply is not plugged in; AxiDraw's gives 9 V."""
_REACH_STEPS = 160
_PEN_AGAIN_S = 20.0


class EbbPlotter(WiredPlotter[Conversation, Streamer]):
    """Drives a plotter with an EiBotBoard, which knows its place by counting steps: it has no switches at its ends.

    Home is where it stood when the board was switched on; after a loss of power it must be put there by hand. A
    subclass makes the settings (`make_settings`).
    """

    oldest_firmware: ClassVar[Firmware] = Firmware(2, 8)
    """Older boards lack `QE`, or count `LM` otherwise."""

    hands_over: ClassVar[bool] = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._settings = self.make_settings()
        self._was_at: tuple[int, int] | None = None
        self._motors_on = False
        self._pen_again_s = 0.0

    foreign_names: ClassVar[tuple[str, ...]] = ()
    """Parts of a board's nickname (`QT`) that say that it is in another machine; in small letters."""

    @abstractmethod
    def make_settings(self) -> EbbSettings:
        """What follows from `self.config`."""

    # -- the connection -----------------------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Open the link, find out that an EiBotBoard answers, set it up, raise the pen.

        The motors are switched on. If the board kept its power and its counters since this driver last used it, the
        position is taken from there; otherwise the carriage is taken to stand at home.

        Raises ProtocolError: something else answers. TimeoutExceeded: nothing does. HardwareError: the firmware is too
            old. ConnectError and its kind: the link cannot be opened. Nothing is left open then.
        """
        return self._begin()

    def _open(self) -> None:
        link = self.open_link(self.config["port"] or None)
        self._talk = Conversation(link, float(self.config["timeout_s"]), nonce=id(link) >> 4)
        self._set_up(self._talk)

    def _set_up(self, talk: Conversation) -> None:
        """Bring a board in whatever state to: still, pen up, motors on, position known."""
        talk.normalise()
        firmware = talk.client.firmware
        assert firmware is not None
        if firmware < self.oldest_firmware:
            raise HardwareError(
                f"the board at {talk.link.address} has firmware {firmware}",
                context={"address": talk.link.address, "firmware": str(firmware)},
                remedy=f"Update it to {self.oldest_firmware} or newer with the maker's updater.",
            )
        here = self._settings
        talk.ask(ebb.ES(), ebb.Stopped)
        for pulse in (ebb.SC(4, here.up_pulse), ebb.SC(5, here.down_pulse)):
            talk.ask(pulse, ebb.Ok)
        for rate in (ebb.SC(11, here.up_rate), ebb.SC(12, here.down_rate)):
            talk.ask(rate, ebb.Ok)
        depth = queue_depth(firmware)
        if firmware >= (3,):
            most = talk.ask(ebb.QU(2), ebb.Utility).values[0]
            depth = min(depth, most)
            talk.ask(ebb.CU(4, depth), ebb.Ok, lasts_s=here.lift_ms / 1000)
        steps = self._find_position(talk)
        self._streamer = Streamer(
            talk,
            steps,
            geometry=here.geometry,
            depth=depth,
            shortest_s=shortest_move_s(firmware),
            lift_ms=here.lift_ms,
            drop_ms=here.drop_ms,
        )
        self._streamer.pen(up=True)
        self._motors_on = True
        self.log.info("EiBotBoard with firmware %s at %s, pen up at %s", firmware, talk.link.address, self.where()[0])

    def _find_position(self, talk: Conversation) -> tuple[int, int]:
        """The motors' positions in steps from home; motors are on afterwards."""
        here = self._settings
        enables = talk.ask(ebb.QE(), ebb.Enables)
        microsteps = 16 >> (here.microstep_mode - 1)
        if (enables.motor1, enables.motor2) == (microsteps, microsteps):
            marked = talk.ask(ebb.QL(), ebb.Variable).value == _OURS
            counted = talk.ask(ebb.QS(), ebb.Steps)
            steps = (counted.motor1, counted.motor2)
            if marked and self._is_within_reach(self.canonical(steps)):
                self._counted_since_s = self._read_counted_since()
                return self.canonical(steps, near=self._was_at)
        self._zero(talk)
        return 0, 0

    def canonical(self, steps: tuple[int, int], near: tuple[int, int] | None = None) -> tuple[int, int]:
        """The same place by other counts, where a machine turns round and round, `near` another one; else `steps`."""
        return steps

    def save_state(self, version: int) -> dict[str, Any]:
        """Where the motors stand: a machine that turns round and round has several counts for it."""
        streamer = self._streamer
        return {"steps": list(streamer.steps)} if streamer is not None else {}

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """See `save_state`; what matters is asked of the board."""
        steps = state.get("steps")
        self._was_at = (int(steps[0]), int(steps[1])) if steps else None

    def _zero(self, talk: Conversation) -> None:
        """Motors on, counters at 0: here is home."""
        mode = self._settings.microstep_mode
        talk.ask(ebb.EM(mode, mode), ebb.Ok)
        talk.ask(ebb.CS(), ebb.Ok)
        talk.ask(ebb.SL(_OURS), ebb.Ok)
        self._count_from_now()

    def _is_within_reach(self, steps: tuple[int, int]) -> bool:
        (x, y), machine = self._settings.geometry.point_of(steps), self._settings.machine
        slack = _REACH_STEPS / self._settings.geometry.steps_per_mm
        return -slack <= x <= machine.width_mm + slack and -slack <= y <= machine.height_mm + slack

    def disconnect(self) -> None:
        """Raise the pen, switch the motors off if the settings say so, close the link. Without a connection, nothing.

        A running job is told to stop first. Never raises: what fails is logged.
        """
        if self._job is not None:
            self._job.ask_stop()
        talk, streamer = self._talk, self._streamer
        if talk is not None and streamer is not None and self._job is None:
            try:
                self._say_goodbye(talk, streamer)
            except DriverError as error:
                self.log.warning("the pen could not be raised on disconnect: %s", error.message)
        elif talk is not None:
            talk.stop_blindly(self._settings.lift_ms)
        self._hang_up()

    def _say_goodbye(self, talk: Conversation, streamer: Streamer) -> None:
        with shielded():
            if not talk.sound:
                talk.stop_blindly(self._settings.lift_ms)
                return
            if not streamer.pen_up:
                streamer.pen(up=True)
            if self.config["motors_off_on_disconnect"]:
                self._switch_motors_off(talk)

    def reset(self) -> None:
        """Begin the conversation with the board anew and set it up again, the pen up, the position kept if possible.

        Raises what `connect` raises.
        """
        if self._talk is None or self._talk.lost:
            self.connect()
            return
        with shielded():
            self._set_up(self._talk)

    @command
    def test_connection(self) -> dict[str, Any]:
        """Ask the board for its status: `{"success", "message", "details"}`."""
        if not self.is_connected():
            return {"success": False, "message": "not connected", "details": {}}
        try:
            details = self.board()
        except DriverError as error:
            return {"success": False, "message": error.message, "details": error.to_public()}
        return {"success": True, "message": f"EiBotBoard with firmware {details['firmware']}", "details": details}

    # -- the plotter's primitives -------------------------------------------------------------------------------------

    def machine(self) -> Machine:
        """Travel and limits, by the settings."""
        return self._settings.machine

    def stream(self, plan: Plan, job: PlotJob) -> Resume | None:
        """See `PlotterDriver.stream`."""
        _, streamer = self._ready()
        stopped = streamer.run(plan, job)
        self._pen_again_s = streamer.now() + _PEN_AGAIN_S
        return stopped

    def lift(self) -> None:
        """Raise the pen and wait until it is up."""
        self._ready()[1].pen(up=True)

    def lower(self) -> None:
        """Lower the pen and wait until it is down."""
        self._ready()[1].pen(up=False)

    def idle(self, job: PlotJob) -> None:
        """Look at the button; the servo is told again to hold the pen up, since it loses its power after a minute."""
        _, streamer = self._ready()
        streamer.poll(job)
        now = streamer.now()
        if now >= self._pen_again_s:
            self._pen_again_s = now + _PEN_AGAIN_S
            with shielded():  # the job looks at its cancelling by itself
                streamer.pen(up=True)

    def keeps_position(self, since_s: float) -> bool:
        """Whether the board has counted its steps from the same home since before `since_s`."""
        self._ready()
        return self._counted_since_s < since_s

    def _ready(self) -> tuple[Conversation, Streamer]:
        """The board, in step with us and with its motors on.

        Raises IllegalTransition: not connected. What `connect` raises, when the conversation had to be begun anew.
        """
        talk, streamer = self._in_use()
        if not talk.sound:
            with shielded():
                self._set_up(talk)
        if not self._motors_on:
            self._zero(talk)
            self._motors_on = True
        return talk, self._streamer or streamer

    def warnings(self) -> list[str]:
        """Says so when the motors have no power: on USB alone the board answers, and nothing moves."""
        talk, _ = self._ready()
        notes: list[str] = []
        supply_v = talk.ask(ebb.QC(), ebb.Voltages).supply_v
        if supply_v < SUPPLY_MIN_V:
            notes.append(f"the motors have no power ({supply_v:.1f} V at the jack): plug in the machine's power supply")
        nickname = talk.ask(ebb.QT(), ebb.Nickname).text
        if any(part in nickname.lower() for part in self.foreign_names):
            notes.append(f"the board calls itself {nickname!r}: is {self.manifest.name} the driver of this machine?")
        for note in notes:
            self.log.warning(note)
        return notes

    # -- what only this driver has ------------------------------------------------------------------------------------

    @command
    def motors_off(self) -> dict[str, Any]:
        """Raise the pen and switch the motors off, so that the carriage can be pushed by hand.

        Where it stands when a motion switches them on again is home from then on. Returns `position()`.
        """
        self._refuse_while_plotting("motors_off")
        talk, streamer = self._ready()
        streamer.pen(up=True)
        self._switch_motors_off(talk)
        streamer.steps = (0, 0)
        return self.position()

    @command
    def motors_on(self) -> dict[str, Any]:
        """Switch the motors on, which holds the carriage. If they were off, it stands at home. Returns `position()`."""
        self._refuse_while_plotting("motors_on")
        self._ready()
        return self.position()

    @command
    def board(self) -> dict[str, Any]:
        """Ask the board: `{"firmware", "version", "supply_v", "motors", "pen", "steps", "moving"}`.

        `supply_v` is the voltage at the power jack; about 0.3 V means that only USB is plugged in. `steps` are the
        motors' counters; `motors` are microsteps a step, 0 for off.
        """
        self._refuse_while_plotting("board")
        talk, _ = self._ready()
        enables, steps = talk.ask(ebb.QE(), ebb.Enables), talk.ask(ebb.QS(), ebb.Steps)
        return {
            "firmware": str(talk.client.firmware),
            "version": talk.client.version_text,
            "supply_v": round(talk.ask(ebb.QC(), ebb.Voltages).supply_v, 2),
            "motors": [enables.motor1, enables.motor2],
            "pen": "up" if talk.ask(ebb.QP(), ebb.Pen).up else "down",
            "steps": [steps.motor1, steps.motor2],
            "moving": talk.ask(ebb.QM(), ebb.Motion).executing,
        }

    def _switch_motors_off(self, talk: Conversation) -> None:
        talk.ask(ebb.SL(0), ebb.Ok)
        talk.ask(ebb.EM(0, 0), ebb.Ok)
        self._motors_on = False
