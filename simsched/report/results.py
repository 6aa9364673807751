"""The report of a results directory: what was found, the figures, the tables, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.compare import Comparison, compare, verdict
from simsched.compare.arm_table import telling_options, with_letters
from simsched.compare.deciles import COLUMNS, by_decile, requests_at
from simsched.compare.headline import first_sentence
from simsched.compare.lower_bound import bounds_of_results
from simsched.compare.notes import slowdown_note
from simsched.compare.objective import attained
from simsched.compare.phrases import interval_text, listed, load_text, option_text, rate_text, ratio_text
from simsched.compare.text import HIDDEN, decile_rows, order_text, remark, tests_text
from simsched.compare.verdict import highest_load_text
from simsched.report.page import Figure, Section, Table, write_report
from simsched.report.replicas import replicas_section
from simsched.slo import parse_slo
from simsched.sweep.fleet import profiles_of
from simsched.sweep.inputs import DEFAULT_ROUTER
from simsched.text.arm_names import Labels, stands_for
from simsched.text.columns import full_column
from simsched.text.labels import metric_label
from simsched.workload.named import named_workload

if TYPE_CHECKING:
    from simsched.results import Results

_CAPTIONS = {
    "latency": "Against the request rate. Bands: 95 % intervals over runs.",
    "cdf": "The share of finished requests that took at most so long, at the highest load.",
    "decile": "Who pays: requests by true output length, a tenth of them each, at the highest load.",
    "backlog": "Requests that have arrived and are not finished, in the first run of each load.",
    "pareto": "Trade-off at the highest load: no other arm is better in both than those on the line.",
    "heatmap": "Two options at once, every panel on one scale.",
    "occupancy": "KV memory, batch and queue over time, in the first run at the highest load.",
    "tau": "How good a predictor must be. Bands: 95 % intervals over runs.",
}


def report_results(
    results: Results,
    path: str | Path,
    *,
    baseline: str | None = None,
    title: str = "",
    where: Mapping[str, Any] | None = None,
    slo: str | None = None,
) -> None:
    """Write the report of a finished directory as one HTML page.

    Args:
        results: what to report.
        path: the HTML file.
        baseline: the arm that ratios refer to; None: the study's, or FCFS, or the first of the grid.
        title: of the page; empty: the study's title.
        where: options to hold fixed.
        slo: an objective (`simsched.slo`), of which each arm's attainment is shown.
    """
    labels = results.labels
    (results,), key = with_letters([results], where)
    bounds, reason = bounds_of_results(results)
    study = results.manifest.get("study") or {}
    comparison = compare(results, baseline or study.get("baseline"), bounds=bounds, where=where)
    if reason:
        comparison.notes.append(reason)
    write_report(
        path,
        title or study.get("title") or "Comparison of schedulers",
        [
            *([_arms(comparison)] if key else []),
            *_verdict(comparison),
            _setting(results, comparison, labels),
            Section("Figures", figures=_figures(results, where)),
            _ratios(comparison),
            *([_order(comparison)] if comparison.metrics else []),
            _hidden(results, comparison),
            *replicas_section(results, comparison, where),
            Section(
                "How sure", [*tests_text(comparison), *comparison.notes, *results.manifest.get("notes", [])]
            ),
        ],
        summary=[first_sentence(comparison), *_objective(results, comparison, slo)],
        configuration={
            name: value
            for name, value in results.manifest.items()
            if name not in ("cells", "capacity", "notes")
        },
    )


def _arms(comparison: Comparison) -> Section:
    """Which arm each letter is, where names are too long for tables and sentences."""
    arms = comparison.samples.arms
    options = [name for name in telling_options(comparison.samples) if name != "policy"]
    rows = [
        [name, arm["policy"], *(option_text(arm.get(each)).replace("+", " + ") for each in options)]
        for name, arm in arms.items()
    ]
    headers = ["", "policy", *(name.replace("_", " ") for name in options)]
    return Section("Arms", "What the letters on this page stand for.", [Table(headers, rows)])


def _verdict(comparison: Comparison) -> list[Section]:
    """The lines of `verdict`: a heading, then the points under it. Nothing where there is one arm."""
    parts: list[tuple[str, list[str]]] = []
    for line in verdict(comparison):
        if line.startswith(" "):
            parts[-1][1].append(line.strip())
        else:
            parts.append((line.rstrip(":"), []))
    inner = [Section(title, points=points) for title, points in parts]
    return [Section("Verdict", sections=inner)] if inner else []


def _figures(results: Results, where: Mapping[str, Any] | None) -> list[Figure]:
    from simsched.plotting.figures import draw_all

    figures = []
    for name, figure in draw_all(results, where).items():
        caption = _CAPTIONS[name.split("-")[0]]
        figures.append(Figure.from_matplotlib(figure, alt=f"{name}: {caption}", caption=caption))
    return figures


def _all_values(comparison: Comparison, metric: str) -> list[float | None]:
    """A metric's values at every load and arm, so that it has one unit on the page."""
    samples = comparison.samples
    return [samples.mean(i, arm, metric) for i in range(len(samples.loads)) for arm in samples.arms]


def _objective(results: Results, comparison: Comparison, slo: str | None) -> list[str]:
    """Which arms meet an objective, in a sentence a load."""
    if slo is None:
        return []
    objective = parse_slo(slo)
    rows = attained(results, comparison.samples, objective)
    sentences = []
    for load in comparison.loads:
        met = [row.arm for row in rows if row.load == load and row.met and not row.growing]
        where = load_text(load)
        who = listed(met) if met else "no arm"
        sentences.append(f"{slo}{f' at {where}' if where else ''}: met by {who}.")
    return sentences


