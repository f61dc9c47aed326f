"""Whether this user may open a device node, and what to do when not: the group to join, or the udev rule to write."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Access", "User", "check_node", "node_rule", "udev_rule"]

UDEV_FILE = "/etc/udev/rules.d/60-vfab.rules"
"""Below 73, where `uaccess` is acted on."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Attributes:
        name: login name.
        groups: ids of the groups that this process has.
        group_name: the name of a group id; the id as text where it has none.
        is_listed: whether the user database lists the user in the group of that name.
        may_open: whether the node may be opened for reading and writing.
    """

    name: str
    groups: frozenset[int]
    group_name: Callable[[int], str]
    is_listed: Callable[[str], bool]
    may_open: Callable[[str], bool]

    @classmethod
    def current(cls) -> User:
        """The user of this process."""
        import pwd

        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a container's number without a name
            name = str(os.geteuid())
        groups = frozenset(os.getgroups()) | {os.getegid()}
        return cls(name, groups, _group_name, lambda group: _is_listed(name, group), _may_open)


@dataclass(frozen=True, slots=True)
class Access:
    """What `check_node` found; `problem` and `remedy` are "" when the node may be opened."""

    accessible: bool
    problem: str = ""
    remedy: str = ""


def check_node(path: str, user: User, *, vid: str = "", pid: str = "", subsystem: str = "") -> Access:
    """Whether `user` may open the device node `path`; `vid` and `pid`, or `subsystem`, make the udev rule exact."""
    try:
        seen = os.stat(path)  # noqa: PTH116 — the answer to a question about a string
    except FileNotFoundError:
        return Access(False, f"{path} does not exist", "Plug the device in; in a container, pass the device through.")
    except OSError as error:
        return Access(False, f"{path} cannot be looked at: {error.strerror}", "Ask the administrator of this machine.")
    if user.may_open(path):
        return Access(True)
    group = user.group_name(seen.st_gid)
    exact = udev_rule(vid, pid) if vid else node_rule(subsystem) if subsystem else ""
    rule = f"or put this line in {UDEV_FILE}: {exact}" if vid else ""
    problem = f"{user.name} may not open {path} ({stat.filemode(seen.st_mode)}, group {group})"
    if seen.st_mode & 0o060 != 0o060 or seen.st_gid == 0:
        return Access(False, problem, _by_rule(path, exact))
    if seen.st_gid in user.groups:
        return Access(
            False, problem, f"{user.name} is in {group} already: a security policy forbids it; ask its author."
        )
    if user.is_listed(group):
        return Access(False, problem, f"{user.name} joined {group} after logging in: log out and in again.")
    join = f"Run: sudo usermod -aG {group} {user.name}, then log out and in again"
    return Access(False, problem, f"{join}; {rule}" if rule else f"{join}.")


def udev_rule(vid: str, pid: str) -> str:
    """A udev rule that lets whoever sits at the machine use the USB device, and keeps modem software off it."""
    match = f'ATTRS{{idVendor}}=="{vid}", ATTRS{{idProduct}}=="{pid}"'
    return f'{match}, MODE="0660", TAG+="uaccess", ENV{{ID_MM_DEVICE_IGNORE}}="1"'


def node_rule(subsystem: str) -> str:
    """A udev rule that lets whoever sits at the machine use the nodes of a kind: `gpio`, `spidev` and others."""
    return f'SUBSYSTEM=="{subsystem}", MODE="0660", TAG+="uaccess"'


def _by_rule(path: str, rule: str) -> str:
    if not rule:
        return f"Its group may not open it either. Ask the administrator for a udev rule that gives {path} a group."
    reload = "sudo udevadm control --reload && sudo udevadm trigger"
    return f"Put this line in {UDEV_FILE}: {rule} — then run {reload} and plug the device in again."


def _may_open(path: str) -> bool:
    return os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _is_listed(user: str, group: str) -> bool:
    import grp

    try:
        return user in grp.getgrnam(group).gr_mem
    except KeyError:
        return False
