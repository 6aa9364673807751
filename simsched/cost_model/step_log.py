"""Read step logs (`steps/*.jsonl`) into features and times.

Logs of real vLLM carry the features P, N, S, K, Q. A simulated log does not: they are reconstructed from the
tokens that each request computed in each step and its prompt length in `requests.parquet`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.fit import Steps
from simsched.errors import InputError

FEATURES = ("P", "N", "S", "K", "Q")


@dataclass
class StepLogs:
    """What was read, and what was left out."""

    steps: Steps
    files: list[Path]
    notes: list[str]
    warnings: list[str]
    """What in their times is not the engine's."""


def read_step_logs(paths: Sequence[Path], time_column: str = "step_time") -> StepLogs:
    """Steps of these log files; of a directory, all `*.jsonl` in it or in its `steps/`.

    Args:
        paths: log files or results directories.
        time_column: `step_time` (a whole step, scheduling included; where steps overlap, from one end to the
            next) or `exec_time` (model execution alone).

    Raises:
        InputError: no log, a damaged line, no such column, or features that cannot be reconstructed.
    """
    files = [file for path in paths for file in log_files(path)]
    rows: list[list[float]] = []
    swaps = reconstructed = 0
    for file in files:
        lines = list(read_lines(file, time_column))
        if lines and not all(name in lines[0] for name in FEATURES):
            reconstructed += 1
            _Reconstruction(file, lines).run()
        if time_column == "step_time":
            for of_replica in _by_replica(lines):
                _unoverlap(of_replica)
        for line in lines:
            if line.get("swapped_out") or line.get("swapped_in"):
                swaps += 1
            elif line["P"] + line["N"] > 0:
                rows.append([float(line[name]) for name in (*FEATURES, time_column)])
    notes = []
    if swaps:
        notes.append(f"{swaps} steps with swapping left out: their time is not the model's alone")
    if reconstructed:
        notes.append(
            f"features of {reconstructed} logs reconstructed from scheduled tokens; a last prefill chunk of "
            "one token is taken for a decode"
        )
    if not rows:
        raise InputError(f"--from-steps {paths[0]}: no step to fit")
    warnings = [line for path in dict.fromkeys(paths) for line in _of_predictors(path)]
    return StepLogs(Steps(*np.array(rows).T), files, notes, warnings)


def _of_predictors(path: Path) -> list[str]:
    """Lines on the predictors whose time is in simulated steps, by the notes of their results."""
    root = path if path.is_dir() else path.parent.parent
    if (root / "replay.json").is_file():  # a real engine was given its predictions
        return []
    try:
        notes = json.loads((root / "manifest.json").read_bytes())["notes"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    said = [str(note).partition(";")[0] for note in notes if "its predictor takes" in str(note)]
    return (
        [f"a predictor's time is in these steps ({said[0]}); expected a policy without one"] if said else []
    )


def _by_replica(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The steps of each engine in a log of several behind a router."""
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        found[line.get("replica")].append(line)
    return list(found.values())


def _unoverlap(lines: list[dict[str, Any]]) -> None:
    """Count a step that began before the last one was over (asynchronous scheduling) from that one's end."""
    last_end = -math.inf
    for line in lines:
        start, end = line["time"], line["time"] + line["step_time"]
        if start < last_end < end:
            line["step_time"] = end - last_end
        last_end = end


def log_files(path: Path) -> list[Path]:
    """The step logs at this path; InputError if there is none."""
    if path.is_file():
        return [path]
    files = sorted(path.glob("steps/*.jsonl")) or sorted(path.glob("*.jsonl"))
    if not files:
        what = "no *.jsonl in it or its steps/ (run with --log-steps)" if path.is_dir() else "no such file"
        raise InputError(f"--from-steps {path}: {what}")
    return files


def read_lines(file: Path, time_column: str = "step_time") -> Iterator[dict[str, Any]]:
    """The lines of a step log, checked.

    Raises:
        InputError: unreadable, or a line that is not a step.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                yield _checked(text, f"{file}, line {number}", time_column)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read it: {error}") from None


def _checked(text: str, where: str, time_column: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        raise InputError(f"{where}: not JSON: {text.strip()[:40]!r}") from None
    if not isinstance(line, dict) or not isinstance(line.get("scheduled"), dict):
        raise InputError(f"{where}: not a step: expected an object with 'scheduled'")
    for name in ("time", time_column, *(name for name in FEATURES if name in line)):
        value = line.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            raise InputError(f"{where}: {name} {value!r}: expected a number")
        if (value < 0 and name != "time") or (name == time_column and value == 0):
            raise InputError(f"{where}: {name} {value!r}: expected a positive number")
    return line


@dataclass
class _Life:
    """One stay of a request in the KV cache: from an admission to a preemption or its end."""

    steps: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


class _Reconstruction:
    """Fills in the features of a log's steps.

    In each life the prefill is everything up to the last entry of more than one token (or the first entry);
    what it computed falls short of the tokens known by the prefix-cache hit; all later entries are decodes.
    """

    def __init__(self, file: Path, lines: list[dict[str, Any]]) -> None:
        self._file, self._lines = file, lines
        self._prompts = _prompt_lengths(file)

    def run(self) -> None:
        lives: dict[str, list[_Life]] = defaultdict(lambda: [_Life()])
        for index, line in enumerate(self._lines):
            line.update(P=0, N=0, S=0, K=0, Q=0.0)
            for request in line.get("preempted", ()):
                lives[request].append(_Life())
            for request, tokens in line["scheduled"].items():
                lives[request][-1].steps.append(index)
                lives[request][-1].tokens.append(tokens)
        for request, stays in lives.items():
            if request not in self._prompts:
                raise InputError(f"{self._file}: request {request!r} is not in its requests.parquet")
            known = self._prompts[request]
            for life in stays:
                known = self._add(life, known)

    def _add(self, life: _Life, known: int) -> int:
        """Add a life's entries to their steps; returns the tokens known after it."""
        if not life.tokens:
            return known
        large = [index for index, tokens in enumerate(life.tokens) if tokens > 1]
        last = large[-1] if large else 0
        computed = sum(life.tokens[: last + 1])
        # a life that ended within its prefill is taken to have begun without a hit
        complete = len(life.tokens) > last + 1 or computed >= known
        position = max(0, known - computed) if complete else 0
        for step, tokens in zip(life.steps[: last + 1], life.tokens, strict=False):
            line = self._lines[step]
            line["P"] += tokens
            line["S"] += 1
            line["Q"] += tokens * (position + tokens / 2)
            position += tokens
        decodes = life.steps[last + 1 :]
        for extra, step in enumerate(decodes, 1):
            self._lines[step]["N"] += 1
            self._lines[step]["K"] += known + extra
        return known + len(decodes) + complete


def _prompt_lengths(file: Path) -> dict[str, int]:
    import polars as pl

    root = file.parent.parent if file.parent.name == "steps" else file.parent
    candidates = [root / "cells" / file.stem / "requests.parquet", root / "requests.parquet"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(f"{file}: no features (P, N, S, K, Q) and no requests.parquet to get them from")
    try:
        table = pl.read_parquet(found, columns=["request_id", "num_prompt_tokens"])
        return {str(request): int(tokens) for request, tokens in table.iter_rows()}
    except (pl.exceptions.PolarsError, OSError, TypeError) as error:
        raise InputError(f"{found}: cannot read it: {str(error).splitlines()[0]}") from None
