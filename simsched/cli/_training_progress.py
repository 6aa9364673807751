"""A progress bar on stderr for training; plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


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
