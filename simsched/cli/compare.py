"""`simsched compare`."""

from __future__ import annotations

import click


@click.command("compare")
@click.argument("directories", nargs=-1, required=True, metavar="DIR [DIR]")
@click.option("--baseline", metavar="POLICY", help="What ratios refer to.  [default: fcfs, else the first]")
@click.option(
    "--metric", "metrics", metavar="NAME[,NAME...]", help="Columns of summary.csv; default: the usual ones."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--bounds/--no-bounds", default=True, help="Put means over the least possible ones (default: yes)."
)
def compare_command(
    directories: tuple[str, ...], baseline: str | None, metrics: str | None, as_json: bool, bounds: bool
) -> None:
    """Compare the policies of a results directory, or two directories cell by cell.

    Each policy over the baseline, per metric and load: ratio with its 95 % interval over paired runs, the
    order of the policies, what a mean hides, and how far each mean is from the least possible.

    \b
    simsched compare out/
    simsched compare out/ --baseline mlfq --metric mean_ttft_ms,p99_ttft_ms
    simsched compare simulated/ real/ --json
    """
    import json

    from simsched.errors import InputError
    from simsched.results import Results

    if len(directories) > 2:
        raise InputError(f"compare: {len(directories)} directories; expected one or two")
    opened = [Results.open(directory) for directory in directories]
    wanted = [name.strip() for name in metrics.split(",")] if metrics else None
    if len(opened) == 2:
        from simsched.compare.directories import compare_directories

        pair = compare_directories(opened[0], opened[1], baseline, metrics=wanted)
        text = json.dumps(pair.to_dict(), indent=1) if as_json else pair.to_table()
    else:
        from simsched.compare import compare
        from simsched.compare.lower_bound import bounds_of_results
        from simsched.compare.text import directory_text

        found, reason = bounds_of_results(opened[0]) if bounds else ({}, "")
        comparison = compare(opened[0], baseline, metrics=wanted, bounds=found)
        if reason:
            comparison.notes.append(reason)
        if as_json:
            text = json.dumps(comparison.to_dict(), indent=1)
        else:
            text = directory_text(opened[0], comparison)
    click.echo(text.rstrip("\n"))
