"""Are the results of two trees the same, to the last bit? For a redesign that must change none.

    python -m tests.golden.same_bytes --save before.json      # in the tree as it was
    python -m tests.golden.same_bytes --check before.json     # in the tree as it is
    python -m tests.golden.same_bytes --speed OTHER_TREE      # processor time, both trees in turn

Everything goes through the command line and the files it writes, so nothing here depends on the inside of the
code. What is compared is each column of each cell's requests, each metric, and each field of each logged
step; columns that are new in the later tree are let pass. `--only WORD` picks the studies whose name has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

Fingerprints = dict[str, str]
"""`cell/what` -> hash of its values."""

EVERY_POLICY = (
    "fcfs,priority,priority(preemptive=true),sjf,ljf,srtf,srtf(preemptive=false),mlfq,"
    "mlfq(base_quantum=0.2,threshold=3,starvation_seconds=0.5),fastserve,ranking,classification,po,"
    "ranking(starvation_threshold=20,starvation_period=5),mlfq(starvation_threshold=30,starvation_period=3)"
)
OF_THE_FORK = (
    "fcfs,mlfq,po,classification,ranking,srtf,sjf,priority,fastserve,"
    "ranking(starvation_threshold=20,starvation_period=5),mlfq(base_quantum=0.01,threshold=10)"
)
COST = {"form": "linear", "unit": "s", "t0": 0.0113, "a": 5.32e-5, "b": 6.42e-5, "c": 8.07e-8, "d": 3.68e-9}
V1 = ["--preset", "vllm-v1", "--max-model-len", "4096"]
FORK = ["--preset", "vllm-0.4.1-ltr", "--max-model-len", "4096"]
TIGHT = ["--max-num-seqs", "48", "--num-gpu-blocks", "900"]
ROOMY = ["--num-gpu-blocks", "8000"]
SHAREGPT = ["--workload", "sharegpt"]
LOADS = ["--request-rate", "4,12,32", "--num-requests", "300"]
MOONCAKE = ["--trace", "traces/mooncake-conversation.jsonl", "--truncate"]

STUDIES: dict[str, list[str]] = {
    "v1": [*V1, *ROOMY, *SHAREGPT, *LOADS, "--policy", EVERY_POLICY],
    "v1-tight": [*V1, *TIGHT, *SHAREGPT, *LOADS, "--policy", EVERY_POLICY],
    "v1-no-caching": [
        *V1, *TIGHT, *SHAREGPT, *LOADS,
        "--policy", "fcfs,srtf,mlfq", "--no-enable-prefix-caching",
    ],
    "v1-options": [
        *V1, *TIGHT, *SHAREGPT, *LOADS, "--policy", "fcfs,ranking,mlfq,priority", "--watermark", "0.05",
        "--long-prefill-token-threshold", "64",
        "--no-scheduler-reserve-full-isl", "--max-num-batched-tokens", "512",
    ],
    "v1-decodes-first": [*V1, *TIGHT, *SHAREGPT, *LOADS, "--policy", "srtf,mlfq", "--decodes-first"],
    "v1-predictor": [
        *V1, *ROOMY, *SHAREGPT, *LOADS,
        "--policy", "ranking,po,classification", "--predictor-time", "0.004",
    ],
    "v1-burst": [
        *V1, *ROOMY, *SHAREGPT,
        "--arrivals", "burst", "--num-requests", "400", "--policy", EVERY_POLICY,
    ],
    "v1-closed": [
        *V1, *ROOMY, *SHAREGPT, "--num-requests", "300", "--policy", EVERY_POLICY,
        "--arrivals", "closed(users=1),closed(users=40,think_time=0.5)",
    ],
    "v1-closed-tight": [
        *V1, *TIGHT, *SHAREGPT, "--num-requests", "300", "--policy", "fcfs,srtf,mlfq,priority",
        "--arrivals", "closed(users=64)",
    ],
    "v1-shared": [*V1, *TIGHT, *MOONCAKE, "--policy", EVERY_POLICY, "--request-rate", "2,6,20"],
    "v1-shared-roomy": [*V1, *ROOMY, *MOONCAKE, "--policy", "fcfs,ranking,mlfq", "--request-rate", "2,6,20"],
    "v1-async": [
        *V1, *TIGHT, *SHAREGPT, *LOADS,
        "--policy", "fcfs,srtf,mlfq,priority,ranking", "--async-scheduling",
    ],
    "v1-async-shared": [
        *V1, *TIGHT, *MOONCAKE, "--policy", "fcfs,ranking", "--request-rate", "2,20", "--async-scheduling",
    ],
    "v1-steps": [
        *V1, *TIGHT, *SHAREGPT, "--request-rate", "12", "--num-requests", "120", "--log-steps",
        "--policy", EVERY_POLICY,
    ],
    "fork": [*FORK, *ROOMY, *SHAREGPT, *LOADS, "--policy", OF_THE_FORK],
    "fork-tight": [*FORK, *TIGHT, *SHAREGPT, *LOADS, "--policy", OF_THE_FORK],
    "fork-ties": [*FORK, *TIGHT, *SHAREGPT, *LOADS, "--policy", "classification,ranking", "--random-ties"],
    "fork-closed": [
        *FORK, *ROOMY, *SHAREGPT, "--num-requests", "200", "--policy", OF_THE_FORK,
        "--arrivals", "closed(users=30,think_time=0.2)",
    ],
    "fork-steps": [
        *FORK, *TIGHT, *SHAREGPT, "--request-rate", "12", "--num-requests", "120", "--log-steps",
        "--policy", OF_THE_FORK,
    ],
}  # fmt: skip

RECIPES = (
    "paper-comparison", "distributions", "length-deciles", "buckets", "tau", "occupancy",
    "reproduction-burst", "reproduction-rates", "reproduction-starvation",
)  # fmt: skip
"""Those in plots/ that need no outside data. They take built-in cost profiles, which must be the same."""

REPRODUCED = ("figure3", "table1")
"""Of `simsched reproduce`: `cells.json`."""

TIMED: dict[str, list[str]] = {
    "fcfs, half load": ["fcfs", "half", "100000"],
    "fcfs, 0.9": ["fcfs", "busy", "100000"],
    "fcfs, 1.2": ["fcfs", "overload", "20000"],
    "fcfs, 256 users": ["fcfs", "closed", "50000"],
    "ranking, 0.9": ["ranking", "busy", "30000"],
    "mlfq, 0.9": ["mlfq", "busy", "30000"],
    "srtf, 1.2": ["srtf", "overload", "10000"],
    "ranking, burst": ["ranking", "burst", "10000"],
    "mlfq, 1.2": ["mlfq", "overload", "10000"],
}

ROUTED: dict[str, list[str]] = {
    f"{count} replicas, {router}, {clock}": [router, str(count), clock]
    for clock in ("in sequence", "asynchronous")
    for router in ("least-requests", "power-of-two", "vllm-dp", "llm-d", "least-predicted-work")
    for count in (1, 16, 64)
}

ROUTED_TIMER = """
import sys
from tests.benchmarks.test_replicas_speed import EACH, PROFILES, rate
router, count, clock = sys.argv[1], int(sys.argv[2]), sys.argv[3]
print(1 / rate(router, count, max(20_000, EACH * count), PROFILES[clock]))
"""

TIMER = """
import sys, time
from dataclasses import replace
from simsched.engine import simulator
from tests.benchmarks.test_engine_speed import LOADS, config, full_rate, profile, requests
from simsched.policies.spec import make_policy
spec, load, n = sys.argv[1:]
share = {**LOADS, "closed": (0.9, 0)}[load][0]
work = requests(int(n), None if share is None else share * full_rate())
if getattr(work, "length_quantiles", None) is not None:
    work = replace(work, length_quantiles=None)  # not every tree has them
