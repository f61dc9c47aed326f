"""How far a driver's process is confined: the levels, what a host is told to do, and what it reports it has reached.

The report is made by the host itself before any code of the plugin runs, from what it tried and found refused; a level
is never claimed because a system call returned without an error.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import msgspec

__all__ = ["Confinement", "ConfinementPlan", "Level", "Programs", "Trust"]

Trust = Literal["built-in", "installed", "local"]
Programs = Literal["auto", "self", "bwrap"]


class Level(Enum):
    """The levels, lowest first. Each has all that those before it have."""

    NONE = "none"
    """Nothing holds the driver: it may do what the user who runs vfab may do."""

    LIMITS = "limits"
    """Resource limits, a clean environment, no inherited descriptors, no privileges to be gained."""

    FILTERED = "filtered"
    """System calls are filtered (seccomp) and files are those that the driver was given (Landlock, or bwrap's tree)."""

    CONFINED = "confined"
    """No capabilities, namespaces of its own (user, PID, mount, IPC, UTS, and network unless it may use the host's),
    all files that are not its own are read-only, modes and owners included, and signals and abstract sockets end at the
    driver's own processes (by its namespaces)."""

    ISOLATED = "isolated"
    """Memory, CPU time and processes are bounded by a cgroup of its own as well."""

    @property
    def rank(self) -> int:
        """Its place in the order, 0 for the lowest."""
        return _LEVELS.index(self)

    def reaches(self, minimum: Level) -> bool:
        """Whether this level is at least `minimum`."""
        return self.rank >= minimum.rank


_LEVELS = tuple(Level)


class ConfinementPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a host shall do to itself, as the policy of this machine has it.

    Attributes:
        mode: "on", or "off": nothing but the limits of `runtime.limits`; nobody but the configuration says so.
        minimum: the host refuses to load the plugin below this level.
        trust: where the plugin comes from.
        namespaces: whether namespaces are tried.
        programs: how the program is held that a driver is for its host, as Node is for one in JavaScript: by what it
            inherits ("self"), within bwrap ("bwrap"), or within bwrap where there is no Landlock ("auto").
        files: `read:PATH` and `write:PATH` that every driver gets on this machine.
    """

    mode: Literal["on", "off"] = "on"
    minimum: Level = Level.NONE
    trust: Trust = "local"
    namespaces: bool = True
    programs: Programs = "auto"
    files: tuple[str, ...] = ()


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has reached, told before the plugin's code runs.

    Attributes:
        level: the highest level all of which was verified.
        program: "bwrap": the driver is a program that was started within it, and all of this is said of that program.
        landlock_abi: the version of Landlock that holds its files; 0: none does.
        seccomp: whether its system calls are filtered.
        namespaces: those of its own: "ipc", "mnt", "net", "pid", "user", "uts".
        read_only: whether it sees everything that it may not write as read-only, so that it cannot change modes either.
        cgroup: folder of its own cgroup; "": it has none.
        network: "host" when the driver may open sockets of its own, else "none".
        subprocess: whether it may start programs.
        capabilities: whether it still holds any.
        missing: what it lacks and why, one line each, for the next levels.
    """

    level: Level = Level.NONE
    program: str = ""
    landlock_abi: int = 0
    seccomp: bool = False
    namespaces: tuple[str, ...] = ()
    read_only: bool = False
    cgroup: str = ""
    network: str = "none"
    subprocess: bool = False
    capabilities: bool = True
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def __str__(self) -> str:
        parts = [
            self.program,
            f"Landlock {self.landlock_abi}" if self.landlock_abi else "",
            "seccomp" if self.seccomp else "",
        ]
        parts += [f"namespaces {' '.join(self.namespaces)}" if self.namespaces else ""]
        parts += ["read-only view" if self.read_only else "", "cgroup" if self.cgroup else ""]
        parts += ["network: host" if self.network == "host" else "", "subprocess" if self.subprocess else ""]
        said = ", ".join(part for part in parts if part)
        return f"{self.level.value} ({said})" if said else self.level.value
