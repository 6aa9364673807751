"""What a reader must know of a comparison beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simsched.compare.compared import Row, any_tested
from simsched.compare.phrases import listed, load_text
from simsched.compare.samples import Samples
from simsched.text.table import counted, number, short_number

if TYPE_CHECKING:
    from simsched.results import Results

_MOST_LOADS = 6  # that are named one by one
_ENOUGH = 1000  # requests, of which ten are beyond a P99


def comparison_notes(samples: Samples, rows: Sequence[Row], runs: int) -> list[str]:
    """Lines on what is not steady, on what the number of runs allows to say, and on unfinished requests."""
    notes = [*steady_notes(samples), *few_requests_notes(samples)]
    if len(samples.arms) > 1:
        notes += _of_runs(rows, runs)
    for arm in samples.arms:
        count = sum(samples.unfinished(load, arm) for load in range(len(samples.loads)))
        if count:
            refused = sum(samples.total(load, arm, "rejected") for load in range(len(samples.loads)))
            what = f"left {counted(count, 'request')} unfinished"
            if refused == count:
                what = f"refused {counted(count, 'request')}"
            elif refused:
                what += f", {refused:,} of them refused"
            notes.append(f"{arm} {what}; its numbers leave them out, so it cannot win.")
    return notes


def failed_notes(results: Results) -> list[str]:
    """Which cells could not be run, and why: an arm is compared where it could."""
    cells = results.manifest["cells"]
    found: dict[tuple[str, str], list[str]] = {}
    for cell, reason in results.failed.items():
        options = cells[cell]
        rate = options.get("request_rate")
        load = f"{short_number(rate)} req/s" if rate is not None else str(options["workload"])
        found.setdefault((options["policy"], reason), []).append(load)
    return [
        f"failed: {policy} at {listed(list(dict.fromkeys(loads)))} ({counted(len(loads), 'run')}): {reason}"
        for (policy, reason), loads in found.items()
    ]


def gap_notes(results: Results, metrics: Sequence[str]) -> list[str]:
    """Gaps between tokens are of the whole run, also where other metrics are of a window."""
    windows = any((results.manifest.get("window") or {}).values())
    if results.measured is None and windows and any(metric.endswith("_itl_ms") for metric in metrics):
        return ["Gaps between tokens (*_itl_ms) are the whole runs', the other metrics those of the window."]
    return []


def _of_runs(rows: Sequence[Row], runs: int) -> list[str]:
    if runs < 2:
        return ["One run: no intervals, and no difference can be called significant (--num-runs 3)."]
    if not any_tested(rows):
        return [f"All {runs} runs are alike: they count as one, and nothing is tested."]
    if runs < 3:
        return ["Two runs can hardly show a difference: one degree of freedom (--num-runs 5)."]
    return []


def steady_notes(samples: Samples) -> list[str]:
    """Which arms were not in steady state, at which loads, and how fast their backlog grows there."""
    growing: dict[int, list[str]] = {}
    unclear: dict[int, list[str]] = {}
    for load in range(len(samples.loads)):
        for arm in samples.arms:
            if samples.steady(load, arm) is False:
                growth = samples.mean(load, arm, "growth")
                if samples.growing(load, arm):
                    growing.setdefault(load, []).append(f"{arm} {number(growth, 2)}")
                else:
                    unclear.setdefault(load, []).append(arm)
    notes = []
    for load, arms in list(growing.items())[:_MOST_LOADS]:
        notes.append(
            f"Not steady{_at(samples, load)}: so many more requests wait every second: {_joined(arms)}. "
            f"Latencies there grow with the length of the run{_lasting(samples, load)}."
        )
    if len(growing) > _MOST_LOADS:
        notes.append(f"Not steady at {len(growing) - _MOST_LOADS} more loads (growth in summary.csv).")
    if unclear:
        where = [
            f"{listed(arms) if len(arms) < len(samples.arms) else 'all'}{_at(samples, load)}"
            for load, arms in list(unclear.items())[:_MOST_LOADS]
        ]
        more = "; ..." if len(unclear) > _MOST_LOADS else ""
        notes.append(f"Too short to tell whether a backlog grows: {'; '.join(where)}{more} (--duration).")
    return notes


def slowdown_note(samples: Samples, load: int) -> str:
    """Why slowdowns are below 1, where they are; else nothing."""
    below = [arm for arm in samples.arms if (samples.mean(load, arm, "mean_slowdown") or 1.0) < 1]
    if not any(samples.mean(load, arm, "prefix_cache_hit_rate") for arm in below):
        return ""
    return "A slowdown below 1: prompts are found in the prefix cache, which is empty for a request alone."


def few_requests_notes(samples: Samples) -> list[str]:
    """Where a P99 rests on too few requests."""
    few: dict[int, float] = {}
    for (load, _, metric), runs in samples.values.items():
        if metric == "completed" and 0 < min(runs.values()) < _ENOUGH:
            few[load] = min(min(runs.values()), few.get(load, _ENOUGH))
    if not few:
        return []
    least = round(min(few.values()))
    where = _at(samples, next(iter(few))) if len(few) == 1 and len(samples.loads) > 1 else ""
    which = where or (f" at {len(few)} loads" if len(samples.loads) > 1 else "")
    return [
        f"A P99 rests on few requests{which}: of {least:,} in a run, {max(1, least // 100)} "
        f"{'is' if least < 200 else 'are'} beyond it."
    ]


def _joined(arms: Sequence[str]) -> str:
    return ("; " if any(", " in arm for arm in arms) else ", ").join(arms)


def _at(samples: Samples, load: int) -> str:
    text = load_text(samples.loads[load])
    return f" at {text}" if text else ""


def _lasting(samples: Samples, load: int) -> str:
    seconds = samples.seconds_of_arrivals(load)
    return f" ({short_number(seconds)} s of arrivals)" if seconds else ""
