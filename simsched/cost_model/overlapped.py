"""Read step logs of an asynchronous GPU engine: what was in each batch, and when its update came.

Newer logs have raw stamps of every call (`simsched.vllm.step_log`); older ones have `time`, the schedule call
clamped to the last update, and `end`, the update. Both say when the engine was idle before a step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.fit import FloatArray, Steps
from simsched.cost_model.host import Capture, Graphs, LaunchMode
from simsched.cost_model.step_log import FEATURES, log_files, read_lines
from simsched.errors import InputError

BoolArray = NDArray[np.bool_]

FACTS = "replay.json"
MODES = ("FULL_AND_PIECEWISE", "PIECEWISE", "NONE")
WAITED = 5e-4  # seconds: an engine that waits so long for a step waits for the device
SAME = 1e-6  # seconds: a step that starts so soon after an update was not preceded by an idle time


@dataclass(frozen=True)
class OverlappedSteps:
    """Steps of asynchronous runs, in the order of their logs; a row each."""

    batch: Steps
    """Features and, as `time`, seconds from the update before (after idle: from the schedule call)."""
    tokens: FloatArray
    """P + N, padded to the size of a CUDA graph."""
    mode: NDArray[np.int64]
    """`LaunchMode`."""
    run: NDArray[np.int64]
    """Number of the log, from 0."""
    begin: FloatArray
    """When the interval begins, in seconds on the run's clock."""
    after_idle: BoolArray
    """Did the step start on an idle engine?"""
    judged: BoolArray
    """Is the interval known to be a step's? The last of a run may be cut."""
    launch: FloatArray
    """Seconds from the update before last to the end of the launch, as stamped; NaN where it is not."""
    output: FloatArray
    """Seconds from the update to the next schedule call, as stamped; NaN where it is not."""
    gpu: FloatArray
    """Seconds from the first to the last kernel by CUDA events, where the device did not wait; NaN else."""
    copied: FloatArray
    """Seconds from the last kernel by CUDA events to the update, where the engine waited for it; NaN else."""

    def __len__(self) -> int:
        return len(self.run)

    @property
    def num_runs(self) -> int:
        return int(self.run.max()) + 1

    def of_run(self, run: int) -> OverlappedSteps:
        """The steps of one log, as its run 0."""
        rows = self.run == run
        taken = {each.name: getattr(self, each.name)[rows] for each in fields(self) if each.name != "batch"}
        return OverlappedSteps(batch=self.batch.select(rows), **{**taken, "run": taken["run"] * 0})

    def followed_by(self) -> NDArray[np.int64]:
        """The launch mode of the batch that is launched within the interval; -1 where none is."""
        following = np.append(self.mode[1:], -1)
        return np.where(np.append(self.after_idle[1:], True), -1, following)


def is_overlapped(path: Path) -> bool:
    """Do these logs tell of an asynchronous engine on a GPU? Of a directory, by the first of its logs."""
    file = log_files(path)[0]
    facts = _beside(file, FACTS)
    if facts.get("device") == "cpu":
        return False
    lines = [line for _, line in zip(range(200), read_lines(file), strict=False)]
    if not all("end" in line and all(name in line for name in FEATURES) for line in lines):
        return False
    # a step is formed before the last one's update; older logs put its start at that update, exactly
    early = sum(line["time"] <= before["end"] for before, line in pairwise(lines))
    return bool(early > 0.2 * len(lines))


def measured_on(path: Path) -> str:
    """The machine and vLLM of these logs, by the `replay.json` beside them; empty where there is none."""
    facts = _beside(log_files(path)[0], FACTS)
    machine = facts.get("machine", {})
    parts = [
        machine.get("gpu"),
        machine.get("processor") and f"{machine['processor']}, {machine.get('cores')} cores",
        facts.get("vllm_version") and f"vLLM {facts['vllm_version']}",
        {"offline": "in process", "http": "vllm serve"}.get(facts.get("engine", "")),
    ]
    return "; ".join(part for part in parts if part)


def captured(paths: Sequence[Path]) -> Graphs:
    """The CUDA graphs that the engine of these logs had captured, by the `replay.json` beside them; the
    default engine's where there is none.

    Raises:
        InputError: logs of engines with different graphs, or with a mode that `Graphs` can't say.
    """
    found = {file: _graphs(file) for path in paths for file in log_files(path)}
    one, *others = found
    for other in others:
        if found[other] != found[one]:
            raise InputError(f"--from-steps {other}: its engine had other CUDA graphs than that of {one}")
    return found[one]


