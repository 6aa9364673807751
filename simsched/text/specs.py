"""`name(key=value,...)` on the command line: parsed, never evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from simsched.errors import InputError

Value = str | float | int
_SPEC = re.compile(r"([A-Za-z][\w.-]*)\s*(?:\((.*)\))?", re.DOTALL)


def parse_spec(text: str, option: str) -> tuple[str, dict[str, Value]]:
    """`"gamma(cv=2)"` -> `("gamma", {"cv": 2})`. Numbers become numbers, all else stays text.

    Raises:
        InputError: not of that form, or a parameter given twice.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option} {text!r}: expected NAME or NAME(key=value,...)")
    values: dict[str, Value] = {}
    for part in (match[2] or "").split(","):
        if not part.strip():
            continue
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value or key in values:
            raise InputError(f"{option} {text!r}: expected each parameter once, as key=value, got {part!r}")
        values[key] = _number(value)
    return match[1], values


def check_parameters(option: str, name: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Refuse parameters that `name` does not have, naming those it has."""
    for key in given:
        if key not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it takes none"
            raise InputError(f"{option} {name}: unknown parameter {key}; {expected}")


def number(
    option: str, name: str, key: str, value: object, low: float = -math.inf, high: float = math.inf
) -> float:
    """The parameter as a finite number within [low, high].

    Raises:
        InputError: anything else.
    """
    if isinstance(value, int | float) and math.isfinite(value) and low <= value <= high:
        return float(value)
    raise InputError(f"{option} {name}: {key}={value}: expected a number from {low:g} to {high:g}")


def _number(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
