"""A cost profile of the paper's fork from the latencies of its FCFS runs, by simulating them.

The table is a CSV of `policy, request_rate, mean_ttft_ms, mean_tpot_ms, mean_latency_per_token_ms`; only rows
of `fcfs` at 8 req/s and more count (below, published rows of policies that cannot differ differ by 2x). The
runs are the paper's: ShareGPT-like requests, a minute of Poisson arrivals, the longest answer in its place.

Twelve means cannot tell four coefficients apart, so three have priors: what a step costs at least (eager
mode), a prefill token, and a sequence. What FCFS cannot show is stated, not fitted (`with_stated_terms`).

The fourth is the price of padding: in every step vLLM 0.4.1 copies each sequence's tokens into tensors as
wide as the longest prompt and output of the batch. In the engine's log of FCFS at 64 req/s (third trial) a
batch of 256 takes 0.18 s while 3,400 requests wait and 0.23 s when 1,100 do: what waits does not slow it, the
longest answer in it does, and that grows as the run goes on.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.calibrate import PREDICTOR_TIME, Target
from simsched.cost_model.facts import ARCHITECTURES, GIB, GPUS
from simsched.cost_model.models import LinearCost
from simsched.cost_model.profile import Profile, ProfileFile, Provenance
from simsched.engine.config import ResolvedConfig, engine_config
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.workload.trace import FloatArray, Trace

COLUMNS = ("mean_ttft_ms", "mean_tpot_ms", "mean_latency_per_token_ms")
MIN_RATE = 8.0
DURATION = 60.0  # seconds of arrivals
SPREAD = 0.05  # of a published mean between trials of the same requests: 3 to 7 %
RUNS = 2  # simulated runs that a mean is taken over
SAMPLES = 6  # simulated runs that say how much a mean depends on the requests drawn

# (request, tokens): the longest answer in the reproduction's runs, which begin with the same requests at all
# rates (its sharegpt_r16.csv; the next of 960 has 2,159). What is padded is as wide as it for 6,300 steps.
# Drawn from quantiles, the longest is anything from 2,000 up, at any time.
LONGEST = (170, 6328)

TERMS = ("t0", "h", "a", "per_padded")
# (start, prior's width in the logarithm; inf = no prior)
START: dict[str, tuple[float, float]] = {
    "t0": (0.022, 0.35),  # eager mode's floor on an A100, 20 to 23 ms
    # Python work of the engine, of this order 0.15 ms; HTTP_TOKEN; and a decode's kernels
    "h": (3e-4, 0.5),
    # 53 us by kernel tables of the A100. But in the first 15 s of the engine's log of FCFS at 16 req/s (third
    # trial) 113, 183 and 240 sequences took 0.106, 0.150 and 0.174 s a step, with 1.7, 2.4 and 2.8 new
    # requests of 253 tokens in each: 22 to 26 ms more than with 44 us, so about 40 us a token more
    "a": (8.4e-5, 0.2),
    # as measured: 53 to 55 ns a number by the sampler's own lines, torch 2.13 on one cloud core
    "per_padded": (5.5e-8, math.inf),
}
# What the server does for a token that it streams, paid by the engine, which runs in the same Python process.
# vLLM 0.4.1's loop and models, FastAPI 0.110, uvicorn 0.29: 68 us of processor time at 64 streams, 89 at 256.
HTTP_TOKEN = 8e-5
# On the fork's other paths: their loops around vLLM 0.4.1's own classes, Python 3.11 on one cloud core. With
# 256 decodes and 0 to 3,000 waiting requests they took 1.3 ms more than FCFS and 11 us per waiting request:
# 13 ns for each pair compared in its lists, 1.2 us for each request to sort and look at. With 600, 1,000 and
# 3,800 requests, none waiting (2,700 swapped out), MLFQ's took 6, 10 and 23 ms more: by these 5, 10 and 23.
PER_ORDERED, PER_COMPARED = 1.2e-6, 1.3e-8
# A KV block of 16 tokens is 64 copies of 32 KiB (32 layers, keys and values), about 5 us each.
SECONDS_PER_COPY = 5e-6


# The rows are of Llama-3-8B on one card, which printed 28,117 KV blocks: 80 GB. Another model differs by its
# kernels (linear fits of composed A100 steps: a, b, c, d) and, in eager mode, launches each layer's kernels
# from Python: t0 goes with the layers. So does a call of the predictor, OPT-125M or OPT-350M in eager mode.
MEASURED_ON = ("a100-80gb", "llama-3-8b")
PREDICTOR_LAYERS = {"llama-3-8b": 12, "llama-3-70b": 24}
KERNELS: dict[tuple[str, int], tuple[float, float, float, float]] = {
    ("llama-3-8b", 1): (5.32e-5, 6.42e-5, 8.07e-8, 3.68e-9),
    ("llama-3-70b", 8): (1.13e-4, 8.6e-5, 2.85e-8, 3.92e-9),
}


@dataclass(frozen=True)
class Row:
    """Published means of one FCFS run, in seconds."""

    request_rate: float
    values: tuple[float, ...]


def with_longest(trace: Trace) -> Trace:
    """The requests, one of them with the longest answer that the reproduction's runs have."""
    number, tokens = LONGEST
    outputs = trace.num_output_tokens.copy()
    outputs[number : number + 1] = tokens
    return trace.with_columns(num_output_tokens=outputs)


