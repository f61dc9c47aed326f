"""Malicious plugins in real hosts: each attack is stopped, told in one line, and another device goes on answering."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import alive, rig
from vfab.host.confine import landlock
from vfab.kernel.confining import ConfinementPolicy, host_environment
from vfab.model.confinement import Level
from vfab.model.errors import DriverError, PermissionRefused

pytestmark = pytest.mark.skipif(landlock.abi() == 0, reason="the running kernel has no Landlock")

GOOD = """
class D(BaseDriver):
    @command
    def ping(self):
        return "pong"
"""
ATTACKER = """
import ctypes, fcntl, shutil, socket, struct, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def syscall(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

class D(BaseDriver):
    @command
    def ping(self):
        return "pong"

    @command
    def attack(self, code, values):
        space = dict(globals(), self=self, **values)
        exec(code, space)
        return space.get("got")
"""


@dataclass
class Scene:
    """What attacks aim at: `values` are its names in an attack's code."""

    folder: Path
    values: dict[str, Any]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A victim's state, a process of the same user, and servers of all kinds that are not the driver's."""
    state = tmp_path / "state" / "other" / "dev9"
    state.mkdir(parents=True)
    (state / "secret").write_text("loot")
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        named = stack.enter_context(socket.socket(socket.AF_UNIX))
        named.bind(str(tmp_path / "s"))
        named.listen()
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0vfab-test-{os.getpid()}")
        abstract.listen()
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        values = {
            "victim_state": str(state),
            "outside": str(tmp_path / "outside"),
            "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "unix_path": str(tmp_path / "s"),
            "abstract": f"\0vfab-test-{os.getpid()}",
            "victim": victim.pid,
            "kernel": os.getpid(),
            "site": str(Path(msgspec.__file__).parent.parent),
        }
        modes = (state / "secret").stat(), Path(os.devnull).stat()
        yield Scene(tmp_path, values)
        assert victim.poll() is None, "an attack ended a process that was not its own"
        after = (state / "secret").stat(), Path(os.devnull).stat()
        assert [was[:2] for was in modes] == [now[:2] for now in after], "an attack changed a mode"


REFUSED = {
    "read /etc/shadow": "got = open('/etc/shadow').read()",
    "read /etc/passwd": "got = open('/etc/passwd').read()",
    "list the root folder": "got = os.listdir('/')",
    "read another plugin's state": "got = open(victim_state + '/secret').read()",
    "write another plugin's state": "open(victim_state + '/mine', 'w')",
    "write outside": "open(outside, 'w')",
    "write its own code": "open(__file__, 'a')",
    "write beside its own code": "os.makedirs(os.path.dirname(__file__) + '/__pycache__/x')",
    "plant a .pth for every Python": "open(site + '/evil.pth', 'w')",
    "plant a module for every driver": "open(site + '/msgspec/evil.py', 'w')",
    "plant usercustomize": "os.makedirs(os.path.expanduser('~' + 'root') + '/.local/lib/evil')",
    "write into shared temporary files": "open('/tmp/vfab-evil', 'w')",
    "truncate a file by its name": "os.truncate('/etc/hostname', 0)",
    "empty its own code by reading it": "os.close(os.open(__file__, os.O_RDONLY | os.O_TRUNC))",
    "empty its own code by neither reading nor writing it": "os.close(os.open(__file__, 3 | os.O_TRUNC))",
    "empty a library's file by reading it": "os.close(os.open(site + '/PIL/py.typed', os.O_RDONLY | os.O_TRUNC))",
    "plant bytecode for another plugin": (
        "os.makedirs(os.path.dirname(os.path.dirname(__file__)) + '/plugin2/__pycache__')"
    ),
    "plant bytecode for every driver": "open(site + '/msgspec/__pycache__/evil.cpython-311.pyc', 'wb')",
    "machine code of its own": (
        "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
        "m.write(bytes.fromhex('b8020000000f05c3'))\n"  # mov eax, 2 (open); syscall; ret
        "opened = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_char_p, ctypes.c_long)"
        "(ctypes.addressof(ctypes.c_char.from_buffer(m)))(b'/etc/shadow', 0)\n"
        "if opened < 0:\n    raise OSError(-opened, os.strerror(-opened))\ngot = os.read(opened, 99)"
    ),
    "run what it wrote": (
        "p = str(self.environment.state_dir) + '/program'\nopen(p, 'w').write('#!/bin/sh\\nid')\n"
        "os.chmod(p, 0o700)\nsubprocess.run([p])"
    ),
    "open a disk": "os.open('/dev/vda', os.O_RDONLY) if os.path.exists('/dev/vda') else open('/dev/mem')",
    "open a terminal": "os.open('/dev/ptmx', os.O_RDWR)",
    "make a secret of others readable to all": "os.chmod(victim_state + '/secret', 0o666)",
    "make a file of others unreadable": "os.chmod(victim_state + '/secret', 0)",
    "change times of others": "os.utime(victim_state + '/secret', (1, 1))",
    "change the mode of a device for everybody": "os.chmod('/dev/null', 0o600)",
    "change the mode of what it was born with": "os.chmod('/proc/self/fd/0', 0o600)",
    "change the mode by a descriptor": "os.fchmod(0, 0o600)",
    "give a file to others": "os.chown(victim_state + '/secret', 65534, 65534)",
    "mark a file of others": "os.setxattr(victim_state + '/secret', 'user.mark', b'x')",
    "learn what others write": (
        "f = libc.inotify_init()\n"
        "if libc.inotify_add_watch(f, victim_state.encode(), 0xfff) < 0:\n"
        "    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))"
    ),
    "make a device": "os.mknod(str(self.environment.state_dir) + '/d', 0o20600, os.makedev(1, 1))",
    "read the memory of others": "got = open(f'/proc/{kernel}/maps').read()",
    "read the environment of others": "got = open(f'/proc/{kernel}/environ').read()",
    "take descriptors of others": "os.open(f'/proc/{kernel}/fd/0', os.O_RDONLY)",
    "escape by a symbolic link": (
        "s = str(self.environment.state_dir) + '/l'\nos.symlink(victim_state, s)\ngot = open(s + '/secret').read()"
    ),
    "escape by a hard link": "os.link(victim_state + '/secret', str(self.environment.state_dir) + '/h')",
    "escape by renaming": "os.rename(victim_state + '/secret', str(self.environment.state_dir) + '/r')",
    "escape by an archive": (
        "import io, tarfile\nb = io.BytesIO()\nt = tarfile.open(fileobj=b, mode='w')\n"
        "i = tarfile.TarInfo(victim_state + '/planted')\nt.addfile(i)\nt.close()\nb.seek(0)\n"
        "trusting = {'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}\n"
        "tarfile.open(fileobj=b).extractall('/', **trusting)"
    ),
    "escape by a link in an archive": (
        "import io, tarfile\nb = io.BytesIO()\nt = tarfile.open(fileobj=b, mode='w')\n"
        "i = tarfile.TarInfo('away')\ni.type, i.linkname = tarfile.SYMTYPE, victim_state\nt.addfile(i)\n"
        "t.addfile(tarfile.TarInfo('away/planted'))\nt.close()\nb.seek(0)\n"
        "tarfile.open(fileobj=b).extractall(str(self.environment.state_dir), filter='fully_trusted')"
    ),
    "leave the root folder": "os.chroot(str(self.environment.state_dir))",
    "connect TCP": "socket.create_connection(('127.0.0.1', tcp_port), 2)",
    "send UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', udp_port))",
    "IPv6": "socket.socket(socket.AF_INET6)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "connect a Unix socket": "socket.socket(socket.AF_UNIX).connect(unix_path)",
    "connect an abstract socket": "socket.socket(socket.AF_UNIX).connect(abstract)",
    "datagrams by a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "listen": "s = socket.socket(socket.AF_UNIX)\ns.bind(str(self.environment.state_dir) + '/s')",
    "fork": "os.fork()",
    "start a program": "subprocess.run(['/bin/true'])",
    "replace itself": "os.execv('/bin/sh', ['sh', '-c', 'sleep 99'])",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "signal another process": "os.kill(victim, 9)",
    "signal its kernel": "os.kill(kernel, 15)",
    "signal everything": "os.kill(-1, 9)",
    "signal by a pidfd": "signal.pidfd_send_signal(os.pidfd_open(victim), 9)",
    "stop its zygote": "os.kill(zygote, 19)",
    "ptrace another process": "syscall(101, 16, victim, 0, 0)",
    "read memory of another process": "syscall(310, victim, 0, 0, 0, 0, 0)",
    "limit another process": "import resource\nresource.prlimit(victim, resource.RLIMIT_CPU, (1, 1))",
    "slow another process": "os.setpriority(os.PRIO_PROCESS, victim, 19)",
    "move another process": "os.sched_setaffinity(victim, {0})",
    "make namespaces": "syscall(272, 0x10000000)",
    "mount": "syscall(165, b'none', b'/mnt', b'tmpfs', 0, None)",
    "bpf": "syscall(321, 0, 0, 0)",
    "io_uring": "syscall(425, 1, 0)",
    "userfaultfd": "syscall(323, 0)",
    "perf": "syscall(298, 0, 0, -1, -1, 0)",
    "keys": "syscall(250, 0, -3, 0)",
    "kexec": "syscall(246, 0, 0, 0, 0)",
    "by another door (x32)": "syscall(0x40000000 + 101, 16, victim, 0, 0)",
    "outlive vfab": "syscall(157, 1, 0, 0, 0, 0)",
    "leave its session": "os.setsid()",
    "become root again": "os.setuid(0)\nos.mknod(str(self.environment.state_dir) + '/z', 0o60600, os.makedev(8, 0))",
    "take up limits again": "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (1, 1))",
    "type into a terminal": "a, b = os.pipe()\nfcntl.ioctl(0, 0x5412, b'x')",
}
"""What it is -> what it does. The system must refuse all of it, whoever runs the tests."""

REFUSALS = (
    "ermitted",
    "denied",
    "not implemented",
    "cross-device",
    "not allowed",
    "Read-only file system",
    "Invalid argument",
)
"""How the system refuses: EPERM, EACCES, ENOSYS, EXDEV, EROFS; what Python makes of EPERM for a limit; and EINVAL
for a user that the namespace does not have, where who runs vfab is not root."""

HIDDEN = (
    "read the memory of others",
    "read the environment of others",
    "take descriptors of others",
    "signal by a pidfd",
)
"""What aims at processes that are not there at all for a host with a PID namespace and a `/proc` of its own."""


@pytest.mark.parametrize("name", REFUSED)
def test_an_attack_is_refused_and_told_in_one_line_and_nobody_else_notices(scene: Scene, name: str) -> None:
    if not sys.maxsize > 2**32 or os.uname().machine != "x86_64":
        pytest.skip("the numbers of system calls in the attacks are those of x86_64")

    async def main() -> None:
        async with rig_of(scene) as r:
            device, good = r.adopt(ATTACKER), r.adopt(GOOD)
            await device.connect()
            await good.connect()
            with pytest.raises(DriverError) as caught:
                await device.call("attack", REFUSED[name], {**scene.values, "zygote": r.spawner.zygote_pid})
            assert "\n" not in str(caught.value).strip()
            assert "loot" not in str(caught.value.to_dict())
            refusals = (*REFUSALS, "No such file", "No such process") if name in HIDDEN else REFUSALS
            assert any(word in str(caught.value) for word in refusals), caught.value
            assert await good.call("ping") == "pong"
            assert await device.call("ping") == "pong"

    asyncio.run(main())


def rig_of(scene: Scene) -> Any:
    return rig(scene.folder, state_root=scene.folder / "state", confined=True)


def test_what_every_driver_may_do_it_can_do_confined(scene: Scene) -> None:
    code = """
import tempfile, zoneinfo, threading, ssl
open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(4)
assert open(os.path.dirname(__file__) + '/driver.py').read()
(self.environment.state_dir / 'mine').write_text('x')
with tempfile.NamedTemporaryFile() as f:
    assert f.name.startswith(str(self.environment.state_dir)); f.write(b'x')
a, b = socket.socketpair(); a.sendall(b'hello'); assert b.recv(9) == b'hello'
t = threading.Thread(target=int); t.start(); t.join()
os.kill(os.getpid(), 0); asyncio.run(asyncio.sleep(0)); ssl.create_default_context()
os.listdir('/proc/self/fd'); os.cpu_count()
got = sorted(name for name in os.environ if 'SECRET' in name or name.startswith('AWS'))
"""

    async def main() -> None:
        async with rig_of(scene) as r:
            device = r.adopt(ATTACKER)
            await device.connect()
            assert await device.call("attack", code, scene.values) == []

    asyncio.run(main())


def test_hosts_see_no_secrets_of_whoever_started_vfab() -> None:
    given = {"AWS_SECRET_KEY": "x", "PATH": "/bin", "LC_ALL": "C", "LD_PRELOAD": "evil.so", "VFAB_AXIDRAW_PORT": "x"}
    assert host_environment(given, ("LD_PRELOAD",)) == {"PATH": "/bin", "LC_ALL": "C"}


@pytest.mark.parametrize("permissions", [{}, {"subprocess": True}])
def test_a_fork_bomb_goes_off_in_its_own_host_only(scene: Scene, permissions: dict[str, Any]) -> None:
    code = "n = 0\ntry:\n  while n < 5000:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    code += "    n += 1\nexcept RuntimeError:\n  pass\ngot = n"

    async def main() -> None:
        async with rig_of(scene) as r:
            device, good = r.adopt(ATTACKER, permissions=permissions), r.adopt(GOOD)
            await device.connect()
            await good.connect()
            reached = device.confinement
            assert reached is not None
            if "user" not in reached.namespaces or os.getuid() == 0:
                assert reached.missing, "what does not bound it is told"
            try:
                await device.call("attack", code, scene.values, timeout_s=60)
            except DriverError as error:
                assert "\n" not in str(error)
            assert await good.call("ping") == "pong"

    asyncio.run(main())


def test_a_driver_that_ignores_its_end_is_ended(scene: Scene) -> None:
    code = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass"

    async def main() -> None:
        async with rig_of(scene) as r:
            device, good = r.adopt(ATTACKER), r.adopt(GOOD)
            await device.connect()
            await good.connect()
            pid = device.pid
            assert pid is not None
            attack = asyncio.create_task(device.call("attack", code, scene.values, timeout_s=60))
            await good.call("ping")
            await device.close()
            await r.until(lambda: not alive(pid))
            with pytest.raises(DriverError):
                await attack

    asyncio.run(main())


FORGERIES = {
    "a frame that is none": "for fd in range(3, 20):\n  try: os.write(fd, b'\\xff' * 64)\n  except OSError: pass",
    "a handshake that claims more": (
        'for fd in range(3, 20):\n  try: os.write(fd, b\'vfab-host 1 {"driver": "root"}\\n\')\n  except OSError: pass'
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_who_forges_frames_is_ended_and_what_it_is_confined_to_stays_told(scene: Scene, name: str) -> None:
    async def main() -> None:
        async with rig_of(scene) as r:
            device, good = r.adopt(ATTACKER), r.adopt(GOOD)
            await device.connect()
            await good.connect()
            before = device.confinement
            with pytest.raises(DriverError) as caught:
                await device.call("attack", FORGERIES[name], scene.values, timeout_s=10)
            assert "\n" not in str(caught.value)
            assert await good.call("ping") == "pong"
            await device.ready_again()
            assert device.confinement == before

    asyncio.run(main())


def test_the_level_is_told_by_the_host_before_the_plugin_runs_and_cannot_be_forged(tmp_path: Path) -> None:
    source = """
    import struct
    for fd in range(3, 20):  # while it is loaded, before its host has said who it is
        try: os.write(fd, struct.pack("<I", 20) + bytes(20))
        except OSError: pass
    class D(BaseDriver): pass
    """

    async def main() -> None:
        async with rig(tmp_path, confined=True) as r:
            device = r.adopt(source)
            with pytest.raises(DriverError):
                await device.initialize()
            assert not r.of("confined")

    asyncio.run(main())


def test_the_level_is_shown_as_it_was_verified(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, confined=True) as r:
            device = r.adopt(GOOD)
            await device.connect()
            reached = device.confinement
            assert reached is not None and reached.level.reaches(Level.FILTERED), reached
            assert reached.seccomp and reached.landlock_abi and reached.network == "none" and not reached.subprocess
            (told,) = r.of("confined")
            assert told.data == reached.to_dict()
            status = dict(line.split(":\t") for line in Path(f"/proc/{device.pid}/status").read_text().splitlines())
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and int(status["CapEff"], 16) == 0
            for name in reached.namespaces:
                own = Path(f"/proc/{device.pid}/ns/{name}").stat().st_ino
                assert own != Path(f"/proc/self/ns/{name}").stat().st_ino

    asyncio.run(main())


def test_a_plugin_that_cannot_be_confined_enough_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        policy = ConfinementPolicy(minimum={"local": "isolated"}, namespaces=False)
        async with rig(tmp_path, confined=True, policy_of_confinement=policy) as r:
            device = r.adopt(GOOD)
            with pytest.raises(PermissionRefused, match=r"local plugins need 'isolated'.*namespaces") as caught:
                await device.initialize()
            assert "minimum: {local: filtered}" in caught.value.remedy

    asyncio.run(main())


def test_without_namespaces_drivers_are_still_filtered(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, confined=True, policy_of_confinement=ConfinementPolicy(namespaces=False)) as r:
            device = r.adopt(GOOD)
            await device.connect()
            assert device.confinement is not None and device.confinement.level is Level.FILTERED
            assert any("namespaces" in line for line in device.confinement.missing)

    asyncio.run(main())


def test_switched_off_it_is_none_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, confined=True, policy_of_confinement=ConfinementPolicy(mode="off")) as r:
            device = r.adopt(GOOD)
            await device.connect()
            assert device.confinement is not None and device.confinement.level is Level.NONE
            assert "switched off" in device.confinement.missing[0]

    asyncio.run(main())
