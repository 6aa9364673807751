"""A minute of arrivals at each rate: figure 3, the independent reproduction's rows, starvation control."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from simsched.report import Table
from simsched.reproduce import published
from simsched.reproduce.drawing import bars, lines_over_rate
from simsched.reproduce.outcome import Lookup, Outcome, PublishedCell, Sources, verdict
from simsched.reproduce.predicting import INFERRED, predictor, source
from simsched.reproduce.settings import Setting, System

# "0.03 x 10" in the script; its parser reads 0.01 x 10 [C]
MLFQ = "mlfq(base_quantum=0.01,threshold=10)"
LATENCY, LEAST = "mean_latency_per_token_ms", "least_mean_latency_per_token_ms"
TAU_FROM_ROW = ("po", "classification(num_buckets=82)", "classification(buckets=percentile)")
LMSYS_SHAPES = ("lmsys", "lmsys(shape=lognormal)", "lmsys(shape=sharegpt)")


def seeds(rate: float) -> range:
    """A short run is noisier: three runs at 8 req/s, one at 32 and 64."""
    return range(3 if rate <= 8 else 2 if rate <= 16 else 1)


def online(
    sources: Sources, policy: str, workload: str, rate: float, system: System = "8b", **more: Any
) -> list[Setting]:
    """The runs at one rate, a seed each."""
    spec = MLFQ if policy == "mlfq" else policy
    named = workload.partition("(")[0]
    given = predictor(sources, policy, named, system)
    return [Setting(spec, workload, rate, 0, system, given, seed=seed, **more) for seed in seeds(rate)]


def mean_of(look: Lookup, runs: Sequence[Setting], metric: str) -> float:
    """A metric's mean over runs."""
    return fmean(look(run)[metric] for run in runs)


def rep(sources: Sources, look: Lookup) -> Outcome:
    """The reproduction's ShareGPT rows: calibrated on FCFS, all others predicted."""
    cells = []
    for policy, rate, row in published.rep_rows():
        if rate < 8:
            continue
        runs = online(sources, policy, "sharegpt", rate, "8b-80gb")
        note = "used for the cost profile" if policy == "fcfs" else ""
        if policy in TAU_FROM_ROW and rate == 16:
            note = INFERRED
        for metric, value in row.items():
            least = mean_of(look, runs, LEAST) if metric == LATENCY else None
            cells.append(
                PublishedCell("rep-sharegpt", policy, "sharegpt", rate, metric, value,
                              mean_of(look, runs, metric), note, least)
            )  # fmt: skip
    means = [c for c in cells if c.metric == LATENCY]
    others = [c for c in cells if c.metric != LATENCY]
    return Outcome(
        "The independent reproduction, ShareGPT on one A100",
        [
            "Latency per token, 8 to 64 req/s for a minute. The cost profile is fitted to the FCFS rows "
            "alone; what FCFS cannot show comes from stated or measured figures. All other rows are "
            "predictions, but for three at 16 req/s, which tell how good the model's guesses and two of the "
            "classifiers are (not published).",
            source(sources),
            "TTFT below saturation is too short in simulation: HTTP, tokenizing and streaming are not "
            "modelled. Published rows at 2 and 4 req/s differ by 2x between policies that cannot differ "
            "there, and are left out. At 8 req/s, too, little speed makes much latency: three trials of one "
            "policy differ by 19 % there (FCFS 29 %, the classifier 40 %), by 4 to 8 % at 16 to 64.",
        ],
        [*means, *others],
        points=[f"Mean latency per token alone: {line}" for line in verdict(means)],
        draw=lambda figure: lines_over_rate(figure, means, "mean latency per token (ms)"),
        alt="Mean latency per token against rate for eight schedulers, published and simulated",
    )