def _graphs(file: Path) -> Graphs:
    facts = _beside(file, FACTS).get("graphs") or {}
    sizes, mode = facts.get("capture_sizes"), facts.get("mode")
    if sizes is None or mode is None:
        return Graphs()
    if mode not in MODES:
        raise InputError(f"--from-steps {file}: CUDA graphs {mode}; expected {', '.join(MODES)}")
    largest = 0 if mode == "NONE" else max(sizes, default=0)
    usual = Graphs().capture(**_options(file)).piecewise
    return Graphs(
        full="max_num_seqs" if mode == "FULL_AND_PIECEWISE" else 0,
        piecewise=Graphs().piecewise if largest == usual else largest,
    )


def read_overlapped(paths: Sequence[Path], graphs: Graphs | None = None) -> OverlappedSteps:
    """The steps of these logs; of a directory, all `*.jsonl` in it or in its `steps/`.

    How the engine captured CUDA graphs follows from its options in the manifest beside the logs; without one
    it is taken for the default engine (256 sequences, 2,048 tokens).

    Raises:
        InputError: no log, a damaged line, or a log without features and ends.
    """
    parts: list[OverlappedSteps] = []
    for path in paths:
        for file in log_files(path):
            capture = (graphs or Graphs()).capture(**_options(file))
            parts.append(_steps(_lines(file), capture, len(parts)))
    joined: dict[str, Any] = {}
    for each in fields(OverlappedSteps):
        columns = [getattr(part, each.name) for part in parts]
        if each.name == "batch":
            joined["batch"] = Steps(
                *(np.concatenate([getattr(part, name) for part in columns]) for name in (*FEATURES, "time"))
            )
        else:
            joined[each.name] = np.concatenate(columns)
    return OverlappedSteps(**joined)


def _lines(file: Path) -> list[dict[str, Any]]:
    lines = []
    before = -math.inf
    for number, line in enumerate(read_lines(file), 1):
        for name in (*FEATURES, "end"):
            if not isinstance(line.get(name), int | float):
                raise InputError(f"{file}, line {number}: no {name}; expected a step log of real vLLM")
        if line["end"] <= before:
            raise InputError(
                f"{file}, line {number}: end {line['end']!r}: expected one after the last step's"
            )
        before = line["end"]
        lines.append(line)
    if not lines:
        raise InputError(f"{file}: no step")
    return lines


def _steps(lines: Sequence[dict[str, Any]], capture: Capture, run: int) -> OverlappedSteps:
    def stamps(name: str) -> FloatArray:
        """NaN where there is none."""
        return np.array([math.nan if line.get(name) is None else line[name] for line in lines], dtype=float)

    P, N, S, K, Q = np.array([[line[name] for name in FEATURES] for line in lines], dtype=float).T
    end, time, scheduled = stamps("end"), stamps("time"), stamps("schedule_begin")
    scheduled = np.where(np.isnan(scheduled), time, scheduled)
    before = np.append(-np.inf, end[:-1])
    # an older log's time is clamped to the last update
    after_idle = scheduled > before + SAME
    begin = np.where(after_idle, scheduled, before)
    mode, tokens = _graph_of(lines, P, N, S, capture)
    judged = np.ones(len(lines), dtype=bool)
    judged[-1] = False
    return OverlappedSteps(
        batch=Steps(P, N, S, K, Q, end - begin),
        tokens=tokens,
        mode=mode,
        run=np.full(len(lines), run),
        begin=begin,
        after_idle=after_idle,
        judged=judged,
        launch=_launch(stamps("launch_end"), end, scheduled, after_idle),
        output=_output(stamps("schedule_begin"), end, after_idle),
        gpu=_gpu(stamps("launch_end"), stamps("device_begin"), stamps("device_end")),
        copied=_copied(stamps("wait_begin"), stamps("output_ready"), stamps("device_end"), end),
    )


