"""One simulated setting, as `simsched.simulate` returns it."""

from __future__ import annotations

import shutil
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError
from simsched.results import Results, check_target

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from simsched.engine.config import ResolvedConfig


class Simulation:
    """What came of one setting: a results directory with one cell, which goes with this object."""

    def __init__(self, results: Results, config: ResolvedConfig, folder: Path) -> None:
        """`folder` is removed when nobody refers to this object any more."""
        self.results = results
        """For `simsched.compare`, figures and reports."""
        self.config = config
        """The engine, with what the cost profile has added."""
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        ((self._cell, self.options),) = results.cells.items()

    @property
    def requests(self) -> pl.DataFrame:
        """A row a request, in order of arrival: the options, lengths (tokens), times (s), preemptions, ..."""
        return self.results.requests

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Metric -> value, under vLLM bench's names, as in summary.csv; None where undefined."""
        row = self.results.summary.row(0, named=True)
        return {name: value for name, value in row.items() if name not in ("cell", *self.options)}

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """The step log, a dict a step: `time` (s), `scheduled` (request -> tokens), `preempted`, ...

        Raises:
            InputError: simulated without `log_steps=True`.
        """
        if not self.results.manifest["study"]["log_steps"]:
            raise InputError("simulation: no step log; expected log_steps=True when it was simulated")
        return list(self.results.steps(self._cell))

    @property
    def notes(self) -> list[str]:
        """What was chosen, estimated, dropped or cut without being asked for: lines for people."""
        return list(self.results.manifest["notes"])

    def plot(self, kind: str = "cdf", **options: Any) -> Figure:
        """A figure: `cdf`, `decile`, or `occupancy` with `log_steps=True`.

        Args:
            kind: which.
            options: of `simsched.plotting.figures.draw`.

        Raises:
            InputError: an unknown kind or option, or a figure that needs more than one setting.
        """
        from simsched.plotting.figures import draw

        return draw(self.results, kind, **options)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Results:
        """Keep the results directory, as `simsched run` would write it.

        Raises:
            InputError: something is there that may not be replaced.
        """
        check_target(Path(path), self.results.manifest, overwrite=overwrite)
        if overwrite and Path(path).exists():
            shutil.rmtree(path)
        shutil.copytree(self.results.path, path, dirs_exist_ok=True)
        return Results.open(path)

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name}={value}" for name, value in self.options.items() if value is not None)
        names = ("mean_ttft_ms", "mean_tpot_ms", "mean_latency_per_token_ms", "request_throughput")
        found = ", ".join(
            f"{name} {self.summary[name]:.4g}" for name in names if self.summary[name] is not None
        )
        return f"<Simulation of {chosen}: {len(self.requests):,} requests, {found}>"
