"""The parts of confinement that can be looked at one by one."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from lesser import in_child
from vfab.host.confine import cgroup, seccomp, syscalls, view
from vfab.host.confine.environment import private_folder, reopen_input
from vfab.host.confine.reach import _measured_in
from vfab.host.confine.syscalls import MACHINES
from vfab.kernel.confining import ConfinementPolicy, probe
from vfab.model.confinement import Confinement, ConfinementPlan, Level
from vfab.model.errors import ConfigurationError
from vfab.model.limits import Limits
from vfab.model.manifest import manifest_from_dict
from vfab.protocols.zygotewire import confinement_in, confinement_report

HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_of_system_calls_are_those_of_the_kernels_headers(machine: str) -> None:
    file = next((Path(name) for name in HEADERS[machine] if Path(name).exists()), None)
    if file is None:
        pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
    known = {
        name: int(number) for name, number in re.findall(r"#define __NR3?2?6?4?_?_?(\w+)\s+(\d+)", file.read_text())
    }
    ours = MACHINES[machine].numbers
    assert {name: number for name, number in ours.items() if known.get(name, number) != number} == {}
    assert len(set(ours) & set(known)) > 80


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("programs", [False, True])
@pytest.mark.parametrize("machine", MACHINES)
def test_a_filter_is_whole_instructions_and_every_jump_stays_within(
    machine: str, programs: bool, network: bool
) -> None:
    code = seccomp.program(MACHINES[machine], 4711, network=network, subprocess=programs, modes=network)
    count, rest = divmod(len(code), 8)
    assert rest == 0 and count < 4096
    for at in range(count):
        kind, true, false = code[8 * at], code[8 * at + 2], code[8 * at + 3]
        assert kind & 7 != 5 or at + 1 + max(true, false) < count


def test_levels_are_in_order_and_a_report_comes_through_whole() -> None:
    assert [level.value for level in Level] == ["none", "limits", "filtered", "confined", "isolated"]
    assert Level.CONFINED.reaches(Level.FILTERED) and not Level.LIMITS.reaches(Level.FILTERED)
    report = Confinement(
        level=Level.CONFINED, landlock_abi=7, seccomp=True, namespaces=("user",), missing=("cgroup: no",)
    )
    frame = confinement_report(report)
    assert confinement_in(frame + b"and more") == report
    assert all(confinement_in(frame[:cut]) is None for cut in range(len(frame)))
    assert confinement_in(b"\x01\0\0\0\xff") is None
    assert str(report) == "confined (Landlock 7, seccomp, namespaces user)"


def test_a_delegated_cgroup_bounds_memory_processes_and_time_and_is_removed(tmp_path: Path) -> None:
    group = tmp_path / "vfab.service"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids")
    (group / "cgroup.subtree_control").write_text("cpu memory pids")
    process = tmp_path / "self"
    process.write_text("4:memory:/old\n0::/vfab.service\n")
    assert cgroup.own_group(tmp_path, process) == group
    made = group / "vfab-host-1-2"
    made.mkdir()
    (made / "cgroup.procs").touch()
    cell = cgroup.prepare(Limits(memory_mb=100, threads=20, cpu_percent=50), group, "1-2")
    assert cell.folder == str(made) and not cell.problem
    assert cell.entered() == cgroup.Cell(str(made))
    assert (made / "cgroup.procs").read_text() == "0", "whoever writes it"
    assert (made / "memory.max").read_text() == str(125 * 1024 * 1024)
    assert (made / "pids.max").read_text() == "20" and (made / "cpu.max").read_text() == "50000 100000"
    process.write_text("4:memory:/old\n")
    with pytest.raises(OSError, match="no unified hierarchy"):
        cgroup.own_group(tmp_path, process)
    for file in made.iterdir():  # in a real one these cannot be, and need not be, removed
        file.unlink()
    assert not cgroup.clean("1-2", group)
    assert not made.exists()
    made.mkdir()
    (made / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    assert cgroup.clean("1-2", group), "somebody in it was ended for want of memory"
    assert "no unified" in cgroup.prepare(Limits(), None, "x").problem
    assert "not delegated" in cgroup.prepare(Limits(), tmp_path / "nothing" / "there", "x").problem


def test_a_cgroup_that_cannot_be_made_or_entered_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    group = tmp_path / "vfab.service"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids")
    (group / "cgroup.subtree_control").mkdir()  # not to be written
    assert "Is a directory" in cgroup.prepare(Limits(), group, "1-2").problem
    (group / "cgroup.subtree_control").rmdir()
    (group / "cgroup.subtree_control").write_text("cpu")
    unbounded = Limits(memory_mb=0, threads=0, cpu_percent=0)
    assert "cgroup.procs" in cgroup.prepare(unbounded, group, "1-2").problem, "nothing to enter it by"
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids"
    made = group / "vfab-host-1-2"
    assert not made.exists()
    (group / "cgroup.subtree_control").write_text("cpu memory pids")
    made.mkdir()
    (made / "cgroup.procs").touch()
    cell = cgroup.prepare(unbounded, group, "1-2")
    assert [file.name for file in made.iterdir()] == ["cgroup.procs"], "no limit, no file"
    cell.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(cell.entrance)
    assert not cgroup.Cell().entered().folder
    cgroup.Cell().close()
    read_only = cgroup.Cell(str(made), os.open(made / "cgroup.procs", os.O_RDONLY))
    assert "Bad file descriptor" in read_only.entered().problem


def test_what_dead_hosts_left_is_removed_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    above = tmp_path / "tmp"
    for name in ("left", "held", "elsewhere"):
        (above / name).mkdir(parents=True)
    (above / "left" / "file").touch()
    (above / "link").symlink_to(above / "elsewhere")
    held = os.open(above / "held", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)

    def work() -> list[str]:
        fcntl.flock(os.open(above / "elsewhere", os.O_RDONLY), fcntl.LOCK_EX)
        mine = private_folder(str(tmp_path))
        assert os.environ["TMPDIR"] == mine == tempfile.gettempdir()
        return sorted(path.name for path in above.iterdir() if str(path) != mine)

    assert in_child(work) == ["elsewhere", "held", "link"]
    os.close(held)
    with pytest.raises(OSError, match="Not a directory"):
        private_folder("/dev/null")


@pytest.mark.parametrize("closed", [True, False])
def test_standard_input_is_opened_anew_whether_it_was_open_or_not(closed: bool) -> None:
    def work() -> bool:
        if closed:
            os.close(0)
        reopen_input()
        return os.read(0, 1) == b"" and os.path.samestat(os.fstat(0), os.stat(os.devnull))  # noqa: PTH116

    assert in_child(work) is True


def test_the_whole_tree_is_never_left_writable() -> None:
    with pytest.raises(OSError, match="the whole tree"):
        view.make_read_only(["/tmp", "/"])


def test_a_machine_that_is_not_known_has_no_system_calls_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "MACHINE", None)
    with pytest.raises(OSError, match="unshare"):
        syscalls.call("unshare", 0)


def test_trust_goes_by_the_folder_and_gives_the_minimum(tmp_path: Path) -> None:
    import vfab.drivers

    policy = ConfinementPolicy.of({"VFAB_HOME": str(tmp_path), "VFAB_CONFINEMENT_FILES": "read:/opt;write:/srv"})
    assert policy.plan(Path(vfab.drivers.__path__[0]) / "grbl").minimum is Level.LIMITS
    assert policy.plan(tmp_path / "plugins" / "x").trust == "installed"
    assert policy.plan(tmp_path / "plugins" / "x").minimum is Level.FILTERED
    assert policy.plan(tmp_path / "x").trust == "local"
    assert policy.plan(tmp_path / "x").files == ("read:/opt", "write:/srv")
    off = ConfinementPolicy.of({"VFAB_CONFINEMENT": "off"})
    assert off.plan(tmp_path) == ConfinementPlan(mode="off", trust="local")


@pytest.mark.parametrize("env", [{"VFAB_CONFINEMENT": "perhaps"}, {"VFAB_CONFINEMENT_FILES": "run:/bin"}])
def test_what_the_environment_says_wrongly_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="VFAB_CONFINEMENT"):
        ConfinementPolicy.of(env)


def test_who_measures_hosts_gives_them_a_folder_of_its_own_and_nothing_that_they_read(tmp_path: Path) -> None:
    def config(folder: Path) -> str:
        return base64.b64encode(json.dumps({"data_file": str(folder / "data")}).encode()).decode()

    read = [str(tmp_path / "checkout" / ".venv"), "/usr"]
    assert _measured_in(config(tmp_path / "checkout" / ".cover"), read) == [str(tmp_path / "checkout" / ".cover")]
    for wide in (tmp_path / "checkout", tmp_path, Path("/")):
        assert _measured_in(config(wide), read) == []
    assert _measured_in("", read) == _measured_in("no base64", read) == []


NAMED = {"name": "mine", "version": "1", "author": "a test", "description": "d", "driver_class": "driver.D"}


def test_what_a_plugin_would_be_confined_to_is_found_out_without_it(tmp_path: Path) -> None:
    manifest = manifest_from_dict(NAMED)
    (tmp_path / "driver.py").write_text("raise SystemExit('no code of it runs')\n")
    on = probe(ConfinementPolicy(), manifest, tmp_path, os.environ)
    plain = probe(ConfinementPolicy(namespaces=False), manifest, tmp_path, os.environ)
    off = probe(ConfinementPolicy(mode="off"), manifest, tmp_path, os.environ)
    assert on.level.reaches(plain.level) and plain.namespaces == () and off.level is Level.NONE
    assert any("switched off" in line for line in plain.missing) and any("switched off" in line for line in off.missing)


def test_what_cannot_be_found_out_says_the_last_that_was_heard(tmp_path: Path) -> None:
    odd = probe(ConfinementPolicy(files=("read:/no\0path",)), manifest_from_dict(NAMED), tmp_path, os.environ)
    assert odd.level is Level.NONE and "could not be found out" in odd.missing[0] and "null byte" in odd.missing[0]
    silent = probe(ConfinementPolicy(), manifest_from_dict(NAMED), tmp_path, {"PYTHONHOME": str(tmp_path / "none")})
    assert silent.level is Level.NONE and "could not be found out" in silent.missing[0]
