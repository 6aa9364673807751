"""Whole processes are quick: nothing heavy is imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "vllm", "dask", "distributed", "scipy", "matplotlib", "jinja2")
BASE = ("numpy", "polars", "pydantic", "simpy", "yaml", "rich", "joblib")


def imported(*words: str) -> set[str]:
    """Top-level modules that a `simsched` process has imported when it is done."""
    code = (
        "import sys\nfrom simsched.cli import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split("\n")}


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"], ["--version"]])
def test_help_loads_nothing(words: list[str]) -> None:
    assert imported(*words).isdisjoint(HEAVY + BASE)


def test_the_help_of_run_loads_only_what_declares_its_options() -> None:
    assert imported("run", "--help") & {*HEAVY, *BASE} == {"pydantic"}


def test_a_single_run_loads_nothing_heavy(tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("run") / "out"
    words = ["run", "--policy", "fcfs", "--request-rate", "8", "--num-requests", "50", "--no-plot"]
    # scipy.special: whether the backlog grows is a regression with an interval
    assert imported(*words, "-o", str(out)) & {*HEAVY, "rich", "joblib"} <= {"scipy"}
