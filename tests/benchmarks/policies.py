"""Simulated requests per second of every policy below the capacity, in a table.

    python -m tests.benchmarks.policies                               # all, at 0.5 and 0.9 of the capacity
    python -m tests.benchmarks.policies --other TREE --policy "vtc;plas"    # beside another checkout, in turn
    python -m tests.benchmarks.policies --load 1.3 --requests 3000    # where requests wait
    python -m tests.benchmarks.policies --ahead                       # with asynchronous scheduling

Preset vllm-v1 on the A100-80GB profile, in sequence (on the serial profile) or ahead (with the host's times),
ShareGPT-like requests of eight tenants, one core. The capacity is that of FCFS. Processor time is taken, the
least of `--rounds`. On a machine that others use it still varies, so each row says how many times as long as
FCFS the policy took, measured beside it. Rows with `sessions` have requests in sessions of five, without
prefix caching.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from simsched.policies.base import registered
from tests.benchmarks.test_engine_speed import goal_of

SPECS = [
    *sorted(registered()),
    *(f"sjf-aging(form={form})" for form in ("trtllm", "trtllm-cached", "sglang", "ewsjf")),
    *("least-slack(form=vllm)", "uniboost(adaptive=true)", "p-pas(plus=true)"),
    *("fcfs, sessions", "plas, sessions", "atlas, sessions"),
]

# Of one tree: takes lines "spec<TAB>share<TAB>requests", answers with seconds a request. It uses no more of
# the tree than an older one has.
WORKER = """
import sys, time
import numpy as np
from simsched.cost_model.profile import load_profile
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.sweep.capacity import capacity
from simsched.workload.named import named_workload

ahead = "ahead" in sys.argv
profile = load_profile("a100-80gb/llama-3-8b" + "/serial" * (not ahead))
cost = profile.step_cost() if ahead else profile.cost
plain = engine_config(num_gpu_blocks=profile.num_gpu_blocks(16), max_model_len=profile.max_model_len)
plain = plain.model_copy(update={"async_scheduling": ahead})

def requests(n, rate):
    made = named_workload("sharegpt").generate(n, rate, arrivals="poisson", seed=0)
    random = np.random.default_rng(1)
    outputs = made.num_output_tokens
    return made.with_columns(
        score=np.log(outputs) + random.normal(0, 0.7, n), predicted_class=outputs // 820,
        predicted_length=outputs.astype(float), priority=random.integers(0, 3, n),
        length_quantiles=np.sort(outputs[:, None] * random.lognormal(0, 0.7, (n, 20)), axis=1),
        tenant=[f"t{each}" for each in random.integers(8, size=n)],
    )

full = capacity(requests(4000, 1.0), cost, plain).rate
made = {}
for line in sys.stdin:
    spec, share, n = line.rstrip().split("\t")
    name, in_sessions, _ = spec.partition(", sessions")
    key = share, n, in_sessions
    if key not in made:
        work = requests(int(n), float(share) * full)
        if in_sessions:
            of = np.random.default_rng(2).integers(int(n) // 5, size=int(n))
            work = work.with_columns(session_id=[f"s{each}" for each in of])
        made[key] = work
    config = plain.model_copy(update={"enable_prefix_caching": not in_sessions})
    policy = make_policy(name)
    start = time.process_time()
    simulate(made[key], policy, cost, config)
    print((time.process_time() - start) / int(n), flush=True)
"""


class Worker:
    """A process that times policies in one tree."""

    def __init__(self, tree: Path, ahead: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, "ahead" if ahead else "in sequence"],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def seconds(self, spec: str, share: float, n: int) -> float:
        """Processor time a request."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        return self._exchange(asked, told, f"{spec}\t{share}\t{n}\n")

    def _exchange(self, asked: IO[str], told: IO[str], line: str) -> float:
        asked.write(line)
        asked.flush()
        answer = told.readline()
        if not answer:
            raise SystemExit(f"no answer to {line!r}: see above")
        return float(answer)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, metavar="TREE", help="another checkout, timed in turn")
    parser.add_argument("--policy", help="of the table, separated by semicolons (default: all)")
    parser.add_argument("--load", default="0.5,0.9", help="shares of the capacity, by commas")
    parser.add_argument("--ahead", action="store_true", help="asynchronous scheduling")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    given = parser.parse_args()
    ours = Worker(Path.cwd(), given.ahead)
    other = None if given.other is None else Worker(given.other.resolve(), given.ahead)
    beside = "" if other is None else f"{'other':>10} {'time x':>7}"
    print(f"{'policy':32} {'load':>4} {'requests/s':>10} {'x fcfs':>7} {'goal':>8}{beside}")
    for spec in given.policy.split(";") if given.policy else SPECS:
        for share in map(float, given.load.split(",")):
            base, ours_best, other_best = [], [], []
            for _ in range(given.rounds):
                base.append(ours.seconds("fcfs", share, given.requests))
                ours_best.append(ours.seconds(spec, share, given.requests))
                if other is not None:
                    other_best.append(other.seconds(spec, share, given.requests))
            best = min(ours_best)
            row = f"{spec:32} {share:4} {1 / best:10,.0f} {best / min(base):7.2f}"
            goal = f"{goal_of(spec.partition(', ')[0]):,}" if share < 1 else ""
            row += f" {goal:>8}"
            if other is not None:
                row += f"{1 / min(other_best):10,.0f} {best / min(other_best):7.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
