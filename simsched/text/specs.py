"""`name(key=value,...)`, and comma lists of it, on the command line: parsed, never evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from simsched.errors import InputError

Value = str | float | int | bool | None | list["Value"] | dict[str, "Value"]
_OPENS, _CLOSES = "([{", ")]}"
_SPEC = re.compile(r"([^()]+?)\s*(?:\((.*)\))?", re.DOTALL)


def split_specs(text: str, *, at: str = ",") -> list[str]:
    """Split at commas (or `at`) outside brackets: `"fcfs, mlfq(a=1,b=2)"` -> `["fcfs", "mlfq(a=1,b=2)"]`.

    Raises:
        InputError: parentheses or brackets that don't match.
    """
    parts, open_ones = [""], ""
    for character in text:
        if character in _OPENS:
            open_ones += character
        elif character in _CLOSES:
            if open_ones[-1:] != _OPENS[_CLOSES.index(character)]:
                raise InputError(f"{text}: parentheses or brackets don't match")
            open_ones = open_ones[:-1]
        if character == at and not open_ones:
            parts.append("")
        else:
            parts[-1] += character
    if open_ones:
        raise InputError(f"{text}: parentheses or brackets don't match")
    return [part.strip() for part in parts]


def parse_spec(text: str, option: str) -> tuple[str, dict[str, Value]]:
    """`"gamma(cv=2)"` -> `("gamma", {"cv": 2})`. Values: numbers, true, false, none, lists (`[1, 2]`),
    mappings (`{chat: 5, batch: 60}`), or else text.

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
        values[key] = _value(value, f"{option} {text!r}")
    return match[1], values


def spec_text(name: str, parameters: Mapping[str, object]) -> str:
    """The other way round: `spec_text("edf", {"deadlines": {"chat": 5}})` -> `"edf(deadlines={chat: 5})"`."""
    inside = ",".join(f"{key}={_text(value)}" for key, value in parameters.items())
    return f"{name}({inside})" if inside else name


def specs_of(given: object) -> object:
    """What a study file may write as mappings, as text: `[{"edf": {"deadlines": {"chat": 5}}}, "fcfs"]` ->
    `["edf(deadlines={chat: 5})", "fcfs"]`. Anything else comes back as it is."""
    if isinstance(given, Mapping):
        return [
            spec_text(str(name), inside) if isinstance(inside, Mapping) else spec_text(str(name), {})
            for name, inside in given.items()
            if inside is None or isinstance(inside, Mapping)
        ]
    if isinstance(given, list | tuple) and any(isinstance(each, Mapping) for each in given):
        return [spec for each in given for spec in _as_list(specs_of(each))]
    return given


def _as_list(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


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


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)


def _value(text: str, where: str) -> Value:
    if text[0] == "[" and text[-1] == "]":
        return [_value(part, where) for part in split_specs(text[1:-1]) if part]
    if text[0] == "{" and text[-1] == "}":
        found: dict[str, Value] = {}
        for part in filter(None, split_specs(text[1:-1])):
            key, colon, value = (piece.strip() for piece in part.partition(":"))
            if not colon or not key or not value or key in found:
                raise InputError(f"{where}: expected each key once, as key: value, got {part!r}")
            found[key.strip("'\"")] = _value(value, where)
        return found
    words: dict[str, Value] = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")
