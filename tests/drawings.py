"""SVG files that nobody of vfab drew, for tests.

Two kinds: icons of Font Awesome (PyPI XStatic-Font-Awesome, in the hashed requirements) and, when npm has installed
`tests/drawings`, the world's flags of flag-icons (coats of arms: groups, transforms, <use>, clip paths, arcs) with a
few Bootstrap icons.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

NPM = Path(__file__).parent / "drawings"
_MODULES = NPM / "node_modules"
_LARGEST_BYTES = 120_000


def _spread(files: list[Path], count: int) -> list[Path]:
    """`count` of the files, evenly spread over the alphabet: the same ones every time."""
    files = sorted(file for file in files if file.stat().st_size <= _LARGEST_BYTES)
    return files[:: max(1, len(files) // count)][:count]


def icons() -> list[Path]:
    """54 icons of Font Awesome; none when XStatic-Font-Awesome is not installed."""
    spec = find_spec("xstatic.pkg.font_awesome") if find_spec("xstatic") else None
    places = list(spec.submodule_search_locations or []) if spec else []
    return _spread([file for place in places for file in Path(place).glob("data/svgs/*/*.svg")], 54)


def flags() -> list[Path]:
    """48 flags with groups, transforms or <use>; none when npm has not installed `tests/drawings`."""
    words = ("<use", "transform=", "clipPath", "<circle")
    found = _MODULES.glob("flag-icons/flags/4x3/*.svg")
    return _spread([file for file in found if any(word in file.read_text() for word in words)], 48)


def bootstrap() -> list[Path]:
    """12 Bootstrap icons; none when npm has not installed `tests/drawings`."""
    return _spread(list(_MODULES.glob("bootstrap-icons/icons/*.svg")), 12)


def third_party_drawings() -> list[Path]:
    """All of the above, 54 to 114 files; skips the test when there are fewer than 50."""
    found = icons() + flags() + bootstrap()
    if len(found) < 50:
        pytest.skip(
            "third-party drawings are not installed: `make test` installs XStatic-Font-Awesome and tests/drawings"
        )
    return found
