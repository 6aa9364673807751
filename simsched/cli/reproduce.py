"""`simsched reproduce`."""

from __future__ import annotations

import os
from pathlib import Path

import click

CLAIMS = "claims"


@click.command("reproduce")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("simsched-reproduction"),
    show_default=True, metavar="DIR", help="Folder for report.html, cells.json and the figures.",
)  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), envvar="SIMSCHED_DATA", metavar="DIR",
              help="Outside data with rep26/sharegpt_r16.csv.  [default: $SIMSCHED_DATA]")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=lambda: min(os.cpu_count() or 1, 8), metavar="N",
              help="Processes.  [default: one a core]")  # fmt: skip
@click.option("--list", "list_only", is_flag=True, help="Name the studies and stop.")
def reproduce_command(
    names: tuple[str, ...], output: Path, data: Path | None, jobs: int, list_only: bool
) -> None:
    """Reproduce the paper's tables and figures, published beside simulated, with the error in every cell.

    Without NAME, all studies of the paper. `claims`, which goes alone, checks the headline claims of other
    scheduling papers and draws all policies in one figure.

    \b
    simsched reproduce --list
    simsched reproduce table1 figure3 -o out/
    simsched reproduce claims -o claims/
    """
    from simsched.errors import InputError
    from simsched.reproduce import reproduce

    if list_only:
        for name, (title, _) in reproduce.STUDIES.items():
            click.echo(f"{name:14}{title}")
        click.echo(f"{CLAIMS:14}Headline claims of scheduling papers, and all policies in one figure (alone)")
        return
    if CLAIMS in names:
        _claims(names, output, jobs)
        return
    chosen = reproduce.choose(names)
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: no such folder")
    if output.exists() and not output.is_dir():
        raise InputError(f"-o {output}: expected a folder")

    def told(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            click.echo(f"\r{done} of {total} runs", nl=done == total, err=True)

    outcomes = reproduce.run_studies(chosen, data=data, jobs=jobs, told=told)
    reproduce.write(outcomes, output, data=data, title="The paper and its reproduction, reproduced")
    for line in reproduce.summary(outcomes):
        click.echo(line)
    click.echo(f"wrote {output / 'report.html'} and {output / 'cells.json'}")


def _claims(names: tuple[str, ...], output: Path, jobs: int) -> None:
    from simsched.errors import InputError
    from simsched.reproduce.claims.study import reproduce_claims

    if len(names) > 1:
        raise InputError(f"reproduce {' '.join(names)}: expected {CLAIMS} alone")
    if output.exists() and not output.is_dir():
        raise InputError(f"-o {output}: expected a folder")
    reproduce_claims(output, jobs, lambda line: click.echo(line, err=True))
    click.echo(f"wrote {output / 'claims.md'}, {output / 'claims.json'} and {output / 'report.html'}")
