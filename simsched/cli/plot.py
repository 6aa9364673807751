"""`simsched plot`."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import click

from simsched.cli._measured import measured_options, opened


def _is_picture(path: str) -> bool:
    """Is this the name of a picture (of any format), rather than of a directory with a dot in its name?"""
    kind = mimetypes.guess_type(path)[0] or ""
    return kind.startswith("image/") or kind == "application/postscript"


@click.command("plot")
@click.argument("directory", metavar="DIR")
@click.option(
    "--kind",
    default="all",
    show_default=True,
    metavar="KIND",
    help="all, latency, cdf, decile, backlog, pareto, heatmap, groups, occupancy (--log-steps), tau (swept).",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR",
    help="A file for one figure, else a directory; default: DIR/figures.",
)
@click.option("--metric", metavar="NAME[,NAME...]", help="What to draw instead of the figure's own choice.")
@click.option("--relative-to", metavar="ARM", help="latency, tau: draw ratios to this arm.")
@click.option("--along", metavar="OPTION[,OPTION]", help="latency: horizontal axis; heatmap: both axes.")
@click.option("--by", metavar="COLUMN", help="By tenant, class, ... or replica (groups), or session.")
@measured_options
@click.option("--format", "formats", metavar="png,svg,pdf", help="File formats; default: png, or the file's.")
def plot_command(
    directory: str,
    kind: str,
    output: str | None,
    metric: str | None,
    relative_to: str | None,
    along: str | None,
    by: str | None,
    goodput: str | None,
    slo: str | None,
    window: str | None,
    where: tuple[str, ...],
    label: tuple[str, ...],
    formats: str | None,
) -> None:
    """Draw figures from a results directory.

    \b
    simsched plot out/
    simsched plot out/ --kind latency --metric mean_ttft_ms -o ttft.svg
    simsched plot out/ --by tenant
    simsched plot out/ --format png,pdf -o figures/
    """
    from simsched.compare import sessions
    from simsched.errors import InputError
    from simsched.plotting.figures import FORMATS, KINDS, OF_SESSIONS, draw, draw_all, save
    from simsched.text.selection import parse_where

    if kind not in (*KINDS, "all"):
        raise InputError(f"--kind {kind}: expected one of {', '.join(KINDS)}, all")
    kinds = [] if kind == "all" else [kind]  # none: all that there is data for
    if by is not None:
        fitting = OF_SESSIONS if by == sessions.BY else ("groups",)
        kinds = kinds or list(fitting)
        if kinds[0] not in fitting:
            raise InputError(f"--by {by}: not for --kind {kind}; expected {' or '.join(fitting)}")
    for option, value in (("metric", metric), ("relative-to", relative_to), ("along", along)):
        if len(kinds) != 1 and value:
            raise InputError(f"--{option}: only with one --kind")
    wanted = [name.strip().lower() for name in formats.split(",")] if formats else []
    for name in wanted:
        if name not in FORMATS:
            raise InputError(f"--format {name}: expected some of {', '.join(FORMATS)}")
    results = opened(directory, goodput, slo, window, label)
    to_file = output is not None and Path(output).suffix.lstrip(".").lower() in FORMATS
    if output is not None and to_file:
        if len(kinds) != 1:
            raise InputError(
                f"--output {output}: a file holds one figure; choose a --kind, or give a directory"
            )
        if wanted and wanted != [Path(output).suffix.lstrip(".").lower()]:
            raise InputError(f"--format {formats}: not that of --output {output}")
    elif output is not None and (Path(output).is_file() or _is_picture(output)):
        raise InputError(
            f"--output {output}: expected a directory, or a name that ends in .png, .svg or .pdf"
        )
    if not kinds:
        figures = draw_all(results, parse_where(where))
    else:
        names = [name.strip() for name in metric.split(",")] if metric else None
        options = along.split(",") if along else None
        given = {
            "metric": names,
            "relative_to": relative_to,
            "along": options[0] if options and len(options) == 1 else options,
            "by": by,
            "where": parse_where(where),
        }
        asked = {name: value for name, value in given.items() if value}
        of = "sessions-" if by == sessions.BY else ""
        figures = {of + each: draw(results, each, **asked) for each in kinds}
    folder = Path(output or results.path / "figures")
    paths = (
        dict.fromkeys([Path(str(output))], next(iter(figures.values())))
        if to_file
        else {
            folder / f"{name}.{each}": figure
            for name, figure in figures.items()
            for each in wanted or ["png"]
        }
    )
    for path, figure in paths.items():
        save(figure, path)
        click.echo(str(path))
