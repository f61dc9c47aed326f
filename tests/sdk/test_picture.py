"""Pictures of what a pen drew."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vfab.model.errors import Refused
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.picture import write_png, write_svg
from vfab.sdk.svg import SvgOptions, read_drawing

STROKES = [[(10.0, 10.0), (90.0, 10.0), (90.0, 40.12345)], [(50.0, 30.0)]]


def test_an_svg_reads_back_as_what_was_drawn(tmp_path: Path) -> None:
    write_svg(tmp_path / "a.svg", STROKES, 100, 50, title="a <b> & c")
    drawing = read_drawing((tmp_path / "a.svg").read_bytes(), options=SvgOptions(merge=False, sort=False))
    assert (drawing.width_mm, drawing.height_mm) == pytest.approx((100, 50))
    assert max_deviation_mm([path.points for path in drawing.paths], STROKES) < 0.0005
    assert "a &lt;b&gt; &amp; c" in (tmp_path / "a.svg").read_text()


def test_a_png_shows_the_page_the_ink_and_where_the_ink_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    write_png(file, STROKES, 100, 50, dpi=127, wanted=[*STROKES, [(10.0, 45.0), (60.0, 45.0)]], travel=True)
    with Image.open(file) as image:
        assert image.size == (500, 250)
        assert image.info["dpi"] == pytest.approx((127, 127), abs=0.1)
        ink, wanted, paper = (image.getpixel(place) for place in ((250, 50), (150, 225), (30, 200)))
    assert ink[2] > ink[0] and sum(ink) < 300
    assert wanted[0] > 240 > wanted[2]
    assert min(paper) > 245


def test_a_huge_page_makes_a_smaller_picture_and_not_a_huge_one(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", STROKES, 10_000, 10_000, dpi=300)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width * image.height <= 40_100_000


@pytest.mark.parametrize(("width", "height", "dpi"), [(0, 5, 96), (5, float("nan"), 96), (5, 5, 0)])
def test_a_page_of_no_size_is_refused(tmp_path: Path, width: float, height: float, dpi: float) -> None:
    with pytest.raises(Refused):
        write_png(tmp_path / "a.png", STROKES, width, height, dpi=dpi)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(OSError):
        write_svg(tmp_path / "a.svg", STROKES, 100, 50)
    assert [file.name for file in tmp_path.iterdir()] == ["a.svg"]
