"""`name(key=value,...)`, and comma lists of it, on the command line: parsed, never evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from simsched.errors import InputError

Value = str | float | int | bool | None
_SPEC = re.compile(r"([^()]+?)\s*(?:\((.*)\))?", re.DOTALL)


def split_specs(text: str) -> list[str]:
    """Split at commas outside parentheses: `"fcfs, mlfq(a=1,b=2)"` -> `["fcfs", "mlfq(a=1,b=2)"]`.

    Raises:
        InputError: parentheses that don't match.
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise InputError(f"{text}: parentheses don't match")
    return [part.strip() for part in parts]


def parse_spec(text: str, option: str) -> tuple[str, dict[str, Value]]:
    """`"gamma(cv=2)"` -> `("gamma", {"cv": 2})`. Values: numbers, true, false, none, or else text.

    Raises:
        InputError: not of that form, or a parameter given twice.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option} {text!r}: expected NAME or NAME(key=value,...)")
    values: dict[str, Value] = {}
    for part in filter(None, split_specs(match[2] or "")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier() or not value or key in values:
            raise InputError(f"{option} {text!r}: expected each parameter once, as key=value, got {part!r}")
        values[key] = _value(value)
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
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)  # True is an int
        and abs(value) < 1e300  # so that an int is one for a float too
        and low <= value <= high
    ):
        return float(value)
    given = f"{key} is missing" if value is None else f"{key}={value}"
    raise InputError(f"{option} {name}: {given}: expected a number from {low:g} to {high:g}")


def _value(text: str) -> Value:
    words: dict[str, Value] = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")
