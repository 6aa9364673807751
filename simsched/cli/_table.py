"""Tables on stdout: drawn by rich on a terminal, split where it is too narrow; plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

from simsched.text.table import WIDEST_NAME, column_groups, number, text_table

_EDGES = 2  # letters at the ends of a table


def show_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    left: Collection[int] | None = None,
    *,
    width: int | None = None,
) -> None:
    """Print a table; a terminal too narrow for it gets several, each with the names in front.

    Args:
        headers: of the columns.
        rows: values; None is a dash.
        left: columns set left, which name the rows (None: those of text); the others are set right.
        width: of the terminal in letters; None: as it says.
    """
    if left is None:
        left = [i for i in range(len(headers)) if any(isinstance(row[i], str) for row in rows)]
    if not sys.stdout.isatty() and width is None:
        print(text_table(headers, rows, left=left))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, width=width)
    cells = [
        ["–" if v is None else number(v) if isinstance(v, float) else str(v) for v in row] for row in rows
    ]
    widths = [max(len(row[i]) for row in (list(headers), *cells)) for i in range(len(headers))]
    for columns in column_groups(widths, list(left), console.width, edges=_EDGES, widest_name=WIDEST_NAME):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for i in columns:
            names = i in left
            table.add_column(
                headers[i],
                justify="left" if names else "right",
                overflow="fold",
                no_wrap=not names,
                min_width=min(widths[i], WIDEST_NAME) if names else widths[i],
            )
        for row in cells:
            table.add_row(*(row[i] for i in columns))
        console.print(table)
