"""Tables on stdout: drawn by rich on a terminal, split or stacked where it is too narrow; plain text
elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import Any

from simsched.cli._say import terminal_width
from simsched.text.table import GAP, WIDEST_NAME, column_groups, number, text_table

_EDGES = 2  # letters at the ends of a table


def show_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    left: Collection[int] | None = None,
    *,
    names: Collection[int] | None = None,
    width: int | None = None,
) -> None:
    """Print a table; a terminal too narrow for it gets several, each with the names in front.

    Args:
        headers: of the columns.
        rows: values; None is a dash.
        left: columns set left, which name the rows (None: those of text); the others are set right.
        names: columns that name a row, in each of several tables; None: those set left.
        width: of the terminal in letters; None: as it says.
    """
    if left is None:
        left = [i for i in range(len(headers)) if any(isinstance(row[i], str) for row in rows)]
    if width is None and terminal_width() is None:
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
    heads = sorted(left if names is None else names)
    for columns in column_groups(widths, heads, console.width, edges=_EDGES, widest_name=WIDEST_NAME):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for i in columns:
            words = i in left
            table.add_column(
                headers[i],
                justify="left" if words else "right",
                overflow="fold",
                no_wrap=not words,
                min_width=min(widths[i], WIDEST_NAME) if words else widths[i],
            )
        for row in cells:
            table.add_row(*(row[i] for i in columns))
        console.print(table)


def show_entries(
    headers: Sequence[str], rows: Sequence[Sequence[str | None]], *, width: int | None = None
) -> None:
    """Print a table of words; on a terminal too narrow for it each row becomes a paragraph: its first cell,
    then the others beneath, each behind its header. No word is left out.

    Args:
        headers: of the columns.
        rows: words; None is a dash.
        width: of the terminal in letters; None: as it says, and without one whatever is needed.
    """
    if width is None:
        width = terminal_width()
    widest = [max(len(str(row[i] or "–")) for row in (headers, *rows)) for i in range(len(headers))]
    if width is None or sum(widest) + GAP * len(widest) + _EDGES <= width:
        show_table(headers, rows, width=width)
        return
    for first, *others in rows:
        print(first)
        for header, words in zip(headers[1:], others, strict=True):
            if words is not None:
                text = f"{header}: {words}" if header else words
                text = text.replace(",", ", ").replace(",  ", ", ") if header == "parameters" else text
                print(
                    textwrap.fill(
                        text,
                        width,
                        initial_indent="    ",
                        subsequent_indent="      ",
                        break_on_hyphens=False,
                    )
                )
