"""`python -m validate lockstep`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from validate.cli.options import engine_options, given_engine_options


@click.command("lockstep")
@click.option("--trace", type=click.Path(path_type=Path), help="Check this trace, in any format we read.")
@click.option("--policy", help="The policy for --trace, or those to draw, by commas, or catalogue.  "
              "[default: fcfs, or all]")  # fmt: skip
@click.option(
    "--scheduler",
    type=click.Choice(["builtin", "policy"]),
    help="vLLM's own class or ours, for --trace.  [default: builtin for fcfs and priority]",
)
@click.option("--predictor", help="Fills the column that the policy reads, for --trace.")
@click.option("--num-requests", type=click.IntRange(min=1), help="The first requests of --trace only.")
@click.option("--cost-profile", default="a100-80gb/llama-3-8b", show_default=True, help="For --trace.")
@click.option(
    "--random",
    type=click.IntRange(min=1),
    metavar="N",
    help="N random engines, workloads and policies instead.",
)
@click.option("--quick", is_flag=True, help="A dozen cases with every rule that differs between versions.")
@click.option("--release", is_flag=True, help="All that `validate release` asks of a version.")
@click.option("--kv-pressure", is_flag=True, help="With --random: KV blocks are always short.")
@click.option("--shared-prefixes", is_flag=True, help="With --random: prompts always share prefixes.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the table as JSON.")
@engine_options
def lockstep_command(json_path: Path | None, **options: Any) -> None:
    """Compare every step of the simulator with vLLM's real scheduler; exit 1 on any divergence.

    Without --trace: every policy on several engines, synchronous and asynchronous. --vllm-version takes
    another vLLM than the installed one: its Python files are fetched once and kept in the user's cache.

    \b
    python -m validate lockstep --json lockstep.json
    python -m validate lockstep --random 200 --seed 7
    python -m validate lockstep --vllm-version 0.30.0 --quick
    python -m validate lockstep --trace t.jsonl --policy mlfq --num-gpu-blocks 400 --async-scheduling
    """
    from simsched.errors import InputError
    from simsched.vllm_versions import parse_version
    from validate.cases import builtin_cases, quick_cases, random_cases, release_cases
    from validate.json_file import write_json
    from validate.lockstep import report, run_cases
    from validate.own_case import own_case
    from validate.virtual_engine import prepare_vllm
    from validate.vllm_files import use_version

    engine = given_engine_options(options)
    wanted = engine.pop("vllm_version", None)
    kinds = [name for name in ("trace", "random", "quick", "release") if options[name]]
    if len(kinds) > 1:
        raise InputError(f"--{kinds[1]}: has its own workloads; give it or --{kinds[0]}")
    for name in ("kv_pressure", "shared_prefixes"):
        if options["random"] is None and options[name]:
            raise InputError(f"--{name.replace('_', '-')}: goes with --random")
    if options["trace"] is None and options["random"] is None and options["policy"] is not None:
        raise InputError(f"--policy {options['policy']}: goes with --trace or --random")
    if options["trace"] is None and engine:
        raise InputError(f"--{next(iter(engine)).replace('_', '-')}: engine options go with --trace")
    if wanted is not None:
        parse_version(wanted)
        use_version(wanted)
    version = prepare_vllm()
    if options["random"] is not None:
        drawn = _policies(options["policy"])
        strain = {name: options[name] for name in ("kv_pressure", "shared_prefixes")}
        cases = random_cases(options["random"], version, options["seed"], policies=drawn, **strain)
    elif options["quick"]:
        cases = quick_cases(version)
    elif options["release"]:
        cases = release_cases(version)
    elif options["trace"] is None:
        cases = builtin_cases(version, options["seed"])
    else:
        options["policy"] = options["policy"] or "fcfs"
        names = ("trace", "policy", "scheduler", "predictor", "num_requests", "cost_profile", "seed")
        cases = iter(
            [own_case(engine | {"vllm_version": version}, **{name: options[name] for name in names})]
        )
    click.echo(f"vLLM {version}", err=True)
    outcomes = []
    for outcome in run_cases(cases):
        outcomes.append(outcome)
        case = outcome.case
        loop = "async" if case.config.async_scheduling else "sync"
        same = "same, until the requests displace each other for ever" if outcome.livelock else "same"
        verdict = outcome.first_divergence or same
        click.echo(
            f"{case.name:30} {case.policy:45} {case.scheduler:8} {loop:6} {outcome.steps:7} steps  {verdict}"
        )
    result = report(version, outcomes)
    click.echo(f"{result['steps_compared']} steps compared, {result['divergent_steps']} divergent")
    if json_path is not None:
        write_json(json_path, result)
    sys.exit(1 if result["divergent_steps"] else 0)


def _policies(given: str | None) -> Sequence[str]:
    """Those that random cases are drawn from."""
    from simsched.text.specs import split_specs
    from validate.cases import CATALOGUE, RANDOM_POLICIES

    if given is None:
        return RANDOM_POLICIES
    return CATALOGUE if given == "catalogue" else split_specs(given)
