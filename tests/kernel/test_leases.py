"""Leases between real programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lesser import in_child
from vfab.kernel.leases import LeaseBook
from vfab.model.errors import DeviceBusy, PermissionRefused

HOLDER = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from vfab.kernel.leases import LeaseBook
lease = LeaseBook(Path({folder!r}), "the other program").acquire("usb:1")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_program_is_told_who_has_the_device_and_gets_it_when_that_one_dies(tmp_path: Path) -> None:
    source = HOLDER.format(paths=sys.path, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        book = LeaseBook(tmp_path)
        with pytest.raises(DeviceBusy, match=rf"process {other.pid} \(the other program\)") as told:
            book.acquire("usb:1")
        assert told.value.context["holder"]["device"] == "usb:1"
        holder = book.holder_of("usb:1")
        assert holder is not None
        assert holder["pid"] == other.pid
        with book.acquire("usb:2"):
            pass
        other.kill()
        other.wait()
        assert book.holder_of("usb:1") is None
        with book.acquire("usb:1") as lease:
            assert book.holder_of("usb:1")["pid"] == os.getpid()  # type: ignore[index]
        lease.release()
        assert book.holder_of("usb:1") is None
        assert book.holder_of("never seen") is None


def test_whoever_only_looks_keeps_nobody_from_the_device(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path, "me")
    book.acquire("d").release()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            book.holder_of("d")

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(300):
            book.acquire("d").release()
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{\xff", b'"x"'])
def test_a_lease_file_with_rubbish_names_nobody(tmp_path: Path, content: bytes) -> None:
    book = LeaseBook(tmp_path)
    with book.acquire("d") as lease:
        lease.path.write_bytes(content)
        with pytest.raises(DeviceBusy, match="another program"):
            book.acquire("d")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(PermissionRefused, match="cannot write the lease file"):
        LeaseBook(tmp_path / "file").acquire("d")


def test_a_lease_that_cannot_be_written_down_is_not_kept(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path, "\ud800")  # json writes it; what fails is a folder in the place of the file
    lease = book.acquire("d")
    lease.release()
    lease.path.mkdir()
    with pytest.raises(PermissionRefused):
        book.acquire("d")


TAKER = """
import os, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from vfab.kernel.leases import LeaseBook
from vfab.model.errors import DeviceBusy
book, mark, taken = LeaseBook(Path({folder!r})), {mark!r}, 0
while taken < 150:
    try:
        lease = book.acquire("usb:1")
    except DeviceBusy:
        continue
    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # two holders: the second fails here
    os.unlink(mark)
    lease.release()
    taken += 1
print("taken", taken)
"""


def test_a_lease_that_is_given_back_leaves_no_file_and_is_never_had_by_two(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    code = TAKER.format(paths=[p for p in sys.path if p], folder=str(folder), mark=str(tmp_path / "mark"))
    takers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for taker in takers:
        out, err = taker.communicate(timeout=120)
        assert out == "taken 150\n", err
    assert list(folder.iterdir()) == []


def test_a_child_that_lets_go_leaves_the_lease_to_its_parent(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path, "me")
    with book.acquire("d") as lease:

        def work() -> list[bool]:
            lease.let_go_in_child()  # once more than the fork did
            lease.release()
            own = book.acquire("mine")
            own.let_go_in_child()
            own.let_go_in_child()
            return [book.holder_of("d") is not None, book.holder_of("mine") is None]

        assert in_child(work) == [True, True]
        assert book.holder_of("d") is not None
