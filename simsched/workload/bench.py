"""Result files of serving benchmarks: vLLM, SGLang, aiperf, GuideLLM, inference-perf.

`read_bench` gives the runs of a file with what each request was and what was measured of it. `read_runs`
makes a trace of one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.text.table import counted
from simsched.workload.rows import AT_ONCE, Loaded, Reading, Rows, build_trace, from_zero
from simsched.workload.units import in_seconds

TOOLS = ("vllm-bench", "sglang-bench", "aiperf", "guidellm", "inference-perf")


@dataclass
class BenchRun:
    """One run of a benchmark: raw columns of equal length, one entry a request; None = not given."""

    label: str
    """Which run it is, in words."""
    places: list[int] = field(default_factory=list)
    """Line or number of each request in its file."""
    unit: str = "request"
    request_id: list[Any] = field(default_factory=list)
    start_time: list[Any] = field(default_factory=list)
    """Seconds on the benchmark's clock."""
    input_length: list[Any] = field(default_factory=list)
    output_length: list[Any] = field(default_factory=list)
    session_id: list[Any] = field(default_factory=list)
    ttft: list[Any] = field(default_factory=list)
    """Seconds from start to first token."""
    itl: list[Any] = field(default_factory=list)
    """Gaps between tokens in seconds, a list of them; or their mean where no more is known."""
    e2el: list[Any] = field(default_factory=list)
    """Seconds from start to last token."""
    failed: list[bool] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Requests that the file itself keeps apart, by reason."""
    meta: dict[str, Any] = field(default_factory=dict)
    """What the file says of the run as a whole."""

    def __len__(self) -> int:
        return len(self.input_length)

    def add(self, place: int, **values: Any) -> None:
        """One more request; what is not named is not given."""
        self.places.append(place)
        self.failed.append(bool(values.pop("failed", False)))
        for name in _MEASURED:
            getattr(self, name).append(values.get(name))


_MEASURED = (
    *("request_id", "start_time", "input_length", "output_length", "session_id"),
    *("ttft", "itl", "e2el"),
)


def bench_tool(value: Any) -> str | None:
    """Which benchmark wrote this JSON value (a document, or the first line of JSON Lines); None: none."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "inference-perf" if {"start_time", "end_time", "info"} <= value[0].keys() else None
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("metrics"), dict) and isinstance(value.get("metadata"), dict):
        return "aiperf"
    if isinstance(value.get("benchmarks"), list):
        return "guidellm"
    if "input_lens" in value or {"request_throughput", "total_input_tokens"} <= value.keys():
        sglang = {"accept_length", "sharegpt_output_len", "random_input_len"} & value.keys()
        return "sglang-bench" if sglang else "vllm-bench"
    return None


def read_bench(path: Path, values: Sequence[tuple[Any, int]], tool: str) -> list[BenchRun]:
    """The runs of a benchmark's result file.

    Args:
        path: the file, for messages.
        values: its JSON values, each with the line on which it starts.
        tool: one of `TOOLS`.

    Raises:
        InputError: not the shape of that tool's files, or a result without its requests.
    """
    if tool == "aiperf":
        return [_aiperf(path, values)]
    if tool == "inference-perf":
        return [run for value, _ in values for run in _inference_perf(path, value)]
    if tool == "guidellm":
        return [run for value, _ in values for run in _guidellm(path, value)]
    return [_vllm(path, value, line, len(values)) for value, line in values]


def choose_run(path: Path, runs: Sequence[BenchRun], run: int | None, tool: str) -> BenchRun:
    """The run that is asked for, or the only one.

    Raises:
        InputError: there are several and none was chosen, or there is no such run.
    """
    if not runs:
        raise InputError(f"{path}: expected a run of a benchmark, found none")
    if run is None and len(runs) == 1:
        return runs[0]
    shown = "; ".join(f"{at}: {each.label}" for at, each in enumerate(runs[:6], start=1))
    if run is None:
        raise InputError(
            f"{path}: {len(runs)} benchmark runs in one file ({shown}); choose one with --format "
            f"'{tool}(run=1)'"
        )
    if not 1 <= run <= len(runs):
        raise InputError(f"--format {tool}(run={run}): {path} has {counted(len(runs), 'run')} ({shown})")
    return runs[run - 1]


