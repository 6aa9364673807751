"""Metrics of one run, by the names and definitions of `vllm bench serve`, and the paper's own.

Over finished requests only; `unfinished` says how many are missing. In all of them

- TTFT = first token − arrival; E2EL = finish − arrival;
- TPOT = (finish − first token) / (output tokens − 1), without one-token outputs;
- ITL = every gap between two tokens of a request (from the run's histogram, bins 0.1 % wide);
- latency per token = E2EL / output tokens;
- max waiting time = the larger of TTFT and the request's longest gap between tokens;
- slowdown = E2EL / the time that the request takes alone on an idle engine (`alone_time`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.config import EngineConfig
from simsched.record import RunRecord
from simsched.workload.trace import FloatArray, Trace

if TYPE_CHECKING:
    import polars as pl

GOODPUT_METRICS = ("ttft", "tpot", "e2el")

COUNTS = ("num_requests", "completed", "unfinished", "total_input_tokens", "total_output_tokens")
THROUGHPUTS = ("request_throughput", "request_goodput", "output_throughput", "total_token_throughput")
_STATISTICS = ("mean", "median", "std", "p90", "p99")
LATENCIES = (
    *(f"{statistic}_{metric}_ms" for metric in ("ttft", "tpot", "itl", "e2el") for statistic in _STATISTICS),
    *(f"{statistic}_latency_per_token_ms" for statistic in ("mean", "p90", "p99")),
    *(f"{statistic}_max_waiting_time_ms" for statistic in ("mean", "p99")),
    "mean_slowdown",
)
METRICS = ("duration", *COUNTS, *THROUGHPUTS, *LATENCIES, "num_preemptions")
"""Every metric of `summarize`, in the order of summary.csv."""
REQUEST_NUMBERS = (
    "arrival_time", "num_prompt_tokens", "num_output_tokens", "first_scheduled_time", "first_token_time",
    "finish_time", "num_preemptions", "max_itl", "slowdown",
)  # fmt: skip
"""The columns of requests.parquet after `request_id`."""


def summarize(
    record: RunRecord, *, goodput: Mapping[str, float] | None = None, alone: FloatArray | None = None
) -> dict[str, float]:
    """The metrics of a run: `METRICS` -> value; NaN where undefined.

    Args:
        record: what the run left behind (n requests).
        goodput: most milliseconds that a good request may take, e.g. `{"ttft": 200, "tpot": 50}`. A
            one-token output counts as TPOT 0, as in vLLM. None: `request_goodput` is NaN.
        alone: (n,) seconds that each request takes alone (`alone_time`). None: `mean_slowdown` is NaN.

    Throughputs are per second of `duration`, which lasts from the first arrival to the last finish.
    """
    done = record.finished
    trace = record.trace
    arrival, finish = record.arrival_time[done], record.finish_time[done]
    first = record.first_token_time[done]
    outputs = trace.num_output_tokens[done]
    duration = float(finish.max() - record.arrival_time.min()) if len(finish) else math.nan
    ttft, e2el = first - arrival, finish - arrival
    several = outputs > 1
    tpot = (finish - first)[several] / (outputs[several] - 1)
    waiting = np.fmax(ttft, record.max_itl[done])  # fmax: one-token outputs have no gap
    num_inputs, num_outputs = int(trace.num_prompt_tokens[done].sum()), int(outputs.sum())

    def rate(amount: float) -> float:
        return amount / duration if duration > 0 else math.nan

    values: dict[str, float] = {
        "duration": duration,
        "num_requests": len(trace),
        "completed": int(done.sum()),
        "unfinished": int((~done).sum()),
        "total_input_tokens": num_inputs,
        "total_output_tokens": num_outputs,
        "request_throughput": rate(len(finish)),
        "request_goodput": math.nan,
        "output_throughput": rate(num_outputs),
        "total_token_throughput": rate(num_inputs + num_outputs),
    }
    if goodput is not None:
        tpot_or_zero = np.zeros(len(ttft))
        tpot_or_zero[several] = tpot
        took = {"ttft": ttft, "tpot": tpot_or_zero, "e2el": e2el}
        good = np.ones(len(ttft), dtype=bool)
        for metric, most in goodput.items():
            good &= took[metric] * 1e3 <= most
        values["request_goodput"] = rate(int(good.sum()))
    for metric, seconds in (("ttft", ttft), ("tpot", tpot), ("e2el", e2el)):
        for statistic in _STATISTICS:
            values[f"{statistic}_{metric}_ms"] = _statistic(statistic, seconds) * 1e3
    itl = record.itl
    for statistic, value in (
        ("mean", itl.mean),
        ("median", itl.percentile(50)),
        ("std", itl.std),
        ("p90", itl.percentile(90)),
        ("p99", itl.percentile(99)),
    ):
        values[f"{statistic}_itl_ms"] = value * 1e3
    for statistic in ("mean", "p90", "p99"):
        values[f"{statistic}_latency_per_token_ms"] = _statistic(statistic, e2el / outputs) * 1e3
    for statistic in ("mean", "p99"):
        values[f"{statistic}_max_waiting_time_ms"] = _statistic(statistic, waiting) * 1e3
    values["mean_slowdown"] = math.nan if alone is None else _statistic("mean", e2el / alone[done])
    values["num_preemptions"] = int(record.num_preemptions.sum())
    return {name: values[name] for name in METRICS}


def _statistic(name: str, values: FloatArray) -> float:
    if not len(values):
        return math.nan
    if name == "mean":
        return float(values.mean())
    if name == "std":
        return float(values.std())
    return float(np.percentile(values, {"median": 50, "p90": 90, "p99": 99}[name]))


def request_table(record: RunRecord, *, alone: FloatArray | None = None) -> pl.DataFrame:
    """One row a request, in the order of the trace, with the columns of requests.parquet.

    Times are seconds on the run's clock, null where they never came. `slowdown` (last) is null without
    `alone` ((n,) seconds) and for unfinished requests.
    """
    import polars as pl

    trace = record.trace
    if trace.request_id is None:
        request_id = pl.int_range(len(trace), eager=True).cast(pl.String)
    else:
        request_id = pl.Series(list(trace.request_id), dtype=pl.String)
    done = record.finished
    slowdown = np.full(len(trace), np.nan)
    if alone is not None:
        slowdown[done] = (record.finish_time - record.arrival_time)[done] / alone[done]
    columns = {
        "request_id": request_id,
        "arrival_time": record.arrival_time,
        "num_prompt_tokens": trace.num_prompt_tokens,
        "num_output_tokens": trace.num_output_tokens,
        "first_scheduled_time": record.first_scheduled_time,
        "first_token_time": record.first_token_time,
        "finish_time": record.finish_time,
        "num_preemptions": record.num_preemptions,
        "max_itl": record.max_itl,
        "slowdown": slowdown,
    }
    never = ("first_scheduled_time", "first_token_time", "finish_time", "max_itl", "slowdown")
    return pl.DataFrame(columns).with_columns(pl.col(never).fill_nan(None))


def alone_time(trace: Trace, cost: CostModel, config: EngineConfig) -> FloatArray:
    """(n,) seconds each request would take alone on an idle engine: prefill by chunks, then decodes.

    Closed form, exact for the cost model (a request alone is never preempted or capped by the long-prefill
    threshold). Without prefix hits and predictor time, so that all policies share one denominator.
    """
    budget = config.max_num_batched_tokens
    full_chunks = [0.0]  # seconds for the first k chunks of `budget` tokens

    def prefill(tokens: int) -> float:
        whole, rest = divmod(tokens, budget)
        while len(full_chunks) <= whole:
            prior = budget * (len(full_chunks) - 1)
            chunk = StepFeatures(P=budget, S=1, Q=budget * (prior + budget / 2))
            full_chunks.append(full_chunks[-1] + cost.step_time(chunk))
        if not rest:
            return full_chunks[whole]
        return full_chunks[whole] + cost.step_time(
            StepFeatures(P=rest, S=1, Q=rest * (whole * budget + rest / 2))
        )

    prompts, place = np.unique(trace.num_prompt_tokens, return_inverse=True)
    prefills = np.array([prefill(int(tokens)) for tokens in prompts])
    base, slope = cost.decode_line(1, 0)
    decodes = trace.num_output_tokens - 1.0
    # decode j (1, 2, ...) attends to prompt + j tokens
    context = decodes * trace.num_prompt_tokens + decodes * (decodes + 1) / 2
    seconds: FloatArray = prefills[place] + base * decodes + slope * context
    return seconds


def parse_goodput(text: str) -> dict[str, float]:
    """`ttft:200,tpot:50` -> {"ttft": 200.0, "tpot": 50.0} (milliseconds).

    Raises:
        ValueError: an unknown metric, a repeated one, or a value that is not positive.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        metric, _, value = part.strip().partition(":")
        if metric not in GOODPUT_METRICS or metric in limits:
            raise ValueError(f"expected METRIC:MS of {', '.join(GOODPUT_METRICS)}, each once")
        try:
            limits[metric] = float(value)
        except ValueError:
            limits[metric] = math.nan
        if not 0 < limits[metric] < math.inf:
            raise ValueError(f"{part.strip()}: expected a positive number of milliseconds")
    return limits


def beyond_fit(record: RunRecord, max_decodes: float) -> float:
    """Share of a run's steps with clearly more decodes than a cost profile's fit has seen."""
    if math.isinf(max_decodes):
        return 0.0
    seen = max(1, int(1.05 * max_decodes))
    return float(record.decode_steps[seen + 1 :].sum()) / max(1, record.num_steps)
