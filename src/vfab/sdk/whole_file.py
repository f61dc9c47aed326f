"""Files that are replaced as a whole: whoever reads one sees the new contents or the old, never half of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write `content`, text as UTF-8, beside `path`, and put it in that file's place in one step.

    Args:
        path: the file; everybody may read it (mode 0644).
        content: all that shall be in it.
        durable: it is on the disk, not only on its way there, before the old contents are given up.

    Raises OSError: it cannot be written; the file is as it was, and nothing is left beside it.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        beside.chmod(0o644)
        beside.replace(path)
        if durable:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
