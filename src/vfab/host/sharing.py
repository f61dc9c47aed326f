"""Memory that hosts share with the zygote, and how it stays shared.

A forked process has every page in common with its parent until one of them writes to it; and in CPython whoever merely
looks at an object writes to it, for it counts references. A host of a small driver touches some 900 pages of 4 KiB that
way, few of them for more than a counter. What can be done about it is done here, once, before the first host is forked:
see docs/adr/0245-which-pages-a-host-makes-its-own.md for what each step is worth.
"""

from __future__ import annotations

import gc
import sys

__all__ = ["settle"]

_POOLED_BYTES = 512
"""Objects up to this size lie in pools of objects of the same size, in steps of 16 bytes."""

_FILL_BYTES = 32 * 1024
"""For each size, more than there is room for in the holes of its pools: 4 to 23 KiB, by `sys._debugmallocstats()`."""

_EMPTY_BYTES = sys.getsizeof(b"")
_filling: list[object] = []


def settle() -> None:
    """Make what this process has good to be shared; the last thing to do before the first fork."""
    gc.collect()
    _forget_lookups()
    _fill_holes()
    gc.freeze()


def _forget_lookups() -> None:
    """Empty the cache of methods that were looked up.

    It holds the names it was asked for. A host's look-ups push out those of the imports, and so write to a name that
    nobody needs any more, wherever that lies: 0.4 MiB on Python 3.11, 0.1 to 0.2 later.
    """
    if sys.version_info >= (3, 13):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()


def _fill_holes() -> None:
    """Take the room that imports left between other objects, for good.

    What a host makes would go there, each object to another page; so it lies together, on new ones: 0.3 to 0.4 MiB.
    """
    _filling.extend(object() for _ in range(_FILL_BYTES // 16))
    _filling.extend(float(number) for number in range(_FILL_BYTES // 32))
    for size in range(48, _POOLED_BYTES + 1, 16):
        _filling.extend(bytes(size - _EMPTY_BYTES) for _ in range(_FILL_BYTES // size))
