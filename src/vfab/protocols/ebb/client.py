"""The host's side: commands to bytes, bytes to replies, and finding out what state the board was left in."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from enum import Enum

from vfab.model.errors import ProtocolError, Refused
from vfab.protocols.ebb import commands as c
from vfab.protocols.ebb.commands import LINE_MAX_BYTES, V3, Command, Firmware, Shape, encode
from vfab.protocols.ebb.replies import Failure, LimitSwitch, Ok, Reply, parse_firmware, parse_reply

__all__ = ["Client", "Phase", "Syntax"]

INPUT_MAX_BYTES = 4096
"""More than this without a line end is not an EiBotBoard. The longest real line has under 100 bytes."""
STALE_MAX_BYTES = 262_144
"""More than this before the board answers is not an EiBotBoard that catches up."""
_ERROR = re.compile(r"^,?!(\d{1,2})(?: Err: ?| ?)(.*?)(?:OK)?$")
_LIMIT = re.compile(r"^Limit switch triggered\. PortB=([0-9A-Fa-f]{2})$")


class Syntax(Enum):
    """How a board answers. It keeps the syntax when a host disconnects."""

    LEGACY = 0
    FUTURE = 1


class Phase(Enum):
    """Where a connection stands."""

    CLOSED = "closed"
    FENCE = "fence"
    UNLOCK = "unlock"
    VERSION = "version"
    SWITCH = "switch"
    READY = "ready"
    BROKEN = "broken"


# What ends each phase of connecting, and what comes then. What is sent in a phase ends with a fence: a command that
# no firmware knows, so that the board's complaint about it tells that all older answers are through, and in which
# syntax the board speaks. UNLOCK: the board wanted a checksum, so a command was sent, with one, that switches them off.
_AFTER_FENCE = {Phase.FENCE: Phase.VERSION, Phase.UNLOCK: Phase.VERSION, Phase.SWITCH: Phase.READY}


class Client:
    """One connection to a board, without any I/O.

    Args:
        want: the syntax to bring the board into; None = future syntax where the firmware has it (3.x).
        nonce: any number; another one for each connection makes sure that an old answer is not taken for a new one.
    """

    def __init__(self, want: Syntax | None = None, nonce: int = 0) -> None:
        self._want = want
        self._fence = "Z" + chr(ord("A") + nonce % 25)
        self._phase = Phase.CLOSED
        self._held = bytearray()
        self._out = bytearray()
        self._pending: deque[Command] = deque()
        self._data: str | None = None
        self._stale_bytes = 0
        self._fault: ProtocolError | None = None
        self.firmware: Firmware | None = None
        """The board's firmware, once known."""
        self.version_text = ""
        """The board's whole version text, once known."""
        self.syntax: Syntax | None = None
        """The syntax that the board speaks, once known."""

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Commands may be sent."""
        return self._phase is Phase.READY

    @property
    def pending(self) -> tuple[Command, ...]:
        """Commands sent and not yet answered, oldest first."""
        return tuple(self._pending)

    def connect(self) -> bytes:
        """Begin (again) to normalise the board: the bytes to send first.

        A half line that an earlier host left behind is not ended but flooded out of the board's input buffer, so
        that it is never executed. Go on with `receive` and `outgoing` until `ready`.
        """
        self._held.clear()
        self._pending.clear()
        self._data = None
        self._stale_bytes = 0
        self._fault = None
        self.firmware, self.syntax = None, None
        self._phase = Phase.FENCE
        flood = b"Z" * LINE_MAX_BYTES + b"\r"
        self._out.clear()
        return flood + self._fence.encode() + b"\r"

    def outgoing(self) -> bytes:
        """The bytes that must be sent now; they are handed out once."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def send(self, command: Command) -> bytes:
        """The bytes of a command, which is pending from now on.

        Raises Refused: a value is out of range, or the connection is not ready; nothing is pending then.
        """
        if self._phase is not Phase.READY or self.firmware is None:
            raise Refused(
                f"{command.name}: the connection is {self._phase.value}, not ready.",
                context={"command": command.name, "phase": self._phase.value},
                remedy="Call connect() and exchange bytes until ready.",
            )
        line = encode(command, self.firmware)
        if command.shape is not Shape.NONE:
            self._pending.append(command)
        return line

    def receive(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes, oldest first. It may be cut anywhere.

        While connecting, call `outgoing` afterwards: the next bytes to send are there.

        Raises ProtocolError: the bytes are no answer to what was asked. The connection is broken from then on and
        needs a new `connect`. Replies that were complete before are returned first; the next call raises.
        """
        if self._phase is Phase.CLOSED:
            raise Refused("receive() before connect().", remedy="Call connect() first.")
        if self._fault is not None:
            raise self._fault
        self._held += data
        replies: list[Reply] = []
        try:
            for line in self._lines():
                if self._phase is Phase.READY:
                    replies.extend(self._answer(line))
                else:
                    self._connecting(line)
        except ProtocolError as error:
            self._phase, self._fault = Phase.BROKEN, error
            if not replies:
                raise
        return replies

    def _lines(self) -> Iterator[str]:
        # every line of every answer, in either syntax, holds exactly one line feed; where the carriage return
        # stands differs and tells nothing
        while True:
            end = self._held.find(b"\n")
            if end < 0:
                break
            line = bytes(self._held[:end])
            del self._held[: end + 1]
            yield line.replace(b"\r", b"").decode("ascii", "backslashreplace")
        if len(self._held) > INPUT_MAX_BYTES:
            raise _garbled(f"no line end in {len(self._held)} bytes", bytes(self._held[:80]).decode("latin-1"))

    # connecting ------------------------------------------------------------------------------------------------

    def _connecting(self, line: str) -> None:
        self._stale_bytes += len(line) + 1
        if self._stale_bytes > STALE_MAX_BYTES:
            raise _garbled(f"no answer to {self._fence} in {self._stale_bytes} bytes", line[:80])
        error = _ERROR.match(line.removeprefix(f"{self._fence},"))
        if self._phase is Phase.VERSION:
            self._take_version(line)
        elif error and error[1] == "8" and f"'{self._fence}:" in line:
            self.syntax = Syntax.FUTURE if line.startswith(f"{self._fence},") else Syntax.LEGACY
            self._enter(_AFTER_FENCE[self._phase])
        elif self._phase is Phase.FENCE and error and error[1] in ("9", "10"):
            self._enter(Phase.UNLOCK)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        fence = self._fence.encode() + b"\r"
        if phase is Phase.UNLOCK:
            self._out += b"CU,54,0,119\r" + fence
        elif phase is Phase.VERSION:
            self._out += b"V\r"
        elif phase is Phase.SWITCH:
            wanted = self._wanted()
            self._out += b"CU,1,1\r" + (b"CU,10,%d\r" % wanted.value if self._has_future() else b"") + fence
        elif self.syntax is not self._wanted():
            raise _garbled(f"it stays in {self.syntax} syntax", "")

    def _has_future(self) -> bool:
        return self.firmware is not None and self.firmware >= V3

    def _wanted(self) -> Syntax:
        if not self._has_future():
            return Syntax.LEGACY
        return Syntax.FUTURE if self._want is None else self._want

    def _take_version(self, line: str) -> None:
        if not line:
            return
        if "EBB" not in line:
            raise _garbled("V was not answered with a version", line)
        self.version_text = line.removeprefix("V,")
        self.firmware = parse_firmware(line)
        self._enter(Phase.SWITCH)

    # answers ---------------------------------------------------------------------------------------------------

    def _answer(self, line: str) -> Iterator[Reply]:
        limit = _LIMIT.match(line)
        if limit:
            yield LimitSwitch(None, int(limit[1], 16))
            return
        late = line.startswith(",!")  # 3.x noticed after it had said the name; the command counts as answered
        if late or not self._pending:
            error = _ERROR.match(line)
            if error:
                # 2.x complains of a surplus parameter after it has said OK
                yield Failure(None, int(error[1]), error[2].strip())
            elif line:
                raise _garbled("an answer that nobody asked for", line)
            return
        command = self._pending[0]
        reply = self._future(command, line) if self.syntax is Syntax.FUTURE else self._legacy(command, line)
        if reply is not None:
            self._pending.popleft()
            self._data = None
            yield reply

    def _future(self, command: Command, line: str) -> Reply | None:
        if not line:
            return None
        name, comma, data = line.partition(",")
        error = _ERROR.match(data)
        if error and name == command.name:
            return Failure(command, int(error[1]), error[2].strip())
        if name != command.name:
            raise _garbled(f"the answer to {command.name} must begin with its name", line)
        if command.shape is Shape.OK:
            if comma:
                raise _garbled(f"the answer to {command.name} has data", line)
            return Ok(command)
        return parse_reply(command, data)

    def _legacy(self, command: Command, line: str) -> Reply | None:
        error = _ERROR.match(line)
        if error:
            return Failure(command, int(error[1]), error[2].strip())
        shape = command.shape
        if shape is Shape.OK:
            if line and line != "OK":
                raise _garbled(f"the answer to {command.name} must be OK", line)
            return Ok(command) if line else None
        if self._data is not None:
            if line != "OK":
                raise _garbled(f"the data of {command.name} must be followed by OK", line)
            return parse_reply(command, self._data)
        if not line and not isinstance(command, c.QT):
            return None
        if shape in (Shape.NAMED, Shape.NAMED_REVERSED, Shape.NAMED_OK):
            name, _, line = line.partition(",")
            if name != command.name:
                raise _garbled(f"the answer to {command.name} must begin with its name", name)
        if shape in (Shape.DATA, Shape.NAMED, Shape.NAMED_REVERSED):
            return parse_reply(command, line)
        self._data = line
        return None


def _garbled(why: str, line: str) -> ProtocolError:
    return ProtocolError(
        f"The EiBotBoard's answer makes no sense: {why}{f' ({line!r})' if line else ''}.",
        context={"answer": line},
        remedy="Check the cable; make sure that no other program uses the port; then connect again.",
        retryable=True,
    )
