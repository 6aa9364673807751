"""`python -m validate ranks`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("ranks")
@click.option("--random", "count", type=click.IntRange(min=1), metavar="N", default=40, show_default=True,
              help="Engines, workloads, policies and numbers of ranks drawn at random.")  # fmt: skip
@click.option("--vllm-version", help="Another vLLM than the installed one, as for lockstep.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the table as JSON.")
def ranks_command(count: int, vllm_version: str | None, seed: int, json_path: Path | None) -> None:
    """Compare every pass of ranks that step together (--moe-data-parallel) with vLLM's own busy loops, each
    around a real scheduler, without a model; exit 1 on any divergence.

    \b
    python -m validate ranks --random 100 --seed 7
    python -m validate ranks --vllm-version 0.24.0
    """
    from simsched.vllm_versions import parse_version
    from validate.json_file import write_json
    from validate.ranks import rank_cases, run_rank_case
    from validate.virtual_engine import prepare_vllm
    from validate.vllm_files import use_version

    if vllm_version is not None:
        parse_version(vllm_version)
        use_version(vllm_version)
    version = prepare_vllm()
    click.echo(f"vLLM {version}", err=True)
    outcomes = []
    for case in rank_cases(count, version, seed):
        outcome = run_rank_case(case, seed)
        if outcome is None:
            continue
        outcomes.append(outcome)
        row = outcome.as_json()
        loop = "async" if row["async"] else "sync"
        verdict = outcome.first_divergence or "same"
        click.echo(
            f"{row['name']:12} {row['policy']:50} {row['num_ranks']} ranks {loop:5} "
            f"{outcome.passes:7} passes, {outcome.dummies:6} dummy  {verdict}"
        )
    passes = sum(each.passes for each in outcomes)
    divergent = sum(each.divergent_passes for each in outcomes)
    click.echo(f"{passes} passes compared, {divergent} divergent")
    if json_path is not None:
        cases = [each.as_json() for each in outcomes]
        found = {"vllm_version": version, "cases": cases}
        write_json(json_path, found | {"passes_compared": passes, "divergent_passes": divergent})
    sys.exit(1 if divergent else 0)
