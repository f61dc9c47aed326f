"""Kernels and containers that have less: real system calls, refused by a filter that was there before the host."""

from __future__ import annotations

import os
import resource
import struct
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lesser import ALLOW, ENOSYS, EPERM, ERRNO, JEQ, LD, RET, in_child, take_away
from vfab.host.confine import birth, cgroup, itself, landlock, seccomp, trial
from vfab.host.confine.birth import Birth, fork, how_it_ended
from vfab.host.confine.reach import reach_of, uses_network
from vfab.host.confine.syscalls import MACHINE, MACHINES, Machine, call
from vfab.host.limits import FEWEST_FILES, keep_within
from vfab.model.confinement import Confinement, ConfinementPlan, Level
from vfab.model.devices import DeviceInfo
from vfab.model.limits import Limits
from vfab.model.manifest import manifest_from_dict
from vfab.protocols.zygotewire import HostSpec

pytestmark = pytest.mark.skipif(MACHINE is None, reason="confinement is for Linux on x86_64 and aarch64")

NAMED = {"name": "mine", "version": "1", "author": "a test", "description": "d", "driver_class": "driver.D"}
NO_CELL = cgroup.Cell(problem="none for this test")


def spec(folder: Path, plan: ConfinementPlan | None = None, **fields: Any) -> HostSpec:
    manifest = manifest_from_dict({**NAMED, **fields})
    state = folder / "state"
    state.mkdir(exist_ok=True)
    device = DeviceInfo(id="d", bus="test", address="/dev/null")
    return HostSpec(
        folder=str(folder),
        manifest=manifest,
        device=device,
        state_dir=str(state),
        confinement=plan or ConfinementPlan(),
    )


