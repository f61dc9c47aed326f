"""The memory that a video device fills: mapped once, handed on as one picture, in whatever pieces it lies."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from vfab.sdk.pixels import layout_of

from . import abi
from .abi import BufferState, Pix, PlaneState

__all__ = ["BufferRequest", "Buffers", "Picture"]


class _Maps(Protocol):
    def map(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """Share memory with the kernel. Raises OSError."""


class BufferRequest:
    """What is asked of the kernel about one buffer, with room for its planes. Keep it until the kernel has answered.

    Attributes:
        argument: the struct v4l2_buffer, which points to the planes' memory.
    """

    def __init__(self, index: int, kind: int) -> None:
        self._planes = ctypes.create_string_buffer(abi.PLANE.size * abi.PLANES_MAX) if kind != abi.CAPTURE else None
        if self._planes is None:
            self.argument = BufferState(index).pack()
        else:
            state = BufferState(index, length=abi.PLANES_MAX)
            self.argument = state.pack(kind, ctypes.addressof(self._planes))

    def state(self) -> BufferState:
        """What the kernel told."""
        return BufferState.unpack(self.argument, self._planes.raw if self._planes is not None else None)


class Picture:
    """The pieces of one picture, in their order; a context that lets go of them.

    `len` is its size in bytes.
    """

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(len(piece) for piece in self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for piece in self._pieces:
            piece.release()

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)

    def copy_to(self, target: memoryview) -> None:
        """Copy it to where it is wanted, once."""
        at = 0
        for piece in self._pieces:
            target[at : at + len(piece)] = piece
            at += len(piece)


class Buffers:
    """The mapped memory of a node's buffers."""

    def __init__(self, fd: int, system: _Maps) -> None:
        self._fd, self._system = fd, system
        self._maps: list[mmap.mmap] = []
        self._views: list[list[memoryview]] = []
        self._pix = Pix(0, 0, "")

    def map(self, state: BufferState, pix: Pix) -> None:
        """Map the next buffer, whose pictures are `pix`. Raises OSError."""
        self._pix = pix
        views: list[memoryview] = []
        self._views.append(views)
        for plane in state.planes or (PlaneState(0, state.length, state.offset),):
            self._maps.append(self._system.map(self._fd, plane.length, plane.offset))
            views.append(memoryview(self._maps[-1]))

    def picture(self, state: BufferState) -> Picture:
        """The bytes of a filled buffer. Raises LookupError: it has not so many."""
        if not 0 <= state.index < len(self._views):
            raise LookupError(f"number {state.index}")
        views = self._views[state.index]
        planes = state.planes or (PlaneState(state.used_bytes),)
        if len(planes) > len(views):
            raise LookupError(f"{len(planes)} planes")
        pieces = []
        for view, plane in zip(views, planes, strict=False):
            if not plane.data_offset <= plane.used_bytes <= len(view):
                raise LookupError(f"{plane.used_bytes} bytes of {len(view)}")
            pieces.append(view[plane.data_offset : plane.used_bytes])
        return Picture(pieces if len(pieces) == 1 else list(self._joined(pieces)))

    def _joined(self, pieces: list[memoryview]) -> Iterator[memoryview]:
        """The planes as one picture that has them after each other: what lies behind their last row is left out.

        Chroma whose rows are not as long as the first plane's ask for is handed on row by row.
        """
        pix = self._pix
        if pix.pixel_format not in abi.JOINED:  # raw bytes are better than none
            yield from pieces
            return
        apart = layout_of(pix.joined_format).planes == 3
        for number, (piece, plane) in enumerate(zip(pieces, pix.planes, strict=False)):
            rows = -(-pix.height // 2) if number else pix.height
            wanted = pix.bytes_per_line // 2 if number and apart else pix.bytes_per_line
            if plane.bytes_per_line == wanted:
                yield piece[: rows * wanted]
                continue
            for row in range(rows):
                start = row * plane.bytes_per_line
                yield piece[start : start + min(wanted, plane.bytes_per_line)]
                yield memoryview(bytes(max(0, wanted - plane.bytes_per_line)))

    def unmap(self) -> None:
        """Let go of all of it."""
        for view in (view for views in self._views for view in views):
            view.release()
        for mapped in self._maps:
            with suppress(BufferError):  # another thread copies a picture: unmapped when it is done
                mapped.close()
        self._views.clear()
        self._maps.clear()
