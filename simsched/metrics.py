"""Metrics of one run, by the names and definitions of `vllm bench serve`, and the paper's own.

Over the requests that arrive in a window, which is the whole run unless another is given, and of them over
the finished ones; `unfinished` says how many are missing. In all of them

- TTFT = first token − arrival; E2EL = finish − arrival;
- TPOT = (finish − first token) / (output tokens − 1), without one-token outputs;
- ITL = every gap between two tokens of a request (from the run's histogram, bins 0.1 % wide);
- latency per token = E2EL / output tokens;
- max waiting time = the larger of TTFT and the request's longest gap between tokens;
- prefix cache hit rate = prompt tokens found in the cache / looked up, when a request is first admitted;
- slowdown = E2EL / the time that the request takes alone on an idle engine (`simsched.alone`);
- those of several replicas: see `simsched.balance`;
- those of sessions, where requests have any: see `simsched.session_metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simsched.balance import BALANCE_METRICS, balance_values
from simsched.histogram import WeightedHistogram
from simsched.rank_metrics import RANK_METRICS, rank_values
from simsched.record import RunRecord
from simsched.session_metrics import SESSION_METRICS, session_numbers, session_values
from simsched.workload.trace import FloatArray, IntArray

if TYPE_CHECKING:
    import polars as pl

BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]

GOODPUT_METRICS = ("ttft", "tpot", "e2el")

COUNTS = ("num_requests", "completed", "unfinished", "rejected", "total_input_tokens", "total_output_tokens")
THROUGHPUTS = ("request_throughput", "request_goodput", "output_throughput", "total_token_throughput")
_STATISTICS = ("mean", "median", "std", "p90", "p99")
LATENCIES = (
    *(f"{statistic}_{metric}_ms" for metric in ("ttft", "tpot", "itl", "e2el") for statistic in _STATISTICS),
    *(f"{statistic}_latency_per_token_ms" for statistic in ("mean", "p90", "p99")),
    *(f"{statistic}_max_waiting_time_ms" for statistic in ("mean", "p99")),
    "mean_slowdown",
)
WINDOW = ("window_start", "window_end")
METRICS = (
    "duration",
    *COUNTS,
    *THROUGHPUTS,
    *LATENCIES,
    "num_preemptions",
    "prefix_cache_hit_rate",
    "good_share",
    *WINDOW,
)
"""Every metric that all runs have, in the order of summary.csv."""
ALL_METRICS = (*METRICS, *BALANCE_METRICS, *RANK_METRICS, *SESSION_METRICS)
"""And those of several replicas, of ranks and of sessions, which come last."""
GROWTH = ("growth", "growth_low", "growth_high")
"""How fast the backlog grows behind the warm-up, in requests/s, and its 95 % interval (`simsched.steady`)."""
SUMMARY = (*METRICS, "steady", *GROWTH, "host_bound_share")
"""The columns of summary.csv behind the options."""


@dataclass(frozen=True)
class Requests:
    """What metrics are computed from: n requests, simulated, real or read back from requests.parquet.

    Times in seconds on the run's clock; NaN = never.
    """

    arrival: FloatArray
    first_token: FloatArray
    finish: FloatArray
    num_prompt_tokens: IntArray
    num_output_tokens: IntArray
    num_preemptions: IntArray
    max_itl: FloatArray
    slowdown: FloatArray
    rejected: BoolArray
    """Refused by the server; of the unfinished ones."""
    num_cached_tokens: FloatArray | None = None
    """Of each prompt, found in the prefix cache; NaN where not known. None: of none."""
    replica: IntArray | None = None
    """The number of the replica that served it; -1: none did. None: there are no replicas."""
    session: IntArray | None = None
    """The number of each one's session; -1: it is of none. None: there are no sessions."""
    session_alone: FloatArray | None = None
    """Seconds that the session takes alone on an idle engine; NaN or None: not known."""

    @classmethod
    def of_record(
        cls, record: RunRecord, alone: FloatArray | None = None, session_alone: FloatArray | None = None
    ) -> Requests:
        """The requests of a run; `alone` and `session_alone`: (n,) seconds that each and its session take
        alone (`simsched.alone`)."""
        slowdown = np.full(len(record.trace), np.nan)
        if alone is not None:
            slowdown = (record.finish_time - record.arrival_time) / alone
        return cls(
            record.arrival_time, record.first_token_time, record.finish_time,
            record.trace.num_prompt_tokens, record.trace.num_output_tokens,
            record.num_preemptions, record.max_itl, slowdown, record.refused, record.cached_tokens,
            record.replica, session_numbers(record.trace.session_id), session_alone,
        )  # fmt: skip

    @classmethod
    def of_table(cls, table: pl.DataFrame) -> Requests:
        """The requests in a table with the columns of requests.parquet."""

        def times(name: str) -> FloatArray:
            return table[name].cast(float).fill_null(math.nan).to_numpy()

        def counts(name: str) -> IntArray:
            return table[name].cast(int).fill_null(0).to_numpy()

        refused = np.zeros(len(table), dtype=np.bool_)
        if "rejected" in table.columns:
            refused = table["rejected"].fill_null(False).to_numpy()
        return cls(
            times("arrival_time"), times("first_token_time"), times("finish_time"),
            counts("num_prompt_tokens"), counts("num_output_tokens"), counts("num_preemptions"),
            times("max_itl"), times("slowdown"), refused,
            times("num_cached_tokens") if "num_cached_tokens" in table.columns else None,
            table["replica"].fill_null(-1).cast(int).to_numpy() if "replica" in table.columns else None,
            session_numbers(table["session_id"].to_list() if "session_id" in table.columns else None),
            times("session_alone") if "session_alone" in table.columns else None,
        )  # fmt: skip

    def take(self, rows: NDArray[np.intp]) -> Requests:
        """The requests at these indices."""
        taken: dict[str, Any] = {}
        for each in fields(self):
            column = getattr(self, each.name)
            taken[each.name] = None if column is None else column[rows]
        return Requests(**taken)

    def accepted(self) -> Requests:
        """Without those that were refused."""
        return self.take(np.flatnonzero(~self.rejected)) if self.rejected.any() else self

    @property
    def finished(self) -> BoolArray:
        return np.isfinite(self.finish)

    def whole(self) -> tuple[float, float]:
        """From the first arrival to the last finish; NaN at the end if nothing is finished."""
        done = self.finished
        end = float(self.finish[done].max()) if done.any() else math.nan
        return float(self.arrival.min()) if len(self.arrival) else math.nan, end

    def good(self, goodput: Mapping[str, float]) -> BoolArray:
        """(n,) which requests are finished and within these milliseconds, e.g. `{"ttft": 200, "tpot": 50}`.

        A one-token output counts as TPOT 0, as in vLLM.
        """
        gaps = np.maximum(self.num_output_tokens - 1, 1)
        took = {
            "ttft": self.first_token - self.arrival,
            "tpot": np.where(self.num_output_tokens > 1, (self.finish - self.first_token) / gaps, 0.0),
            "e2el": self.finish - self.arrival,
        }
        good = self.finished
        for metric, most in goodput.items():
            good &= took[metric] * 1e3 <= most
        return good


