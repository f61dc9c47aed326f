"""Headers: `[:SENSe[1]]:CURRent[:DC]:PROTection[:LEVel]?` and all the ways in which it may be written.

SCPI-99 volume 1, 6.2: a mnemonic has a short form (its capitals) and a long one, nothing between; brackets enclose
what may be left out; a numeric suffix left out means 1; letters are the same in either case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

__all__ = ["HeaderPattern", "is_word", "short_form", "short_header"]

_NODE = re.compile(
    r"(?P<open>\[)?:?(?P<short>[A-Z_]+)(?P<rest>[a-z_]*)(?P<digits>\d*)(?P<optional>\[\d+\])?(?P<suffix><\w+>)?"
    r"(?P<close>\])?"
)


def short_form(mnemonic: str) -> str:
    """`PROT` of `PROTection`; a suffix stays: `CALC2` of `CALCulate2`."""
    return "".join(char for char in mnemonic if not char.islower())


def short_header(header: str) -> str:
    """The shortest way to write a header pattern: optional nodes left out, short forms.

    `SENS:CURR:PROT` is that of `[:SENSe]…` only where the node is written without brackets.
    """
    return HeaderPattern.of(header).spelled(short=True, optional=False)


def is_word(text: str, pattern: str) -> bool:
    """Whether `text` is the short or the long form of `pattern`: LIN and linear are `LINear`."""
    upper = text.strip().upper()
    return upper in {short_form(pattern), pattern.upper()}


@dataclass(frozen=True, slots=True)
class _Node:
    short: str
    long: str
    digits: str
    may_lack_digits: bool
    numbered: bool
    optional: bool

    @property
    def regex(self) -> str:
        word = self.short if self.short == self.long else f"(?:{self.long}|{self.short})"
        if self.numbered:
            word += r"(\d*)"
        elif self.digits:
            word += f"(?:{self.digits})?" if self.may_lack_digits else self.digits
        return f"(?::{word})?" if self.optional else f":{word}"

    def forms(self) -> list[str]:
        words = sorted({self.short, self.long})
        tails = ["", "1"] if self.numbered else ["", self.digits] if self.may_lack_digits else [self.digits]
        return ([""] if self.optional else []) + [f":{word}{tail}" for word in words for tail in tails]


class HeaderPattern:
    """A header as manuals print it. `<n>` after a mnemonic stands for a numeric suffix that the handler is given.

    Attributes:
        text: as it was written.
        query: it ends in `?`.
        common: it is one of IEEE 488.2's, with a star.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.query = text.endswith("?")
        self.common = text.startswith("*")
        body = text.removesuffix("?")
        self._nodes: tuple[_Node, ...] = () if self.common else tuple(_nodes(body))
        pattern = re.escape(body) if self.common else "".join(node.regex for node in self._nodes)
        self._regex = re.compile(pattern + (r"\?" if self.query else ""), re.IGNORECASE)

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(text: str) -> HeaderPattern:
        """The pattern of `text`, kept for the next time."""
        return HeaderPattern(text)

    def match(self, header: str) -> tuple[int, ...] | None:
        """The numeric suffixes in `header` (1 where none is written), or None when it is another header.

        `header` begins with a colon, or a star.
        """
        found = self._regex.fullmatch(header)
        return None if found is None else tuple(int(digits or 1) for digits in found.groups())

    def spelled(self, *, short: bool = True, optional: bool = False) -> str:
        """One way to write it, without a colon in front."""
        if self.common:
            return self.text
        words = [
            f":{node.short if short else node.long}{'' if node.may_lack_digits and short else node.digits}"
            for node in self._nodes
            if optional or not node.optional
        ]
        return "".join(words).removeprefix(":") + ("?" if self.query else "")

    def spellings(self) -> Iterator[str]:
        """Every way to write it, with a colon in front."""
        if self.common:
            yield self.text
            return
        for parts in product(*(node.forms() for node in self._nodes)):
            yield "".join(parts) + ("?" if self.query else "")


def _nodes(body: str) -> Iterator[_Node]:
    at = 0
    while at < len(body):
        found = _NODE.match(body, at)
        if found is None or bool(found["open"]) != bool(found["close"]):
            raise ValueError(f"{body!r} is not a header pattern: see {body[at:]!r}")
        yield _Node(
            short=found["short"],
            long=(found["short"] + found["rest"]).upper(),
            digits=(found["optional"] or "").strip("[]") or found["digits"],
            may_lack_digits=bool(found["optional"]),
            numbered=bool(found["suffix"]),
            optional=bool(found["open"]),
        )
        at = found.end()
