"""The command line of the fidelity jobs: one file per command, loaded only when it is called."""

from __future__ import annotations

import sys

import click

from simsched.cli._group import LazyGroup
from simsched.errors import InputError

COMMANDS = {
    "lockstep": "Compare the simulator with vLLM's real scheduler, step by step, without a model.",
    "ranks": "Compare ranks that step together with vLLM's own busy loops, pass by pass.",
    "release": "Compare with every supported vLLM, one after the other; widen the range.",
    "prepare": "Fetch the files of a vLLM version for lock-step.",
    "replay": "Play a trace into real vLLM, sessions too, and record what happens.",
    "calibrate": "Run the probe workload on real vLLM: step logs to fit a cost profile to.",
    "predict": "Simulate every cell of a replay by a cost profile.",
    "compare": "Compare a replay with a simulation: times, decisions, order of the policies.",
    "decisions": "Check the decisions in a replay's step logs against the simulator, step by step.",
    "routers": "Compare our routers with vllm-router and sglang-router, choice by choice.",
    "overhead": "Time a step of the policy scheduler beside vLLM's own, no model needed.",
    "all": "The whole chain: calibrate on one trace, predict others, compare.",
}


@click.group(
    cls=LazyGroup,
    package="validate.cli",
    lines=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def cli() -> None:
    """How far is the simulator from real vLLM?

    \b
    python -m validate lockstep                  every policy on vLLM's own scheduler, no model needed
    python -m validate all --device cpu          calibrate, predict and compare on a small CPU engine
    """


def main(args: list[str] | None = None) -> None:
    """Entry point: bad input is one line on stderr and exit code 2, never a traceback."""
    try:
        cli.main(args=args, standalone_mode=True)
    except InputError as error:
        click.echo(f"validate: {error}", err=True)
        sys.exit(2)
