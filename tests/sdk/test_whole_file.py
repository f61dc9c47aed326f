"""Files are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfab.sdk.whole_file import write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_has_the_old_contents_or_the_new_and_everybody_may_read_it(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with file.open() as reader:
        write_whole(file, "neü\n", durable=durable)
        assert reader.read() == "old"
    assert file.read_bytes() == "neü\n".encode()
    write_whole(file, b"\0\xff", durable=durable)
    assert file.read_bytes() == b"\0\xff"
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_replaced_is_left_as_it_was_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "a.png"
    folder.mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        write_whole(folder, b"x")
    assert list(tmp_path.iterdir()) == [folder]
