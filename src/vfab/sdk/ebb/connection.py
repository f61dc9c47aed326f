"""One conversation with a board: commands out, replies in, and a deadline for each answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from vfab.model.errors import DriverError, HardwareError, LinkLost, ProtocolError, TimeoutExceeded
from vfab.protocols import ebb
from vfab.protocols.ebb import Client, Command, Failure, LimitSwitch, Phase, Reply
from vfab.sdk.link import Link
from vfab.sdk.plot_job import shielded

__all__ = ["Conversation"]

_R = TypeVar("_R", bound=Reply)
_STOP_WRITE_S = 0.5


class Conversation:
    """Talks to the board at the other end of a link.

    Args:
        link: open; whoever opened it closes it.
        timeout_s: how long the board may take to answer, beyond the motion that it must finish first.
        nonce: tells this connection's answers from an earlier one's.
        clock: seconds that never go back.

    Attributes:
        client: the protocol's state.
        sound: commands and answers are in step; otherwise `normalise` must come next.
        lost: the link broke.
    """

    def __init__(
        self, link: Link, timeout_s: float, *, nonce: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.link = link
        self.client = Client(nonce=nonce)
        self.sound = False
        self.lost = False
        self._timeout_s = timeout_s
        self._clock = clock
        self._deadlines: deque[float] = deque()

    def normalise(self) -> None:
        """Find out that a board is there, what firmware it runs, and bring it into the syntax that we speak.

        Raises ProtocolError: something answers that is no EiBotBoard. TimeoutExceeded: nothing answers. LinkLost.
        """
        self.sound = False
        self._deadlines.clear()
        end = self._clock() + self._timeout_s
        try:
            self.link.discard_input()
            self.link.write(self.client.connect(), timeout_s=self._timeout_s)
            while not self.client.ready:
                left = end - self._clock()
                if left <= 0 or not self.link.wait_readable(left):
                    raise self._no_board()
                self.client.receive(self.link.read_available())
                out = self.client.outgoing()
                if out:
                    self.link.write(out, timeout_s=self._timeout_s)
        except ProtocolError as error:
            raise self._not_a_board(error) from error
        self.sound = True

    def send(self, command: Command, *, lasts_s: float = 0.0) -> None:
        """Send a command without waiting. The board may first have to finish motion that lasts `lasts_s` seconds.

        Raises Refused: a value is out of range, nothing was sent. LinkLost. TimeoutExceeded: it takes no bytes.
        """
        self._check_fault()
        data = self.client.send(command)
        if len(self.client.pending) > len(self._deadlines):
            self._deadlines.append(self._clock() + lasts_s + self._timeout_s)
        try:
            self.link.write(data, timeout_s=self._timeout_s)
        except DriverError as error:
            self._failed(error)
            raise

    def receive(self, wait_s: float, *, patience_s: float | None = None) -> list[Reply]:
        """The replies that come within `wait_s` seconds, at least one if there is one; maybe none.

        Args:
            wait_s: 0 only looks.
            patience_s: give up on an answer that is overdue by less than the time-out, too.

        Raises TimeoutExceeded: an answer is overdue. ProtocolError: what came makes no sense, or the board refused
            a command. HardwareError: the limit switch. LinkLost.
        """
        self._check_fault()
        try:
            if wait_s > 0 and not self.link.wait_readable(wait_s):
                self._check_deadline(patience_s)
                return []
            replies = self.client.receive(self.link.read_available())
        except DriverError as error:
            self._failed(error)
            raise
        for _ in range(len(self._deadlines) - len(self.client.pending)):
            self._deadlines.popleft()
        for reply in replies:
            self._check(reply)
        if not replies:
            self._check_deadline(patience_s)
        return replies

    def ask(self, command: Command, kind: type[_R], *, lasts_s: float = 0.0) -> _R:
        """Send a command and wait for its answer, of class `kind`. Nothing else may be pending.

        Raises what `send` and `receive` raise.
        """
        self.send(command, lasts_s=lasts_s)
        while True:
            for reply in self.receive(self._timeout_s + lasts_s):
                if reply.command is command and isinstance(reply, kind):
                    return reply

    def stop_blindly(self, pen_up_ms: int) -> None:
        """Tell the board to stop and to raise its pen, without an answer being waited for. Never raises."""
        self.sound = False
        data = ebb.encode(ebb.ES()) + ebb.encode(ebb.SP(1, pen_up_ms))
        with shielded(), suppress(DriverError):
            # a line end first: half a command may have been sent
            self.link.write(b"\r" + data, timeout_s=_STOP_WRITE_S)

    def _failed(self, error: DriverError) -> None:
        self.sound = False
        self.lost = isinstance(error, LinkLost)
        error.context.setdefault("address", self.link.address)

    def _check_fault(self) -> None:
        """Raise what the client found wrong when it had good replies to give first."""
        if self.client.phase is Phase.BROKEN:
            self.sound = False
            try:
                self.client.receive(b"")
            except ProtocolError as error:
                error.context.setdefault("address", self.link.address)
                raise

    def _check(self, reply: Reply) -> None:
        if isinstance(reply, Failure):
            self.sound = False
            said = f"!{reply.code} {reply.text}".strip()
            name = type(reply.command).name if reply.command is not None else "a command"
            raise ProtocolError(
                f"the board at {self.link.address} refused {name}: {said}",
                context={"address": self.link.address, "command": name, "code": reply.code},
                remedy="Bytes were lost or changed on the way: try another cable or USB port, then connect again.",
                retryable=True,
            )
        if isinstance(reply, LimitSwitch):
            self.sound = False
            raise HardwareError(
                f"the limit switch of the machine at {self.link.address} has stopped it",
                context={"address": self.link.address, "port_b": reply.port_b},
                remedy="Switch its motors off, move the carriage home by hand, then connect again.",
            )

    def _check_deadline(self, patience_s: float | None) -> None:
        if not self._deadlines:
            return
        overdue_s = self._clock() - self._deadlines[0]
        if patience_s is not None:
            overdue_s += max(0.0, self._timeout_s - patience_s)
        if overdue_s < 0:
            return
        self.sound = False
        name = type(self.client.pending[0]).name if self.client.pending else ""
        raise TimeoutExceeded(
            f"the board at {self.link.address} did not answer {name} within {self._timeout_s:g} s",
            context={"address": self.link.address, "command": name, "timeout_s": self._timeout_s},
            remedy="Check cable and power supply, then reset the device; an interrupted plot goes on with --resume.",
        )

    def _no_board(self) -> TimeoutExceeded:
        return TimeoutExceeded(
            f"nothing at {self.link.address} answers like an EiBotBoard within {self._timeout_s:g} s",
            context={"address": self.link.address, "timeout_s": self._timeout_s},
            remedy="Check that this is the plotter's port (`vfab device scan`) and that no other program uses it; "
            "unplug the board and plug it in again.",
        )

    def _not_a_board(self, error: ProtocolError) -> ProtocolError:
        return ProtocolError(
            f"what answers at {self.link.address} is no EiBotBoard: {error.message}",
            context={"address": self.link.address, **error.context},
            remedy="`vfab device scan` shows which device is which; name another address or another driver.",
            retryable=error.retryable,
        )