def born_without(
    folder: Path, *names: str, number: int = ENOSYS, plan: ConfinementPlan | None = None, **fields: Any
) -> Confinement:
    """What a host reaches where those calls are not to be had."""

    def work() -> Any:
        if not birth.die_by_signals():
            raise AssertionError("no code can be made here")
        take_away(*names, number=number)
        reader, writer = os.pipe()
        made = fork(namespaces=(plan or ConfinementPlan()).namespaces)
        if made.pid == 0:
            try:
                os.write(
                    writer, msgspec.json.encode(itself.confine(spec(folder, plan, **fields), made, NO_CELL).reached)
                )
            except BaseException:
                os.write(writer, traceback.format_exc().encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            said = file.read()
        os.waitpid(made.pid, 0)
        return said

    return msgspec.json.decode(in_child(work), type=Confinement)


def lacks(reached: Confinement, *words: str) -> bool:
    return any(all(word in line for word in words) for line in reached.missing)


@pytest.fixture
def whole(tmp_path: Path) -> Confinement:
    """What is reached here with nothing taken away; the tests that follow need all of it."""
    reached = born_without(tmp_path, "uselib")
    if not reached.level.reaches(Level.CONFINED):
        pytest.skip(f"this machine confines no further than {reached.level.value}: {'; '.join(reached.missing)}")
    return reached


def test_with_everything_it_is_confined_and_says_what_a_cgroup_would_add(whole: Confinement) -> None:
    assert whole.level is Level.CONFINED and whole.read_only and not whole.capabilities
    assert set(whole.namespaces) == {"user", "pid", "mnt", "ipc", "uts", "net"}
    assert [line.partition(":")[0] for line in whole.missing] == ["cgroup"]
    assert "read-only view" in str(whole)


LESS = {
    "no clone3": (("clone3",), Level.FILTERED, ("a PID namespace",), {"user", "mnt", "ipc", "uts", "net"}),
    "no more namespaces": (("unshare",), Level.FILTERED, ("namespaces",), {"user", "pid"}),
    "nothing of either": (("clone3", "unshare"), Level.FILTERED, ("namespaces",), set()),
    "no mount": (("mount",), Level.CONFINED, ("a /proc of its own",), {"user", "pid", "mnt", "ipc", "uts", "net"}),
    "no mount_setattr": (
        ("mount_setattr",),
        Level.FILTERED,
        ("a read-only view",),
        {"user", "pid", "mnt", "ipc", "uts", "net"},
    ),
    "no Landlock": (
        ("landlock_create_ruleset",),
        Level.LIMITS,
        ("Landlock", "kernel has none"),
        {"user", "pid", "mnt", "ipc", "uts", "net"},
    ),
    "a Landlock that refuses": (
        ("landlock_restrict_self",),
        Level.LIMITS,
        ("Landlock", "landlock_restrict_self"),
        {"user", "pid", "mnt", "ipc", "uts", "net"},
    ),
}


@pytest.mark.parametrize("name", LESS)
@pytest.mark.parametrize("number", [ENOSYS, EPERM])
@pytest.mark.usefixtures("whole")
def test_what_is_not_to_be_had_is_told_and_not_claimed(tmp_path: Path, name: str, number: int) -> None:
    calls, level, words, namespaces = LESS[name]
    reached = born_without(tmp_path, *calls, number=number)
    assert reached.level is level, reached
    assert lacks(reached, *words), reached.missing
    assert set(reached.namespaces) == namespaces
    assert reached.read_only == ("mnt" in namespaces and "mount_setattr" not in calls)
    assert bool(reached.landlock_abi) == ("Landlock" not in name)
    assert reached.seccomp


@pytest.mark.usefixtures("whole")
def test_no_limit_of_processes_is_none(tmp_path: Path) -> None:
    reached = born_without(tmp_path, "prlimit64", number=EPERM, runtime={"limits": {"threads": 0}})
    assert reached.level is Level.CONFINED and not lacks(reached, "limit of processes")
    refused = born_without(tmp_path, "prlimit64", number=EPERM)
    assert lacks(refused, "a limit of processes: [Errno 1]")


@pytest.mark.usefixtures("whole")
def test_a_limit_of_processes_that_is_lower_already_is_left_and_is_no_trouble(tmp_path: Path) -> None:
    """Nobody may raise it again in a user namespace, be it root outside."""

    def work() -> Any:
        resource.setrlimit(resource.RLIMIT_NPROC, (40, 40))
        return msgspec.to_builtins(born_without(tmp_path, "uselib", runtime={"limits": {"threads": 50}}))

    reached = msgspec.convert(in_child(work), Confinement)
    assert reached.level is Level.CONFINED and not lacks(reached, "limit of processes")


@pytest.mark.usefixtures("whole")
def test_a_host_without_any_filter_is_limited_only(tmp_path: Path) -> None:
    def work() -> Any:
        take_away("seccomp")
        return msgspec.to_builtins(
            itself.confine(spec(tmp_path), Birth(0, uid=os.getuid(), gid=os.getgid()), NO_CELL).reached
        )

    reached = msgspec.convert(in_child(work), Confinement)
    assert reached.level is Level.LIMITS and not reached.seccomp
    assert lacks(reached, "seccomp:")


def test_switched_off_nothing_is_done_and_elsewhere_limits_are_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = itself.confine(spec(tmp_path, ConfinementPlan(mode="off")), Birth(0), NO_CELL).reached
    assert (off.level, off.missing) == (Level.NONE, (itself.OFF,))
    monkeypatch.setattr(itself, "MACHINE", None)
    monkeypatch.setenv("HOME", "/")
    itself.get_ready()
    elsewhere = itself.confine(spec(tmp_path), Birth(0), NO_CELL).reached
    assert (elsewhere.level, elsewhere.missing) == (Level.LIMITS, (itself.UNKNOWN,))
    assert os.environ["HOME"] == str(tmp_path / "state")


def test_what_is_tried_tells_an_unconfined_process_from_a_confined_one(tmp_path: Path) -> None:
    assert not trial.files_are_held() and not trial.calls_are_filtered(network=True)
    assert not trial.modes_are_held(str(tmp_path)) and not trial.modes_are_held(str(tmp_path / "none"))


def test_sockets_that_can_be_made_are_found_out() -> None:
    def work() -> Any:
        take_away("unshare", number=EPERM)
        return [trial.calls_are_filtered(network=True), trial.calls_are_filtered(network=False)]

    assert in_child(work) == [True, False]

    def answered_otherwise() -> Any:
        take_away("unshare", number=ENOSYS)
        return trial.calls_are_filtered(network=True)

    assert in_child(answered_otherwise) is False


def test_a_birth_is_plain_where_there_can_be_no_namespace() -> None:
    def work() -> Any:
        birth._code.clear()  # the system lets nobody make code
        made = fork(namespaces=True)
        if made.pid == 0:
            os._exit(0 if made.lacks and not made.own else 1)
        return os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1])

    assert in_child(work) == 0


