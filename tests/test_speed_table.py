"""The table of policies' speeds can be made; what it says is for `python -m tests.benchmarks.policies`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_a_row_for_each_policy_and_load() -> None:
    words = ["--policy", "vtc;plas, sessions", "--load", "0.5,1.2", "--requests", "60", "--rounds", "1"]
    command = [sys.executable, "-m", "tests.benchmarks.policies", *words, "--other", str(REPOSITORY)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["policy", "load", "requests/s", "x", "fcfs", "goal", "other", "time", "x"]
    assert [row[:37].split() for row in rows] == [
        ["vtc", "0.5"],
        ["vtc", "1.2"],
        ["plas,", "sessions", "0.5"],
        ["plas,", "sessions", "1.2"],
    ]
    assert [row[57:66].strip() for row in rows] == ["40,000", "", "40,000", ""]
    for row in rows:
        assert all(float(number.replace(",", "")) > 0 for number in row[37:].split())
