"""One conversation with a controller: lines out by character counting, replies in, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from vfab.model.errors import DriverError, HardwareError, LinkLost, ProtocolError, TimeoutExceeded
from vfab.protocols import grbl
from vfab.protocols.grbl import Client, Line, Message, Realtime, State, Status
from vfab.sdk.link import Link
from vfab.sdk.plot_job import shielded

__all__ = ["POLL_S", "Conversation"]

POLL_S = 0.05
"""The longest wait before somebody may look at something else."""
_STOP_WRITE_S = 0.5
_ASK_AGAIN_S = 0.5
_REST_S = 10.0
"""No machine takes longer to slow down."""


class Conversation:
    """Talks to the controller at the other end of a link.

    Args:
        link: open; whoever opened it closes it.
        timeout_s: how long the controller may be silent while something is awaited.
        tell: given each line that nobody asked for, such as `[MSG:…]`.
        clock: seconds that never go back.

    Attributes:
        client: the protocol's state.
        sound: lines and answers are in step, and the controller is not locked by an error; otherwise `begin` is next.
        lost: the link broke.
        alarm: the alarm that locks the machine; None when it is not locked. Code 0: locked, and it did not say why.
        forgetful: the controller began anew by itself: its position is no more the one that was counted.
    """

    def __init__(
        self,
        link: Link,
        timeout_s: float,
        *,
        tell: Callable[[Message], None] = lambda message: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.link = link
        self.client = Client()
        self.sound = self.lost = self.forgetful = False
        self.alarm: int | None = None
        self._timeout_s = timeout_s
        self._tell = tell
        self._clock = clock
        self._heard_s = clock()
        self._asked_s: float | None = None
        self._stuck_s: float | None = None
        self._lasts: dict[int, float] = {}

    # beginning ---------------------------------------------------------------------------------------------------

    def begin(self, boot_s: float) -> Status | None:
        """Find out that a controller is there, bring it to a stand-still and reset it, its position kept.

        Args:
            boot_s: how long one that was reset by opening its port may take to answer.

        Returns: its status at rest, from before the reset; None when it had just begun anew by itself: then it has
            forgotten where it stands.

        Raises ProtocolError: something answers that is no GRBL. TimeoutExceeded: nothing does. LinkLost.
        """
        self.sound, self.alarm = False, None
        self.client = Client()
        status = self._find(boot_s)
        if status is not None:
            status = self._rest(status)
        self.reset()
        if status is not None and status.state in (State.ALARM, State.SLEEP):
            self.alarm = 0
        return status

    def _find(self, boot_s: float) -> Status | None:
        """The first status that it tells; None when it welcomed us instead."""
        end = self._clock() + boot_s
        strange = b""
        while (left := end - self._clock()) > 0:
            self._write(self.client.ask_status(self._clock()))
            data = self._read(min(left, POLL_S))
            for message in self.client.receive(data):
                if isinstance(message, grbl.Welcome):
                    return None
                if isinstance(message, grbl.Report):
                    return message.status
            strange = (strange + data)[-200:]
        raise self._nobody(strange, boot_s)

    def _rest(self, status: Status) -> Status:
        """Whatever it does, another program's job included: bring it to rest. Homing is ended by the reset."""
        end = self._clock() + _REST_S
        told = False
        while not status.at_rest and status.state is not State.HOME:
            if not told:
                self._write(Realtime.JOG_CANCEL.data if status.state is State.JOG else Realtime.HOLD.data)
                told = True
            status = self._fresh(end)
        return status

    def reset(self) -> None:
        """Soft reset: buffers and modes are forgotten, the spindle is off; at rest the position is kept.

        Raises TimeoutExceeded: no welcome came. LinkLost.
        """
        self._begin_anew()
        self._write(self.client.realtime(Realtime.RESET))
        end = self._clock() + max(self._timeout_s, 1.0)
        while self.client.welcome is None:
            if self._clock() > end:
                raise self._silent("no welcome after a reset")
            self._note(self.client.receive(self._read(POLL_S)))
        self.sound = True

    def _begin_anew(self) -> None:
        self.sound, self.alarm, self.client.welcome = False, None, None
        self._lasts.clear()
        self._asked_s = self._stuck_s = None

    # lines -------------------------------------------------------------------------------------------------------

    def send(self, text: str, *, lasts_s: float = 0.0) -> Line:
        """Queue a line and send what fits. `lasts_s`: how long it may take without motion, such as a dwell.

        Raises Refused: this cannot be a line. LinkLost. TimeoutExceeded: the controller takes no bytes.
        """
        line = self.client.queue(text)
        if lasts_s:
            self._lasts[line.number] = lasts_s
        self._write(self.client.outgoing())
        return line

    def pump(self, wait_s: float = POLL_S) -> list[Message]:
        """Send what fits now, ask for the status now and then, and return what came within `wait_s` seconds.

        Raises ProtocolError: a line was refused. HardwareError: an alarm, or the controller began anew.
            TimeoutExceeded: it is silent, or an answer was lost. LinkLost.
        """
        self._write(self.client.outgoing() + self._question())
        messages = self.client.receive(self._read(wait_s))
        self._note(messages)
        self._write(self.client.outgoing())
        self._watch(messages)
        return messages

    def ask(self, *texts: str, lasts_s: float = 0.0) -> list[Message]:
        """Send lines and wait until all are answered; what came meanwhile, status reports and oks left out.

        Raises what `send` and `pump` raise.
        """
        for text in texts:
            self.send(text, lasts_s=lasts_s)
        found: list[Message] = []
        while not self.client.idle:
            found += [said for said in self.pump() if not isinstance(said, grbl.Ok | grbl.Report)]
        return found

    def status(self) -> Status:
        """The status as it is now. Raises what `pump` raises."""
        return self._fresh(self._clock() + self._timeout_s)

    def halt(self) -> Status:
        """Slow down along the path, as fast as the machine may; the status once it stands still.

        Raises what `pump` raises.
        """
        self._write(Realtime.HOLD.data)
        end = self._clock() + _REST_S + self._timeout_s
        while True:
            status = self._fresh(end)
            if status.at_rest and status.state is not State.IDLE:
                return status
            if status.state is State.IDLE and status.at_rest and self.client.idle:
                return status

    def realtime(self, command: Realtime) -> None:
        """Send a real-time command."""
        self._write(self.client.realtime(command))

    def stop_blindly(self) -> None:
        """Hold, then reset: no answer is waited for. Never raises."""
        self.sound = False
        with shielded(), suppress(DriverError):
            self.link.write(Realtime.HOLD.data + Realtime.RESET.data, timeout_s=_STOP_WRITE_S)

    # the wire ----------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if data[-1:] == Realtime.STATUS.data and self._asked_s is None:
            self._asked_s = self._clock()
        try:
            self.link.write(data, timeout_s=self._timeout_s)
        except DriverError as error:
            self._failed(error)
            raise

    def _read(self, wait_s: float) -> bytes:
        try:
            if wait_s > 0 and not self.link.wait_readable(wait_s):
                return b""
            data = self.link.read_available()
        except DriverError as error:
            self._failed(error)
            raise
        if data:
            self._heard_s = self._clock()
        return data

    def _failed(self, error: DriverError) -> None:
        self.sound = False
        self.lost = isinstance(error, LinkLost)
        error.context.setdefault("address", self.link.address)

    def _question(self) -> bytes:
        return self.client.ask_status(self._clock())

    def _fresh(self, end_s: float) -> Status:
        """A report that was asked for from now on."""
        sent_s: float | None = None
        while (now := self._clock()) <= end_s:
            if sent_s is None or now - sent_s > _ASK_AGAIN_S:  # a byte may be lost while the EEPROM is written
                question = self._question()
                self._write(question)
                sent_s = now if question else sent_s
            messages = self.client.receive(self._read(POLL_S))
            self._note(messages)
            reports = [message for message in messages if isinstance(message, grbl.Report)]
            if sent_s is not None and reports:
                return reports[-1].status
        raise self._silent("it tells no status")

    # what came ---------------------------------------------------------------------------------------------------

    def _note(self, messages: Iterable[Message]) -> None:
        """Raise what the messages say went wrong, while lines and answers are in step; the first one decides."""
        was_sound = self.sound
        wrong: DriverError | None = None
        for message in messages:
            match message:
                case grbl.Report():
                    self._asked_s = None
                    if message.status.state is State.ALARM and self.alarm is None and was_sound:
                        self.alarm = 0
                        wrong = wrong or self._alarmed(0)
                case grbl.Alarm(code=code):
                    self.alarm = code
                    wrong = wrong or self._alarmed(code)
                case grbl.Failed(code=9):
                    self.alarm = self.alarm or 0
                    wrong = wrong or self._alarmed(self.alarm)
                case grbl.Failed():
                    wrong = wrong or self._refused(message)
                case grbl.Welcome(expected=False):
                    self.sound, self.forgetful = False, True
                    wrong = self._restarted(message)
                case grbl.Feedback(text=text) if text.endswith("to unlock"):
                    self.alarm = self.alarm or 0
                case grbl.Feedback() | grbl.StartupRun() | grbl.Unknown():
                    self._tell(message)
                case _:
                    pass
        if wrong is not None and was_sound:
            raise wrong

    def _watch(self, messages: list[Message]) -> None:
        """Find out that an answer, or all of them, will never come."""
        now = self._clock()
        if self._asked_s is not None and now - max(self._asked_s, self._heard_s) > self._timeout_s:
            raise self._silent("it does not answer")
        status, first = self.client.status, self.client.in_flight[0] if self.client.in_flight else None
        answered = any(isinstance(message, grbl.Ok | grbl.Failed) for message in messages)
        if first is None or answered or status is None or status.state is not State.IDLE:
            self._stuck_s = None
        elif self._stuck_s is None:
            self._stuck_s = now
        elif now - self._stuck_s > self._timeout_s + self._lasts.get(first.number, 0.0):
            raise self._silent(f"it is idle and has not answered {first.text!r}")

    # errors ------------------------------------------------------------------------------------------------------

    def _silent(self, what: str) -> TimeoutExceeded:
        self.sound = False
        return TimeoutExceeded(
            f"the controller at {self.link.address}: {what}",
            context={"address": self.link.address, "timeout_s": self._timeout_s},
            remedy="Check cable and power, then reset the device; an interrupted plot goes on with --resume.",
        )

    def _nobody(self, strange: bytes, boot_s: float) -> DriverError:
        if strange.strip():
            return ProtocolError(
                f"what answers at {self.link.address} is no GRBL controller: {strange[:60]!r}",
                context={"address": self.link.address, "said": repr(strange[:200])},
                remedy="Check the speed (setting baudrate) and the port: `vfab device scan`.",
            )
        return TimeoutExceeded(
            f"nothing at {self.link.address} answers like a GRBL controller within {boot_s:g} s",
            context={"address": self.link.address, "timeout_s": boot_s},
            remedy="Check that this is its port (`vfab device scan`), its speed (setting baudrate) and its power.",
        )

    def _alarmed(self, code: int) -> HardwareError:
        meaning = grbl.alarm_meaning(code) if code else None
        return HardwareError(
            f"alarm {code}: {meaning.text}" if meaning else "the machine is locked by an alarm",
            context={"address": self.link.address, "alarm": code},
            remedy=meaning.remedy if meaning else "Home the machine, or unlock it.",
        )

    def _refused(self, message: grbl.Failed) -> ProtocolError:
        meaning = grbl.error_meaning(message.code)
        line = message.line.text if message.line else ""
        return ProtocolError(
            f"the controller refused {line!r}: {meaning.text} (error {message.code})",
            context={"address": self.link.address, "line": line, "error": message.code},
            remedy=meaning.remedy,
        )

    def _restarted(self, message: grbl.Welcome) -> HardwareError:
        return HardwareError(
            f"the controller at {self.link.address} began anew ({message.name} {message.version}): "
            "what it was doing is lost, and so is its position",
            context={"address": self.link.address, "welcome": message.raw},
            remedy="Check its power supply and cable, push the pen home or home the machine, then go on with --resume.",
        )
