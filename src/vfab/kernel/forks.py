"""What a forked child must let go of: descriptors by which others see that this program lives.

A lease is a lock on an open file, and the zygote ends when its socket closes. A child that was forked (by
`multiprocessing`, say) has copies of both: without this, a device would stay in use, and hosts would run on, for as
long as any child of a program that has ended.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["held_here"]


class Holder(Protocol):
    """Something that holds such a descriptor."""

    def let_go_in_child(self) -> None:
        """Close this process's copy. Called in a forked child, before any of its code; it must not wait."""


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()


def held_here(holder: Holder) -> None:
    """Have `holder` let go in every child that is forked from now on, for as long as it exists."""
    _holders.add(holder)


def _let_go() -> None:
    for holder in list(_holders):
        holder.let_go_in_child()


os.register_at_fork(after_in_child=_let_go)
