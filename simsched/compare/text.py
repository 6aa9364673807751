"""A comparison in words and plain-text tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from simsched.compare.arm_table import arm_table, option_columns
from simsched.compare.arms import Load
from simsched.compare.best import UNSURE, tie
from simsched.compare.compared import Compared, Row
from simsched.compare.deciles import COLUMNS, by_decile, requests_at
from simsched.compare.notes import slowdown_note
from simsched.compare.phrases import interval_text, load_text, option_text, ratio_text
from simsched.compare.samples import rounded
from simsched.compare.statistics import LEVEL
from simsched.compare.verdict import verdict
from simsched.text.columns import brief_columns, full_column
from simsched.text.labels import metric_label
from simsched.text.table import table_width, text_table

if TYPE_CHECKING:
    import polars as pl

    from simsched.results import Results

HIDDEN = (
    "mean_latency_per_token_ms",
    "p99_latency_per_token_ms",
    "mean_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "p99_tpot_ms",
    "p99_max_waiting_time_ms",
    "mean_slowdown",
    "num_preemptions",
    "unfinished",
)


_UNSURE, _SHORT = UNSURE.partition(" (")[0], "n.s."
_RATIO = "ratio"  # the header where space is short
_LONGEST_OVER = 16  # letters of a baseline in a header
_FOLDED = 24  # letters to which a remark may fold


def comparison_text(comparison: Compared, hidden: Sequence[str] = (), width: int | None = None) -> str:
    """All tables of a comparison, then `hidden` (further tables), then what to make of them.

    `width`: letters of a table; None: as many as it needs.
    """
    parts = []
    for metric, rows in groupby(comparison.rows, key=lambda row: row.metric):
        parts.append(_metric_text(comparison, metric, list(rows), width))
    short = any(_SHORT in part for part in parts)
    if parts and (short or len(comparison.baseline) > _LONGEST_OVER or any(_RATIO in part for part in parts)):
        explained = f"; {_SHORT}: {_UNSURE} from it" if short else ""
        parts.insert(0, f"Ratios are over the baseline, {comparison.baseline}{explained}.")
    if len(comparison.arms) > 2:
        parts.append(_order_text(comparison, width))
    parts += hidden
    parts.append("\n".join([*tests_text(comparison), *comparison.notes]))
    parts.append("\n".join(verdict(comparison)))
    return "\n\n".join(part for part in parts if part) + "\n"


def directory_text(results: Results, comparison: Compared, width: int | None = None) -> str:
    """`comparison_text` with what means hide at the highest load, for which it reads all requests, and with
    what was noted when the results were made."""
    load = comparison.samples.highest()
    hidden = [hidden_text(comparison, load, width)]
    deciles = by_decile(requests_at(results, comparison.samples, load))
    if deciles["mean"].count():
        hidden.append(decile_text(deciles, comparison, width))
    made = [str(note) for note in results.manifest.get("notes", [])]
    if made:
        hidden.append("\n".join(["How the results were made:", *(f"  {note}" for note in made)]))
    return comparison_text(comparison, hidden, width)


def _metric_text(comparison: Compared, metric: str, rows: Sequence[Row], width: int | None) -> str:
    label, values = full_column(metric, [row.value for row in rows])
    options = list(comparison.loads[0])
    bounded = any(row.bound for row in rows)
    headers = [*options, "arm", "value", f"/ {_over(comparison)}", "95 % interval"]
    headers += ["/ bound"] if bounded else []
    body: list[list[Any]] = []
    previous: Load | None = None
    for row, value in zip(rows, values, strict=True):
        shown = (
            [option_text(value) for value in row.load.values()]
            if row.load != previous
            else [""] * len(options)
        )
        previous = row.load
        ratio = row.ratio
        cells: list[Any] = [*shown, row.arm, value]
        cells += [ratio_text(ratio.ratio), interval_text(ratio)] if ratio else ["", ""]
        if bounded:
            cells.append(row.value / row.bound if row.value and row.bound else None)
        body.append([*cells, remark(row)])
    headers.append("")
    longest = max(len(cells[-1]) for cells in body)
    without = table_width(headers, [[*cells[:-1], ""] for cells in body])
    if width is not None and without + min(longest, _FOLDED) > width:
        return f"{label}\n{_narrow(comparison, rows, body, width)}"
    table = text_table(headers, body, left=(*range(len(options) + 1), len(headers) - 1), width=width)
    return f"{label}\n{table}"


def _over(comparison: Compared) -> str:
    return comparison.baseline if len(comparison.baseline) <= _LONGEST_OVER else "baseline"


def _narrow(comparison: Compared, rows: Sequence[Row], body: Sequence[list[Any]], width: int) -> str:
    """The same in fewer letters: loads above their rows, a column for each option of an arm if need be,
    remarks abbreviated."""
    skipped = len(comparison.loads[0])
    titles = {}
    for number, row in enumerate(rows):
        if skipped and (number == 0 or row.load != rows[number - 1].load):
            titles[number] = f"at {load_text(row.load)}:"
    rest = [
        [*cells[skipped + 1 : -1], remark(row, short=True)] for row, cells in zip(rows, body, strict=True)
    ]
    headers = ["value", _RATIO, "95 % interval", *(["/ bound"] if len(rest[0]) > 4 else []), ""]
    options, named = ["arm"], {arm: [arm] for arm in comparison.arms}
    whole = [[row.arm, *cells] for row, cells in zip(rows, rest, strict=True)]
    if table_width(["arm", *headers], whole) > width:
        options, named = option_columns(comparison.samples)
    split = [[*named[row.arm], *cells] for row, cells in zip(rows, rest, strict=True)]
    left = (*range(len(options)), len(options) + len(headers) - 1)
    return text_table([*options, *headers], split, left=left, width=width, titles=titles)


def remark(row: Row, *, short: bool = False) -> str:
    """What must be said of a row beside its numbers; `short`: what is explained elsewhere, as `n.s.`"""
    said = []
    if row.growing:
        said.append("not steady")
    if row.unfinished:
        said.append(f"{row.unfinished:,} unfinished")
    how = tie(row.ratio, row.p_holm) if row.ratio else ""
    if row.significant:
        how = ""  # the table shows how small it is
    elif row.ratio and row.significant is False:
        how = how.partition(" (")[0]  # a table has one number of runs
        if short:
            how = how.replace(_UNSURE, _SHORT)
        elif row.ratio.p is not None and row.ratio.p < LEVEL:
            how += " after Holm's correction"
    if how:
        said.append(how)
    return ", ".join(said)


def tests_text(comparison: Compared) -> list[str]:
    """How the intervals and tests are to be read."""
    if not comparison.tested:
        return []
    return [
        f"Ratios are geometric means over {comparison.runs} runs, each of the same requests under every "
        "arm; each interval covers 95 % by itself (paired t on log ratios).",
        f'"No significant difference": paired t-test at {LEVEL:.0%}, Holm-corrected over the arms at one '
        "metric and load; not over metrics and loads, so of 20 such sets about one would err by chance.",
    ]


def _order_text(comparison: Compared, width: int | None) -> str:
    """Best first, per load and metric, and how far the metrics agree with the first."""
    taus = comparison.taus()
    body = []
    for load in range(len(comparison.loads)):
        for i, metric in enumerate(comparison.metrics):
            order = order_text(comparison, load, metric)
            first = order_text(comparison, load, comparison.metrics[0])
            shown = load_text(comparison.loads[load]) if i == 0 else ""
            said = "the same" if i and order == first else order
            body.append([shown, metric_label(metric, unit=False), _tau_text(taus[load, metric]), said])
    title = "Order of the arms, best first; tau: Kendall's, with the order on the first metric"
    return f"{title}\n{text_table(['', 'metric', 'tau', 'order'], body, left=(0, 1, 3), width=width)}"


def _tau_text(tau: float) -> str:
    """A dash where one of the two orders has nothing to tell the arms apart."""
    return "–" if math.isnan(tau) else f"{tau:.2f}"


def order_text(comparison: Compared, load: int, metric: str) -> str:
    """The arms, best first: `fcfs = mlfq, ranking` where two have the same value."""
    text, last = "", None
    comma = "; " if any(", " in arm for arm in comparison.arms) else ", "
    for arm in comparison.samples.order(load, metric):
        mean = comparison.samples.mean(load, arm, metric)
        text += ("" if last is None else " = " if rounded(mean) == rounded(last) else comma) + arm
        last = mean
    return text


def hidden_text(comparison: Compared, load: int, width: int | None = None) -> str:
    """What a mean hides, at one load: tails, first token against the others, starvation, the unfinished."""
    samples = comparison.samples
    metrics = [
        name for name in HIDDEN if any(samples.mean(load, arm, name) is not None for arm in comparison.arms)
    ]
    counts = ("num_preemptions", "unfinished")
    columns = brief_columns(
        {name: [samples.mean(load, arm, name) for arm in comparison.arms] for name in metrics}
    )
    shown = [
        [f"{mean:,.0f}" if mean and name in counts else mean for mean in means]
        for name, (_, means) in zip(metrics, columns, strict=True)
    ]
    body = [[arm, *row] for arm, *row in zip(comparison.arms, *shown, strict=True)]
    where = load_text(comparison.loads[load])
    title = f"What a mean hides{', at ' + where if where else ''}"
    table = arm_table(samples, ["arm", *(header for header, _ in columns)], body, width)
    return "\n".join(filter(None, (title, table, slowdown_note(samples, load))))


def decile_rows(deciles: pl.DataFrame, arms: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of `simsched.compare.deciles.by_decile`: a row per arm, a column per decile."""
    low: dict[int, int] = {}
    high: dict[int, int] = {}
    means: dict[str, dict[int, float]] = {}
    for row in deciles.iter_rows(named=True):
        decile = row["decile"]
        low[decile] = min(row["shortest"], low.get(decile, row["shortest"]))
        high[decile] = max(row["longest"], high.get(decile, row["longest"]))
        means.setdefault(row["arm"], {})[decile] = row["mean"]
    order = sorted(low)
    headers = ["arm", *(f"{low[decile]}–{high[decile]}" for decile in order)]
    return headers, [[arm, *(means.get(arm, {}).get(decile) for decile in order)] for arm in arms]


def decile_text(deciles: pl.DataFrame, comparison: Compared, width: int | None = None) -> str:
    """A table of `simsched.compare.deciles.by_decile`, of slowdowns."""
    title = f"{COLUMNS['slowdown']} by output length (tokens), a tenth of the requests in each column"
    return f"{title}\n{arm_table(comparison.samples, *decile_rows(deciles, comparison.arms), width)}"
