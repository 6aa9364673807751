"""Tables as plain text, inside a longer text: columns that line up, numbers with three significant digits."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

GAP = 2
"""Letters between two columns."""
WIDEST_NAME = 30
"""Letters of a column of names where there is no room for more; a name folds, a number never does."""
_NARROWEST_REMARK = 12  # letters of a last column of words, to which it may fold


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits and no exponent; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")  # 0.9999 has the decimals of 1.00
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{min(decimals, 6)}f}"


def short_number(value: float) -> str:
    """A number inside a sentence: three significant digits, no zeros behind the point."""
    return f"{float(f'{value:.3g}'):,g}"


def counted(count: int, what: str) -> str:
    """`"1 row"`, `"2,000 rows"`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def text_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    left: Collection[int] = (0,),
    width: int | None = None,
    titles: Mapping[int, str] | None = None,
) -> str:
    """Rows under headers. The columns in `left` are set left, the others right; None is a dash.

    A table wider than `width` letters (None: any width) first folds the words of its last column, if that is
    set left; if this isn't enough it becomes several tables, each with the names in front. `titles`: number
    of a row -> a line of its own above it.
    """
    cells = [list(headers), *([_text(value) for value in row] for row in rows)]
    above = {number + 1: title for number, title in (titles or {}).items()}
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    last = len(headers) - 1
    if width is None or table_width(headers, rows) <= width:
        return _aligned(cells, widths, left, above)
    room = width - sum(widths[:last]) - GAP * last
    if last in left and last - 1 not in left and room >= _NARROWEST_REMARK:
        widths[last] = room
        folded: list[list[str]] = []
        places: dict[int, int] = {}
        for number, row in enumerate(cells):
            places[number] = len(folded)
            folded += _folded(row, room)
        return _aligned(folded, widths, left, {places[number]: title for number, title in above.items()})
    tables = []
    for columns in column_groups(widths, sorted(left), width):
        part = [[row[i] for i in columns] for row in cells]
        mine = [k for k, i in enumerate(columns) if i in left]
        tables.append(_aligned(part, [widths[i] for i in columns], mine, above))
    return "\n\n".join(tables)


def table_width(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Letters of a table's widest line."""
    columns = zip(headers, *([_text(value) for value in row] for row in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    return sum(widths) + GAP * (len(widths) - 1)


def column_groups(
    widths: Sequence[int], names: Sequence[int], width: int, *, edges: int = 0, widest_name: int | None = None
) -> list[list[int]]:
    """The columns of each table that is at most `width` letters wide: those of names (at most `widest_name`
    letters wide) in all of them, the others where they fit, in their order; `edges`: letters at the ends."""
    heads = [i for i in names if i == 0 or i - 1 in names]  # names behind numbers go with those
    taken = edges + sum(min(widths[i], widest_name or widths[i]) + GAP for i in heads)
    groups: list[list[int]] = [[]]
    room = width - taken
    for i in range(len(widths)):
        if i in heads:
            continue
        if groups[-1] and widths[i] + GAP > room:
            groups.append([])
            room = width - taken
        groups[-1].append(i)
        room -= widths[i] + GAP
    return [[*heads, *group] for group in groups]


def wrapped_prose(text: str, width: int) -> str:
    """The lines of a text that are sentences, no wider than `width` letters; lines of tables as they are."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        if len(line) <= width or " " * GAP in line.strip():
            lines.append(line)
        else:
            lines += textwrap.wrap(
                line.strip(),
                width,
                initial_indent=indent,
                subsequent_indent=indent + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _aligned(
    cells: Sequence[Sequence[str]], widths: Sequence[int], left: Collection[int], above: Mapping[int, str]
) -> str:
    lines = []
    for number, row in enumerate(cells):
        lines += [above[number]] if number in above else []
        aligned = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append((" " * GAP).join(aligned).rstrip())
    return "\n".join(lines)


def _folded(row: Sequence[str], room: int) -> list[list[str]]:
    """A row whose last cell takes as many lines as it needs."""
    first, *more = textwrap.wrap(row[-1], room) or [""]
    return [[*row[:-1], first], *([*([""] * (len(row) - 1)), words] for words in more)]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) else str(value)
