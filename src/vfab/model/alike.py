"""What somebody may have meant who wrote a name wrong."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["alike"]


def alike(text: str, known: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """The names of `known` that are most like `text`, best first; at most `count`.

    `likeness` is from 0 (anything) to 1 (the same).
    """
    from difflib import get_close_matches  # 7 ms of every command, for the few that are typed wrong

    return get_close_matches(text, [*known], count, likeness)