def itl_statistics(itl: WeightedHistogram) -> dict[str, float]:
    """The metrics of gaps between tokens, in milliseconds; NaN without any."""
    values = {
        "mean": itl.mean,
        "median": itl.percentile(50),
        "std": itl.std,
        "p90": itl.percentile(90),
        "p99": itl.percentile(99),
    }
    return {f"{statistic}_itl_ms": value * 1e3 for statistic, value in values.items()}


def summarize(
    record: RunRecord,
    *,
    goodput: Mapping[str, float] | None = None,
    alone: FloatArray | None = None,
    session_alone: FloatArray | None = None,
) -> dict[str, float]:
    """The metrics of a whole run: `METRICS` -> value, and `SESSION_METRICS` where there are sessions,
    `RANK_METRICS` where ranks step together; NaN where undefined.

    Args:
        record: what the run left behind (n requests).
        goodput: most milliseconds that a good request may take, e.g. `{"ttft": 200, "tpot": 50}`. None:
            `request_goodput` and `good_share` are NaN.
        alone: (n,) seconds that each request takes alone (`simsched.alone`). None: `mean_slowdown` is NaN.
        session_alone: (n,) seconds that its session takes alone. None: the slowdowns of sessions are NaN.
    """
    requests = Requests.of_record(record, alone, session_alone)
    found = measure(requests, itl=itl_statistics(record.itl), goodput=goodput)
    return found | rank_values(record.rank_times)


