"""Whole processes, best of five: start, read or make the requests, simulate, write.

Processor time is what is judged: it is the elapsed time of a machine that has nothing else to do.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark_suite


def best_of_five(name: str, words: Callable[[int], list[str]]) -> float:
    """Processor seconds; prints the elapsed ones beside them."""
    elapsed, processor = [], []
    for attempt in range(5):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "simsched", *words(attempt)], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        elapsed.append(time.perf_counter() - start)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"{name}: {min(processor):.2f} s of processor, {min(elapsed):.2f} s elapsed")
    return min(processor)


@pytest.mark.parametrize("policy", ["fcfs", "ranking", "mlfq"])
def test_ten_thousand_requests_in_a_second(tmp_path: Path, policy: str) -> None:
    def words(attempt: int) -> list[str]:
        out = str(tmp_path / str(attempt))
        flags = ["--policy", policy, "--request-rate", "8", "--num-requests", "10000", "--no-plot"]
        return ["run", *flags, "-o", out]

    assert best_of_five(f"10,000 requests at 8 req/s, {policy}", words) < 1.0


def test_help_is_instant() -> None:
    assert best_of_five("simsched --help", lambda attempt: ["--help"]) < 0.4