def read_summary(path: Path) -> list[Row]:
    """The FCFS rows that count.

    Raises:
        InputError: not such a table, or fewer than two rows that count.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot read it as CSV: {error}") from None
    missing = [name for name in ("policy", "request_rate", *COLUMNS) if not table or name not in table[0]]
    if missing:
        raise InputError(f"{path}: expected columns {', '.join(missing)}")
    rows = []
    for line, cells in enumerate(table, start=2):
        if cells["policy"] != "fcfs":
            continue
        try:
            rate, *values = (float(cells[name]) for name in ("request_rate", *COLUMNS))
        except (TypeError, ValueError):
            raise InputError(f"{path}:{line}: expected numbers") from None
        if not all(0 < value < math.inf for value in (rate, *values)):
            raise InputError(f"{path}:{line}: expected numbers above 0")
        if rate >= MIN_RATE:
            rows.append(Row(rate, tuple(value / 1e3 for value in values)))
    if len(rows) < 2:
        raise InputError(f"{path}: expected two rows or more of fcfs at {MIN_RATE:g} req/s up")
    return rows


@dataclass(frozen=True)
class SummaryFit:
    """Coefficients, how far the runs are from the published ones, and what the rows tell of each."""

    cost: LinearCost
    errors: FloatArray
    """Relative error of each mean, shape (rows, 3)."""
    intervals: dict[str, tuple[float, float]]
    """95 % intervals of each coefficient, seconds."""
    told: dict[str, float]
    """Share of a coefficient's certainty that is from the rows, not from its prior."""
    condition: float
    """Condition number of the rows' Jacobian in logarithms: worst-determined direction against the best."""


def fit_fcfs(rows: Sequence[Row], config: ResolvedConfig, seed: int) -> SummaryFit:
    """Least squares over the logarithms of the means and the priors."""
    from scipy.optimize import least_squares

    from simsched.workload.named import named_workload

    workload = named_workload("sharegpt")

    def drawn(count: int) -> list[list[Trace]]:
        return [
            [
                with_longest(
                    workload.generate(round(DURATION * row.request_rate), row.request_rate, seed=seed + run)
                )
                for run in range(count)
            ]
            for row in rows
        ]

    traces = drawn(RUNS)
    published = np.array([row.values for row in rows])
    start = np.log([START[name][0] for name in TERMS])
    widths = np.array([START[name][1] for name in TERMS])

    samples = np.array([[_means([trace], _cost(start), config) for trace in each] for each in drawn(SAMPLES)])
    # near saturation a minute's mean TTFT depends on the minute
    chance = np.log(samples).std(axis=1, ddof=1) * np.sqrt(1 + 1 / RUNS)
    spread = np.hypot(SPREAD, chance)

    def ratios(x: FloatArray) -> FloatArray:
        cost = _cost(x)
        simulated = np.array([_means(each, cost, config) for each in traces])
        logarithms: FloatArray = np.log(simulated / published)
        return logarithms

    def residuals(x: FloatArray) -> FloatArray:
        return np.concatenate([(ratios(x) / spread).ravel(), (x - start) / widths])

    # differences as wide as a step function of arrivals needs to look smooth
    solved = least_squares(residuals, start, diff_step=[0.01] * len(TERMS), x_scale=0.3, max_nfev=12)
    x = np.asarray(solved.x)
    jacobian = np.asarray(solved.jac)
    data, prior = jacobian[: published.size], jacobian[published.size :]
    information = data.T @ data
    covariance = np.linalg.inv(information + prior.T @ prior)
    errors = np.exp(ratios(x)) - 1
    noise = max(1.0, float(np.sqrt(np.mean((np.log1p(errors) / spread) ** 2))))
    half = 1.96 * noise * np.sqrt(np.diag(covariance))
    told = np.diag(covariance @ information)
    return SummaryFit(
        cost=_cost(x),
        errors=errors,
        intervals={
            name: (float(np.exp(value - width)), float(np.exp(value + width)))
            for name, value, width in zip(TERMS, x, half, strict=True)
        },
        told={name: float(share) for name, share in zip(TERMS, told, strict=True)},
        condition=float(np.linalg.cond(data)),
    )