def figure3(sources: Sources, look: Lookup) -> Outcome:
    """The paper's figure 3."""
    cells = []
    for workload, policies in published.FIGURE3.items():
        for policy, values in policies.items():
            for rate, value in zip(published.RATES, values, strict=True):
                runs = online(sources, policy, workload, rate)
                simulated, least = (mean_of(look, runs, name) / 1e3 for name in (LATENCY, LEAST))
                cells.append(
                    PublishedCell("figure3", policy, workload, rate, "mean latency per token (s)", value,
                                  simulated, least=least)
                )  # fmt: skip
    ratios = []
    for cell in cells:
        load = (cell.workload, cell.request_rate)
        base = next(c for c in cells if c.policy == "fcfs" and (c.workload, c.request_rate) == load)
        if cell.policy != "fcfs":
            ratios.append(
                PublishedCell("figure3", cell.policy, cell.workload, cell.request_rate, "ratio to FCFS",
                     cell.published / base.published, cell.simulated / base.simulated)
            )  # fmt: skip
    return Outcome(
        "Figure 3: mean latency per token against rate, 8B",
        [
            "The paper's machine and the reproduction's differ, and the points were read off a figure: the "
            "ratios to FCFS are the test.",
            source(sources),
            "Two published sources disagree on MLFQ: 0.68 of FCFS at 64 req/s here, 0.87 in the "
            "reproduction. The paper's classifier does better on LMSYS here (0.31 of FCFS at 32 req/s) than "
            "in its own burst (1.02); with the published class tau of 0.17 the simulation agrees with the "
            "burst. How well Llama-3-8B guesses its length on LMSYS is not published; 70B's tau of 0.67 "
            "makes PO too good.",
            "LMSYS: no sample of Llama-3-8B's output lengths on it is public; the shape is an assumption, "
            "whose weight the table below shows.",
        ],
        [*cells, *ratios],
        [_sensitivity(sources, look)],
        draw=lambda figure: lines_over_rate(figure, cells, "mean latency per token (s)"),
        alt="Mean latency per token against rate on ShareGPT and LMSYS, published and simulated",
    )


def _sensitivity(sources: Sources, look: Lookup) -> Table:
    """LMSYS at 32 req/s with other shapes of the output lengths."""
    rows = []
    for policy in published.POLICIES:
        values = [
            mean_of(look, online(sources, policy, shape, 32), "mean_latency_per_token_ms") / 1e3
            for shape in LMSYS_SHAPES
        ]
        rows.append((policy, published.FIGURE3["lmsys"][policy][2], *values))
    headers = ("policy", "published", "Vicuna's shape (default)", "lognormal", "ShareGPT's shape")
    return Table(headers, rows, "LMSYS, 32 req/s, mean latency per token (s), by assumed output shape")


def starvation(sources: Sources, look: Lookup) -> Outcome:
    """What starvation control costs and what it saves."""
    rows: list[tuple[object, ...]] = []
    best: dict[str, float] = {}
    for workload in ("sharegpt", "lmsys"):
        for rate in published.RATES:
            plain = online(sources, "ranking", workload, rate, "70b")
            guarded = online(
                sources, "ranking(starvation_threshold=200,starvation_period=10)", workload, rate, "70b"
            )
            cut = mean_of(look, plain, "mean_max_waiting_time_ms") / mean_of(
                look, guarded, "mean_max_waiting_time_ms"
            )
            price = mean_of(look, guarded, "mean_latency_per_token_ms") / mean_of(
                look, plain, "mean_latency_per_token_ms"
            )
            if price < 1.1:
                best[workload] = max(best.get(workload, 0.0), cut)
            rows.append((f"70b {workload}", rate, cut, f"{price - 1:+.0%}"))
    cells = [
        PublishedCell(
            "starvation",
            "ranking + starvation control",
            f"70b {workload}",
            None,
            "largest cut of the mean max_waiting_time, under 10 % more latency",
            value,
            best.get(workload, float("nan")),
        )
        for workload, value in published.STARVATION_CUT.items()
    ]
    headers = ("workload", "req/s", "max_waiting_time: without over with", "mean latency per token: change")
    return Outcome(
        "Starvation control",
        [
            "Ranking with and without promotion after 200 idle steps for 10 steps, Llama-3-70B. The larger "
            "of TTFT and the longest gap between two tokens is the paper's max_waiting_time; the paper "
            "reports cuts up to 3.3 and 3.4 times for mostly under 10 % more latency: only rates at which "
            "it costs no more than that count. At higher rates it costs far more.",
        ],
        cells,
        [Table(headers, rows, "Simulated")],
        draw=lambda figure: bars(figure, cells, "cut of the mean max_waiting_time (x)"),
        alt="Cut of the maximum waiting time by starvation control, published and simulated",
    )
