"""Options of commands that read results: limits and window may be others than when they were made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from simsched.results import Results

Command = Callable[..., Any]


def measured_options(command: Command) -> Command:
    """Decorator: `--goodput`, `--slo`, `--window`, `--where` and `--label`."""
    for option in reversed(
        (
            click.option("--goodput", metavar="M:MS,...", help="Limits of a good request: ttft:200,tpot:50."),
            click.option("--slo", metavar="TEXT", help='"95% ttft<500ms,tpot<50ms" or "p99_ttft<1s".'),
            click.option("--window", metavar="START:END", help="Seconds to measure; auto; whole."),
            click.option("--where", multiple=True, metavar="NAME=VALUE", help="Hold options fixed."),
            click.option(
                "--label", multiple=True, metavar="NAME=ARM", help='Call it so: "Sticky=router=session".'
            ),
        )
    ):
        command = option(command)
    return command


def opened(
    directory: str, goodput: str | None, slo: str | None, window: str | None, label: tuple[str, ...] = ()
) -> Results:
    """The directory, measured anew where another goodput, objective or window is asked for, its arms called
    as the labels say."""
    from simsched.compare.samples import with_labels

    return with_labels([measured(directory, goodput, slo, window)], label)[0]


def measured(directory: str, goodput: str | None, slo: str | None, window: str | None) -> Results:
    """The directory, measured anew where another goodput, objective or window is asked for."""
    from simsched.errors import InputError
    from simsched.metrics import parse_goodput
    from simsched.results import Results, parse_window, remeasure
    from simsched.slo import parse_slo

    results = Results.open(directory)
    limits = None
    if goodput is not None:
        try:
            limits = parse_goodput(goodput)
        except ValueError as error:
            raise InputError(f"--goodput {goodput}: {error}") from None
    elif slo is not None:
        limits = parse_slo(slo).limits
    if limits is None and window is None:
        return results
    return remeasure(results, goodput=limits, window=None if window is None else parse_window(window))
