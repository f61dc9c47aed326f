"""Packed RGB in the other formats of `vfab.sdk.pixels`: what a simulated camera sends, and what tests compare with."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from vfab.sdk.pixels import YCBCR, bytes_needed, layout_of, weights_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Pixels = NDArray[np.uint8]

__all__ = ["from_rgb"]


def from_rgb(
    rgb: bytes, pixel_format: str, width_px: int, height_px: int, *, matrix: str = "bt601", full_range: bool = False
) -> bytes:
    """Packed RGB rows in another format: what a simulated camera sends. Rows are not padded.

    Chroma is that of the first pixel of each group. Raises ConfigurationError: the format is unknown.
    """
    import numpy as np

    layout = layout_of(pixel_format)
    bytes_needed(pixel_format, width_px, height_px)
    if layout.is_encoded:
        return _encoded(rgb, layout.name, width_px, height_px)
    pixels = np.frombuffer(rgb, np.uint8).reshape(height_px, width_px, 3)
    name = layout.name
    if name in YCBCR:
        return _to_ycbcr(pixels, name, matrix, full_range)
    if name.startswith("Bayer"):
        return _mosaiced(pixels, name[5:7])
    if layout.channels == 1:
        grey = np.round(pixels @ np.array([0.299, 0.587, 0.114])).astype("<u2")
        return bytes((grey.astype(np.uint8) if name == "GREY" else grey << (int(name[1:]) - 8)).tobytes())
    ordered = pixels[:, :, ::-1] if name.startswith("BGR") else pixels
    if layout.channels == 4:
        ordered = np.concatenate([ordered, np.full((height_px, width_px, 1), 255, np.uint8)], axis=2)
    return np.ascontiguousarray(ordered).tobytes()


def _encoded(rgb: bytes, name: str, width_px: int, height_px: int) -> bytes:
    from PIL import Image

    made = io.BytesIO()
    image = Image.frombytes("RGB", (width_px, height_px), rgb)
    if name == "MJPG":
        image.save(made, "JPEG", quality=90)
    else:
        image.save(made, name, **({"lossless": True} if name == "WEBP" else {"compress_level": 1}))
    return made.getvalue()


def _mosaiced(pixels: _Pixels, pattern: str) -> bytes:
    import numpy as np

    rows = np.empty(pixels.shape[:2], np.uint8)
    colours = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}[pattern]
    for number, colour in enumerate(colours):
        at = (slice(number // 2, None, 2), slice(number % 2, None, 2))
        rows[at] = pixels[(*at, "RGB".index(colour))]
    return rows.tobytes()


def _to_ycbcr(pixels: _Pixels, name: str, matrix: str, full_range: bool) -> bytes:
    import numpy as np

    red, blue = weights_of(matrix)
    r, g, b = (pixels[:, :, channel].astype(float) for channel in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    luma, chroma, black = (1.0, 1.0, 0) if full_range else (219 / 255, 224 / 255, 16)
    whole = [np.clip(np.round(part), 0, 255).astype(np.uint8)
             for part in (y * luma + black, cb * chroma + 128, cr * chroma + 128)]  # fmt: skip
    if whole[0].shape[1] % 2:  # rows are made of whole groups
        whole = [np.pad(part, ((0, 0), (0, 1)), mode="edge") for part in whole]
    y8, u8, v8 = whole
    if name in {"YUYV", "UYVY", "YVYU", "VYUY"}:
        order = {"YUYV": "YUZV", "UYVY": "UYVZ", "YVYU": "YVZU", "VYUY": "VYUZ"}[name]
        parts = {"Y": y8[:, 0::2], "Z": y8[:, 1::2], "U": u8[:, 0::2], "V": v8[:, 0::2]}
        return np.stack([parts[letter] for letter in order], axis=2).tobytes()
    u4, v4 = u8[0::2, 0::2], v8[0::2, 0::2]
    first, second = (v4, u4) if name in {"NV21", "YV12"} else (u4, v4)
    if name.startswith("NV"):
        return y8.tobytes() + np.stack([first, second], axis=2).tobytes()
    return y8.tobytes() + first.tobytes() + second.tobytes()
