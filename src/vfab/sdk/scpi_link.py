"""A conversation with a SCPI instrument: commands, queries, and the error queue after each."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vfab.model.errors import DriverError, HardwareError, LinkLost, ProtocolError, TimeoutExceeded
from vfab.protocols.scpi import (
    ErrorEntry,
    Identity,
    format_command,
    looks_like_error,
    parse_block,
    parse_error,
    parse_identity,
    parse_numbers,
)
from vfab.sdk.cancel import current_token
from vfab.sdk.scpi_ports import MessagePort

__all__ = ["ScpiLink", "unbothered"]

_QUEUE_MAX = 64
"""An instrument that has more errors than this in its queue repeats itself."""
_STALE_MAX = 20
_SHOWN = 200
_WAITING_S = 0.2
_NO_ENTRY = re.compile(r"(?!\s*(\"?no |[+-]?\d)).*", re.DOTALL | re.IGNORECASE)
"""What begins neither with a number nor with `No error`."""
_ERROR_ENTRY = re.compile(rb'\s*[+-]?\d+\s*,\s*".*"\s*', re.DOTALL)


@contextmanager
def unbothered() -> Iterator[None]:
    """Nothing in here ends because the call was cancelled: what runs leaves the instrument safe."""
    before = current_token.set(None)
    try:
        yield
    finally:
        current_token.reset(before)


class ScpiLink:
    """A conversation with one instrument. Methods may be called from several threads; each is one exchange.

    Args:
        port: what carries the messages.
        timeout_s: how long an answer may take.
        identity_query: `*IDN?`, or what another instrument has in its place; "" for none.
        error_query: `:SYST:ERR?`, or ""; then errors are never asked for.

    Attributes:
        identity: what the instrument said of itself, once `identify` was called.
        lost: the link broke.
    """

    def __init__(
        self,
        port: MessagePort,
        *,
        timeout_s: float = 2.0,
        identity_query: str = "*IDN?",
        error_query: str = ":SYST:ERR?",
    ) -> None:
        self.port = port
        self.timeout_s = timeout_s
        self.identity = Identity()
        self.lost = False
        self.lock = threading.RLock()
        self._identity_query = identity_query
        self._error_query = error_query
        self._identity_text = ""
        self._in_step = True

    @property
    def address(self) -> str:
        """Where the instrument is."""
        return self.port.address

    # -- commands and queries -----------------------------------------------------------------------------------------

    def write(self, header: str, *arguments: object, check: bool = True) -> None:
        """Send a command, and read the error queue.

        Args:
            header: the command, `:SOUR:VOLT`, or the whole of it.
            arguments: see `vfab.protocols.scpi.format_argument`: numbers, bool, words, `Quoted`, bytes as a block.
            check: read the error queue afterwards.

        Raises HardwareError: the instrument says that something is wrong with the command, in its own words.
        Raises TimeoutExceeded, LinkLost, Cancelled.
        """
        command = format_command(header, *arguments)
        with self.lock, self._exchange():
            self._get_in_step()
            self.port.send(command)
            if check:
                self._raise_errors(command)

    def query(self, header: str, *arguments: object, timeout_s: float | None = None, check: bool = True) -> str:
        """Ask, and give the answer without white space around it. As `write`."""
        return self.query_bytes(header, *arguments, timeout_s=timeout_s, check=check).decode("latin-1").strip()

    def query_numbers(self, header: str, *arguments: object, timeout_s: float | None = None) -> list[float]:
        """The numbers of an answer; NaN and infinity as floats. Raises ProtocolError, and as `write`."""
        text = self.query(header, *arguments, timeout_s=timeout_s)
        try:
            return parse_numbers(text)
        except ProtocolError as error:
            raise ProtocolError(
                f"{self._who()} answered {text[:_SHOWN]!r} to {header}, which are no numbers",
                context={"command": header, "answer": text[:_SHOWN]},
            ) from error

    def query_block(self, header: str, *arguments: object, timeout_s: float | None = None) -> bytes:
        """The content of a block in an answer. Raises ProtocolError, and as `write`."""
        return parse_block(self.query_bytes(header, *arguments, timeout_s=timeout_s))

    def query_slowly(
        self,
        header: str,
        *arguments: object,
        timeout_s: float,
        waiting: Callable[[float], None] = lambda waited_s: None,
        doubt_s: float | None = None,
    ) -> str:
        """As `query`, for what takes long; see `query_bytes_slowly`."""
        answer = self.query_bytes_slowly(header, *arguments, timeout_s=timeout_s, waiting=waiting, doubt_s=doubt_s)
        return answer.decode("latin-1").strip()

    def query_bytes_slowly(
        self,
        header: str,
        *arguments: object,
        timeout_s: float,
        waiting: Callable[[float], None] = lambda waited_s: None,
        doubt_s: float | None = None,
    ) -> bytes:
        """As `query_bytes`, for what takes long.

        Args:
            header: the query.
            arguments: see `write`.
            timeout_s: how long the answer may take.
            waiting: told now and then for how many seconds it has waited.
            doubt_s: after so many seconds the error queue is asked, too: a query that the instrument refuses is never
                answered. Only on streams, where what is sent meanwhile does not interrupt the answer.
        """
        command = format_command(header, *arguments)
        began_s = time.monotonic()
        doubts = doubt_s is not None and self.port.queues and bool(self._error_query)
        asked = False
        with self.lock, self._exchange():
            self._get_in_step()
            self.port.send(command)
            self._in_step = False
            while True:
                waited_s = time.monotonic() - began_s
                try:
                    answer = self.port.receive(min(_WAITING_S, max(0.0, timeout_s - waited_s)))
                    break
                except TimeoutExceeded as late:
                    if waited_s >= timeout_s:
                        raise self._why_silent(command, late) from late
                    waiting(waited_s)
                if doubts and not asked and doubt_s is not None and waited_s >= doubt_s:
                    self.port.send(self._error_query.encode("ascii"))
                    asked = True
            if asked:
                self._tell_apart(command, answer)
            self._in_step = True
            self._refuse_error_answer(command, answer)
            self._raise_errors(command)
            return answer

    def _tell_apart(self, command: bytes, answer: bytes) -> None:
        """Both were asked, the query and the error queue: if `answer` is the error's, the query has none.

        Raises HardwareError: it has none, or the instrument has something to say of it.
        """
        told = answer if _ERROR_ENTRY.fullmatch(answer) else self.port.receive(self.timeout_s)
        self._in_step = True
        entry = parse_error(told.decode("latin-1"))
        if entry.code != 0 or told is answer:
            raise self.refused(command, [entry, *self._drained()])

    def query_bytes(self, header: str, *arguments: object, timeout_s: float | None = None, check: bool = True) -> bytes:
        """The answer as it came, without its line end. As `write`."""
        command = format_command(header, *arguments)
        patience = self.timeout_s if timeout_s is None else timeout_s
        with self.lock, self._exchange():
            self._get_in_step()
            self.port.send(command)
            self._in_step = False
            try:
                answer = self.port.receive(patience)
            except TimeoutExceeded as late:
                raise self._why_silent(command, late) from late
            self._in_step = True
            if check:
                self._refuse_error_answer(command, answer)
                self._raise_errors(command)
            return answer

    def identify(self) -> Identity:
        """Ask the instrument who it is. Raises as `query`; the error queue is not read.

        Numbers, and nothing at all, are late answers to what another program asked before: they are thrown away.
        """
        if self._identity_query:
            with self.lock, self._exchange():
                text = self.query(self._identity_query, check=False)
                for _ in range(_STALE_MAX):
                    if not _is_stale(text):
                        break
                    text = self.port.receive(self.timeout_s).decode("latin-1").strip()
            if not (text.isascii() and text.isprintable()):
                raise ProtocolError(
                    f"{self.address} answers {text[:_SHOWN]!r} to {self._identity_query}, which nobody can read",
                    context={"address": self.address, "answer": text[:_SHOWN]},
                    remedy="Check the speed of the line, and that this is an instrument that speaks SCPI.",
                )
            self._identity_text = text
            self.identity = parse_identity(text)
        return self.identity

    # -- errors -------------------------------------------------------------------------------------------------------

    def errors(self) -> list[ErrorEntry]:
        """Take every entry out of the error queue, oldest first. Raises TimeoutExceeded, LinkLost, Cancelled."""
        if not self._error_query:
            return []
        with self.lock, self._exchange():
            return self._drained()

    def _drained(self) -> list[ErrorEntry]:
        found: list[ErrorEntry] = []
        for _ in range(_QUEUE_MAX):
            self._get_in_step()
            self.port.send(self._error_query.encode("ascii"))
            self._in_step = False
            text = self.port.receive(self.timeout_s).decode("latin-1")
            if _NO_ENTRY.fullmatch(text):
                raise ProtocolError(
                    f"{self._who()} answered {text[:_SHOWN]!r} to {self._error_query}, which is no error",
                    context={"command": self._error_query, "answer": text[:_SHOWN]},
                    remedy="Check the speed and the line ends of the connection; set error_query to nothing if the "
                    "instrument has no error queue.",
                )
            self._in_step = True
            entry = parse_error(text)
            if entry.code == 0 or (found and entry == found[-1] and len(found) > _STALE_MAX):
                break
            found.append(entry)
        return found

    def _raise_errors(self, command: bytes) -> None:
        if not self._error_query:
            return
        found = self._drained()
        if found:
            raise self.refused(command, found)

    def refused(self, command: bytes, entries: list[ErrorEntry]) -> HardwareError:
        """The error that tells, in the instrument's own words, what is wrong with `command`."""
        text = command[:_SHOWN].decode("latin-1")
        said = " · ".join(str(entry) for entry in entries)
        return HardwareError(
            f"{self._who()} refuses {text!r}: {said}",
            context={
                "command": text,
                "errors": [{"code": entry.code, "message": str(entry)} for entry in entries],
                "address": self.address,
            },
            remedy="The instrument's manual explains its error numbers; negative ones are SCPI's.",
        )

    def _why_silent(self, command: bytes, late: TimeoutExceeded) -> DriverError:
        """A query that got no answer: the error queue may say why."""
        entries: list[ErrorEntry] = []
        try:
            self.port.clear()
            if self._error_query:
                self._in_step = True
                entries = self._drained()
        except TimeoutExceeded:
            self._in_step = False
        if entries:
            return self.refused(command, entries)
        self._in_step = False
        text = command[:_SHOWN].decode("latin-1")
        return TimeoutExceeded(
            f"{self._who()} did not answer {text!r} in time", context={**late.context, "command": text}
        )

    def _refuse_error_answer(self, command: bytes, answer: bytes) -> None:
        text = answer.decode("latin-1")
        if looks_like_error(text) and b"ERR" not in command.upper():
            raise self.refused(command, [parse_error(text), *(self._drained() if self._error_query else [])])

    # -- staying in step ----------------------------------------------------------------------------------------------

    def interrupt(self, *commands: str) -> None:
        """Send `commands` now, whatever is awaited: to abort. Their answers, and stale ones, are thrown away.

        Raises LinkLost, TimeoutExceeded.
        """
        with self.lock, self._exchange():
            for command in commands:
                self.port.send(command.encode("ascii"))
            self._in_step = False

    def resynchronise(self, timeout_s: float | None = None) -> None:
        """Throw away what comes until the instrument says who it is: the next answer belongs to the next query.

        Args:
            timeout_s: how long each answer may take; None takes the link's. What is out of step then is put in step
                before the next query.

        Raises TimeoutExceeded: it does not answer. LinkLost, Cancelled.
        """
        with self.lock, self._exchange():
            self._in_step = False
            self._get_in_step(timeout_s)

    def _get_in_step(self, timeout_s: float | None = None) -> None:
        if self._in_step:
            return
        patience_s = self.timeout_s if timeout_s is None else timeout_s
        self.port.clear()
        if self._identity_text:
            self.port.send(self._identity_query.encode("ascii"))
            for _ in range(_STALE_MAX):
                if self.port.receive(patience_s).decode("latin-1").strip() == self._identity_text:
                    break
            else:
                raise ProtocolError(
                    f"{self._who()} keeps sending what nobody asked for",
                    context={"address": self.address},
                    remedy="Reset it, or switch it off and on, and connect again.",
                )
        self._in_step = True

    def close(self) -> None:
        """Close the port; twice is fine."""
        self.port.close()

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except LinkLost:
            self.lost = True
            raise

    def _who(self) -> str:
        return self.identity.model or self.address

    def to_dict(self) -> dict[str, Any]:
        """For status and reports."""
        return {"address": self.address, "lost": self.lost, **self.identity.to_dict()}


def _is_stale(text: str) -> bool:
    try:
        parse_numbers(text)
    except ProtocolError:
        return False
    return True
