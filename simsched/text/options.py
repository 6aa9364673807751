"""Options as fields of a pydantic model, and how they look on the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin


def option_flag(name: str) -> str:
    """`max_num_seqs` -> `--max-num-seqs`."""
    return f"--{name.replace('_', '-')}"


def value_type(annotation: Any) -> Any:
    """The type of one value: `int` of `int | None`, of `tuple[int, ...]`, of an annotated `int`."""
    (kind,) = _kinds(annotation)
    return kind


def differing(names: Iterable[str], rows: Collection[Mapping[str, Any]]) -> list[str]:
    """Those of these options of which the rows have more than one value, as it is written; an option that is
    not there is None."""
    return [name for name in names if len({str(row.get(name)) for row in rows}) > 1]


def is_no_number(value: Any, annotation: Any) -> bool:
    """Is it, or one of a list, true or false where only numbers are expected? Pydantic takes true for 1."""
    several = value if isinstance(value, list | tuple) else [value]
    return _kinds(annotation) <= {int, float} and any(isinstance(each, bool) for each in several)


def _kinds(annotation: Any) -> set[Any]:
    """`{int}` of `int | None`, of `tuple[int, ...]`, of an annotated `int`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Annotated, tuple):
        return _kinds(arguments[0])
    if origin in (Union, UnionType):
        return set().union(*(_kinds(each) for each in arguments if each is not NoneType))
    return {origin or annotation}
