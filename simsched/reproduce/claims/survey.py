"""All policies on one workload: latency per token against P99 TTFT, at one load and near each one's own
capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.compare.samples import Samples, samples_of
from simsched.policies.base import registered
from simsched.reproduce.claims.survey_trace import (
    CHAT,
    DOCUMENT,
    DOCUMENTS,
    LIMITS,
    SYSTEM,
    TENANTS,
    TURNS,
    survey_trace,
)
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study
from simsched.workload.trace_io import write_trace

if TYPE_CHECKING:
    from simsched.results import Results

X, Y = "mean_latency_per_token_ms", "p99_ttft_ms"
FIRST = "fcfs"
"""The policy whose capacity is found first, as the unit of all rates."""
RATES = tuple(tenths / 10 for tenths in range(30, 101))
"""Requests/s at which its backlog may be looked at,"""
SHARES = tuple(thousandths / 1000 for thousandths in range(600, 1301, 25))
"""and those of every other policy, in shares of its capacity."""
COMMON, SHARE = 1.1, 0.95
"""The one load, of that capacity; each one's own load, of its own."""
GROWS = 0.01
"""The share of what arrives that a backlog keeps where it grows."""
LONG, SHORT, RUNS = 600, 240, 3
"""Seconds of arrivals in which a backlog is looked at, and of a run that is shown; runs of each."""

_SETTINGS = {
    "sjf-aging": ("sjf-aging(form=trtllm)", "sjf-aging(form=sglang)"),
    "uniboost": ("uniboost", "uniboost(adaptive=true)"),
    "trail": ("trail", "trail(c=0)"),
    "ranking": ("ranking", "ranking(starvation_threshold=200,starvation_period=10)"),
    "lpm": ("lpm", "lpm(longest_queue=inf)"),
}
"""Other settings of a policy than its default alone."""


@dataclass(frozen=True)
class Place:
    """Where a policy stands; milliseconds and requests/s."""

    policy: str
    at_one_load: tuple[float, float]
    """Mean latency per token, P99 TTFT."""
    capacity: float
    at_its_own: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "at_one_load": dict(zip((X, Y), self.at_one_load, strict=True)),
            "capacity": self.capacity,
            f"at_{SHARE:g}_of_its_own": dict(zip((X, Y), self.at_its_own, strict=True)),
        }


@dataclass(frozen=True)
class Survey:
    """All places, and the common load (requests/s)."""

    request_rate: float
    places: list[Place]

    def to_json(self) -> dict[str, Any]:
        return {"request_rate": self.request_rate, "policies": [place.to_json() for place in self.places]}

    def as_text(self) -> list[str]:
        """A table in Markdown, the lowest latency per token first."""
        rate = self.request_rate
        return [
            *_described(),
            f"The one load is {rate:.2f} req/s.",
            "",
            f"| policy | ms per token at {rate:.1f} req/s | P99 TTFT (s) | own capacity (req/s) "
            f"| ms per token at {SHARE:g} of it | P99 TTFT (s) |",
            "|---|---|---|---|---|---|",
            *(
                f"| `{p.policy}` | {p.at_one_load[0]:.1f} | {p.at_one_load[1] / 1e3:.2f} | {p.capacity:.2f} "
                f"| {p.at_its_own[0]:.1f} | {p.at_its_own[1] / 1e3:.2f} |"
                for p in sorted(self.places, key=lambda place: place.at_one_load[0])
            ),
        ]


def _described() -> list[str]:
    """Paragraphs on what was run."""
    shares = ", ".join(f"{share:.0%}" for share in TENANTS.values())
    asked = {
        kind: f"{ttft:g} s to the first token, {1e3 * tpot:g} ms for each further one, {deadline:g} s in all"
        for kind, (ttft, tpot, deadline) in LIMITS.items()
    }
    return [
        "All policies on one workload that carries whatever any of them reads: questions about documents, "
        f"of tenants with {shares} of the sessions. A prompt is the tenant's system prompt ({SYSTEM} "
        f"tokens), one of {DOCUMENTS} documents of the tenant ({DOCUMENT:,} tokens; the k-th is asked about "
        "in proportion to 1 / k) and a question; questions and answers are ShareGPT-like. A session asks "
        f"{TURNS:g} questions about a document in the mean, at times of its own. {CHAT:.0%} of the sessions "
        f"are of class chat (asked: {asked['chat']}), the others batch ({asked['batch']}; lower priority). "
        "sjf, srtf and ljf know the true lengths; what others predict is emulated, as good as published. "
        "Llama-3-8B on an A100-80GB.",
        "",
        f"What a policy can take is the largest rate, in steps of 2.5 % of what {FIRST} can take, at which "
        f"its backlog keeps at most {GROWS:.0%} of what arrives in {LONG // 60} minutes. Times are means "
        f"over {RUNS} runs of {SHORT} s: at one load, {COMMON:g} times what {FIRST} can take, and at "
        f"{SHARE:g} of what each one can, where each meets other requests, so that those columns are not "
        "paired. In the figure a label names all points that can't be told apart.",
        "",
    ]


