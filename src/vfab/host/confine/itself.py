"""A host confines itself, by what the running kernel has, before any code of the plugin runs; and says how far it got.

Order matters: what needs rights comes first (cgroup, namespaces), then rights are given up, then files, and last the
filter of system calls, which would refuse the rest. What cannot be had is noted, never passed over in silence.

A whole program may be started within bwrap instead (`bubble`), in the middle of it: once it would inherit a view of the
files that is read-only, and while that can still be done.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from vfab.host.confine import cgroup, landlock, namespaces, privileges, seccomp, trial, view
from vfab.host.confine.birth import Birth
from vfab.host.confine.environment import private_folder, reopen_input, set_folders
from vfab.host.confine.reach import Reach, interpreter, reach_of, starts_programs, uses_network
from vfab.host.confine.syscalls import MACHINE, Machine
from vfab.host.system import die_with_vfab
from vfab.model.confinement import Confinement, Level
from vfab.model.errors import PermissionRefused
from vfab.protocols.zygotewire import HostSpec

if TYPE_CHECKING:
    from vfab.dialects.js_start import StartedNode

__all__ = ["Confined", "confine", "get_ready", "refusal"]

OFF = "confinement is switched off (confinement.mode: off in config.yaml, or VFAB_CONFINEMENT=off)"
UNKNOWN = "this system is not known to vfab: drivers are confined on Linux, on x86_64 and aarch64"
_ALONE = frozenset({"user", "pid", "mnt", "ipc", "uts"})
_OF_BOTH = ("cgroup:", "a limit of processes:", "a folder for temporary files:")
"""What a program in bwrap lacks if its host lacks it."""


class Confined(NamedTuple):
    """What came of it.

    Attributes:
        reached: how far the driver is confined.
        node: the Node within bwrap that is to run it; None: this process does, or what it starts.
    """

    reached: Confinement
    node: StartedNode | None = None


def confine(spec: HostSpec, birth: Birth, cell: cgroup.Cell) -> Confined:
    """Confine this process, which is to run the driver of `spec` and has one thread; what was reached.

    Args:
        birth: how it came to be.
        cell: its cgroup, which it has entered.
    """
    if spec.confinement.mode == "off":
        return Confined(Confinement(network="host", subprocess=True, missing=(OFF,)))
    set_folders(spec.state_dir)
    if MACHINE is None:
        return Confined(Confinement(level=Level.LIMITS, network="host", subprocess=True, missing=(UNKNOWN,)))
    return _Confining(spec, MACHINE, birth).run(cell)


def get_ready() -> None:
    """In the zygote: find out and make what is the same for most hosts."""
    interpreter()
    if MACHINE is not None:
        seccomp.program(MACHINE, 1, network=False, subprocess=False, modes=True)


class _Confining:
    """The steps, and how each went."""

    def __init__(self, spec: HostSpec, machine: Machine, birth: Birth) -> None:
        self._spec = spec
        self._machine = machine
        self._birth = birth
        self._network = uses_network(spec)
        self._programs = starts_programs(spec)
        self._alone = _ALONE if self._network else _ALONE | {"net"}
        self._missing: list[str] = []

    def run(self, cell: cgroup.Cell) -> Confined:
        """Take every step; what was reached."""
        if cell.problem:
            self._missing.append(f"cgroup: {cell.problem}")
        own = self._unshare()
        in_bwrap = self._is_for_bwrap()
        reach = reach_of(self._spec)  # once /proc is what it will be
        # bwrap cannot mount another /proc where this one is read-only
        later = ("/proc",) if in_bwrap else ()
        read_only = "mnt" in own and self._take("a read-only view of the files", lambda: self._look_only(reach, later))
        node = self._begin_in_bwrap(read_only=read_only) if in_bwrap else None
        if in_bwrap and read_only:
            read_only = self._take("a read-only view of /proc", view.make_proc_read_only)
        gained_none = self._take("no_new_privs", seccomp.no_new_privileges)
        self._take("capabilities", privileges.drop_capabilities)
        version = self._hold_files(reach)
        self._take("seccomp", lambda: self._filter_calls(modes=read_only))
        files = version > 0 and trial.files_are_held()
        calls = trial.calls_are_filtered(network=self._network)
        if version and not files:
            self._missing.append("Landlock: was set, and does not hold")
        if self._spec.state_dir and (files or read_only or node is None):  # else links of the driver's lead anywhere
            self._take("a folder for temporary files", lambda: private_folder(self._spec.state_dir))
        if node is not None:
            return Confined(self._reached_in_bwrap(cell), node)
        capabilities = privileges.has_capabilities()
        level = Level.LIMITS if gained_none else Level.NONE
        if gained_none and files and calls:
            level = Level.FILTERED
            if own >= self._alone and read_only and not capabilities:
                level = Level.ISOLATED if cell.folder else Level.CONFINED
        reached = Confinement(
            level=level,
            landlock_abi=version if files else 0,
            seccomp=calls,
            namespaces=tuple(sorted(own)),
            read_only=read_only,
            cgroup=cell.folder,
            network="host" if self._network else "none",
            subprocess=self._programs,
            capabilities=capabilities,
            missing=tuple(self._missing),
        )
        return Confined(reached)

    def _is_for_bwrap(self) -> bool:
        """Whether the driver is a program that is to be started within bwrap."""
        how = self._spec.confinement.programs
        return self._spec.manifest.runtime.dialect == "js_driver" and (
            how == "bwrap" or (how == "auto" and landlock.abi() == 0)
        )

    def _begin_in_bwrap(self, *, read_only: bool) -> StartedNode | None:
        """Node within bwrap; None, and noted, where that cannot be had or does not hold."""
        if not self._spec.confinement.namespaces:
            self._missing.append("bwrap: namespaces are switched off (confinement.namespaces: false)")
            return None
        from vfab.host.confine import bubble  # nobody else pays for it

        try:
            return bubble.begin(self._spec, self._machine, read_only=read_only)
        except OSError as error:
            self._missing.append(f"bwrap: {error}")
            return None

    def _reached_in_bwrap(self, cell: cgroup.Cell) -> Confinement:
        """What a Node has that was found to be held: all of it."""
        return Confinement(
            level=Level.ISOLATED if cell.folder else Level.CONFINED,
            program="bwrap",
            seccomp=True,
            namespaces=tuple(sorted(self._alone)),
            read_only=True,
            cgroup=cell.folder,
            network="host" if self._network else "none",
            subprocess=self._spec.manifest.permissions.subprocess,
            capabilities=False,
            missing=tuple(line for line in self._missing if line.startswith(_OF_BOTH)),
        )

    def _take(self, what: str, step: Callable[[], object]) -> bool:
        """Take `step`; False, and noted under `what`, when the system refuses it."""
        try:
            step()
        except OSError as error:
            self._missing.append(f"{what}: {error}")
            return False
        return True

    def _unshare(self) -> frozenset[str]:
        own: list[str] = list(self._birth.own)
        if self._birth.lacks:
            self._missing.append(self._birth.lacks)
        if not self._spec.confinement.namespaces:
            self._missing.append("namespaces: switched off (confinement.namespaces: false)")
        elif self._take("namespaces", lambda: own.extend(namespaces.unshare(self._birth, network=self._network))):
            if "pid" in own:
                self._take("a /proc of its own", view.own_proc)
            threads = self._spec.manifest.runtime.limits.threads
            if threads:  # counted by user, and outside of a namespace all of the user's count
                self._take("a limit of processes", lambda: _limit_processes(threads))
        die_with_vfab()  # an unshare may have made the kernel forget
        return frozenset(own)

    def _look_only(self, reach: Reach, besides: tuple[str, ...]) -> None:
        view.make_read_only((*reach.write, *reach.devices, *besides))
        reopen_input()  # what was opened before is as writable as it was
        if not trial.modes_are_held(self._spec.folder):
            raise OSError("was set, and does not hold")

    def _hold_files(self, reach: Reach) -> int:
        """Landlock, if there is any; its version, 0 when it does not hold."""
        version = landlock.abi()
        if not version:
            self._missing.append("Landlock: this kernel has none, or it is not in the list of its security modules")
            return 0

        def restrict() -> None:
            landlock.restrict(version, read=reach.read, write=reach.write, devices=reach.devices, network=self._network)

        return version if self._take("Landlock", restrict) else 0

    def _filter_calls(self, *, modes: bool) -> None:
        code = seccomp.program(
            self._machine, os.getpid(), network=self._network, subprocess=self._programs, modes=modes
        )
        seccomp.install(code)


def _limit_processes(most: int) -> None:
    """Let the user of this namespace have `most` processes and threads; fewer where the system says so already."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    except ValueError as error:  # that is what Python makes of EPERM
        raise OSError(errno.EPERM, str(error)) from error


def refusal(spec: HostSpec, reached: Confinement) -> PermissionRefused | None:
    """Why the plugin is not loaded: the policy asks for more than was reached. None: it may be."""
    plan, name = spec.confinement, spec.manifest.name
    if reached.level.reaches(plan.minimum):
        return None
    lacks = "; ".join(reached.missing) or "nothing is known to be missing"
    return PermissionRefused(
        f"{name} is not started: it can be confined to {reached.level.value!r} only, and {plan.trust} plugins need "
        f"{plan.minimum.value!r} here; missing: {lacks}",
        driver_name=name,
        context={"reached": reached.to_dict(), "minimum": plan.minimum.value, "trust": plan.trust},
        remedy=f"Give the system what is missing (docs/confinement.md), or allow it in config.yaml: "
        f"confinement: {{minimum: {{{plan.trust}: {reached.level.value}}}}}.",
    )