def measure(
    requests: Requests,
    *,
    itl: Mapping[str, float] | None = None,
    goodput: Mapping[str, float] | None = None,
    window: tuple[float, float] | None = None,
) -> dict[str, float]:
    """The metrics of the requests that arrive in a window: `METRICS` -> value, and where there are sessions
    `SESSION_METRICS`, of those that start in it; NaN where undefined.

    Args:
        requests: all requests of the run.
        itl: metrics of the gaps between tokens (`itl_statistics`), which requests don't hold; None: NaN.
        goodput: see `summarize`.
        window: its start and end on the run's clock; None: the whole run, from the first arrival to the last
            finish.

    Throughputs count what is finished in the window, per second of it: a system that keeps up serves what
    it is offered.
    """
    start, end = window or requests.whole()
    duration = end - start
    inside = (requests.arrival >= start) & ~(requests.arrival > end)
    served = requests.finished & (requests.finish >= start) & (requests.finish <= end)
    done = inside & requests.finished
    arrival, first = requests.arrival[done], requests.first_token[done]
    finish, outputs = requests.finish[done], requests.num_output_tokens[done]
    ttft, e2el = first - arrival, finish - arrival
    several = outputs > 1
    tpot = (finish - first)[several] / (outputs[several] - 1)
    waiting = np.fmax(ttft, requests.max_itl[done])  # fmax: one-token outputs have no gap
    slowdown = requests.slowdown[done]

    def rate(amount: float) -> float:
        return amount / duration if duration > 0 else math.nan

    num_inputs = int(requests.num_prompt_tokens[served].sum())
    num_outputs = int(requests.num_output_tokens[served].sum())
    values: dict[str, float] = {
        "duration": duration,
        "num_requests": int(inside.sum()),
        "completed": int(done.sum()),
        "unfinished": int((inside & ~done).sum()),
        "rejected": int((inside & requests.rejected).sum()),
        "total_input_tokens": int(requests.num_prompt_tokens[done].sum()),
        "total_output_tokens": int(outputs.sum()),
        "request_throughput": rate(int(served.sum())),
        "request_goodput": math.nan,
        "output_throughput": rate(num_outputs),
        "total_token_throughput": rate(num_inputs + num_outputs),
        "good_share": math.nan,
    }
    if goodput is not None:
        good = requests.good(goodput)
        values["request_goodput"] = rate(int((good & served).sum()))
        if inside.any():
            values["good_share"] = int((good & inside).sum()) / int(inside.sum())
    for metric, seconds in (("ttft", ttft), ("tpot", tpot), ("e2el", e2el)):
        for statistic in _STATISTICS:
            values[f"{statistic}_{metric}_ms"] = _statistic(statistic, seconds) * 1e3
    for statistic in _STATISTICS:
        name = f"{statistic}_itl_ms"
        values[name] = math.nan if itl is None else itl[name]
    for statistic in ("mean", "p90", "p99"):
        values[f"{statistic}_latency_per_token_ms"] = _statistic(statistic, e2el / outputs) * 1e3
    for statistic in ("mean", "p99"):
        values[f"{statistic}_max_waiting_time_ms"] = _statistic(statistic, waiting) * 1e3
    values["mean_slowdown"] = _statistic("mean", slowdown)
    values["num_preemptions"] = int(requests.num_preemptions[inside].sum())
    values["prefix_cache_hit_rate"] = _hit_rate(requests, inside)
    values |= {"window_start": start, "window_end": end}
    found = {name: values[name] for name in METRICS}
    if requests.replica is not None and int(requests.replica.max(initial=-1)) > 0:
        found |= balance_values(
            requests.replica, requests.arrival, requests.finish,
            requests.num_prompt_tokens + requests.num_output_tokens, (start, end),
        )  # fmt: skip
    if requests.session is not None:
        found |= session_values(
            requests.session, requests.arrival, requests.finish, requests.session_alone, (start, end)
        )
    return found


def _hit_rate(requests: Requests, inside: BoolArray) -> float:
    """Tokens found over tokens looked up, as vLLM counts them: of requests when they are first admitted."""
    if requests.num_cached_tokens is None:
        return math.nan
    known = inside & ~np.isnan(requests.num_cached_tokens)
    looked_up = int(requests.num_prompt_tokens[known].sum())
    return float(requests.num_cached_tokens[known].sum()) / looked_up if looked_up else math.nan


def _statistic(name: str, values: FloatArray) -> float:
    if not len(values):
        return math.nan
    if name == "mean":
        return float(values.mean())
    if name == "std":
        return float(values.std())
    return float(np.percentile(values, {"median": 50, "p90": 90, "p99": 99}[name]))


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
