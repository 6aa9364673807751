"""Two results directories, cell by cell: another setting, another version, or simulated against real."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Arm, Load, find_arm, json_load
from simsched.compare.phrases import interval_text, listed, load_text, option_text, ratio_text
from simsched.compare.samples import (
    DEFAULT_METRICS,
    Samples,
    choose_metrics,
    samples_of,
    swept_options,
)
from simsched.compare.statistics import Ratio, kendall_tau, paired_ratio, unpaired_ratio
from simsched.errors import InputError
from simsched.text.columns import full_column
from simsched.text.labels import metric_label
from simsched.text.table import text_table

if TYPE_CHECKING:
    from simsched.results import Results

_FEW = DEFAULT_METRICS[:6]
_TOKENS = ("total_input_tokens", "total_output_tokens")
_FOR_READERS = ("title", "figures", "log_steps")  # options that change no result


@dataclass(frozen=True)
class PairRow:
    """One arm on one metric at one load, in both directories."""

    metric: str
    load: Load
    arm: str
    """Its name,"""
    chosen: Arm
    """and its options."""
    first: float
    """Mean over runs in the first directory."""
    second: float
    ratio: Ratio | None
    """Second to first; None where undefined (a zero)."""
    first_speedup: float | None
    """Value under the baseline over this value, within the first directory; None without a baseline."""
    second_speedup: float | None

    @property
    def speedup_error(self) -> float | None:
        """Relative error of the first directory's speed-up over the baseline, if the second's is true."""
        if not self.first_speedup or not self.second_speedup:
            return None
        return self.first_speedup / self.second_speedup - 1

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ratio = self.ratio
        return {
            "metric": self.metric,
            **json_load(self.load),
            **self.chosen,
            "arm": self.arm,
            "first": self.first,
            "second": self.second,
            "ratio": ratio.ratio if ratio else None,
            "ci95": [ratio.low, ratio.high] if ratio and ratio.low is not None else None,
            "p": ratio.p if ratio else None,
            "runs": ratio.n if ratio else None,
            "first_speedup": self.first_speedup,
            "second_speedup": self.second_speedup,
            "speedup_error": self.speedup_error,
        }


@dataclass(frozen=True)
class DirectoryComparison:
    """What two directories have in common, side by side."""

    names: tuple[str, str]
    baseline: str | None
    """The arm that speed-ups refer to; None: not in both."""
    rows: list[PairRow]
    taus: list[tuple[Load, str, float]]
    """Load, metric, Kendall's tau of the order of the arms between the directories."""
    paired: bool
    """Are runs of one seed paired?"""
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "directories": list(self.names),
            "baseline": self.baseline,
            "paired": self.paired,
            "rows": [row.to_dict() for row in self.rows],
            "kendall_tau": [
                {**json_load(load), "metric": metric, "kendall_tau": None if math.isnan(tau) else tau}
                for load, metric, tau in self.taus
            ],
            "notes": self.notes,
        }

    def to_table(self, width: int | None = None) -> str:
        """Everything, as text; tables at most `width` letters wide."""
        parts = [f"A: {self.names[0]}\nB: {self.names[1]}"]
        for metric, rows in groupby(self.rows, key=lambda row: row.metric):
            parts.append(self._metric_text(metric, list(rows), width))
        if any(not math.isnan(tau) for _, _, tau in self.taus):
            body = [
                [load_text(load), metric_label(metric, unit=False), tau] for load, metric, tau in self.taus
            ]
            title = "Kendall's tau of the order of the arms, A against B (1 = same order)"
            parts.append(f"{title}\n{text_table(['', 'metric', 'tau'], body, left=(0, 1), width=width)}")
        parts.append("\n".join(self.notes))
        return "\n\n".join(parts) + "\n"

    def _metric_text(self, metric: str, rows: Sequence[PairRow], width: int | None) -> str:
        label, values = full_column(metric, [*(row.first for row in rows), *(row.second for row in rows)])
        options = list(rows[0].load)
        headers = [*options, "arm", "A", "B", "B / A", "95 % interval"]
        if self.baseline:
            headers += ["speed-up in A", "in B", "error"]
        body = []
        for row, a, b in zip(rows, values[: len(rows)], values[len(rows) :], strict=True):
            ratio = row.ratio
            cells: list[Any] = [*map(option_text, row.load.values()), row.arm, a, b]
            cells += [ratio_text(ratio.ratio), interval_text(ratio)] if ratio else [None, ""]
            if self.baseline:
                error = row.speedup_error
                cells += [row.first_speedup, row.second_speedup, None if error is None else f"{error:+.1%}"]
            body.append(cells)
        table = text_table(headers, body, left=range(len(options) + 1), width=width)
        return f"{label}\n{table}"


