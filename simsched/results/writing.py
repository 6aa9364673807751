"""Writing a results directory: cells in any order, by several processes, then the merged tables."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError, RunError
from simsched.files import TEMPORARY, temporary_name, write_file
from simsched.metrics import ALL_METRICS, METRICS, Requests, measure
from simsched.rank_metrics import RANK_METRICS
from simsched.results.layout import (
    FAILED,
    FIGURES,
    FILES,
    FOLDERS,
    Options,
    check_extension,
    check_target,
    read_manifest,
)
from simsched.results.over_runs import over_runs
from simsched.results.reading import Results, read_parquet
from simsched.results.windows import (
    AUTO,
    backlog_of,
    load_windows,
    replays_times,
    starts_sessions,
    verdict_columns,
)

if TYPE_CHECKING:
    import polars as pl


class ResultsWriter:
    """Writes a results directory. Cells may be written by several processes, in any order."""

    def __init__(self, path: str | Path, cells: Mapping[str, Options]) -> None:
        self.path = Path(path)
        self.cells = cells

    @classmethod
    def create(
        cls,
        path: str | Path,
        manifest: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> ResultsWriter:
        """Make the directory and its manifest (JSON values; `cells`: name -> options).

        Raises:
            InputError: see `check_target`.
        """
        path = Path(path)
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        if not check_target(path, manifest, resume=resume, overwrite=overwrite):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{path}: cannot make the directory: {error.strerror}") from None
            for old in [
                *(path / name for name in (*FOLDERS, *FILES)),
                *(figure for pattern in FIGURES for figure in (path / "figures").glob(pattern)),
            ]:
                _remove(old)
            # replaced, never removed: a kill at any point leaves a directory that --overwrite knows as ours
            write_file(path / "manifest.json", text.encode())
        return cls._opened(path, manifest)

    @classmethod
    def extend(cls, path: str | Path, manifest: Mapping[str, Any]) -> ResultsWriter:
        """A larger manifest for what is there; its cells stay, the merged tables go until all are done.

        Raises:
            InputError: see `check_extension`.
        """
        path = Path(path)
        if not check_extension(path, manifest):
            for old in ("requests.parquet", "summary.json", "summary.csv", "report.html"):
                _remove(path / old)
            text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
            write_file(path / "manifest.json", text.encode())
        return cls._opened(path, manifest)

    @classmethod
    def _opened(cls, path: Path, manifest: Mapping[str, Any]) -> ResultsWriter:
        """Without what a kill has left behind."""
        for leftover in [*path.glob(f"{TEMPORARY}*"), *path.glob(f"*/{TEMPORARY}*")]:
            _remove(leftover)
        return cls(path, manifest["cells"])

    def pending(self) -> list[str]:
        """The cells that are not finished, in the order of the grid."""
        return [cell for cell in self.cells if not (self.path / "cells" / cell).is_dir()]

    def step_log(self, cell: str) -> StepLogFile:
        """A step log for this cell, to pass to `write_cell`."""
        return StepLogFile(self.path / "steps" / f"{cell}.jsonl")

    def write_cell(
        self,
        cell: str,
        table: pl.DataFrame,
        metrics: Mapping[str, float],
        steps: StepLogFile | None = None,
        beyond_fit: float = 0.0,
        host_bound_share: float = math.nan,
        ranks: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """Store a finished cell: `request_table` and `summarize` of its run, the share of its steps with more
        decodes than the cost profile's fit has seen, that of its time which the host bounds, and the
        `RANK_METRICS` of each rank, if it has some. It appears whole or not."""
        import polars as pl

        options = self.cells[cell]
        if steps is not None:
            steps.close()
        columns = [_literal(name, value) for name, value in options.items()]
        buffer = io.BytesIO()
        table.select(*columns, pl.all()).write_parquet(buffer)
        temporary = temporary_name(self.path / "cells" / cell)
        temporary.mkdir(parents=True, exist_ok=True)
        (temporary / "requests.parquet").write_bytes(buffer.getvalue())
        row = {name: _json_number(metrics[name]) for name in ALL_METRICS if name in metrics}
        manifest = read_manifest(self.path) or {}
        sessions = starts_sessions(cell, options, manifest)
        backlog = backlog_of(Requests.of_table(table), sessions_start=sessions)
        more: dict[str, Any] = {
            "backlog": backlog,
            "beyond_fit": beyond_fit,
            "host_bound_share": _json_number(host_bound_share),
        }
        if ranks:
            more["ranks"] = [{name: _json_number(each[name]) for name in each} for each in ranks]
        (temporary / "summary.json").write_text(json.dumps(row | more, indent=1) + "\n", encoding="utf-8")
        self._store(temporary, cell)

    def write_failed(self, cell: str, reason: str, steps: StepLogFile | None = None) -> None:
        """Store a cell whose run could not go on; a resume keeps it so, since it would fail again."""
        if steps is not None:
            steps.discard()
        temporary = temporary_name(self.path / "cells" / cell)
        temporary.mkdir(parents=True, exist_ok=True)
        (temporary / FAILED).write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")
        self._store(temporary, cell)

    def _store(self, temporary: Path, cell: str) -> None:
        try:
            temporary.rename(self.path / "cells" / cell)
        except OSError:
            if not (self.path / "cells" / cell).is_dir():
                raise
            _remove(temporary)  # another process finished the same cell first

    def failed(self) -> dict[str, str]:
        """The cells that have failed -> why."""
        found = {}
        for cell in self.cells:
            path = self.path / "cells" / cell / FAILED
            if path.is_file():
                try:
                    found[cell] = str(json.loads(path.read_text(encoding="utf-8"))["reason"])
                except (OSError, ValueError, KeyError, TypeError):
                    raise InputError(
                        f"{path.parent}: damaged; remove this folder, and --resume makes it anew"
                    ) from None
        return found

    def merge(self) -> Results:
        """All cells are there or have failed: write requests.parquet, summary.json and summary.csv.

        Raises:
            RunError: every cell has failed, so there is nothing to merge; or (InputError) one is damaged.
        """
        import polars as pl

        failed = self.failed()
        if len(failed) == len(self.cells):
            first = next(iter(self.cells))
            raise RunError(f"{self.path}: no cell could be run; {first}: {failed[first]}")
        tables: dict[str, pl.DataFrame] = {}
        found: dict[str, dict[str, Any]] = {}
        for cell in self.cells:
            if cell in failed:
                continue
            folder = self.path / "cells" / cell
            try:
                tables[cell] = _with_options(read_parquet(folder / "requests.parquet"), self.cells[cell])
                found[cell] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
                _ = [found[cell][name] for name in (*METRICS, "backlog")]
            except (OSError, ValueError, KeyError, TypeError, InputError):
                raise InputError(
                    f"{folder}: damaged; remove this folder, and --resume makes it anew"
                ) from None
        rows = self._rows(tables, found)
        beyond_fit = {cell: metrics.get("beyond_fit", 0.0) for cell, metrics in found.items()}
        buffer = io.BytesIO()
        pl.concat(tables.values(), how="diagonal_relaxed").write_parquet(buffer)
        write_file(self.path / "requests.parquet", buffer.getvalue())
        summary = {
            "cells": rows,
            "over_runs": over_runs(rows, list(next(iter(self.cells.values())))),
            "beyond_fit": beyond_fit,
            "failed": failed,
        }
        if ranks := {cell: metrics["ranks"] for cell, metrics in found.items() if "ranks" in metrics}:
            summary["ranks"] = ranks
        write_file(self.path / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        steady = {True: "true", False: "false", None: None}
        writer.writerows({**row, "steady": steady[row["steady"]]} for row in rows)
        write_file(self.path / "summary.csv", text.getvalue().encode())
        return Results.open(self.path)

    def _rows(
        self, tables: Mapping[str, pl.DataFrame], found: Mapping[str, Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """A row of the summary per cell: its metrics in the window of its load, and what its backlog does."""
        manifest = read_manifest(self.path) or {}
        backlogs = {cell: metrics["backlog"] for cell, metrics in found.items()}
        tails = {cell: metrics["p99_e2el_ms"] for cell, metrics in found.items()}
        cells = {cell: options for cell, options in self.cells.items() if cell in found}
        wanted = manifest.get("window") or {}
        starts = {
            cell: float(Requests.of_table(tables[cell]).arrival.min())
            for cell, options in cells.items()
            if wanted.get("warmup") != AUTO and replays_times(options, manifest)
        }
        windows = load_windows(cells, backlogs, tails, wanted, starts)
        goodput = (manifest.get("study") or {}).get("goodput")
        rows = []
        # those of sessions are columns where any cell has some
        names = [name for name in ALL_METRICS if any(name in metrics for metrics in found.values())]
        for cell, options in cells.items():
            metrics = {name: found[cell].get(name) for name in names}
            if (window := windows.get(cell)) is not None:
                itl = {name: metrics[name] or math.nan for name in METRICS if name.endswith("_itl_ms")}
                requests = Requests.of_table(tables[cell])
                inside = measure(requests, itl=itl, goodput=goodput, window=window)
                of_run = {name: metrics[name] for name in RANK_METRICS if name in metrics}
                metrics = {name: _json_number(inside.get(name, math.nan)) for name in names} | of_run
            of_all = {name: metrics.pop(name) for name in METRICS}
            host = {"host_bound_share": found[cell].get("host_bound_share")}
            verdict = verdict_columns(backlogs[cell])
            rows.append({"cell": cell, **options, **of_all, **verdict, **host, **metrics})
        return rows

    def log(self, line: str) -> None:
        """Append a line with the time of day to run.log."""
        with (self.path / "run.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")


class StepLogFile:
    """One JSON object a step, into a file that gets its name when it is complete."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.path = path
        self._temporary = temporary_name(path)
        self._file = self._temporary.open("w", encoding="utf-8")

    def __call__(self, step: Mapping[str, Any]) -> None:
        """Append one step."""
        self._file.write(json.dumps(step, ensure_ascii=False) + "\n")

    def discard(self) -> None:
        """The run could not go on: no log."""
        self._file.close()
        self._temporary.unlink()

    def close(self) -> None:
        """The log is complete."""
        self._file.close()
        os.replace(self._temporary, self.path)


def _with_options(table: pl.DataFrame, options: Options) -> pl.DataFrame:
    """A cell's table with those options too that were not swept yet when it was written."""
    import polars as pl

    if all(name in table.columns for name in options):
        return table
    columns = [_literal(name, value) for name, value in options.items()]
    return table.select(*columns, pl.exclude(list(options)))


def _literal(name: str, value: str | int | float | bool | None) -> pl.Expr:
    import polars as pl

    dtype = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}.get(type(value), pl.Null)
    return pl.lit(value, dtype=pl.Float64 if name == "request_rate" else dtype).alias(name)


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
