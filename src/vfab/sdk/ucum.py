"""Units of measurement by their UCUM codes: `Cel`, `%`, `Pa`, `m/s`, `mV`.

A unit travels with every value, so it is checked where it is written: `C` would be coulombs, and `degC` nothing at all.
This knows the units that sensors have, SI prefixes, exponents, products and quotients; not the whole of UCUM (no
annotations, no brackets of expressions).

Source: The Unified Code for Units of Measure, 2.1, §§ 2-4.
"""

from __future__ import annotations

import re

__all__ = ["display_unit", "unit_problem"]

_METRIC_ATOMS = (
    "m s g rad K Cel C cd A V W J N Pa Hz F Ohm S Wb T H lm lx mol bar eV L l G sr B Bq Gy Sv kat t u pc cal Mx "
    "B[V] B[W] B[SPL]"
)
_PLAIN_ATOMS = (
    "1 10* % [ppth] [ppm] [ppb] deg ' '' min h d wk mo a gon atm [pH] [degF] [in_i] [ft_i] [lb_av] [psi] [knot_i] "
    "[nmi_i] [mi_i] [g] circ"
)
_METRIC = frozenset(_METRIC_ATOMS.split())
_PLAIN = frozenset(_PLAIN_ATOMS.split())
_PREFIXES = ("da", *"YZEPTGMkhdcmunpfazy")
_EXPONENT = re.compile(r"(.*?[^\d+-])([+-]?\d)?")
_SHOWN = {
    "Cel": "°C", "deg": "°", "Ohm": "Ω", "1": "", "[degF]": "°F", "[ppm]": "ppm", "[ppb]": "ppb", "[pH]": "pH",
    "[in_i]": "in", "[ft_i]": "ft", "[psi]": "psi", "[knot_i]": "kn", "[g]": "g₀", "m/s2": "m/s²",
}  # fmt: skip
_MISTAKES = {
    "C": "Cel for degrees Celsius (C is the coulomb)", "degC": "Cel", "°C": "Cel", "celsius": "Cel", "°": "deg",
    "degree": "deg", "degrees": "deg", "percent": "%", "%RH": "%", "ohm": "Ohm", "Ω": "Ohm", "F": "[degF]",
    "degF": "[degF]", "ppm": "[ppm]", "ppb": "[ppb]", "pH": "[pH]", "psi": "[psi]", "knots": "[knot_i]",
    "kn": "[knot_i]", "": "1", "hours": "h", "sec": "s", "seconds": "s", "volt": "V", "volts": "V", "lux": "lx",
    "inHg": "Pa, converted", "m/s^2": "m/s2", "m/s²": "m/s2", "µV": "uV", "µA": "uA", "rpm": "/min", "count": "1",
    "counts": "1", "bool": "1",
}  # fmt: skip


def unit_problem(code: str) -> str:
    """What would be right instead of `code`; "" when it is a UCUM code that is known here."""
    text = code[1:] if code.startswith("/") else code
    if text and all(_is_term(term) for part in text.split("/") for term in part.split(".")):
        return ""
    hint = _MISTAKES.get(code) or _MISTAKES.get(code.lower())
    return f"write {hint}" if hint else "write a UCUM code: Cel, %, Pa, V, deg, m/s, 1 …"


def _is_term(text: str) -> bool:
    if text in _PLAIN or text in _METRIC:
        return True
    match = _EXPONENT.fullmatch(text)
    if match is None:
        return False
    atom = match[1]
    if atom in _PLAIN or atom in _METRIC:
        return True
    return any(atom.startswith(prefix) and atom[len(prefix) :] in _METRIC for prefix in _PREFIXES)


def display_unit(code: str) -> str:
    """`code` as people write it: `°C` for `Cel`; nothing for the unit 1."""
    return _SHOWN.get(code, code)