def compare_directories(
    first: Results,
    second: Results,
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
) -> DirectoryComparison:
    """Every cell that two directories share. Options that are constant in both are not told apart.

    Args:
        first: e.g. simulated results.
        second: e.g. real ones.
        baseline: the arm that speed-ups refer to (None: FCFS), left out where one directory lacks it.
        metrics: columns of the summaries; None: latency per token, TTFT, TPOT and end-to-end latency.

    Raises:
        InputError: no cell in common, or an unknown metric.
    """
    a = samples_of(first, also=swept_options(second)[1])
    b = samples_of(second, also=swept_options(first)[1])
    chosen = choose_metrics(first.summary, metrics)
    if metrics is None:
        chosen = [name for name in _FEW if name in chosen and name in choose_metrics(second.summary, None)]
    shared = [name for name in a.loads[0] if name in b.loads[0]]
    loads = [(i, j) for i, x in enumerate(a.loads) for j, y in enumerate(b.loads) if _same(x, y, shared)]
    arms = {name: arm for name, arm in a.arms.items() if name in b.arms}
    base = _baseline(arms, baseline)
    if base is None and baseline is not None:
        find_arm({**a.arms, **b.arms}, baseline)  # that of one directory alone is left out
    seeds = [{run for of in samples.values.values() for run in of} for samples in (a, b)]
    unequal = "seeds" if seeds[0] != seeds[1] else "requests" if _requests_differ(a, b, loads) else ""
    differences = _differences(first, second)
    if not unequal and any(text.startswith("arrivals ") for text in differences):
        unequal = "arrivals"
    paired = not unequal
    rows, taus = [], []
    for metric in chosen:
        for i, j in loads:
            load = {name: a.loads[i][name] for name in shared}
            means = [(a.mean(i, arm, metric), b.mean(j, arm, metric)) for arm in arms]
            known = [(x, y) for x, y in means if x is not None and y is not None]
            taus.append((load, metric, kendall_tau([x for x, _ in known], [y for _, y in known])))
            for arm, (x, y) in zip(arms, means, strict=True):
                if x is None or y is None:
                    continue
                ratio = _ratio(a.values[i, arm, metric], b.values[j, arm, metric], paired)
                ups = (_speedup(a, i, arm, base, metric), _speedup(b, j, arm, base, metric))
                rows.append(PairRow(metric, load, arm, arms[arm], x, y, ratio, *ups))
    if not rows:
        has = [f"{each.path} has {_listed(samples)}" for each, samples in ((first, a), (second, b))]
        raise InputError(f"{first.path} and {second.path}: no arm and load in common: {'; '.join(has)}")
    return DirectoryComparison(
        (str(first.path), str(second.path)),
        base,
        rows,
        taus,
        paired,
        _notes(a, b, unequal, differences, len(loads)),
    )


def _listed(samples: Samples) -> str:
    """Its arms, and at which loads."""
    loads = [text for load in samples.loads if (text := load_text(load))]
    return listed(list(samples.arms)) + (f" at {listed(loads)}" if loads else "")


def _baseline(arms: Mapping[str, Arm], wanted: str | None) -> str | None:
    """The arm that speed-ups refer to, if both directories have it."""
    fcfs = [name for name, arm in arms.items() if arm["policy"] == "fcfs"]
    if wanted is None:
        return fcfs[0] if fcfs else None
    try:
        return find_arm(arms, wanted) if arms else None
    except InputError:
        return None


def _same(x: Load, y: Load, shared: Sequence[str]) -> bool:
    return all(x[name] == y[name] for name in shared)


def _ratio(a: dict[Any, float], b: dict[Any, float], paired: bool) -> Ratio | None:
    if min(*a.values(), *b.values()) <= 0:
        return None
    if paired:
        return paired_ratio([b[run] for run in a], list(a.values()))
    return unpaired_ratio(list(b.values()), list(a.values()))


def _speedup(samples: Samples, load: int, arm: str, baseline: str | None, metric: str) -> float | None:
    ratio = samples.ratio(load, baseline, arm, metric) if baseline else None
    return ratio.ratio if ratio else None


def _requests_differ(a: Samples, b: Samples, loads: Sequence[tuple[int, int]]) -> bool:
    """Have runs of one seed other requests in the two, by their rate, number and tokens?"""
    for i, j in loads:
        if a.rates[i] != b.rates[j]:
            return True
        for arm in (arm for arm in a.arms if arm in b.arms):
            whole = not a.unfinished(i, arm) and not b.unfinished(j, arm)
            for metric in ("num_requests", *(_TOKENS if whole else ())):
                if a.values.get((i, arm, metric)) != b.values.get((j, arm, metric)):
                    return True
    return False


def _differences(first: Results, second: Results) -> list[str]:
    """The options in which the studies differ: `"duration (60 in A, 10 in B)"`."""
    studies = [results.manifest.get("study") or {} for results in (first, second)]
    texts = []
    for name in (name for name in studies[0] if name in studies[1] and name not in _FOR_READERS):
        x, y = (study[name] for study in studies)
        if x != y:
            texts.append(f"{name} ({_given(x)} in A, {_given(y)} in B)")
    return texts


def _given(value: Any) -> str:
    if value in (None, [], {}):
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _notes(a: Samples, b: Samples, unequal: str, differences: Sequence[str], num_loads: int) -> list[str]:
    common = "1 load" if num_loads == 1 else f"{num_loads} loads"
    notes = [f"{common} in common; {len(a.loads) - num_loads} only in A."]
    if differences:
        notes.append(f"Their studies differ in {'; '.join(differences)}.")
    if not unequal:
        notes.append(
            "Runs have the same seeds and requests, so they are paired; each interval is 95 % by itself."
        )
    else:
        notes.append(
            f"Runs have other {unequal}, so they are not paired (Welch); each interval is 95 % by itself."
        )
    for name, samples in (("A", a), ("B", b)):
        for arm in samples.arms:
            if count := sum(samples.unfinished(load, arm) for load in range(len(samples.loads))):
                notes.append(f"{arm} left {count:,} requests unfinished in {name}; its means leave them out.")
    return notes