def surveyed() -> list[str]:
    """The settings that are shown: of every policy one or more."""
    return [each for name in registered() for each in _SETTINGS.get(name, (name,))]


def run_survey(folder: Path, jobs: int | None, told: Callable[[str], None]) -> Survey:
    """Every policy at one load, then each at its share of the rate up to which its backlog does not grow.

    All of it is written into `folder`, the requests as `survey.jsonl`.
    """
    runs = _Runs(folder, jobs)
    names = surveyed()
    unit = runs.capacities([FIRST], RATES)[FIRST]
    capacities = runs.capacities(names, [round(share * unit, 3) for share in SHARES])
    told(f"survey: {FIRST} takes {unit:g} req/s")
    common = round(COMMON * unit, 3)
    shown = runs.points(names, common)
    own: dict[str, tuple[float, float]] = {}
    for capacity in sorted(set(capacities.values())):
        alike = [name for name in names if capacities[name] == capacity]
        own |= runs.points(alike, round(SHARE * capacity, 3))
    told(f"survey: {len(names)} settings of policies")
    return Survey(common, [Place(name, shown[name], capacities[name], own[name]) for name in names])


class _Runs:
    """The survey's studies, one after the other, each in a folder of its own; their requests are the first of
    one trace, more than are drawn at any rate."""

    def __init__(self, folder: Path, jobs: int | None) -> None:
        self.folder, self.jobs, self.number = folder, jobs, 0
        self.trace = folder / "survey.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        write_trace(survey_trace(math.ceil(1.1 * RATES[-1] * SHARES[-1] * LONG)), self.trace)

    def points(self, names: Sequence[str], rate: float) -> dict[str, tuple[float, float]]:
        """Of each policy the mean latency per token and the P99 TTFT (ms) at this rate (requests/s)."""
        samples = samples_of(self._run(names, rate, SHORT, RUNS))
        return {name: _point(samples, name) for name in names}

    def capacities(self, names: Sequence[str], rates: Sequence[float]) -> dict[str, float]:
        """Of each policy the largest of these rising rates (requests/s) at which its backlog does not grow;
        the smallest, if it grows there. Where it grows at one, it is taken to grow at all above."""
        found = dict.fromkeys(names, (0, len(rates)))  # grows not, or is the smallest; grows, or is beyond
        while asked := {name: (low + high) // 2 for name, (low, high) in found.items() if high - low > 1}:
            for place in sorted(set(asked.values())):
                alike = [name for name, each in asked.items() if each == place]
                samples = samples_of(self._run(alike, rates[place], LONG, 1))
                for name in alike:
                    grows = (samples.mean(0, name, "growth") or 0.0) > GROWS * rates[place]
                    low, high = found[name]
                    found[name] = (low, place) if grows else (place, high)
        return {name: rates[low] for name, (low, _) in found.items()}

    def _run(self, names: Sequence[str], rate: float, seconds: float, num_runs: int) -> Results:
        options = {
            "trace": [str(self.trace)],
            "arrivals": "poisson",
            "policy": list(names),
            "request_rate": [rate],
            "duration": seconds,
            "num_runs": num_runs,
        }
        plan = make_plan(make_study(options, origin="survey"))
        self.number += 1
        return run_study(plan, self.folder / f"survey-{self.number}", jobs=self.jobs, overwrite=True)


def _point(samples: Samples, name: str) -> tuple[float, float]:
    x, y = (samples.mean(0, name, metric) for metric in (X, Y))
    return math.nan if x is None else x, math.nan if y is None else y
