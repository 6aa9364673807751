"""`simsched compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from simsched.cli._measured import measured, measured_options
from simsched.cli._say import say, terminal_width

if TYPE_CHECKING:
    from simsched.compare.arms import Arm
    from simsched.results import Results


@click.command("compare")
@click.argument("directories", nargs=-1, required=True, metavar="DIR [DIR]")
@click.option("--baseline", metavar="ARM", help='What ratios refer to: "fcfs,tau=0.5".  [default: FCFS]')
@click.option(
    "--metric", "metrics", metavar="NAME[,NAME...]", help="Columns of summary.csv; default: the usual ones."
)
@measured_options
@click.option(
    "--by", metavar="COLUMN", help="Also by tenant, class, replica, ..., with fairness; or by session."
)
@click.option("--json", "json_file", is_flag=False, flag_value="-", metavar="[FILE]",
              help="Write JSON to FILE, or print it instead of tables.")  # fmt: skip
@click.option(
    "--bounds/--no-bounds", default=True, help="Put means over the least possible ones (default: yes)."
)
def compare_command(
    directories: tuple[str, ...],
    baseline: str | None,
    metrics: str | None,
    goodput: str | None,
    slo: str | None,
    window: str | None,
    where: tuple[str, ...],
    label: tuple[str, ...],
    by: str | None,
    json_file: str | None,
    bounds: bool,
) -> None:
    """Compare the arms of a results directory, or two directories cell by cell.

    An arm is what was chosen: policy, engine options, predictor. Each arm over the baseline, per metric and
    load: ratio with its 95 % interval over paired runs, the order of the arms, what a mean hides, and how far
    each mean is from the least possible.

    \b
    simsched compare out/
    simsched compare out/ --baseline mlfq --metric mean_ttft_ms,p99_ttft_ms
    simsched compare out/ --slo "95% ttft<500ms,tpot<50ms" --where request_rate=12
    simsched compare simulated/ real/ --json
    """
    import json
    from pathlib import Path

    from simsched.compare.arm_table import with_letters
    from simsched.compare.directories import compare_directories
    from simsched.compare.samples import swept_options, with_labels
    from simsched.errors import InputError
    from simsched.files import write_file
    from simsched.text.selection import parse_where

    if json_file is not None and Path(json_file).is_dir():
        directories, json_file = (*directories, json_file), "-"  # `compare --json DIR`
    if len(directories) > 2:
        raise InputError(f"compare: {len(directories)} directories; expected one or two")
    if len(directories) == 2:
        for option, value in (("--by", by), ("--where", where), ("--slo", slo)):
            if value:
                raise InputError(f"{option}: only with one directory")
    found = [measured(directory, goodput, slo, window) for directory in directories]
    found = with_labels(found, label)
    wanted = [name.strip() for name in metrics.split(",")] if metrics else None
    fixed = parse_where(where)

    def compared(results: list[Results]) -> tuple[dict[str, Any], str]:
        """What was found, for JSON and as text."""
        if len(results) == 2:
            pair = compare_directories(results[0], results[1], baseline, metrics=wanted)
            return pair.to_dict(), pair.to_table(terminal_width())
        return _one(results[0], baseline, wanted, bounds, fixed, by, slo, terminal_width())

    if json_file is not None:
        answer, text = compared(found)
    if json_file != "-":  # files keep the names that a reader gets letters for
        others = [option for each in found[1:] for option in swept_options(each)[1]]
        lettered, key = with_letters(found, fixed, also=others)
        if key or json_file is None:
            text = "\n\n".join(filter(None, (key, compared(lettered)[1])))
    if json_file == "-":
        click.echo(json.dumps(answer, indent=1))
        return
    if json_file is not None:
        write_file(Path(json_file), (json.dumps(answer, indent=1) + "\n").encode())
    say(text.rstrip("\n"))


def _one(
    results: Results,
    baseline: str | None,
    metrics: list[str] | None,
    bounds: bool,
    where: dict[str, str],
    by: str | None,
    slo: str | None,
    width: int | None,
) -> tuple[dict[str, Any], str]:
    """The comparison of one directory, for JSON and as text with tables at most `width` letters wide."""
    from simsched.compare import compare, sessions
    from simsched.compare.groups import by_group
    from simsched.compare.lower_bound import bounds_of_results
    from simsched.compare.objective import attained, objective_dict, objective_text
    from simsched.compare.text import directory_text
    from simsched.slo import parse_slo

    found, reason = bounds_of_results(results) if bounds else ({}, "")
    study: Arm = results.manifest.get("study") or {}
    comparison = compare(
        results, baseline or study.get("baseline"), metrics=metrics, bounds=found, where=where
    )
    if reason:
        comparison.notes.append(reason)
    answer = comparison.to_dict()
    parts = []
    samples = comparison.samples
    if slo is not None:
        objective = parse_slo(slo)
        rows = attained(results, samples, objective)
        answer["slo"] = objective_dict(objective, rows, samples)
        parts.append(objective_text(objective, rows, width))
    if by == sessions.BY:
        table = sessions.by_session(results, samples, samples.highest(), comparison.baseline)
        answer["groups"] = table.to_dict()
        parts.append(table.to_table(width))
    elif by is not None:
        groups = by_group(results, samples, samples.highest(), by, study.get("goodput"))
        answer["groups"] = groups.to_dict()
        parts.append(groups.to_table(width))
    return answer, "\n\n".join([*parts, directory_text(results, comparison, width)])
