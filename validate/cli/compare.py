"""`python -m validate compare`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("compare")
@click.argument("real", type=click.Path(path_type=Path))
@click.argument("simulated", type=click.Path(path_type=Path), metavar="SIM")
@click.option("--baseline", default="fcfs", show_default=True, help="Speed-ups are over this policy.")
@click.option(
    "--again",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Another replay of the same study: shows the machine's own spread. Repeatable.",
)
@click.option(
    "--blind",
    type=click.Path(path_type=Path),
    metavar="SIM",
    help="The same simulated without a host speed given: its times are judged beside those of SIM.",
)
@click.option("--mean-tolerance", type=float, default=0.05, show_default=True, help="Mean latency per token.")
@click.option("--p99-tolerance", type=float, default=0.10, show_default=True, help="P99 latency per token.")
@click.option("--speedup-tolerance", type=float, default=0.05, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything as JSON.")
@click.option("--figure", type=click.Path(path_type=Path), help="Write real and simulated CDFs per policy.")
def compare_command(
    real: Path,
    simulated: Path,
    baseline: str,
    again: tuple[Path, ...],
    blind: Path | None,
    mean_tolerance: float,
    p99_tolerance: float,
    speedup_tolerance: float,
    json_path: Path | None,
    figure: Path | None,
) -> None:
    """Compare a replay (REAL) with a simulation (SIM) of the same study.

    Judged apart: decisions, times (with the host speed given, or blind), and the order of those policies
    whose replays don't overlap.

    \b
    python -m validate compare real/ sim/ --json fidelity.json --figure fidelity.png
    python -m validate compare real-1/ sim/ --again real-2/ --again real-3/ --blind sim-blind/
    """
    from validate.comparison import compare_results
    from validate.comparison_text import draw_cdfs, to_table
    from validate.json_file import write_json
    from validate.replayed import open_replay
    from validate.verdict import Tolerance
    from validate.verdicts import judge, to_lines

    left, right = open_replay(real), open_replay(simulated)
    tolerance = Tolerance(mean_tolerance, p99_tolerance, speedup_tolerance)
    replays = [left, *(open_replay(path) for path in again)]
    result = compare_results(replays, right, baseline=baseline, tolerance=tolerance)
    unknowing = None
    if blind is not None:
        unknowing = compare_results(replays, open_replay(blind), baseline=baseline, tolerance=tolerance)
    result["verdicts"] = judge(replays, right, result, unknowing)
    click.echo(to_table(result))
    for line in to_lines(result["verdicts"]):
        click.echo(line)
    if json_path is not None:
        write_json(json_path, result)
    if figure is not None:
        from simsched.plotting.figures import save

        save(draw_cdfs(left, right), figure)
