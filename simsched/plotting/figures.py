"""Whole figures: the panels of each kind, and the files they are saved to."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.compare.arms import Load
from simsched.compare.phrases import load_text
from simsched.compare.samples import PRIMARY, fixed_options, samples_of, stated, swept_options
from simsched.compare.sessions import BY as SESSION
from simsched.errors import InputError
from simsched.files import write_file
from simsched.metrics import ALL_METRICS
from simsched.plotting.backlog import BacklogDisplay
from simsched.plotting.grids import HeatmapDisplay, ParetoDisplay
from simsched.plotting.groups import GroupDisplay, groups_height
from simsched.plotting.latency import LatencyDisplay, PolicyDisplay, TauDisplay, dots_height
from simsched.plotting.occupancy import OccupancyDisplay
from simsched.plotting.requests import OF_SESSIONS as SESSION_VALUES
from simsched.plotting.requests import CDFDisplay, DecileDisplay
from simsched.plotting.style import WIDTH, NoDataError, image_bytes, legend_on_top, styled, wrapped
from simsched.text.labels import metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simsched.results import Results

FORMATS = ("png", "svg", "pdf")
LATENCY_METRICS = (PRIMARY, "mean_ttft_ms")
OF_A_SESSION = ("mean_first_answer_ms", "mean_session_completion_ms", "mean_session_slowdown")
ALL_OF_SESSIONS = [name for name in ALL_METRICS if "session" in name or name.endswith("first_answer_ms")]
OF_SESSIONS = ("latency", "cdf")
"""Kinds that can be drawn `by: session`."""
Metric = str | Sequence[str] | None
Where = Mapping[str, Any] | None
_MOST_PANELS = 6
_TITLE = 42  # letters above one of two panels in a row
_LABELLED = 50  # letters of an arm's name and of an axis' label that one of two panels in a row has room for
_TRADE_OFF = 6  # arms, from which on a trade-off is drawn unasked


def draw(results: Results, kind: str = "latency", **options: Any) -> Figure:
    """A figure of a results directory.

    Args:
        results: a finished directory.
        kind: one of `KINDS`.
        options: `metric` (latency, tau: a column of the summary or a list of them; cdf: of `ttft, tpot, e2el,
            latency_per_token`; decile: one of `simsched.compare.deciles.COLUMNS`), `where` (swept options to
            hold fixed; by default the highest load, where a figure shows one), `along` (latency: the option
            on the horizontal axis; heatmap: the two on its axes), `relative_to` (latency, tau: draw ratios
            to this arm), `by` (groups: a column that the trace brought, such as `tenant`; latency, cdf:
            `session`, of sessions in place of requests), `title`.

    Raises:
        InputError: an unknown kind or option, or results that don't hold what the figure shows.
    """
    if kind not in KINDS:
        raise InputError(f"figure kind {kind}: expected one of {', '.join(KINDS)}")
    options = {name: value for name, value in options.items() if value is not None}
    title = options.pop("title", None)
    for name in options:
        if name not in inspect.signature(KINDS[kind]).parameters or name == "results":
            known = [*list(inspect.signature(KINDS[kind]).parameters)[1:], "title"]
            raise InputError(f"figure option {name}: {kind} has no such option; expected {', '.join(known)}")
    if options.get("where"):
        options["where"] = fixed_options(results, options["where"])
    with styled():
        figure = KINDS[kind](results, **options)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
            for legend in figure.legends:
                legend.set_loc("outside lower center")  # the title has its place
    return figure


def draw_all(results: Results, where: Where = None) -> dict[str, Figure]:
    """Name -> figure: those that the study asks for, else every kind that the results have data for.

    `where`: options to hold fixed; the study's own figures are then left out.
    """
    wanted = () if where else results.manifest.get("study", {}).get("figures") or ()
    figures: dict[str, Figure] = {}
    for number, options in enumerate(wanted):
        kind = str(options.get("kind", "latency"))
        repeated = sum(each.get("kind", "latency") == kind for each in wanted) > 1
        figures[f"{kind}-{number + 1}" if repeated else kind] = draw(results, **options)
    if wanted:
        return figures
    for kind in KINDS:
        if kind == "tau" and swept_number(results, where) == "tau":
            continue  # that is the latency figure
        if kind == "backlog" and len(samples_of(results, where=where).loads) > _MOST_PANELS:
            continue
        if kind == "pareto" and len(samples_of(results, where=where).arms) < _TRADE_OFF:
            continue
        try:
            figures[kind] = draw(results, kind, where=where or None)
        except NoDataError:
            continue  # no step logs, no swept tau, no slowdown
    return figures


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's name; whole or not at all.

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    write_file(Path(path), image_bytes(figure, kind_of(path)))


def kind_of(path: str | Path) -> str:
    """One of `FORMATS`, by the file's name.

    Raises:
        InputError: another ending.
    """
    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise InputError(f"{path}: expected a name that ends in .{', .'.join(FORMATS)}")
    return kind


def _arrange(
    panels: Sequence[tuple[Any, Load]], *, height: float = 3.5, legend: bool = True, columns: int = 2
) -> Figure:
    """A figure of displays, each with the setting it shows, under one legend.

    A display alone names its lines directly instead.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + height * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    several = legend and len(panels) > 1
    for ax, (display, setting) in zip(axes, panels, strict=False):
        display.plot(ax, **({"label_lines": not several} if legend else {}))
        title = load_text(setting)
        ax.set_title(title if columns == 1 else textwrap.fill(title, _TITLE, break_on_hyphens=False))
    if several:
        legend_on_top(figure, axes[0])
    return figure


