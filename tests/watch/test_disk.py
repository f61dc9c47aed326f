"""What lies in a folder, and what the machine has left."""

from __future__ import annotations

import os
from pathlib import Path

from vfab.watch.disk import DiskUsage, disk_usage
from vfab.watch.vitals import Vitals, read_vitals, worse

MIB = 1 << 20


def test_what_is_written_counts_and_not_what_is_said(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert disk(tmp_path).used_mb < 1
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep").write_bytes(os.urandom(3 * MIB))
    os.link(tmp_path / "a" / "b" / "deep", tmp_path / "again")
    (tmp_path / "away").symlink_to("/usr")
    found = disk(tmp_path)
    assert 3 <= found.used_mb < 3.5, "a link is no second file, and a symbolic one is not followed"
    assert found.files == 6
    assert found.free_mb > 0


def test_a_file_without_a_name_counts_while_it_is_open(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("wb") as file:
        (tmp_path / "gone").unlink()
        file.write(os.urandom(2 * MIB))
        file.flush()
        other = os.dup(file.fileno())
        assert 2 <= disk(tmp_path).used_mb < 2.5
        os.close(other)
    assert disk(tmp_path).used_mb == 0


def test_counting_ends_somewhere(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).touch()
    few = disk_usage(tmp_path, os.getpid(), 20)
    assert few is not None and few.capped and few.files == 40
    assert not disk(tmp_path).capped
    assert disk_usage(tmp_path / "none", os.getpid()) is None


def disk(folder: Path) -> DiskUsage:
    found = disk_usage(folder, os.getpid())
    assert found is not None
    return found


def test_what_is_left_is_read_and_compared(tmp_path: Path) -> None:
    now = read_vitals([tmp_path, tmp_path / "none"])
    assert now.memory_mb is not None and now.memory_mb > 1
    assert list(now.disk_mb) == [tmp_path.stat().st_dev]
    assert read_vitals([], meminfo=str(tmp_path / "none")) == Vitals(None, {})
    assert not worse(now, now)
    assert worse(Vitals(10_000, {}), Vitals(8_900, {})) and not worse(Vitals(10_000, {}), Vitals(9_100, {}))
    assert worse(Vitals(None, {1: 900, 2: 5}), Vitals(None, {1: 600, 2: 5}))
    assert not worse(Vitals(None, {1: 900}), Vitals(None, {2: 5})), "another disk"
    assert worse(Vitals(300, {}), Vitals(250, {})), "nearly nothing is left"