def test_statuses_are_told_as_signals_whoever_made_them() -> None:
    assert how_it_ended(0) == 0 and how_it_ended(7 << 8) == 7
    assert how_it_ended(9) == -9 and how_it_ended((128 + 15) << 8) == -15
    assert how_it_ended(128 << 8) == 128 and how_it_ended(255 << 8) == 255


def test_limits_of_the_system_are_set_and_a_lower_one_stays() -> None:
    def work() -> Any:
        keep_within(Limits(file_mb=2, address_space_mb=65536, open_files=0))
        keep_within(Limits(file_mb=1, open_files=1))
        keep_within(Limits(file_mb=4))
        known = (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_CORE)
        return [resource.getrlimit(which)[0] for which in known] + [resource.getrlimit(resource.RLIMIT_NOFILE)[0]]

    assert in_child(work) == [1 << 20, 65536 << 20, 0, FEWEST_FILES]


# -- what the filter decides, on both machines ------------------------------------------------------------------------

KILL, REFUSED, OK, NO_SUCH = "kill", "refused", "allowed", "no such call"


def decide(machine: Machine, code: bytes, name: str, *args: int, number: int | None = None) -> str:
    """Run the program as the kernel would, on a call of `name`."""
    values = [arg & 0xFFFFFFFFFFFFFFFF for arg in args] + [0] * (6 - len(args))
    nr = machine.numbers[name] if number is None else number
    data = struct.pack("=iIQ6Q", nr, machine.audit, 0, *values)
    at, a = 0, 0
    while True:
        kind, true, false, k = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if kind == LD:
            (a,) = struct.unpack_from("=I", data, k)
        elif kind == 0x54:
            a &= k
        elif kind == RET:
            return {0x80000000: KILL, ALLOW: OK, ERRNO | EPERM: REFUSED, ERRNO | ENOSYS: NO_SUCH}[k]
        else:
            at += true if {JEQ: a == k, 0x35: a >= k, 0x45: bool(a & k)}[kind] else false


