"""The file tree that bwrap makes for a program: what it was given under the names that it has here, and nothing else.

Names matter as much as rights: `/lib` is a link on most systems, `/usr/bin/node` on many. Each link on the way to what
was given is made again, and what is at its end is bound there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vfab.host.confine.reach import Reach

__all__ = ["Tree", "tree_of"]

_NODES = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
_OWN = ("/proc",)
_LINKS_MAX = 40
"""As many as the kernel follows, path_resolution(7)."""


class Tree(NamedTuple):
    """A tree to be.

    Attributes:
        arguments: what makes it, for bwrap.
        bound: what it has of the system's, with all below, and by what option.
        top: what there is in its root folder.
    """

    arguments: tuple[str, ...]
    bound: Mapping[str, str]
    top: frozenset[str]

    def has(self, path: str, *, writable: bool = False) -> bool:
        """Whether `path` is there, or even to be written."""
        end = os.path.realpath(path)
        return _below(end, [over for over, how in self.bound.items() if not writable or how != "--ro-bind"])


def tree_of(reach: Reach) -> Tree:
    """The tree with `reach`, a `/proc` of its own, and a `/dev` with a few nodes.

    What is not there is passed over. The root folder, and those made on the way to what was given, cannot be written.

    Raises OSError: the whole tree is in `reach`, or links go in circles.
    """
    links, bound = _places(reach)
    told = [part for path, target in sorted(links.items()) for part in ("--symlink", target, path)]
    for path, how in sorted(bound.items()):
        told += [how, path, path]
    top = frozenset(path.split("/")[1] for path in (*links, *bound, *_OWN))
    return Tree((*told, "--proc", "/proc", "--remount-ro", "/"), bound, top)


def _places(reach: Reach) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Links to make, and by what option each path is to be bound."""
    links: dict[str, str] = {}
    bound: dict[str, str] = {}
    for how, paths in (
        ("--ro-bind", reach.read),
        ("--bind", reach.write),
        ("--dev-bind", (*reach.devices, *_NODES)),
    ):
        for path in paths:
            on_the_way, end = _walk(path)
            if os.path.exists(end) and not _below(end, _OWN):  # noqa: PTH110 — pathlib costs at every start
                links |= on_the_way
                bound[end] = how
    if "/" in bound:
        raise OSError(errno.EINVAL, "the whole tree is to be reached")
    kept = {path: how for path, how in bound.items() if not _is_covered(path, how, bound)}
    links = {**_LINKS, **links}
    return {path: target for path, target in links.items() if not _below(path, kept)}, kept


def _is_covered(path: str, how: str, bound: Mapping[str, str]) -> bool:
    """Whether what is bound above `path` gives it as much already."""
    above = {over: given for over, given in bound.items() if over != path and _below(path, [over])}
    return any(given in {how, "--bind", "--dev-bind"} for given in above.values())


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _walk(path: str) -> tuple[dict[str, str], str]:
    """The links on the way to `path`, which is absolute, and where it ends. Raises OSError: there is no end."""
    links: dict[str, str] = {}
    there, rest, followed = "", path.split("/"), 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            there = there.rpartition("/")[0]
        if name in {"", ".", ".."}:
            continue
        here = f"{there}/{name}"
        try:
            target = os.readlink(here)  # noqa: PTH115
        except OSError:  # no link, or nothing at all
            there = here
            continue
        links[here] = target
        followed += 1
        if followed > _LINKS_MAX:
            raise OSError(errno.ELOOP, f"{path}: {os.strerror(errno.ELOOP)}")
        there = "" if target.startswith("/") else there
        rest[:0] = target.split("/")
    return links, there or "/"