def _cost(x: FloatArray) -> LinearCost:
    values = dict(zip(TERMS, np.exp(x).tolist(), strict=True))
    _, _, c, d = KERNELS[MEASURED_ON[1], 1]
    return LinearCost(**values, b=0.0, c=c, d=d)


def _means(traces: Sequence[Trace], cost: LinearCost, config: ResolvedConfig) -> FloatArray:
    """Mean TTFT, TPOT and latency per token over the runs, in seconds, shape (3,)."""
    from simsched.metrics import summarize
    from simsched.sweep.inputs import Inputs
    from simsched.sweep.run import run

    runs = [summarize(run(Inputs(trace, make_policy("fcfs"), cost, config))) for trace in traces]
    return np.array([np.mean([run[name] for run in runs]) / 1e3 for name in COLUMNS])


def calibrate_from_summary(path: Path, target: Target, *, seed: int = 0, command: str = "") -> ProfileFile:
    """The profile of the fork on this card and model.

    Raises:
        InputError: a table that cannot be used, or no --gpu and --model.
    """
    rows = read_summary(path)
    file = _blank(target)
    _kernels(target)  # known, before the long fit
    gpu, model = GPUS[MEASURED_ON[0]], ARCHITECTURES[MEASURED_ON[1]]
    measured = _blank(Target("rows", gpu, model, reserve_bytes=int(1.5 * GIB)))
    config = engine_config(
        "vllm-0.4.1-ltr", num_gpu_blocks=_blocks(measured), max_model_len=model.max_model_len
    )
    fit = fit_fcfs(rows, config, seed)
    cost = with_stated_terms(_moved(fit.cost, target), fit.cost.t0, target)
    moved = target.model is not model
    weak = [
        name for name in TERMS if fit.told[name] < 0.5 or fit.intervals[name][1] > 4 * fit.intervals[name][0]
    ]
    return file.model_copy(
        update={
            "cost": _rounded(cost),
            "warnings": tuple(_describe(fit, name) for name in weak),
            "provenance": Provenance(
                measured=(
                    "TTFT, TPOT and latency per token of FCFS, ShareGPT at "
                    f"{', '.join(f'{row.request_rate:g}' for row in rows)} req/s, by the authors of "
                    "anshsarkar/vllm-ltr-sched; not by us",
                    "the general path's loops around vLLM 0.4.1's classes (1.2 us a request, 13 ns a pair "
                    "compared), by us, Python 3.11 on a cloud core",
                    f"the longest answer: request {LONGEST[0]}, {LONGEST[1]:,} tokens (sharegpt_r16.csv, "
                    "ibid.)",
                    f"{HTTP_TOKEN * 1e6:g} us a token streamed over HTTP, likewise; part of h",
                ),
                derived=(
                    f"coefficients: {fit_line(fit)}",
                    *(_describe(fit, name) for name in TERMS),
                    f"the rows' Jacobian in logarithms has condition number {fit.condition:.0f}",
                    "c, d: kernels of composed A100 steps",
                    f"a call of the predictor: {PREDICTOR_LAYERS[_name(target)]} of 32 layers' t0",
                    f"swap: {copies_per_token(target):g} copies of 32 KiB a token of KV, out or in",
                    "KV blocks: 0.9 x memory - weights - reserve, over the bytes of a block",
                ),
                assumed=(
                    f"{SECONDS_PER_COPY * 1e6:g} us a copy between GPU and pinned memory",
                    "priors: eager-mode floor of 22 ms a step (35 %), 0.3 ms a sequence (50 %), 84 us a "
                    "prefill token (20 %): 53 by kernel tables, the rest from the FCFS log of a third trial",
                    f"predictor time of {PREDICTOR_TIME * 1e3:g} ms a request: 1.11 % of the mean latency in "
                    "the paper's burst of 2,000",
                    *(["memory of a card with 40 GB, as the paper's"] * (target.gpu is not gpu)),
                    *(["moved from one A100 and Llama-3-8B by kernel times and layers; unchecked"] * moved),
                ),
                sources=("anshsarkar/vllm-ltr-sched, first trial", "hao-ai-lab/vllm-ltr @ 13bbf6f"),
                command=command,
            ),
        }
    )


