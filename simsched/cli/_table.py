"""Tables on stdout: drawn by rich on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

from simsched.text.table import number, text_table


def show_table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], left: Collection[int] | None = None
) -> None:
    """Print a table; the columns in `left` are set left (None: those of text), the others right; None is a
    dash."""
    if left is None:
        left = [i for i in range(len(headers)) if any(isinstance(row[i], str) for row in rows)]
    if not sys.stdout.isatty():
        print(text_table(headers, rows, left=left))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i in left else "right")
    for row in rows:
        table.add_row(*("–" if v is None else number(v) if isinstance(v, float) else str(v) for v in row))
    Console(markup=False).print(table)
