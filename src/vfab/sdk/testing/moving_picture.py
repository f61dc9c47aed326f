"""The picture that simulated cameras send: what is in it is known, so that a test can tell each from every other.

Above eight bars of colour, below the number of the picture as 16 blocks of black and white, the highest bit at the
left; both survive JPEG. Between them a white square moves to the right by 8 pixels a picture.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["BARS", "draw", "has_bars", "number_of"]

BARS = (
    (235, 235, 235), (210, 210, 20), (20, 210, 210), (20, 210, 20), (210, 20, 210), (210, 20, 20), (20, 20, 210),
    (16, 16, 16),
)  # fmt: skip
"""Red, green and blue of the bars, from the left."""
_BITS = 16
LEAST_PX = (64, 48)


@lru_cache(maxsize=4)
def _ground(width_px: int, height_px: int) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width_px, height_px))
    pen = ImageDraw.Draw(image)
    for number, colour in enumerate(BARS):
        left, right = number * width_px // len(BARS), (number + 1) * width_px // len(BARS)
        pen.rectangle([left, 0, right - 1, height_px // 2 - 1], fill=colour)
    return image.tobytes()


def draw(number: int, width_px: int, height_px: int) -> bytes:
    """Picture `number` (its lowest 16 bits are shown) as packed RGB rows; at least 64 × 48 pixels."""
    from PIL import Image, ImageDraw

    image = Image.frombytes("RGB", (width_px, height_px), _ground(width_px, height_px))
    pen = ImageDraw.Draw(image)
    side = height_px // 8
    left = number * 8 % width_px
    pen.rectangle([left, height_px * 9 // 16, left + side - 1, height_px * 9 // 16 + side - 1], fill="white")
    for bit in range(_BITS):
        if number >> (_BITS - 1 - bit) & 1:
            box = [bit * width_px // _BITS, height_px * 3 // 4, (bit + 1) * width_px // _BITS - 1, height_px - 1]
            pen.rectangle(box, fill="white")
    return image.tobytes()


def number_of(rgb: bytes, width_px: int, height_px: int) -> int:
    """The number that the picture shows."""
    row, number = height_px * 7 // 8, 0
    for bit in range(_BITS):
        column = (2 * bit + 1) * width_px // (2 * _BITS)
        at = (row * width_px + column) * 3
        number = number << 1 | (sum(rgb[at : at + 3]) > 3 * 128)
    return number


def has_bars(rgb: bytes, width_px: int, height_px: int, tolerance: int = 24) -> bool:
    """Whether the middle of every bar has its colour, to `tolerance` of 255."""
    for number, colour in enumerate(BARS):
        column = (2 * number + 1) * width_px // (2 * len(BARS))
        at = (height_px // 4 * width_px + column) * 3
        if any(abs(found - wanted) > tolerance for found, wanted in zip(rgb[at : at + 3], colour, strict=True)):
            return False
    return True