def _name(target: Target) -> str:
    return next((name for name, model in ARCHITECTURES.items() if model is target.model), "")


def _kernels(target: Target) -> tuple[float, float, float, float]:
    name = _name(target)
    if (name, target.tp) not in KERNELS:
        known = ", ".join(f"{model} with --tp {tp}" for model, tp in KERNELS)
        raise InputError(f"--model {name} with --tp {target.tp}: expected {known}")
    return KERNELS[name, target.tp]


def _moved(cost: LinearCost, target: Target) -> LinearCost:
    """From Llama-3-8B to the target's model, by the difference of their kernels."""
    assert target.model is not None
    base = ARCHITECTURES[MEASURED_ON[1]]
    a, b, c, d = (new - old for new, old in zip(_kernels(target), KERNELS[MEASURED_ON[1], 1], strict=True))
    return replace(
        cost,
        t0=cost.t0 * target.model.layers / base.layers,
        a=cost.a + a,
        h=cost.h + b,
        c=cost.c + c,
        d=cost.d + d,
    )


def copies_per_token(target: Target) -> float:
    """Copies that moving one token's KV takes: every layer's keys and values of a block are one copy."""
    assert target.model is not None
    return 2 * target.model.layers / 16


def with_stated_terms(cost: LinearCost, t0: float, target: Target) -> LinearCost:
    """The cost with what FCFS cannot show; `t0` of Llama-3-8B's 32 layers."""
    return replace(
        cost,
        per_ordered=PER_ORDERED,
        per_compared=PER_COMPARED,
        per_swapped_token=copies_per_token(target) * SECONDS_PER_COPY,
        per_scoring=t0 * PREDICTOR_LAYERS[_name(target)] / ARCHITECTURES[MEASURED_ON[1]].layers,
    )


def fit_line(fit: SummaryFit) -> str:
    """How far the fitted runs are from the published ones."""
    ttft, tpot, latency = np.abs(fit.errors).mean(axis=0)
    return (
        f"fitted to {fit.errors.size} means of FCFS; mean error TTFT {ttft:.1%}, TPOT {tpot:.1%}, "
        f"latency per token {latency:.1%}, worst {np.abs(fit.errors).max():.1%}"
    )


def _describe(fit: SummaryFit, name: str) -> str:
    low, high = fit.intervals[name]
    return f"{name}: 95 % interval {low:.2g} to {high:.2g} s, {fit.told[name]:.0%} of it told by the rows"


def _blank(target: Target) -> ProfileFile:
    if target.gpu is None or target.model is None:
        raise InputError("a profile of the fork needs a card and a model (--gpu and --model)")
    terms = LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0).to_json()
    return target.profile(terms, predictor_time=PREDICTOR_TIME)


def _blocks(file: ProfileFile) -> int:
    blocks = Profile(file.name, b"", LinearCost(t0=1.0, a=0.0, b=0.0, c=0.0, d=0.0), file).num_gpu_blocks(16)
    assert blocks is not None
    return blocks


def _rounded(cost: LinearCost) -> dict[str, Any]:
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in cost.to_json().items()
    }
