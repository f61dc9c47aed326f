"""What QEMU boots: an initrd with nine kernel modules and a script of forty lines, made anew at each boot.

The guest sees this machine's whole root file system read-only (9p) below a layer in memory, so that everything looks
as it does here, and nothing that the guest writes comes back; only the results folder is shared for writing.
"""

from __future__ import annotations

import lzma
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab_kernel import Kernel, Unavailable

__all__ = ["GUEST_RESULTS", "cpio", "make_initrd", "qemu_command", "write_end"]

GUEST_RESULTS = "/vfab-lab"
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")

_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
$b mount -t proc proc /proc
for module in /modules/*; do $b insmod "$module" || echo "lab: $module does not load"; done

share=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o ro,cache=loose,$share root /host || { echo "lab: no root file system"; $b poweroff -f; }
$b mount -t tmpfs rw /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work,xino=off root /root
r=/root
$b mount -t devtmpfs dev $r/dev
$b mkdir -p $r/dev/pts $r/dev/shm $r@RESULTS@ $r/run
$b mount -t proc proc $r/proc
$b mount -t sysfs sys $r/sys
$b mount -t cgroup2 cgroup $r/sys/fs/cgroup
$b mount -t devpts -o ptmxmode=666 pts $r/dev/pts
$b mount -t tmpfs shm $r/dev/shm
$b mount -t tmpfs run $r/run
$b mount -t 9p -o rw,cache=none,$share results $r@RESULTS@

# modprobe finds the modules where it looks for them
$b rm -rf $r/lib/modules
$b mkdir -p $r/lib/modules
$b mount --bind $r@MODULES@ $r/lib/modules
$b ip link set lo up
$b hostname lab
echo "lab: up after $($b cut -d' ' -f1 /proc/uptime) s"

# not by a chroot alone: who lives in one gets no namespaces; and the kernel itself moves with this process
cd $r
$b mount --move . /
exec $b chroot . /bin/sh @RESULTS@/end.sh
"""
_END = """\
/bin/sh @RESULTS@/job.sh </dev/null >/dev/ttyS1 2>&1
echo $? >@RESULTS@/exit
@BUSYBOX@ dmesg >@RESULTS@/dmesg.log
@BUSYBOX@ poweroff -f
"""


def make_initrd(kernel: Kernel, target: Path) -> None:
    """Write the initrd for this kernel. Raises Unavailable: busybox is missing, or links to libraries."""
    busybox = shutil.which("busybox")
    if not busybox or b"ld-linux" in Path(busybox).read_bytes()[:4096]:
        raise Unavailable("A busybox without libraries is needed (Debian: sudo apt-get install busybox-static).")
    init = _INIT.replace("@MODULES@", shlex.quote(str(kernel.modules.parent))).replace("@RESULTS@", GUEST_RESULTS)
    entries = [(name, 0o40755, b"") for name in ("bin", "dev", "proc", "host", "rw", "root", "modules")]
    entries += [("bin/busybox", 0o100755, Path(busybox).read_bytes()), ("init", 0o100755, init.encode())]
    for number, module in enumerate(_in_order(kernel, BOOT_MODULES)):
        entries.append((f"modules/{number:02d}-{module.name.partition('.')[0]}.ko", 0o100644, _content(module)))
    target.write_bytes(b"".join(cpio(entries)))


def write_end(results: Path) -> None:
    """Write what the guest's first process does once it has the programs' root: the job, and then the end."""
    end = _END.replace("@RESULTS@", GUEST_RESULTS).replace(
        "@BUSYBOX@", shlex.quote(shutil.which("busybox") or "busybox")
    )
    (results / "end.sh").write_text(end, encoding="utf-8")


def _in_order(kernel: Kernel, names: Iterable[str]) -> list[Path]:
    """The modules and what they depend on, each after what it needs."""
    lines = (kernel.modules / "modules.dep").read_text(encoding="utf-8").splitlines()
    needs = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    paths = {Path(name).name.partition(".")[0].replace("-", "_"): name for name in needs}
    ordered: dict[str, None] = {}

    def add(path: str) -> None:
        for needed in reversed(needs[path]):
            add(needed)
        ordered.setdefault(path)

    for name in names:
        if name in paths:  # some kernels have it built in
            add(paths[name])
    return [kernel.modules / path for path in ordered]


def _content(module: Path) -> bytes:
    """The module's code; newer Debian compresses modules."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> Iterator[bytes]:
    """The "newc" archive that the kernel's documentation (driver-api/early-userspace/buffer-format) describes."""
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        label = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(label), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + label
        yield head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def qemu_command(
    kernel: Kernel, initrd: Path, results: Path, *, accel: str = "tcg", memory_mb: int = 1536
) -> list[str]:
    """The command that boots the lab; what the job prints comes on its standard output.

    Raises Unavailable: QEMU is not installed.
    """
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise Unavailable("qemu-system-x86_64 is not installed (Debian: sudo apt-get install qemu-system-x86).")
    append = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on"
    cpu = {"tcg": ["-accel", "tcg,thread=multi", "-cpu", "max"], "kvm": ["-accel", "kvm", "-cpu", "host"]}[accel]
    return [
        program,
        *cpu,
        *("-smp", str(min(2, os.cpu_count() or 1)), "-m", str(memory_mb)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(kernel.image), "-initrd", str(initrd), "-append", append),
        *("-serial", f"file:{_escaped(results / 'console.log')}"),
        *("-chardev", "stdio,id=job,signal=off", "-serial", "chardev:job"),
        *_share("root", Path("/"), "readonly=on"),
        *_share("results", results, "readonly=off"),
    ]


def _share(tag: str, path: Path, mode: str) -> list[str]:
    options = f"local,path={_escaped(path)},mount_tag={tag},security_model=none,multidevs=remap,{mode}"
    return ["-virtfs", options]


def _escaped(path: Path) -> str:
    """As QEMU's options want it: a comma is written twice."""
    return str(path).replace(",", ",,")
