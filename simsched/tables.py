"""Tables on stdout: drawn by rich on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

Cell = str | int | float | None


def show_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table. Numbers are right-aligned, None is a dash."""
    texts = [[_text(value) for value in row] for row in rows]
    numeric = [
        all(isinstance(row[column], int | float | None) for row in rows) for column in range(len(headers))
    ]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for header, right in zip(headers, numeric, strict=True):
            table.add_column(header, justify="right" if right else "left")
        for line in texts:
            table.add_row(*line)
        Console().print(table, markup=False)
        return
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    for line in [list(headers), *texts]:
        cells = zip(line, widths, numeric, strict=True)
        print("  ".join(text.rjust(w) if right else text.ljust(w) for text, w, right in cells).rstrip())


def _text(value: Cell) -> str:
    """Four significant digits, without an exponent where that is readable."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
