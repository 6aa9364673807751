"""`simsched report`."""

from __future__ import annotations

import click

from simsched.cli._measured import measured_options, opened


@click.command("report")
@click.argument("directory", metavar="DIR")
@click.option("-o", "--output", metavar="FILE", help="The HTML file; default: DIR/report.html.")
@click.option("--baseline", metavar="ARM", help="What ratios refer to.  [default: FCFS]")
@click.option("--title", default="", help="Title of the page.")
@measured_options
def report_command(
    directory: str,
    output: str | None,
    baseline: str | None,
    title: str,
    goodput: str | None,
    slo: str | None,
    window: str | None,
    where: tuple[str, ...],
    label: tuple[str, ...],
) -> None:
    """Write one self-contained HTML page from a results directory: verdict, figures, tables, configuration.

    \b
    simsched report out/
    simsched report out/ -o report.html --baseline mlfq
    """
    from simsched.errors import InputError
    from simsched.report.results import report_results
    from simsched.text.selection import parse_where

    results = opened(directory, goodput, slo, window, label)
    path = output or str(results.path / "report.html")
    if not path.lower().endswith((".html", ".htm")):
        raise InputError(f"--output {path}: expected a name that ends in .html")
    report_results(results, path, baseline=baseline, title=title, where=parse_where(where), slo=slo)
    click.echo(path)
