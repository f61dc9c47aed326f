"""Pixel formats: how cameras lay out a picture in memory, and the same picture as plain RGB or PNG.

Names are those that devices use: V4L2's four characters (`YUYV`, `NV12`, `GREY`; Linux documentation, Image Formats),
GenICam's PFNC (`Mono8`, `BayerRG8`, `YUV422_8`; EMVA "Pixel Format Naming Convention" 2.4) and common words (`RGB24`).
`layout_of` knows what they mean. Colours in Y′CbCr follow ITU-R BT.601 or BT.709, with the range of video (16 to 235)
or the whole (0 to 255, as in JPEG).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vfab.model.errors import ConfigurationError, ProtocolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Rows = NDArray[np.uint8]

__all__ = [
    "ENCODED",
    "LAYOUTS",
    "MAX_PIXELS",
    "YCBCR",
    "Layout",
    "bytes_needed",
    "image_size",
    "layout_of",
    "sniff",
    "to_png",
    "to_rgb",
    "weights_of",
]

MAX_PIXELS = 1 << 28
"""No camera has more: what claims to is damaged, or hostile."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one pixel format lies in memory.

    Attributes:
        name: the name used here.
        channels: of the picture that it describes: 1 grey (and Bayer, before it is coloured), 3 colour, 4 with alpha.
        bits: of one pixel, in the mean; 0 for encoded pictures (JPEG, PNG).
        group_px: pixels of a row that are stored together; a row is made of whole groups.
        planes: 1 packed; 2 luma and interleaved chroma (`NV12`); 3 luma, Cb and Cr (`YU12`).
    """

    name: str
    channels: int
    bits: int
    group_px: int = 1
    planes: int = 1

    @property
    def is_encoded(self) -> bool:
        """The bytes are a file of their own (JPEG, PNG), whose size in bytes varies."""
        return self.bits == 0

    def row_bytes(self, width_px: int) -> int:
        """Bytes of one row of the first plane without padding; 0 for encoded pictures."""
        groups = -(-width_px // self.group_px)
        return groups * self.group_px * (8 if self.planes > 1 else self.bits) // 8


_LAYOUTS = (
    Layout("GREY", 1, 8), Layout("Y10", 1, 16), Layout("Y12", 1, 16), Layout("Y16", 1, 16),
    Layout("RGB24", 3, 24), Layout("BGR24", 3, 24), Layout("RGBA32", 4, 32), Layout("BGRA32", 4, 32),
    Layout("YUYV", 3, 16, 2), Layout("UYVY", 3, 16, 2), Layout("YVYU", 3, 16, 2), Layout("VYUY", 3, 16, 2),
    Layout("NV12", 3, 12, 2, 2), Layout("NV21", 3, 12, 2, 2), Layout("YU12", 3, 12, 2, 3), Layout("YV12", 3, 12, 2, 3),
    Layout("BayerRG8", 1, 8), Layout("BayerGR8", 1, 8), Layout("BayerGB8", 1, 8), Layout("BayerBG8", 1, 8),
    Layout("MJPG", 3, 0), Layout("PNG", 3, 0), Layout("WEBP", 3, 0),
)  # fmt: skip
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _LAYOUTS}
"""Every layout, by the name used here."""

_OTHER_NAMES = {
    "mono8": "GREY", "y8": "GREY", "y800": "GREY", "gray": "GREY", "gray8": "GREY", "grey8": "GREY",
    "mono10": "Y10", "mono12": "Y12", "mono16": "Y16", "gray16le": "Y16",
    "rgb3": "RGB24", "rgb8": "RGB24", "rgb": "RGB24", "bgr3": "BGR24", "bgr8": "BGR24", "bgr": "BGR24",
    "rgba": "RGBA32", "rgba8": "RGBA32", "ab24": "RGBA32", "bgra": "BGRA32", "bgra8": "BGRA32", "ar24": "BGRA32",
    "yuy2": "YUYV", "yuyv422": "YUYV", "yuv422_8": "YUYV", "yuv422packed_yuyv": "YUYV",
    "uyvy422": "UYVY", "yuv422_8_uyvy": "UYVY", "yuv422packed": "UYVY",
    "i420": "YU12", "yuv420p": "YU12",
    "rggb": "BayerRG8", "grbg": "BayerGR8", "gbrg": "BayerGB8", "ba81": "BayerBG8", "bggr": "BayerBG8",
    "jpeg": "MJPG", "jpg": "MJPG", "mjpeg": "MJPG",
}  # fmt: skip
_BY_NAME = {**{name.lower(): layout for name, layout in LAYOUTS.items()},
            **{name: LAYOUTS[meant] for name, meant in _OTHER_NAMES.items()}}  # fmt: skip
ENCODED = ("MJPG", "PNG", "WEBP")
"""Layouts whose bytes are a picture file."""


def layout_of(pixel_format: str) -> Layout:
    """What `pixel_format` means; upper or lower case, V4L2's trailing space or none.

    Raises ConfigurationError: the name is not known; the context lists those that are.
    """
    layout = _BY_NAME.get(pixel_format.strip().lower())
    if layout is None:
        raise ConfigurationError(
            f"the pixel format {pixel_format!r} is not one that vfab can convert",
            context={"pixel_format": pixel_format, "known": sorted(LAYOUTS)},
            remedy="Set the camera to one of the formats in `known`, or keep the raw bytes: -o FILE.raw.",
        )
    return layout


def bytes_needed(pixel_format: str, width_px: int, height_px: int, stride_bytes: int = 0) -> int:
    """Bytes of a whole picture; 0 for encoded ones. `stride_bytes` is a row's with padding, 0 means without.

    The last row needs no padding. Raises ConfigurationError: unknown format, or no size that a picture can have.
    """
    layout = layout_of(pixel_format)
    if width_px < 1 or height_px < 1 or width_px * height_px > MAX_PIXELS:
        raise ConfigurationError(
            f"a picture cannot be {width_px} × {height_px} pixels",
            context={"width_px": width_px, "height_px": height_px},
            remedy="Give sizes of at least 1 pixel, as the camera's capabilities list them.",
        )
    if layout.is_encoded:
        return 0
    row = layout.row_bytes(width_px)
    stride = stride_bytes or row
    if stride < row:
        raise ConfigurationError(
            f"{stride} bytes are too few for a row of {width_px} pixels of {layout.name}, which has {row}",
            context={"stride_bytes": stride, "row_bytes": row},
        )
    return sum(step * (rows - 1) + length for rows, length, step in _planes(layout, width_px, height_px, stride))


def _planes(layout: Layout, width_px: int, height_px: int, stride: int) -> list[tuple[int, int, int]]:
    """(rows, bytes of a row, bytes from row to row) of each plane; every plane but the last has its padding whole."""
    row = layout.row_bytes(width_px)
    chroma_rows = -(-height_px // 2)
    if layout.planes == 1:
        return [(height_px, row, stride)]
    if layout.planes == 2:
        found = [(height_px, row, stride), (chroma_rows, row, stride)]
    else:
        found = [(height_px, row, stride), *[(chroma_rows, row // 2, stride // 2)] * 2]
    # planes follow each other at whole strides
    return [(rows, step if number < len(found) - 1 else length, step) for number, (rows, length, step) in
            enumerate(found)]  # fmt: skip


def to_rgb(
    data: bytes | bytearray | memoryview,
    pixel_format: str,
    width_px: int,
    height_px: int,
    *,
    stride_bytes: int = 0,
    matrix: str = "bt601",
    full_range: bool = False,
) -> bytes:
    """The picture as packed RGB: `height_px` rows of `width_px` pixels of 3 bytes, the top row first.

    Args:
        data: the picture; more bytes than needed are left alone.
        pixel_format: any name that `layout_of` knows.
        width_px, height_px: its size in pixels.
        stride_bytes: bytes from the start of one row to the next; 0 means that rows follow each other without padding.
        matrix: `bt601` or `bt709`, for Y′CbCr formats.
        full_range: Y′CbCr uses 0 to 255 instead of 16 to 235 (luma) and 16 to 240 (chroma).

    Bayer pictures are coloured by bilinear interpolation; a grey value of more bits keeps its highest 8; alpha is
    dropped. Raises ProtocolError: too few bytes, or an encoded picture that is damaged or of another size.
    Raises ConfigurationError: an unknown format, or an impossible size.
    """
    layout = layout_of(pixel_format)
    needed = bytes_needed(pixel_format, width_px, height_px, stride_bytes)
    if layout.is_encoded:
        return _decoded(data, width_px, height_px)
    if len(data) < needed:
        raise ProtocolError(
            f"the picture has {len(data)} bytes; {width_px} × {height_px} pixels of {layout.name} are {needed}",
            context={"bytes": len(data), "needed": needed, "pixel_format": pixel_format},
            remedy="The frame was cut short: try again; if it stays so, set the camera's format anew.",
        )
    planes = _cut(data, layout, width_px, height_px, stride_bytes or layout.row_bytes(width_px))
    if layout.name in YCBCR:
        y, u, v = YCBCR[layout.name](planes, width_px, height_px)
        return _ycbcr_to_rgb(y, u, v, matrix, full_range)
    rgb = _coloured(layout, planes[0], width_px)
    return rgb.tobytes()


def _cut(data: Any, layout: Layout, width_px: int, height_px: int, stride: int) -> list[_Rows]:
    """Each plane as an array of rows, without its padding; nothing is copied."""
    import numpy as np
    from numpy.lib.stride_tricks import as_strided

    flat = np.frombuffer(data, np.uint8)
    found, start, row = [], 0, layout.row_bytes(width_px)
    for number, (rows, _, step) in enumerate(_planes(layout, width_px, height_px, stride)):
        length = row // 2 if layout.planes == 3 and number else row
        found.append(as_strided(flat[start:], (rows, length), (step, 1), writeable=False))
        start += rows * step
    return found


def _coloured(layout: Layout, rows: _Rows, width_px: int) -> _Rows:
    import numpy as np

    name = layout.name
    if name == "GREY":
        return np.repeat(rows[:, :, None], 3, axis=2)
    if name in {"Y10", "Y12", "Y16"}:
        wide = rows[:, 0::2].astype(np.uint16) | rows[:, 1::2].astype(np.uint16) << 8
        grey = np.minimum(wide >> (int(name[1:]) - 8), 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if name.startswith("Bayer"):
        return _demosaiced(rows, name[5:7])
    pixels = rows.reshape(rows.shape[0], width_px, layout.channels)
    return np.ascontiguousarray(pixels[:, :, 2::-1] if name.startswith("BGR") else pixels[:, :, :3])


def _packed_422(y: int, u: int, v: int) -> Callable[[list[_Rows], int, int], tuple[_Rows, _Rows, _Rows]]:
    """Takes 4:2:2 apart: `y` is the place of the first luma byte in each group of four, `u` and `v` those of chroma."""

    def take(planes: list[_Rows], width_px: int, height_px: int) -> tuple[_Rows, _Rows, _Rows]:
        (rows,) = planes
        wide = [_doubled(rows[:, place::4], 1)[:, :width_px] for place in (u, v)]
        return rows[:, y::2][:, :width_px], wide[0], wide[1]

    return take


def _semi_planar(first: int) -> Callable[[list[_Rows], int, int], tuple[_Rows, _Rows, _Rows]]:
    """Takes NV12 (`first` 0) or NV21 (`first` 1) apart."""

    def take(planes: list[_Rows], width_px: int, height_px: int) -> tuple[_Rows, _Rows, _Rows]:
        y, chroma = planes
        u, v = chroma[:, first::2], chroma[:, 1 - first :: 2]
        return y[:, :width_px], _quadrupled(u, width_px, height_px), _quadrupled(v, width_px, height_px)

    return take


def _planar(first: int) -> Callable[[list[_Rows], int, int], tuple[_Rows, _Rows, _Rows]]:
    """Takes YU12 (`first` 1) or YV12 (`first` 2) apart."""

    def take(planes: list[_Rows], width_px: int, height_px: int) -> tuple[_Rows, _Rows, _Rows]:
        u, v = planes[first], planes[3 - first]
        return planes[0][:, :width_px], _quadrupled(u, width_px, height_px), _quadrupled(v, width_px, height_px)

    return take


YCBCR: dict[str, Callable[[list[Any], int, int], tuple[Any, Any, Any]]] = {
    "YUYV": _packed_422(0, 1, 3), "UYVY": _packed_422(1, 0, 2), "YVYU": _packed_422(0, 3, 1),
    "VYUY": _packed_422(1, 2, 0), "NV12": _semi_planar(0), "NV21": _semi_planar(1), "YU12": _planar(1),
    "YV12": _planar(2),
}  # fmt: skip
"""For each Y′CbCr layout, what makes luma, Cb and Cr in full size of its planes."""
_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def _doubled(rows: _Rows, axis: int) -> _Rows:
    import numpy as np

    return np.repeat(rows, 2, axis=axis)


def _quadrupled(rows: _Rows, width_px: int, height_px: int) -> _Rows:
    return _doubled(_doubled(rows, 0)[:height_px], 1)[:, :width_px]


def weights_of(matrix: str) -> tuple[float, float]:
    """The shares of red and blue in luma. Raises ConfigurationError: the matrix is not known."""
    try:
        return _WEIGHTS[matrix]
    except KeyError:
        raise ConfigurationError(
            f"{matrix!r} is no colour matrix", context={"matrix": matrix, "known": sorted(_WEIGHTS)}
        ) from None


def _ycbcr_to_rgb(y: _Rows, u: _Rows, v: _Rows, matrix: str, full_range: bool) -> bytes:
    """Whole numbers with 14 fractional bits: exact to half a step, and three times as fast as floating point."""
    import numpy as np

    red, blue = weights_of(matrix)
    green = 1.0 - red - blue
    luma, chroma, black = (1.0, 1.0, 0) if full_range else (255 / 219, 255 / 224, 16)
    one = 1 << 14
    factors = [
        2 * (1 - red) * chroma, 2 * blue * (1 - blue) / green * chroma, 2 * red * (1 - red) / green * chroma,
        2 * (1 - blue) * chroma,
    ]  # fmt: skip
    v_red, u_green, v_green, u_blue = (round(factor * one) for factor in factors)
    bright = (y.astype(np.int32) - black) * round(luma * one) + one // 2
    cb, cr = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    rgb = np.empty((*y.shape, 3), np.uint8)
    for channel, value in enumerate((bright + v_red * cr, bright - u_green * cb - v_green * cr, bright + u_blue * cb)):
        rgb[:, :, channel] = np.clip(value >> 14, 0, 255)
    return rgb.tobytes()


def _demosaiced(rows: _Rows, pattern: str) -> _Rows:
    """Bilinear: a colour that a pixel lacks is the mean of the nearest pixels that have it; edges are mirrored."""
    import numpy as np

    height, width = rows.shape
    places = {"RG": (0, 0), "GR": (0, 1), "GB": (1, 0), "BG": (1, 1)}
    red_row, red_column = places[pattern]
    # mirrored at the edges without repeating them, so that colours stay where the pattern has them
    pad = np.pad(rows.astype(np.uint16), 1, mode="reflect" if min(height, width) > 1 else "edge")
    here = pad[1:-1, 1:-1]
    beside = (pad[1:-1, :-2] + pad[1:-1, 2:] + 1) >> 1
    above = (pad[:-2, 1:-1] + pad[2:, 1:-1] + 1) >> 1
    cross = (pad[1:-1, :-2] + pad[1:-1, 2:] + pad[:-2, 1:-1] + pad[2:, 1:-1] + 2) >> 2
    corners = (pad[:-2, :-2] + pad[:-2, 2:] + pad[2:, :-2] + pad[2:, 2:] + 2) >> 2
    rgb = np.empty((height, width, 3), np.uint8)
    for row in (0, 1):
        for column in (0, 1):
            at = (slice(row, None, 2), slice(column, None, 2))
            if (row, column) == (red_row, red_column):
                colours: tuple[Any, Any, Any] = (here, cross, corners)
            elif (row, column) == (1 - red_row, 1 - red_column):
                colours = (corners, cross, here)
            elif row == red_row:
                colours = (beside, here, above)
            else:
                colours = (above, here, beside)
            for channel, colour in enumerate(colours):
                rgb[(*at, channel)] = colour[at]
    return rgb


def _decoded(data: Any, width_px: int, height_px: int) -> bytes:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size != (width_px, height_px):
                size = image.size
                raise ProtocolError(
                    f"the picture is {size[0]} × {size[1]} pixels, not {width_px} × {height_px}",
                    context={"width_px": size[0], "height_px": size[1]},
                )
            return image.convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ProtocolError(
            f"the picture is damaged: {error}",
            context={"bytes": len(data)},
            original_error=error,
            remedy="The frame was cut short or garbled on its way: try again, with a shorter or better cable.",
        ) from error


def sniff(data: bytes | bytearray | memoryview) -> str:
    """`MJPG`, `PNG` or `WEBP` by the first bytes; "" when it is none of them."""
    head = bytes(data[:12])
    if head.startswith(b"\xff\xd8\xff"):
        return "MJPG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "WEBP" if head.startswith(b"RIFF") and head[8:12] == b"WEBP" else ""


def image_size(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(width, height) in pixels of an encoded picture, read from its head.

    Raises ProtocolError: it is no JPEG, PNG or WebP, or is damaged before its size.
    """
    kind = sniff(data)
    if kind == "MJPG":
        found = _jpeg_size(memoryview(data))
        if found is not None:
            return found
    elif kind == "PNG" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    elif kind == "WEBP":
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.size
        except (OSError, ValueError) as error:
            raise ProtocolError(f"the picture is damaged: {error}", original_error=error) from error
    raise ProtocolError("these bytes are no picture (JPEG, PNG or WebP)", context={"begins": bytes(data[:16]).hex(" ")})


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """From the frame header (ITU-T T.81, B.2.2): markers 0xC0 to 0xCF but DHT, JPG and DAC."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in {0x01, 0xFF} or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker in {0xD9, 0xDA}:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def to_png(rgb: bytes, width_px: int, height_px: int, *, channels: int = 3) -> bytes:
    """A PNG file of packed RGB (`channels` 3) or grey (1) rows."""
    from PIL import Image

    made = io.BytesIO()
    Image.frombytes({1: "L", 3: "RGB"}[channels], (width_px, height_px), rgb).save(made, "PNG", compress_level=3)
    return made.getvalue()
