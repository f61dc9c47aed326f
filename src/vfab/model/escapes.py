"""Bytes as manifests write them: text with Python's escapes."""

from __future__ import annotations

__all__ = ["unescape"]


def unescape(text: str) -> bytes:
    r"""The bytes that `text` writes: Latin-1 text with Python's escapes (`\r`, `\x18`)."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
