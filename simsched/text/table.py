"""Tables as plain text, inside a longer text: columns that line up, numbers with three significant digits."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any


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


def text_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, left: Collection[int] = (0,)) -> str:
    """Rows under headers. The columns in `left` are set left, the others right; None is a dash."""
    cells = [list(headers), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = []
    for row in cells:
        aligned = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) else str(value)