@pytest.mark.parametrize("name", MACHINES)
def test_the_filter_decides_alike_on_every_machine(name: str) -> None:
    machine = MACHINES[name]

    def asked(what: str, *args: int, pid: int = 1, network: bool = False, subprocess: bool = False) -> str:
        code = seccomp.program(machine, pid, network=network, subprocess=subprocess, modes=False)
        return decide(machine, code, what, *args)

    for refused in seccomp.REFUSED:
        if refused in machine.numbers:
            assert asked(refused) == asked(refused, network=True, subprocess=True) == REFUSED, refused
    assert asked("clone3") == NO_SUCH
    thread, new_user = 0x10000, 0x10000000
    assert asked("clone", thread) == OK and asked("clone", 17) == REFUSED and asked("clone", 17, subprocess=True) == OK
    assert asked("clone", thread | new_user) == asked("clone", new_user, subprocess=True) == REFUSED
    assert asked("execve") == REFUSED and asked("execve", subprocess=True) == OK
    becoming = seccomp.program(machine, 2, network=False, subprocess=False, modes=False, becoming=True)
    assert decide(machine, becoming, "execve") == OK and decide(machine, becoming, "clone", 17) == REFUSED
    assert decide(machine, becoming, "execveat") == decide(machine, becoming, "kill", 1, 9) == REFUSED
    assert asked("kill", 1, 15) == OK and asked("kill", 1, 9) == asked("kill", 1, 9, subprocess=True) == KILL
    assert asked("kill", -1, 9) == asked("kill", 4711, 15) == REFUSED
    assert asked("kill", -4711, 15, pid=4711) == asked("kill", 4711, 9, pid=4711) == OK
    assert asked("prctl", 1, 9) == OK and asked("prctl", 1, 0) == REFUSED and asked("prctl", 15, 0) == OK
    unix, inet, netlink, packet, stream, datagram = 1, 2, 16, 17, 1, 2
    assert asked("socket", unix, stream | 0o2000000) == OK and asked("socket", unix, datagram) == REFUSED
    assert asked("socket", inet, stream) == REFUSED and asked("socket", inet, datagram, network=True) == OK
    assert (
        asked("socket", netlink, 3, 0, network=True) == OK and asked("socket", netlink, 3, 9, network=True) == REFUSED
    )
    assert asked("socket", packet, 3, network=True) == REFUSED
    assert asked("sendto", 5, 0, 1, 0, 0) == OK and asked("sendto", 5, 0, 1, 0, 1 << 40) == REFUSED
    assert asked("sendmsg", 5, 0, 0x20000000) == asked("sendmmsg", 5, 0, 1, 0x20000000) == REFUSED
    assert asked("ioctl", 0, 0x5412) == REFUSED and asked("ioctl", 0, 0x5413) == OK
    assert asked("utimensat") == asked("fchmodat") == REFUSED
    assert asked("personality", 0xFFFFFFFF) == OK and asked("personality", 0x40000) == REFUSED
    code = seccomp.program(machine, 1, network=False, subprocess=False, modes=True)
    assert decide(machine, code, "fchmodat") == decide(machine, code, "utimensat") == OK
    other = next(one for one in MACHINES.values() if one is not machine)
    assert decide(Machine(other.audit, machine.numbers, 0), code, "ioctl") == KILL
    if machine.x32:
        assert decide(machine, code, "ioctl", number=machine.x32 + 1) == NO_SUCH


# -- what it may reach ------------------------------------------------------------------------------------------------


def test_a_driver_reaches_what_its_manifest_and_its_machine_say(tmp_path: Path) -> None:
    source = tmp_path / "elsewhere" / "drv_old.py"
    old = spec(tmp_path)
    runtime = msgspec.structs.replace(old.manifest.runtime, dialect="drv_module", source=str(source))
    old = msgspec.structs.replace(old, manifest=msgspec.structs.replace(old.manifest, runtime=runtime))
    assert uses_network(old) and str(source.parent) in reach_of(old).read and "/proc/net" in reach_of(old).read
    plain = spec(tmp_path, permissions={"files": ["read:/sys/class/tty", "write:/dev/not-there", "read:relative"]})
    reach = reach_of(plain)
    assert not uses_network(plain) and "/proc/net" not in reach.read and "relative" not in reach.read
    assert "/sys/class/tty" in reach.read and f"/proc/{os.getpid()}" in reach.read
    assert {"/dev/null", "/dev/not-there"} <= set(reach.devices)
    linked = (
        [os.path.realpath(entry) for entry in Path("/sys/class/tty").iterdir()]
        if Path("/sys/class/tty").exists()
        else []
    )
    assert set(linked) <= set(reach.read)
    starting = reach_of(spec(tmp_path, permissions={"subprocess": True}))
    assert "/proc" in starting.read


def test_a_call_that_the_kernel_refuses_is_an_error_with_its_name() -> None:
    with pytest.raises(OSError, match="setns"):
        call("setns", -1, 0)
    assert landlock.abi() >= 0
    with pytest.raises(OSError, match="more than one thread"):
        in_threads(birth._c_library)


def in_threads(work: Callable[[], Any]) -> Any:
    gate = threading.Event()
    other = threading.Thread(target=gate.wait)
    other.start()
    birth._c_library.cache_clear()
    try:
        return work()
    finally:
        gate.set()
        other.join()
