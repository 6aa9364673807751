"""All orders in one figure: latency per token against P99 TTFT, at one load and near its own capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.compare.samples import Samples, samples_of
from simsched.policies.base import registered
from simsched.sweep.execute import run_study
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study

if TYPE_CHECKING:
    from simsched.results import Results

X, Y = "mean_latency_per_token_ms", "p99_ttft_ms"
COMMON, SHARE = 1.1, 0.95
"""The common load, of FCFS's estimated capacity; each one's own load, of its own."""
TRIED = (0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0, 1.025)
"""Of FCFS's estimated capacity: the rates at which a policy's backlog is looked at, for `LONG` seconds."""
GROWS = 0.01
"""The share of what arrives that a backlog keeps where it grows."""
LONG, SHORT = 900, 240

_SETTINGS = {
    "sjf-aging": ("sjf-aging(form=trtllm)", "sjf-aging(form=sglang)"),
    "uniboost": ("uniboost", "uniboost(adaptive=true)"),
    "trail": ("trail", "trail(c=0)"),
    "ranking": ("ranking", "ranking(starvation_threshold=200,starvation_period=10)"),
}
"""Other settings of a policy than its default alone."""
_ABSENT = (
    *("priority", "vtc", "dlpm", "plas", "atlas", "edf", "least-slack", "qoserve", "fair-batching"),
    *("lpm", "dfs-weight"),
)
"""Not shown: these requests have no tenants, sessions, limits or shared prefixes, which these order by."""


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
            f"ShareGPT-like requests, Llama-3-8B on an A100-80GB, three runs of {SHORT} s. The one load is "
            f"{rate:.1f} req/s, {COMMON:g} times FCFS's estimated capacity. A policy's own capacity is the "
            f"largest of {len(TRIED)} rates, {TRIED[0]:g} to {TRIED[-1]:g} of that estimate, up to which its "
            f"backlog keeps at most {GROWS:.0%} of what arrives in {LONG // 60} minutes. At {SHARE:g} of it "
            "each policy meets other requests, so those columns are not paired.",
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


def surveyed() -> list[str]:
    """The settings that are shown."""
    found: list[str] = []
    for name in registered():
        if name not in _ABSENT:
            found += _SETTINGS.get(name, (name,))
    return found


def run_survey(folder: Path, jobs: int | None, told: Callable[[str], None]) -> Survey:
    """Every policy at one load, then each at its share of the rate up to which its backlog does not grow."""
    common: dict[str, Any] = {"workload": "sharegpt", "duration": SHORT, "num_runs": 3}
    names = surveyed()
    given = {**common, "policy": names, "request_rate": [f"{COMMON:g}x"]}
    samples = samples_of(_run(given, folder / "survey", jobs))
    (rate,) = samples.rates
    assert rate is not None
    capacities = _capacities(names, folder, jobs)
    places: list[Place] = []
    for name in names:
        own = {**common, "policy": [name], "request_rate": [round(SHARE * capacities[name], 3)]}
        alone = samples_of(_run(own, folder / f"survey-own-{len(places)}", jobs))
        places.append(Place(name, _point(samples, name), capacities[name], _point(alone, name)))
    told(f"survey: {len(places)} settings of policies")
    return Survey(rate, places)


def _capacities(names: Sequence[str], folder: Path, jobs: int | None) -> dict[str, float]:
    """Of each policy the largest rate that was tried (requests/s) up to which its backlog does not grow; the
    smallest, if it grows there."""
    given = {
        "workload": "sharegpt",
        "policy": list(names),
        "request_rate": [f"{share:g}x" for share in TRIED],
        "duration": LONG,
    }
    samples = samples_of(_run(given, folder / "survey-capacity", jobs))
    loads = sorted(range(len(samples.loads)), key=lambda load: samples.rates[load] or 0.0)
    found = {}
    for name in names:
        most = samples.rates[loads[0]]
        for load in loads:
            rate = samples.rates[load] or 0.0
            if (samples.mean(load, name, "growth") or 0.0) > GROWS * rate:
                break
            most = rate
        assert most is not None
        found[name] = most
    return found


def _run(options: dict[str, Any], folder: Path, jobs: int | None) -> Results:
    return run_study(make_plan(make_study(options, origin="survey")), folder, jobs=jobs, overwrite=True)


def _point(samples: Samples, name: str) -> tuple[float, float]:
    x, y = (samples.mean(0, name, metric) for metric in (X, Y))
    return math.nan if x is None else x, math.nan if y is None else y


def draw_survey(survey: Survey) -> Any:
    """Two panels on logarithmic axes, each policy a named point."""
    from matplotlib.figure import Figure

    from simsched.plotting.style import styled

    with styled():
        figure = Figure(figsize=(13, 1.5 + 0.17 * len(survey.places)), layout="constrained")
        axes = figure.subplots(1, 2)
        at_one = f"{survey.request_rate:.1f} req/s, {COMMON:g} times FCFS's estimated capacity"
        _panel(axes[0], [(p.policy, *p.at_one_load) for p in survey.places], at_one)
        own = f"{SHARE:g} of each one's own capacity (not paired)"
        _panel(axes[1], [(p.policy, *p.at_its_own) for p in survey.places], own)
    return figure


def _panel(ax: Any, points: Sequence[tuple[str, float, float]], title: str) -> None:
    """The names stand beside the axes, in the order of their points, with a line to each."""
    from simsched.plotting.style import log_ticks, policy_color, policy_marker

    names = [name for name, _, _ in points]
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="mean latency per token (ms)", ylabel="P99 time to first token (s)")
    ax.set_title(title, fontsize=10)
    points = sorted(points, key=lambda point: (point[2], -point[1]))
    for place, (name, x, y) in enumerate(points):
        color = policy_color(name, names)
        ax.plot(x, y / 1e3, policy_marker(name, names), color=color, markersize=7)
        beside = (1.06, (place + 0.5) / len(points))
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": color, "relpos": (0.0, 0.5)}
        ax.annotate(_short(name), (x, y / 1e3), xytext=beside, textcoords="axes fraction", fontsize=7,
                    va="center", arrowprops=line)  # fmt: skip
    log_ticks(ax, "x")
    log_ticks(ax, "y")


def _short(policy: str) -> str:
    shorter = policy.replace("starvation_threshold=200,starvation_period=10", "starvation control")
    return shorter.replace("form=", "").replace("=true", "")