def _graph_of(
    lines: Sequence[dict[str, Any]], P: FloatArray, N: FloatArray, S: FloatArray, capture: Capture
) -> tuple[NDArray[np.int64], FloatArray]:
    """Launch modes and padded tokens, as logged or as the engine's options imply."""
    modes, padded = [], []
    for line, p, n, s in zip(lines, P, N, S, strict=True):
        batch = StepFeatures(int(p), int(n), int(s))
        logged = str(line.get("launch_mode", "")).upper()
        modes.append(LaunchMode[logged] if logged in LaunchMode.__members__ else capture.mode(batch))
        padded.append(line.get("padded_tokens") or capture.padded(batch.P + batch.N))
    return np.array(modes, dtype=np.int64), np.array(padded, dtype=float)


def _launch(launched: FloatArray, end: FloatArray, scheduled: FloatArray, idle: BoolArray) -> FloatArray:
    """From the update before last, or where there is none from the launch or schedule call that the host
    did before."""
    second = np.append(False, idle[:-1])
    base = np.append([np.nan, np.nan], end[:-2])[: len(end)]
    base = np.where(second, np.append(np.nan, launched[:-1]), base)
    launch = launched - np.where(idle, scheduled, base)
    return np.where(launch > 0, launch, np.nan)


def _output(scheduled: FloatArray, end: FloatArray, idle: BoolArray) -> FloatArray:
    """From an update to the schedule call that follows, which is that of the step after the next."""
    after = np.append(scheduled[2:], [np.nan, np.nan])[: len(end)]
    waits = np.append(idle[1:], True) | np.append(idle[2:], [True, True])[: len(end)]
    output = np.where(waits, np.nan, after - end)
    return np.where(output > 0, output, np.nan)


def _gpu(launched: FloatArray, begin: FloatArray, end: FloatArray) -> FloatArray:
    """Between a step's two CUDA events, where all of it was launched before the device came to it."""
    return np.where((begin >= launched) & (end > begin), end - begin, np.nan)


def _copied(wait: FloatArray, ready: FloatArray, device_end: FloatArray, update: FloatArray) -> FloatArray:
    """From a step's last event to its update, where the engine had to wait for it."""
    return np.where((ready - wait > WAITED) & (update > device_end), update - device_end, np.nan)


def _options(file: Path) -> dict[str, int]:
    """Of the engine that wrote this log, by the manifest or `replay.json` beside it; else the defaults."""
    options = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}
    study = _beside(file, "manifest.json").get("study", {})
    cell = _beside(file, FACTS).get("cells", {}).get(file.stem, {}).get("engine_options", {})
    for name in options:
        value = study.get(name) if isinstance(study, dict) else None
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], int):
            options[name] = value[0]
        elif isinstance(cell.get(name), int):
            options[name] = cell[name]
    return options


def _beside(file: Path, name: str) -> dict[str, Any]:
    """The JSON object in this file of the log's results directory; empty if there is none."""
    root = file.parent.parent if file.parent.name == "steps" else file.parent
    try:
        content = json.loads((root / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def output_per_sequence(paths: Sequence[Path], steps: OverlappedSteps) -> float | None:
    """Seconds of output handling for each sequence of a step: stamped, or from when requests got their last
    tokens by the `requests.parquet` beside the logs; None where neither says."""
    sequences = steps.batch.N + steps.batch.S
    stamped = np.isfinite(steps.output)
    if stamped.any():
        return float(steps.output[stamped].sum() / sequences[stamped].sum())
    delay = total = 0.0
    for path in paths:
        for file in log_files(path):
            finish = _finish_times(file)
            last: dict[str, dict[str, Any]] = {}
            for line in read_lines(file):
                last.update(dict.fromkeys(line["scheduled"], line))
            for request, line in last.items():
                if (late := finish.get(request, -math.inf) - line["end"]) >= 0:
                    delay += late
                    total += line["N"] + line["S"]
    return delay / total if total else None


def _finish_times(file: Path) -> dict[str, float]:
    """When each request of a log's cell got its last token; empty where that is not known."""
    root = file.parent.parent
    options = _beside(file, "manifest.json").get("cells", {}).get(file.stem)
    path = root / "requests.parquet"
    if options is None or not path.is_file():
        return {}
    import polars as pl

    try:
        table = pl.read_parquet(path)
        for name, value in options.items():
            table = table.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
        return dict(zip(table["request_id"].to_list(), table["finish_time"].to_list(), strict=True))
    except (OSError, pl.exceptions.PolarsError):
        return {}
