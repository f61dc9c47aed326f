"""What each model of the series can source, sink and measure.

From the maker's 2400 Series User's Manual (2400S-900-01 rev. K), section 6, "Operating boundaries", and the data
sheets: an output may lie inside any of a model's regions.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODELS", "Model", "model_named"]

_DECADES_A = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_HIGH_A = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    Attributes:
        name: as `*IDN?` says it, `2400`.
        regions: (volts, amperes): the output may be as far as both at once.
        ranges_v, ranges_a: full scales; each reaches 5 % further (the highest of the 2410: 10 %).
    """

    name: str
    regions: tuple[tuple[float, float], ...]
    ranges_v: tuple[float, ...]
    ranges_a: tuple[float, ...]

    @property
    def max_v(self) -> float:
        """The most volts, at some current."""
        return max(volts for volts, _ in self.regions)

    @property
    def max_a(self) -> float:
        """The most amperes, at some voltage."""
        return max(amperes for _, amperes in self.regions)

    def most_a_at(self, volts: float) -> float:
        """The most amperes at ±`volts`; 0 where no region reaches."""
        return max((amperes for reach, amperes in self.regions if abs(volts) <= reach * (1 + 1e-9)), default=0.0)

    def most_v_at(self, amperes: float) -> float:
        """The most volts at ±`amperes`; 0 where no region reaches."""
        return max((volts for volts, reach in self.regions if abs(amperes) <= reach * (1 + 1e-9)), default=0.0)

    def words(self) -> str:
        """`±21 V at ±1.05 A, ±210 V at ±0.105 A`."""
        return ", ".join(f"±{volts:g} V at ±{amperes:g} A" for volts, amperes in self.regions)


MODELS = {
    model.name: model
    for model in (
        Model("2400", ((21, 1.05), (210, 0.105)), (0.2, 2, 20, 200), _DECADES_A),
        Model("2401", ((21, 1.05),), (0.2, 2, 20), _DECADES_A),
        Model("2410", ((21, 1.05), (1100, 0.021)), (0.2, 2, 20, 1000), (1e-6, 1e-5, 1e-4, 1e-3, 2e-2, 1e-1, 1.0)),
        Model("2420", ((21, 3.15), (63, 1.05)), (0.2, 2, 20, 60), (*_HIGH_A, 3.0)),
        Model("2425", ((21, 3.15), (105, 1.05)), (0.2, 2, 20, 100), (*_HIGH_A, 3.0)),
        Model("2430", ((21, 3.15), (105, 1.05)), (0.2, 2, 20, 100), (*_HIGH_A, 3.0)),
        Model("2440", ((10.5, 5.25), (42, 1.05)), (0.2, 2, 10, 40), (*_HIGH_A, 5.0)),
    )
}
"""The models by number. The 2430's pulses of up to 10.5 A are not used: these are its limits for direct current."""


def model_named(text: str) -> Model | None:
    """The model in what `*IDN?` calls it: `2400`, `MODEL 2420-C`. None: it is not of this series."""
    return next((model for name, model in MODELS.items() if name in text), None)