def read_runs(path: Path, values: Sequence[tuple[Any, int]], tool: str, reading: Reading) -> Loaded:
    """The requests of one run as a trace, counted from the first start; without start times all at 0.

    Raises:
        InputError: see `read_bench` and `choose_run`; a request that failed, or can't be used otherwise.
    """
    runs = read_bench(path, values, tool)
    run = choose_run(path, runs, reading.run, tool)
    dropped = Counter({f"dropped: {reason}": count for reason, count in run.left_out.items()})
    kept = [row for row, failed in enumerate(run.failed) if not failed]
    if len(kept) < len(run):
        if not reading.skip_invalid:
            row = run.failed.index(True)
            place = (
                f"{path}:{run.places[row]}" if run.unit == "line" else f"{path}, request {run.places[row]}"
            )
            raise InputError(
                f"{place}: a request that failed, so its output length is not known; --skip-invalid drops "
                "such requests"
            )
        dropped["dropped: failed"] += len(run) - len(kept)
    columns = {
        "timestamp": [run.start_time[row] for row in kept],
        "input_length": [run.input_length[row] for row in kept],
        "output_length": [run.output_length[row] for row in kept],
    }
    timed = any(time is not None for time in columns["timestamp"])
    if not timed:
        columns["timestamp"] = [0.0] * len(kept)
    if all(run.request_id[row] is not None for row in kept):
        columns["request_id"] = [run.request_id[row] for row in kept]
    sessions = [run.session_id[row] for row in kept]
    if len(set(sessions)) < len(sessions):  # one of its own for each says nothing
        columns["session_id"] = sessions
    said = "start times in seconds" if timed else f"no start_times: {AT_ONCE}"
    of = f", {run.label}" if len(runs) > 1 else ""
    notes = (f"{path.name}: read as {tool}{of}: {said}",)
    lines = [run.places[row] for row in kept]
    rows = Rows(path, columns, lines, unit=run.unit, dropped=dropped, notes=notes)
    return from_zero(build_trace(rows, skip_invalid=reading.skip_invalid, sort=True, unknown_parents=True))


def _vllm(path: Path, value: Any, line: int, runs: int) -> BenchRun:
    """A result of `vllm bench serve --save-detailed`, or of SGLang's with `--output-details`."""
    here = f"{path}:{line}" if runs > 1 else str(path)
    if not isinstance(value, dict):
        raise InputError(f"{here}: expected the result of a benchmark, a JSON object")
    lists: dict[str, list[Any]] = {}
    for name in ("input_lens", "output_lens"):
        found = value.get(name)
        if not isinstance(found, list):
            raise InputError(
                f"{here}: a benchmark's result without each request's lengths; expected {name}, a list: "
                "`vllm bench serve --save-detailed` and SGLang's --output-details write it"
            )
        lists[name] = found
    n = len(lists["input_lens"])
    for name in ("start_times", "ttfts", "itls", "e2els", "errors"):
        found = value.get(name) or [None] * n
        lists[name] = found if isinstance(found, list) else []
    for name, found in lists.items():
        if len(found) != n:
            raise InputError(
                f"{here}: expected {name} to be as long as input_lens, with an entry for each of "
                f"{counted(n, 'request')}; it has {len(found):,}"
            )
    meta = {name: given for name, given in value.items() if not isinstance(given, list | dict)}
    rate = meta.get("request_rate")
    run = BenchRun(f"request_rate {rate}" if rate is not None else f"line {line}", meta=meta)
    for row in range(n):
        run.add(
            row + 1,
            start_time=lists["start_times"][row],
            input_length=lists["input_lens"][row],
            output_length=lists["output_lens"][row],
            ttft=lists["ttfts"][row],
            itl=lists["itls"][row],
            e2el=lists["e2els"][row],
            failed=lists["errors"][row],
        )
    return run


def _value(metrics: dict[str, Any], name: str) -> Any:
    """A metric of aiperf in tokens or seconds."""
    given = metrics.get(name)
    if not isinstance(given, dict):
        return given
    value: Any = given.get("value")
    unit = given.get("unit")
    per = {"ms": 1e3, "us": 1e6, "ns": 1e9}.get(str(unit))
    if per is None:
        return value
    if isinstance(value, list):
        return [each / per for each in value]
    return value / per if type(value) in (int, float) else value


