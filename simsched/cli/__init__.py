"""The command line: one file per command, loaded only when it is called; no logic here."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from simsched._version import __version__
from simsched.cli._group import LazyGroup
from simsched.errors import InputError

COMMANDS = {
    "run": "Simulate policies over rates and seeds; compare and draw them.",
    "compare": "Compare the arms of a results directory, or two directories.",
    "capacity": "Find the largest rate that is stable, heals, or meets an SLO.",
    "plot": "Draw figures from a results directory.",
    "timeline": "Show what happens to single requests, step by step.",
    "import": "Make a results directory of a benchmark's result file.",
    "report": "Write one self-contained HTML page from a results directory.",
    "reproduce": "Reproduce the paper's tables and figures, published beside simulated.",
    "trace": "Generate, convert, describe and fetch traces.",
    "calibrate": "Fit a cost profile from kernel tables, step logs or summaries.",
    "train": "Train a length ranker on prompts with real output lengths.",
    "evaluate": "Judge a ranker: Kendall's tau, baselines, ceiling, time per prompt.",
    "predict": "Write a ranker's scores into a trace.",
    "list": "List policies, workloads, profiles, presets and predictors.",
}

LONGEST = 2000
"""Characters of a message."""


@click.group(
    cls=LazyGroup,
    package="simsched.cli",
    lines=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="simsched")
def cli() -> None:
    """Find out which request scheduler an LLM server should run.

    \b
    simsched run                                         the paper's comparison, in seconds
    simsched run --policy fcfs,ranking --request-rate 4,8,16 --num-runs 5 -o out/
    simsched compare out/                                ratios with confidence intervals

    \b
    Completion in bash (zsh_source and fish_source likewise), for ~/.bashrc:
    eval "$(_SIMSCHED_COMPLETE=bash_source simsched)"
    """


def main(args: list[str] | None = None) -> Any:
    """Entry point: bad input is one line on stderr and exit code 2, never a traceback."""
    try:
        sys.exit(cli.main(args=args, standalone_mode=False) or 0)
    except InputError as error:
        if os.environ.get("SIMSCHED_TRACEBACK"):
            traceback.print_exc()
        click.echo(f"simsched: {_one_line(str(error))}", err=True)
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"simsched: {_one_line(error.format_message())}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # the reader (head, less) has gone; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _one_line(message: str) -> str:
    """The message on one line, without the middle of what is endless."""
    line = " ".join(part.strip() for part in message.splitlines())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} […] {line[-LONGEST // 2 :]}"
