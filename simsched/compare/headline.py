"""The first sentence of a report: what to run, or that there is nothing to choose. It says what the table of
its metric says, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simsched.compare.best import CLOSE, IDENTICAL, UNSURE, Best, tie
from simsched.compare.compared import Compared, Row
from simsched.compare.phrases import listed, load_text, ratio_text, times_text, value_text
from simsched.text.labels import higher_is_better, metric_label


def first_sentence(comparison: Compared) -> str:
    """What to run, by how much, on which load, how sure: `"Run ranking: at 16 req/s its mean latency per
    token is 1.12 times lower [1.08, 1.16] than that of fcfs (3 runs, 95 %)."`"""
    samples, baseline = comparison.samples, comparison.baseline
    load = samples.highest()
    if not comparison.metrics:
        return "Nothing to compare: no request was finished."
    metric = "request_goodput" if "request_goodput" in comparison.metrics else comparison.metrics[0]
    label = metric_label(metric, unit=False).lower()
    where = load_text(samples.loads[load])
    at = f"at {where}, " if where else ""
    sure = f"({comparison.runs} runs, 95 %)" if comparison.tested else "(one run: not tested)"
    found = comparison.best(metric, load)
    rows = [row for row in comparison.rows if row.metric == metric and row.load == samples.loads[load]]
    sides = _sides(rows, baseline, higher_is_better(metric))
    if found is None:
        text = f"Nothing to choose: {at}no two arms have a {label} to compare"
        text += " and all requests finished." if sides.unfinished else "."
    elif sides.better:
        text = _winner(comparison, metric, label, at, sure, found, sides)
    elif not sides.worse:
        text = f"Nothing to choose: {at}no arm's {label} {_words(sides.tied)[0]} that of {baseline} {sure}."
    elif not sides.tied:
        text = f"Run {baseline}: {at}no other arm has a better {label} {sure}. {_worse(sides)}"
    else:
        _, better, beside = _words(sides.tied)
        text = f"{baseline} is as good as any: {at}no arm's {label} is {better} {sure}. "
        text += f"{beside}: {listed(list(sides.tied))}. {_worse(sides)}"
    if sides.unfinished:
        text += f" Cannot win, with requests unfinished: {listed(sides.unfinished)}."
    return text + _overload(comparison, load)


@dataclass
class _Sides:
    """The arms beside the baseline, by what their rows say of them."""

    better: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)
    """Arm -> why it is not told from the baseline (`simsched.compare.best.tie`)."""
    worse: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """Arms that left requests unfinished, the baseline too: their numbers leave those out."""
    ratios: dict[str, Row] = field(default_factory=dict)


def _sides(rows: Sequence[Row], baseline: str, more_is_better: bool) -> _Sides:
    sides = _Sides(unfinished=[row.arm for row in rows if row.unfinished])
    (reference,) = (row.value for row in rows if row.arm == baseline)
    for row in rows:
        if row.arm == baseline or row.unfinished or row.value is None or reference is None:
            continue
        how = tie(row.ratio, row.p_holm) if row.ratio else (IDENTICAL if row.value == reference else "")
        above = row.ratio.ratio > 1 if row.ratio else row.value > reference
        if how:
            sides.tied[row.arm] = how
        elif above == more_is_better:
            sides.better.append(row.arm)
        else:
            sides.worse.append(row.arm)
        sides.ratios[row.arm] = row
    return sides


def _winner(
    comparison: Compared, metric: str, label: str, at: str, sure: str, found: Best, sides: _Sides
) -> str:
    """The best of the arms that are told from the baseline."""
    baseline = comparison.baseline
    arm = next(name for name in found.order if name in sides.better)
    row = sides.ratios[arm]
    if row.ratio is None:
        (reference,) = (
            each.value
            for each in comparison.rows
            if (each.metric, each.load, each.arm) == (metric, row.load, baseline)
        )
        much = f"is {value_text(metric, row.value)}, that of {baseline} {value_text(metric, reference)}"
    else:
        much = f"is {times_text(row.ratio)} that of {baseline}"
    text = f"Run {arm}: {at}its {label} {much} {sure}."
    if found.arm != arm:
        return f"{text} {found.arm} has the best mean, but is not told from {baseline}."
    return f"{text} {_words(found.tied)[2]}: {listed(list(found.tied))}." if found.tied else text


def _words(tied: Mapping[str, str]) -> tuple[str, str, str]:
    """How arms that are not told apart are spoken of: no arm ..., no arm is ..., these are ..."""
    kinds = {CLOSE if how == CLOSE else IDENTICAL if how == IDENTICAL else UNSURE for how in tied.values()}
    if kinds == {IDENTICAL}:
        return "differs from", "better", "The same"
    if CLOSE not in kinds:
        return "can be told from", "surely better", "Not told from it"
    if UNSURE not in kinds:
        return "differs by 0.5 % from", "better by 0.5 %", "Within 0.5 % of it"
    return "surely differs by 0.5 % from", "surely better by 0.5 %", "Within 0.5 % of it, or not told from it"


def _worse(sides: _Sides) -> str:
    """`"Worse: mlfq and po (1.05 to 2.3 times higher)."`"""
    ratios = [ratio for name in sides.worse if (ratio := sides.ratios[name].ratio) is not None]
    much = ""
    if len(sides.worse) == 1 and ratios:
        much = times_text(ratios[0]).removesuffix(" than")
    elif ratios:
        higher = ratios[0].ratio > 1
        sizes = sorted(each.ratio if higher else 1 / each.ratio for each in ratios)
        low, high = ratio_text(sizes[0]), ratio_text(sizes[-1])
        much = f"{low if low == high else f'{low} to {high}'} times {'higher' if higher else 'lower'}"
    return f"Worse: {listed(sides.worse)}{f' ({much})' if much else ''}."


def _overload(comparison: Compared, load: int) -> str:
    """What a growing backlog does to the numbers, and up to which load there is none."""
    samples = comparison.samples
    if not any(samples.growing(load, arm) for arm in samples.arms):
        return ""
    steady = [i for i in range(len(samples.loads)) if all(samples.steady(i, arm) for arm in samples.arms)]
    text = " There the backlog grows, so that latencies depend on how long it lasts."
    return text + (f" Every arm is steady up to {load_text(samples.loads[max(steady)])}." if steady else "")
