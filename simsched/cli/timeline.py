"""`simsched timeline`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from simsched.results import Results

_DRAWN = 40
"""Requests in a figure unless some are chosen."""
_NAMED = 8
"""Cells in a message."""


@click.command("timeline")
@click.argument("directory", metavar="DIR")
@click.option(
    "--cell",
    metavar="NAME",
    help="A cell by its name or a part; of runs, the first.  [default: the first]",
)
@click.option("--request", "chosen", metavar="ID[,ID...]", help="Requests.  [default: figure: the first 40]")
@click.option("-o", "--output", metavar="FILE", help="PNG, SVG, PDF; or .json for Chrome and Perfetto.")
def timeline_command(directory: str, cell: str | None, chosen: str | None, output: str | None) -> None:
    """Show what happens to requests: queued, prefill by chunks, decode, preempted, resumed.

    Writes a figure and a trace for chrome://tracing or ui.perfetto.dev, with the batch of each step beneath.
    A cell without a step log (--log-steps) is run again for it.

    \b
    simsched timeline out/ --cell ranking-12
    simsched timeline out/ --cell 03-ranking --request 17,42 -o two.png
    simsched timeline out/ --cell mlfq -o mlfq.json
    """
    import json

    from simsched.compare.deciles import requests_of_cell
    from simsched.errors import InputError
    from simsched.files import write_file
    from simsched.plotting.figures import FORMATS, save
    from simsched.plotting.timeline import TimelineDisplay
    from simsched.results import Results
    from simsched.timeline import chrome_trace, timeline_of

    results = Results.open(directory)
    name = _cell(results, cell)
    kinds = ("json", *FORMATS)
    ending = Path(output).suffix.lstrip(".").lower() if output else ""
    if output and ending not in kinds:
        raise InputError(f"--output {output}: expected a name that ends in .{', .'.join(kinds)}")
    ids = [each.strip() for each in chosen.split(",")] if chosen else None
    timeline = timeline_of(requests_of_cell(results, name), _steps(results, name), ids)
    folder = results.path / "figures"
    paths = [Path(output)] if output else [folder / f"timeline-{name}.{kind}" for kind in ("png", "json")]
    for path in paths:
        if path.suffix.lower() == ".json":
            write_file(path, (json.dumps(chrome_trace(timeline)) + "\n").encode())
        else:
            if ids is None:
                timeline.requests = timeline.requests[:_DRAWN]
            save(TimelineDisplay(timeline, name).plot().figure_, path)
        click.echo(str(path))


def _cell(results: Results, wanted: str | None) -> str:
    from simsched.errors import InputError

    cells = list(results.cells)
    if wanted is None or wanted in cells:
        return wanted or cells[0]
    fitting = [name for name in cells if wanted in name]
    fitting = [name for name in fitting if f"-{wanted}-" in f"-{name}-"] or fitting  # 12 is not 12.7
    # of the runs of one setting the first
    settings = {_setting(results.cells[name]) for name in fitting}
    if len(settings) == 1:
        return fitting[0]
    found = "fits no cell" if not fitting else f"fits {len(fitting)} cells"
    shown = fitting or cells
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    raise InputError(f"--cell {wanted}: {found}; expected one of {', '.join(shown[:_NAMED])}{more}")


def _setting(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """A cell's options but for those that tell the runs of a setting apart."""
    from simsched.results.layout import RUN_OPTIONS

    return tuple(value for name, value in options.items() if name not in RUN_OPTIONS)


def _steps(results: Results, cell: str) -> list[dict[str, Any]]:
    """The cell's step log, made again if there is none."""
    if (results.path / "steps" / f"{cell}.jsonl").is_file():
        return list(results.steps(cell))
    from simsched.compare.lower_bound import cells_of_results
    from simsched.sweep.inputs import prepare
    from simsched.sweep.run import run

    steps: list[dict[str, Any]] = []
    run(prepare(cells_of_results(results)[cell]), step_log=lambda step: steps.append(dict(step)))
    return steps
