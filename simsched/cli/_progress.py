"""A progress bar for a grid of cells, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(weights: Mapping[str, int]) -> Iterator[Callable[[str], None]]:
    """Gives `advance(cell)`. The time left goes by the cells' weights, not by their number."""
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        TextColumn("{task.fields[cells]} of {task.fields[all_cells]} cells,"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(weights.values()), cells=0, all_cells=len(weights))
        done = 0

        def advance(cell: str) -> None:
            nonlocal done
            done += 1
            progress.update(task, advance=weights[cell], cells=done)

        yield advance