def _setting(results: Results, comparison: Comparison, labels: Labels) -> Section:
    """Workload, arrivals, GPUs, model, engine, replicas, routers and runs, and what names of the reader's own
    stand for."""
    study = results.manifest.get("study") or {}
    cells = list(results.cells.values())

    def values(name: str) -> str:
        """What was swept, or what the study says for all cells."""
        found = dict.fromkeys(cell[name] for cell in cells if cell.get(name) is not None)
        return ", ".join(option_text(value) for value in found or study.get(name) or ())

    fleets = values("num_replicas") or values("replicas")
    rates = dict.fromkeys(rate_text(rate) for rate in comparison.samples.rates)
    rows = [
        ["Workload", values("workload")],
        ["Arrivals", ", ".join(_arrivals(results))],
        ["Request rate", ", ".join(rates)],
        ["GPU and model", ", ".join(_profiles(results))],
        ["Engine", values("preset")],
        ["Replicas", fleets.replace("+", " + ")],
        ["Router", (values("router") or DEFAULT_ROUTER) if fleets else ""],
        ["Policies", values("policy")],
        ["Names", "; ".join(f"{name}: {stands_for(label)}" for name, label in labels.items())],
        ["Runs", f"{comparison.runs} with common random numbers, seeds from {study.get('seed', 0)}"],
    ]
    return Section("What was run", tables=[Table(["", ""], [row for row in rows if row[1]])])


def _arrivals(results: Results) -> list[str]:
    """The processes that the requests arrive by; none where a trace is replayed as it is."""
    study = results.manifest.get("study") or {}
    found: dict[str, None] = {}
    for cell in results.cells.values():
        given = [cell["arrivals"]] if cell.get("arrivals") else study.get("arrivals")
        if not given and cell["workload"] in (study.get("workload") or ()):
            given = [named_workload(str(cell["workload"])).default_arrivals]
        elif not given:
            given = ["poisson"] if cell.get("request_rate") is not None else []
        found |= dict.fromkeys(str(each) for each in given)
    return list(found)


def _profiles(results: Results) -> list[str]:
    """The cost profiles of every engine, those of all replicas of a fleet included."""
    study = results.manifest.get("study") or {}
    if study.get("replicas"):
        return list(dict.fromkeys(name for fleet in study["replicas"] for name in profiles_of(fleet)))
    # the hashes begin with those of the cost profiles
    return list(study.get("cost_profile") or list(results.manifest.get("sha256") or {})[:1])


def _ratios(comparison: Comparison) -> Section:
    """A table per metric: every policy at every load."""
    tables = []
    options = list(comparison.loads[0])
    for metric, group in groupby(comparison.rows, key=lambda row: row.metric):
        rows = list(group)
        bounded = any(row.bound for row in rows)
        label, values = full_column(metric, [row.value for row in rows], _all_values(comparison, metric))
        headers = [*(name.replace("_", " ") for name in options), "arm", "value"]
        headers += [f"over {comparison.baseline}", "95 % interval"]
        headers += ["over the bound"] if bounded else []
        body: list[list[Any]] = []
        for row, value in zip(rows, values, strict=True):
            ratio = row.ratio
            cells: list[Any] = [*map(option_text, row.load.values()), row.arm, value]
            cells += [ratio_text(ratio.ratio), interval_text(ratio)] if ratio else ["", ""]
            if bounded:
                cells.append(row.value / row.bound if row.value and row.bound else None)
            body.append([*cells, remark(row)])
        tables.append(Table([*headers, ""], body, label))
    prose = (
        f"Each arm at each load, and its ratio to {comparison.baseline}. “Over the bound” is the mean "
        "over the least that any policy could reach on the same requests."
    )
    return Section("Every arm, metric and load", prose, tables)


def _order(comparison: Comparison) -> Section:
    taus = comparison.taus()
    rows = [
        [load_text(comparison.loads[load]), metric_label(metric, unit=False), tau,
         order_text(comparison, load, metric)]
        for (load, metric), tau in taus.items()
    ]  # fmt: skip
    prose = (
        "Which arm wins depends on the metric. Kendall's tau compares each order with that on "
        f"{metric_label(comparison.metrics[0], unit=False).lower()}: 1 is the same order, −1 the reverse."
    )
    return Section("Order of the arms", prose, [Table(["load", "metric", "tau", "best first"], rows)])


def _hidden(results: Results, comparison: Comparison) -> Section:
    load = comparison.samples.highest()
    samples = comparison.samples
    metrics = [
        name for name in HIDDEN if any(samples.mean(load, arm, name) is not None for arm in comparison.arms)
    ]
    columns = [
        full_column(
            name, [samples.mean(load, arm, name) for arm in comparison.arms], _all_values(comparison, name)
        )
        for name in metrics
    ]
    rows = [list(row) for row in zip(comparison.arms, *(means for _, means in columns), strict=True)]
    headers = ["arm", *(label for label, _ in columns)]
    tables = [Table(headers, rows, "Tails, starvation and unfinished requests")]
    deciles = by_decile(requests_at(results, samples, load))
    if deciles["mean"].count():
        headers, body = decile_rows(deciles, comparison.arms)
        tables.append(Table(headers, body, f"{COLUMNS['slowdown']} by output length (tokens)"))
    prose = [f"{highest_load_text(samples)}.", slowdown_note(samples, load)]
    return Section("What a mean hides", [each for each in prose if each], tables)