if load == "closed":
    work = replace(work, closed_loop_users=256)
best = 1e9
for _ in range(2):
    policy = make_policy(spec)
    start = time.process_time()
    simulator.simulate(work, policy, profile().cost, config())
    best = min(best, time.process_time() - start)
print(best / len(work))
"""


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, separators=(",", ":")).encode()).hexdigest()[:20]


def _simsched(words: list[str], out: Path) -> None:
    command = [sys.executable, "-m", "simsched", *words, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _cells(out: Path) -> Iterator[tuple[str, str]]:
    """The hash of each column, metric and field of a results directory."""
    for cell in sorted((out / "cells").iterdir()):
        table = pl.read_parquet(cell / "requests.parquet")
        for column in table.columns:
            yield f"{cell.name}/requests.{column}", _hash(table[column].to_list())
        for metric, value in json.loads((cell / "summary.json").read_text()).items():
            yield f"{cell.name}/{metric}", _hash(value)
        log = out / "steps" / f"{cell.name}.jsonl"
        if log.is_file():
            steps = [json.loads(line) for line in log.read_text().splitlines()]
            for field in steps[0]:
                values = [list(s[field].items()) if isinstance(s[field], dict) else s[field] for s in steps]
                yield f"{cell.name}/steps.{field}", _hash(values)


def fingerprints(only: str = "") -> Iterator[tuple[str, Fingerprints]]:
    """Run every study; its name and the hashes of what it gave."""
    with tempfile.TemporaryDirectory() as folder:
        cost = Path(folder, "cost.json")
        cost.write_text(json.dumps(COST))
        commands = {
            name: ["run", *words, "--cost-profile", str(cost), "--jobs", "1", "--no-plot"]
            for name, words in STUDIES.items()
        }
        commands |= {f"plots/{name}": ["run", f"plots/{name}.yaml", "--no-plot"] for name in RECIPES}
        commands |= {f"reproduce/{name}": ["reproduce", name] for name in REPRODUCED}
        for name, words in commands.items():
            if only in name:
                out = Path(folder, name.replace("/", "-"))
                _simsched(words, out)
                if words[0] == "run":
                    yield name, dict(_cells(out))
                else:
                    cells = json.loads((out / "cells.json").read_text())
                    yield name, {str(number): _hash(cell) for number, cell in enumerate(cells)}


def check(before: dict[str, Fingerprints], only: str) -> int:
    """Print what differs; returns in how many studies something does."""
    wrong = 0
    for name, found in fingerprints(only):
        expected = before[name]
        differing = [key for key, value in expected.items() if found.get(key) != value]
        wrong += bool(differing)
        words = f"{len(differing)} differ: {', '.join(differing[:4])}" if differing else "the same"
        print(f"{name}: {len(expected)} columns, metrics and fields; {words}", flush=True)
    return wrong


def speed(other: Path, rounds: int, only: str) -> None:
    """Processor time a request in both trees, in turn, and the median of the ratios."""
    trees = {"other": other.resolve(), "this": Path.cwd()}
    for name, words in (TIMED | ROUTED).items():
        if only not in name:
            continue
        seconds: dict[str, list[float]] = {"other": [], "this": []}
        for number in range(rounds):
            for which in ("other", "this") if number % 2 else ("this", "other"):
                environment = {**os.environ, "PYTHONPATH": str(trees[which])}
                done = subprocess.run(
                    [sys.executable, "-c", ROUTED_TIMER if name in ROUTED else TIMER, *words],
                    cwd=trees[which], env=environment, check=True, capture_output=True, text=True,
                )  # fmt: skip
                seconds[which].append(float(done.stdout))
        ratio = statistics.median(
            new / old for old, new in zip(seconds["other"], seconds["this"], strict=True)
        )
        rates = [1 / statistics.median(seconds[which]) for which in ("other", "this")]
        print(f"{name}: {rates[0]:,.0f} then {rates[1]:,.0f} requests/s; time x {ratio:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--save", type=Path, metavar="FILE", help="of the hashes, to be written")
    task.add_argument("--check", type=Path, metavar="FILE", help="of the hashes to compare with")
    task.add_argument("--speed", type=Path, metavar="TREE", help="another checkout, to be timed in turn")
    parser.add_argument("--only", default="", metavar="WORD", help="in the names of the studies")
    parser.add_argument("--rounds", type=int, default=5, help="of --speed")
    given = parser.parse_args()
    if given.speed:
        speed(given.speed, given.rounds, given.only)
    elif given.save:
        given.save.write_text(json.dumps(dict(fingerprints(given.only)), indent=1))
    elif wrong := check(json.loads(given.check.read_text()), given.only):
        raise SystemExit(f"{wrong} studies differ")


if __name__ == "__main__":
    main()
