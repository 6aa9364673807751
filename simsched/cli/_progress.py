"""Progress bars on stderr; where it is no terminal, plain lines or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click


@contextmanager
def cells_progress(weights: Mapping[str, int]) -> Iterator[Callable[[str], None]]:
    """Gives `advance(cell)`. The time left goes by the cells' weights, not by their number."""
    if not sys.stderr.isatty():
        yield lambda cell: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

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


@contextmanager
def training_progress() -> Iterator[Callable[[int, int, str], None]]:
    """A function (done, in all, note); a note with a result ("validation tau") stays on the screen."""
    if not sys.stderr.isatty():

        def plain(done: int, total: int, note: str) -> None:
            if "validation tau" in note:
                click.echo(f"{done}/{total} {note}", err=True)

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training")

        def update(done: int, total: int, note: str) -> None:
            if "validation tau" in note:
                bar.console.print(note)
            bar.update(task, completed=done, total=total, description=note)

        yield update
