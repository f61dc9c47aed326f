"""The machines that this driver knows, and what follows from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfab.sdk.ebb import STEPS_PER_MM, TOP_SPEED_MM_S, EbbSettings, HBot

__all__ = ["TRAVEL_MM", "settings_of"]

TRAVEL_MM = {
    "AxiDraw V3": (300.0, 218.0),
    "AxiDraw V3/A3": (430.0, 297.0),
    "AxiDraw V3 XLX": (595.0, 218.0),
    "AxiDraw V3/B6": (190.0, 140.0),
    "AxiDraw MiniKit": (160.0, 101.6),
    "AxiDraw SE/A4": (300.0, 218.0),
    "AxiDraw SE/A3": (430.0, 297.0),
    "AxiDraw SE/A2": (594.0, 432.0),
    "AxiDraw SE/A1": (864.0, 594.0),
}
"""How far the pen reaches along x and y, by the maker's data sheets."""


def settings_of(config: Mapping[str, Any]) -> EbbSettings:
    """What follows from the settings in `plugin.yaml`."""
    high = config["resolution"] == "high"
    per_mm = STEPS_PER_MM if high else STEPS_PER_MM / 2
    width, height = TRAVEL_MM[config["model"]]
    return EbbSettings.of(
        config,
        geometry=HBot(per_mm),
        size_mm=(config["travel_width_mm"] or width, config["travel_height_mm"] or height),
        top_speed_mm_s=min(TOP_SPEED_MM_S * STEPS_PER_MM / per_mm, 400.0),
        microstep_mode=1 if high else 2,
    )