def _settings(results: Results, but: str, where: Where) -> list[Load]:
    """The loads that agree with `where`, but for one option: a panel for each."""
    settings: list[Load] = []
    for load in samples_of(results, where=where).loads:
        setting = {name: value for name, value in load.items() if name != but}
        if setting not in settings:
            settings.append(setting)
    if len(settings) > _MOST_PANELS:
        raise InputError(
            f"{results.path}: {len(settings)} loads ({load_text(settings[0])}, ...) are too many for a "
            "figure; fix some with `where`"
        )
    return settings


def _metrics(metric: Metric, default: Sequence[str]) -> list[str]:
    return list(default) if metric is None else [metric] if isinstance(metric, str) else list(metric)


def _latency(
    results: Results,
    metric: Metric = None,
    where: Where = None,
    relative_to: str | None = None,
    along: str | None = None,
    by: str | None = None,
) -> Figure:
    """Along the request rate, or another option that was swept; at a single load a dot per arm."""
    of_sessions = _of_sessions(results, by, _metrics(metric, ()), ALL_OF_SESSIONS)
    names = _metrics(metric, OF_A_SESSION if of_sessions else LATENCY_METRICS)
    option = along or swept_number(results, where)
    if option is not None:
        if option not in swept_options(results)[1]:
            raise InputError(f"figure option along {option}: it does not vary in these results")
        return _along(LatencyDisplay, option, results, names, where, relative_to)
    panels = [
        (
            PolicyDisplay.from_results(results, metric=name, where={**(where or {}), **setting}),
            stated(results, setting, where),
        )
        for setting in _settings(results, "", where)
        for name in names
    ]
    arms = samples_of(results, where=where).names
    longest = max(map(len, arms)) + max(len(metric_label(name)) for name in names)
    folded = any("\n" in wrapped(arm) for arm in arms)  # long names take the width
    columns = 1 if folded or longest > _LABELLED else 2
    return _arrange(panels, height=0.7 + dots_height(arms), legend=False, columns=columns)


def swept_number(results: Results, where: Where = None) -> str | None:
    """The request rate if it varies, else the first option of an arm with several numbers, else None."""
    samples = samples_of(results, where=where)
    for parts in (samples.loads, list(samples.arms.values())):
        for name in dict.fromkeys(name for each in parts for name in each):
            values = {each.get(name) for each in parts}
            numbers = {value for value in values if isinstance(value, int | float) and math.isfinite(value)}
            if len(numbers) > 1 and not any(isinstance(value, bool) for value in values):
                return name
    return None


def _tau(
    results: Results, metric: Metric = None, where: Where = None, relative_to: str | None = None
) -> Figure:
    if "tau" not in swept_options(results)[1]:
        raise NoDataError(f"{results.path}: one tau alone; expected several")
    return _along(TauDisplay, "tau", results, _metrics(metric, (PRIMARY,)), where, relative_to)


def _along(
    display: type[LatencyDisplay],
    along: str,
    results: Results,
    metrics: Sequence[str],
    where: Where,
    relative_to: str | None,
) -> Figure:
    panels = []
    for setting in _settings(results, along, where):
        for name in metrics:
            drawn = display.from_results(
                results,
                metric=name,
                along=along,
                where={**(where or {}), **setting},
                relative_to=relative_to,
            )
            panels.append((drawn, setting))
    return _arrange(panels)