def _aiperf(path: Path, values: Sequence[tuple[Any, int]]) -> BenchRun:
    """Per-request records of aiperf (profile_export.jsonl); warm-up requests are left out."""
    run = BenchRun("all records", unit="line")
    for value, line in values:
        if bench_tool(value) != "aiperf":
            raise InputError(f"{path}:{line}: expected a record of aiperf, with metadata and metrics")
        about, metrics = value["metadata"], value["metrics"]
        if about.get("benchmark_phase") == "warmup":
            run.left_out["of the warm-up"] += 1
            continue
        run.add(
            line,
            request_id=about.get("x_request_id"),
            session_id=about.get("conversation_id"),
            start_time=about.get("request_start_ns"),
            input_length=_value(metrics, "input_sequence_length"),
            output_length=_value(metrics, "output_sequence_length"),
            ttft=_value(metrics, "time_to_first_token"),
            itl=_value(metrics, "inter_token_latency"),
            e2el=_aiperf_latency(about, metrics),
            failed=value.get("error") is not None or about.get("was_cancelled"),
        )
    run.start_time = in_seconds(run.start_time, "ns")
    return run


def _aiperf_latency(about: dict[str, Any], metrics: dict[str, Any]) -> Any:
    """Seconds to the last token; of a record without that metric, to the end of the request."""
    start, end = about.get("request_start_ns"), about.get("request_end_ns")
    if "request_latency" in metrics or type(start) is not int or type(end) is not int:
        return _value(metrics, "request_latency")
    return (end - start) / 1e9


def _guidellm(path: Path, document: Any) -> list[BenchRun]:
    """The benchmarks of a GuideLLM report; only requests that were completed."""
    benchmarks = document.get("benchmarks") if isinstance(document, dict) else None
    if not isinstance(benchmarks, list):
        raise InputError(f"{path}: expected the report of GuideLLM, with a list of benchmarks")
    runs = []
    for number, benchmark in enumerate(benchmarks, start=1):
        requests = benchmark.get("requests") if isinstance(benchmark, dict) else None
        if isinstance(requests, list):
            requests = {"successful": requests}
        if not isinstance(requests, dict) or not isinstance(requests.get("successful"), list):
            raise InputError(
                f"{path}, benchmark {number}: expected its requests, in requests.successful; GuideLLM writes "
                "them with --outputs json"
            )
        run = BenchRun(f"benchmark {number}")
        for name in ("incomplete", "errored"):
            if others := requests.get(name):
                run.left_out[name] += len(others)
        for place, request in enumerate(requests["successful"], start=1):
            if not isinstance(request, dict):
                raise InputError(f"{path}, benchmark {number}, request {place}: expected a JSON object")
            run.add(
                place,
                request_id=request.get("request_id"),
                start_time=_guidellm_start(request),
                input_length=request.get("prompt_tokens"),
                output_length=request.get("output_tokens"),
                ttft=_milliseconds(request.get("time_to_first_token_ms")),
                itl=_milliseconds(request.get("inter_token_latency_ms")),
                e2el=request.get("request_latency"),
            )
        runs.append(run)
    return runs


def _guidellm_start(request: dict[str, Any]) -> Any:
    for name in ("request_start_time", "start_time"):
        if request.get(name) is not None:
            return request[name]
    info = request.get("info") or request.get("scheduler_info")
    timings = info.get("timings", info.get("request_timings")) if isinstance(info, dict) else None
    return timings.get("request_start") if isinstance(timings, dict) else None


def _milliseconds(value: Any) -> Any:
    return value / 1e3 if type(value) in (int, float) else value


def _inference_perf(path: Path, document: Any) -> list[BenchRun]:
    """`per_request_lifecycle_metrics.json` of inference-perf: a run for each stage."""
    if not isinstance(document, list):
        raise InputError(f"{path}: expected a list of requests, as inference-perf writes it")
    runs: dict[Any, BenchRun] = {}
    for place, request in enumerate(document, start=1):
        info = request.get("info") if isinstance(request, dict) else None
        if not isinstance(info, dict):
            raise InputError(f"{path}, request {place}: expected a request of inference-perf, with its info")
        response = info.get("response_metrics")
        response = response if isinstance(response, dict) else info
        start, times = request.get("start_time"), response.get("output_token_times") or []
        stage = request.get("stage_id")
        run = runs.setdefault(stage, BenchRun(f"stage {stage}"))
        known = isinstance(times, list) and all(type(time) in (int, float) for time in [start, *times])
        end = request.get("end_time")
        run.add(
            place,
            session_id=request.get("session_id"),
            start_time=start,
            input_length=info.get("input_tokens"),
            output_length=response.get("output_tokens"),
            ttft=times[0] - start if known and times else None,
            itl=[late - soon for soon, late in pairwise(times)] if known and times else None,
            e2el=end - start if type(end) in (int, float) and type(start) in (int, float) else None,
            failed=request.get("error") is not None,
        )
    return list(runs.values())
