"""What instruments answer to the questions that all of them know: who they are, and what went wrong."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from vfab.protocols.scpi.values import unquote

__all__ = ["NO_ERROR", "ErrorEntry", "Identity", "looks_like_error", "parse_error", "parse_errors", "parse_identity"]

_ERROR = re.compile(r"\s*([+-]?\d{1,6})\s*(?:[,;:\s]\s*(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Identity:
    """The answer to `*IDN?`: four fields, "" where the instrument says nothing (IEEE 488.2 has "0" for that)."""

    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""

    def to_dict(self) -> dict[str, str]:
        """Seed 004's four keys."""
        return asdict(self)


def parse_identity(text: str) -> Identity:
    """Read what came for `*IDN?`, odd answers too: fewer fields, more, quotes, blanks instead of commas, `MODEL 2400`.

    More than four fields belong to the firmware. Never raises: what cannot be told apart is the model.
    """
    plain = text.strip().strip("\0")
    plain = unquote(re.sub(r"^\*IDN\??\s+", "", plain, flags=re.IGNORECASE))
    fields = [unquote(field) for field in plain.split(",")]
    if len(fields) == 1:
        words = plain.split(None, 3)
        fields = words if len(words) > 1 else ["", *words]
    fields = [field.strip() for field in fields[:3]] + [",".join(fields[3:]).strip()]
    fields += [""] * (4 - len(fields))
    maker, model, serial, firmware = ("" if field in {"0", "-"} else field for field in fields)
    return Identity(maker, re.sub(r"^MODEL[\s:]+", "", model, flags=re.IGNORECASE), serial, firmware)


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One entry of an instrument's error queue.

    Attributes:
        code: negative where SCPI says what it means, positive where the maker does; 0 is none.
        message: the text before the first semicolon.
        detail: what the instrument adds about this case, after it.
    """

    code: int
    message: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.code:+d} {self.message}" + (f"; {self.detail}" if self.detail else "")

    def to_wire(self) -> str:
        """As an instrument writes it: `-113,"Undefined header;CURRR"`."""
        text = self.message + (f";{self.detail}" if self.detail else "")
        return f'{self.code},"{text.replace(chr(34), chr(34) * 2)}"'


NO_ERROR = ErrorEntry(0, "No error")


def parse_error(text: str) -> ErrorEntry:
    """Read one entry: `-113,"Undefined header;CURRR"`, also without quotes, or only a number.

    A text without a number is an error of code 1 with that text, unless it says that there is none.
    """
    found = _ERROR.fullmatch(text)
    if found is None:
        plain = unquote(text)
        return NO_ERROR if re.fullmatch(r"(no|none|0)?\W*(errors?)?", plain, re.IGNORECASE) else ErrorEntry(1, plain)
    message, _, detail = unquote(found[2] or "").partition(";")
    return ErrorEntry(int(found[1]), message.strip(), detail.strip())


def parse_errors(text: str) -> list[ErrorEntry]:
    """Read the answer to `SYSTem:ERRor:ALL?`: every entry, none for "no error"."""
    found = re.findall(r"([+-]?\d+)\s*,\s*(\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|[^,\"']+)", text)
    entries = [parse_error(f"{code},{message}") for code, message in found] or [parse_error(text)]
    return [entry for entry in entries if entry.code != 0]


def looks_like_error(text: str) -> bool:
    """Whether a reply is an entry of the error queue, a real one: some instruments send it instead of an answer."""
    return re.fullmatch(r'\s*-\d{3}\s*,\s*".*"\s*', text) is not None
