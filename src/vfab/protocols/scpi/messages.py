"""Program messages: what a controller sends, written and read."""

from __future__ import annotations

from dataclasses import dataclass

from vfab.protocols.scpi.framing import split_arguments, split_units
from vfab.protocols.scpi.values import format_argument

__all__ = ["Unit", "format_command", "format_message", "parse_message"]


@dataclass(frozen=True, slots=True)
class Unit:
    """One command or query of a message.

    Attributes:
        header: from the root, with its colon: `:SENS:CURR:PROT`; common ones with their star; `?` included.
        arguments: as they were written, blocks with their `#`.
    """

    header: str
    arguments: tuple[bytes, ...] = ()

    @property
    def query(self) -> bool:
        """It asks for an answer."""
        return self.header.endswith("?")


def format_command(header: str, *arguments: object) -> bytes:
    """`:SOUR:VOLT 1.5` of `":SOUR:VOLT", 1.5`; without a line end. See `format_argument` for what can be written."""
    text = header.strip().encode("ascii")
    return text + b" " + b",".join(format_argument(item) for item in arguments) if arguments else text


def format_message(*commands: bytes) -> bytes:
    """Commands as one message, each from the root: `:A 1;:B 2`; without a line end."""
    units = [unit if unit[:1] in {b"*", b":"} else b":" + unit for unit in commands]
    return b";".join(units)


def parse_message(message: bytes) -> list[Unit]:
    """The units of a message, each with its header from the root.

    SCPI-99 volume 1, 6.2.4: a header without a colon goes on from the one before, less its last node; common commands
    do not change where that is.
    """
    units = []
    path = ""
    for raw in split_units(message):
        head, rest = _header_of(raw)
        if head.startswith("*"):
            header = head
        else:
            header = head if head.startswith(":") else f"{path}:{head}"
            path = header.rpartition(":")[0]
        units.append(Unit(header, tuple(split_arguments(rest))))
    return units


def _header_of(raw: bytes) -> tuple[str, bytes]:
    for at, byte in enumerate(raw):
        if byte <= 32:
            return raw[:at].decode("latin-1"), raw[at + 1 :]
        if byte in b"\"'#(":  # `FUNC"VOLT"`: many instruments take it, and so does the standard's flexible listening
            return raw[:at].decode("latin-1"), raw[at:]
    return raw.decode("latin-1"), b""