def _one_load(results: Results, where: Where) -> tuple[dict[str, Any], Load]:
    """`where` with the highest load among those that agree with it, and that load."""
    samples = samples_of(results, where=where)
    load = samples.loads[samples.highest()]
    return {**(where or {}), **load}, stated(results, load, where)


def _of_sessions(results: Results, by: str | None, metrics: Sequence[str], known: Sequence[str]) -> bool:
    """Is a figure of sessions, in place of requests, asked for?

    Raises:
        InputError: by something else, or metrics that are not of sessions (`known`); (`NoDataError`) the
            requests have no sessions.
    """
    if by is None:
        return False
    if by != SESSION:
        raise InputError(f"figure option by {by}: expected {SESSION}, or the kind groups")
    if "session_id" not in results.requests.columns:
        raise NoDataError(f"{results.path}: by {by}: these requests have no session_id")
    for name in metrics:
        if name not in known:
            raise InputError(f"metric {name}: not of sessions; expected some of {', '.join(known)}")
    return True


def _cdf(results: Results, metric: Metric = None, where: Where = None, by: str | None = None) -> Figure:
    of_sessions = _of_sessions(results, by, _metrics(metric, ()), SESSION_VALUES)
    fixed, load = _one_load(results, where)
    names = _metrics(metric, SESSION_VALUES if of_sessions else ("ttft", "tpot"))
    panels = []
    for name in names:
        try:
            panels.append((CDFDisplay.from_results(results, metric=name, where=fixed), load))
        except NoDataError:
            if metric is not None or not panels:
                raise  # asked for, or nothing is finished; else outputs of one token have no TPOT
    return _arrange(panels)


def _decile(results: Results, metric: Metric = None, where: Where = None) -> Figure:
    fixed, load = _one_load(results, where)
    names = _metrics(metric, ("slowdown",))
    return _arrange([(DecileDisplay.from_results(results, column=name, where=fixed), load) for name in names])


def _occupancy(results: Results, where: Where = None) -> Figure:
    fixed, load = _one_load(results, where)
    display = OccupancyDisplay.from_results(results, where=fixed).plot()
    first = display.axes_[0]
    first.set_title("\n".join(filter(None, (load_text(load), first.get_title(loc="left")))))
    return display.figure_


def _backlog(results: Results, where: Where = None) -> Figure:
    """Requests in the system over time, a panel a load."""
    panels: list[tuple[Any, Load]] = []
    for setting in _settings(results, "", where):
        display = BacklogDisplay.from_results(results, where={**(where or {}), **setting})
        panels.append((display, stated(results, setting, where)))
    return _arrange(panels)


def _heatmap(
    results: Results, metric: Metric = None, where: Where = None, along: Sequence[str] | None = None
) -> Figure:
    """Two options on the axes, a panel for each of the other arms, on one scale of colours."""
    (name,) = _metrics(metric, (PRIMARY,))[:1]
    return HeatmapDisplay.from_results(results, metric=name, along=along, where=where).plot().figure_


def _pareto(results: Results, metric: Metric = None, where: Where = None) -> Figure:
    """Latency against goodput, or against tokens per second where no goodput was asked for."""
    good = results.summary["good_share"].count() > 0
    names = _metrics(metric, (PRIMARY, "request_goodput" if good else "output_throughput"))
    return ParetoDisplay.from_results(results, metrics=names, where=where).plot().figure_


def _groups(results: Results, by: str | None = None, metric: Metric = None, where: Where = None) -> Figure:
    """Each tenant, class or other group of requests, at the highest load."""
    if by is None:
        raise NoDataError(f"{results.path}: groups by what? expected by: tenant, class, ...")
    fixed, load = _one_load(results, where)
    panels = []
    for name in _metrics(metric, ("mean_ttft_ms", "mean_slowdown")):
        try:
            panels.append((GroupDisplay.from_results(results, by=by, metric=name, where=fixed), load))
        except NoDataError:
            if metric is not None or not panels:
                raise  # asked for; else what was measured elsewhere has no slowdown
    display = panels[0][0]
    return _arrange(panels, height=groups_height(display.groups, display.values), columns=1)


KINDS: dict[str, Callable[..., Figure]] = {
    "latency": _latency,
    "cdf": _cdf,
    "decile": _decile,
    "backlog": _backlog,
    "pareto": _pareto,
    "heatmap": _heatmap,
    "groups": _groups,
    "occupancy": _occupancy,
    "tau": _tau,
}
"""Kind of figure -> how it is drawn."""
