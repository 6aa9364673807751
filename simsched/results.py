"""A results directory: written cell by cell, killed and resumed at will, read by everything else.

    manifest.json       configuration, seed, versions, hashes, and the cells with their options
    cells/CELL/         a finished cell: requests.parquet and summary.json; appears whole or not at all
    steps/CELL.jsonl    its step log, if asked for
    requests.parquet    all cells, merged at the end in the order of the manifest
    summary.csv, .json  a row per cell; confidence intervals over runs in the JSON
    run.log             times of day and durations, which nothing else holds

Everything but run.log is byte-identical for the same configuration, seed and installed versions. Simulated
and real runs share this format.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError
from simsched.metrics import METRICS, REQUEST_NUMBERS

if TYPE_CHECKING:
    import polars as pl

Options = dict[str, str | int | float | bool | None]
"""A cell's values of the swept options: policy, workload, request_rate (req/s; None: as traced), preset,
run, seed, then whatever else was swept."""

FILES = ("requests.parquet", "summary.csv", "summary.json", "run.log", "report.html")
FOLDERS = ("cells", "steps")
FIGURES = ("*.png", "*.svg", "*.pdf")
RUN_OPTIONS = ("run", "seed")
"""Options that tell runs of one setting apart."""


@dataclass(frozen=True)
class Results:
    """A finished results directory, read when asked."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Results:
        """Read a results directory.

        Raises:
            InputError: not a results directory, damaged, or not finished.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        if manifest is None:
            raise InputError(f"{path}: not a simsched results directory (no manifest.json)")
        missing = [name for name in FILES[:3] if not (path / name).is_file()]
        if missing:
            done = sum((path / "cells" / cell).is_dir() for cell in manifest["cells"])
            raise InputError(
                f"{path}: unfinished ({done} of {len(manifest['cells'])} cells, no {missing[0]}); "
                "finish it with the same command and --resume"
            )
        return cls(path, manifest)

    @property
    def cells(self) -> dict[str, Options]:
        """Cell name -> its options, in the order of the grid."""
        cells: dict[str, Options] = self.manifest["cells"]
        return cells

    @cached_property
    def summary(self) -> pl.DataFrame:
        """A row per cell: `cell`, the options, then `simsched.metrics.METRICS` (null where undefined)."""
        import polars as pl

        try:
            frame = pl.DataFrame(self._summary["cells"], infer_schema_length=None)
        except (TypeError, pl.exceptions.PolarsError):
            raise InputError(f"{self.path / 'summary.json'}: damaged, expected a list of cells") from None
        self._check(frame, "summary.json", ["cell", *self._options], METRICS)
        return frame

    @property
    def over_runs(self) -> list[dict[str, Any]]:
        """A dict per setting: the options without run and seed, then `over_runs` of each metric."""
        settings: list[dict[str, Any]] = self._summary["over_runs"]
        return settings

    @cached_property
    def _summary(self) -> dict[str, Any]:
        path = self.path / "summary.json"
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            return {key: summary[key] for key in ("cells", "over_runs")}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: damaged, expected a summary of simsched") from None

    @cached_property
    def requests(self) -> pl.DataFrame:
        """A row per request: the options, then the columns of `simsched.metrics.request_table`."""
        frame = _read_parquet(self.path / "requests.parquet")
        self._check(frame, "requests.parquet", [*self._options, "request_id"], REQUEST_NUMBERS)
        return frame

    @property
    def _options(self) -> list[str]:
        return list(next(iter(self.cells.values())))

    def _check(self, frame: pl.DataFrame, file: str, columns: Sequence[str], numbers: Sequence[str]) -> None:
        """Refuse a table that lacks a column, or has something else than numbers where those are expected."""
        for name in (*columns, *numbers):
            if name not in frame.columns:
                raise InputError(f"{self.path / file}: damaged, no column {name}")
        for name in numbers:
            if not (frame[name].dtype.is_numeric() or frame[name].is_null().all()):
                raise InputError(f"{self.path / file}: damaged, {name} is not a number everywhere")

    def steps(self, cell: str) -> Iterator[dict[str, Any]]:
        """The step log of a cell, one dict a step.

        Raises:
            InputError: no such cell, no log (`--log-steps`), or a damaged line.
        """
        path = self.path / "steps" / f"{cell}.jsonl"
        if cell not in self.cells:
            raise InputError(f"{self.path}: no cell {cell}; it has {', '.join(list(self.cells)[:5])}, …")
        if not path.is_file():
            raise InputError(f"{path}: no such step log; run with --log-steps")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except ValueError:
                    raise InputError(f"{path}:{number}: not JSON: {line[:60]!r}") from None


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
            write_atomic(path / "manifest.json", text.encode())
        for leftover in [*path.glob(".tmp-*"), *path.glob("*/.tmp-*")]:
            _remove(leftover)
        return cls(path, manifest["cells"])

    def pending(self) -> list[str]:
        """The cells that are not finished, in the order of the grid."""
        return [cell for cell in self.cells if not (self.path / "cells" / cell).is_dir()]

    def step_log(self, cell: str) -> StepLog:
        """A step log for this cell, to pass to `write_cell`."""
        return StepLog(self.path / "steps" / f"{cell}.jsonl")

    def write_cell(
        self, cell: str, table: pl.DataFrame, metrics: Mapping[str, float], steps: StepLog | None = None
    ) -> None:
        """Store a finished cell: `request_table` and `summarize` of its run. It appears whole or not."""
        import polars as pl

        options = self.cells[cell]
        if steps is not None:
            steps.close()
        columns = [_literal(name, value) for name, value in options.items()]
        buffer = io.BytesIO()
        table.select(*columns, pl.all()).write_parquet(buffer)
        temporary = self.path / "cells" / f".tmp-{cell}-{os.getpid()}"
        temporary.mkdir(parents=True, exist_ok=True)
        (temporary / "requests.parquet").write_bytes(buffer.getvalue())
        row = {name: _json_number(metrics[name]) for name in METRICS}
        (temporary / "summary.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        try:
            temporary.rename(self.path / "cells" / cell)
        except OSError:
            if not (self.path / "cells" / cell).is_dir():
                raise
            _remove(temporary)  # another process finished the same cell first

    def merge(self) -> Results:
        """All cells are there: write requests.parquet, summary.json and summary.csv."""
        import polars as pl

        tables, rows = [], []
        for cell, options in self.cells.items():
            folder = self.path / "cells" / cell
            tables.append(_read_parquet(folder / "requests.parquet"))
            try:
                metrics = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
                rows.append({"cell": cell, **options, **{name: metrics[name] for name in METRICS}})
            except (OSError, ValueError, KeyError):
                raise InputError(f"{folder / 'summary.json'}: damaged; remove {folder} and resume") from None
        buffer = io.BytesIO()
        pl.concat(tables, how="vertical_relaxed").write_parquet(buffer)
        write_atomic(self.path / "requests.parquet", buffer.getvalue())
        summary = {"cells": rows, "over_runs": over_runs(rows, list(next(iter(self.cells.values()))))}
        write_atomic(self.path / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / "summary.csv", text.getvalue().encode())
        return Results.open(self.path)

    def log(self, line: str) -> None:
        """Append a line with the time of day to run.log."""
        with (self.path / "run.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")


class StepLog:
    """One JSON object a step, into a file that gets its name when it is complete."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.path = path
        self._temporary = path.parent / f".tmp-{path.name}-{os.getpid()}"
        self._file = self._temporary.open("w", encoding="utf-8")

    def __call__(self, step: Mapping[str, Any]) -> None:
        """Append one step."""
        self._file.write(json.dumps(step, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """The log is complete."""
        self._file.close()
        os.replace(self._temporary, self.path)


def check_target(
    path: Path, manifest: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
) -> bool:
    """May these results be written to `path`? True if it holds results to be resumed. Writes nothing.

    Raises:
        InputError: it exists and neither `resume` nor `overwrite` is given, it is not ours to touch, or it
            holds results of another configuration.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other")
    try:
        empty = not path.exists() or all(entry.name.startswith(".tmp-") for entry in path.iterdir())
    except NotADirectoryError:
        raise InputError(f"{path}: exists and is not a directory") from None
    except OSError as error:
        raise InputError(f"{str(path)[:200]}: cannot be a results directory: {error.strerror}") from None
    if empty:
        return False
    old = _read_manifest(path)
    if old is None:
        raise InputError(f"{path}: exists and holds no simsched results; choose another directory")
    if not (resume or overwrite):
        done = sum((path / "cells" / cell).is_dir() for cell in old["cells"])
        raise InputError(
            f"{path}: exists ({done} of {len(old['cells'])} cells done); "
            "continue it with --resume, replace it with --overwrite, or choose another directory with -o"
        )
    if overwrite:
        return False
    if difference := _difference(old, json.loads(json.dumps(manifest))):
        raise InputError(f"{path}: --resume with another configuration: {difference}")
    return True


def over_runs(rows: Sequence[Mapping[str, Any]], options: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and 95 % t-interval over runs of every metric, per setting (the options without run and seed).

    Each metric becomes `{"mean", "ci95": [low, high], "n"}`; the interval is null with fewer than two runs.
    """
    import numpy as np

    settings = [name for name in options if name not in RUN_OPTIONS]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in settings), []).append(row)
    summaries = []
    for key, group in groups.items():
        summary: dict[str, Any] = dict(zip(settings, key, strict=True))
        for metric in METRICS:
            values = np.array([row[metric] for row in group if row[metric] is not None], dtype=float)
            n = len(values)
            interval = None
            if n > 1:
                from scipy.special import stdtrit

                half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
                interval = [float(values.mean()) - half, float(values.mean()) + half]
            summary[metric] = {"mean": float(values.mean()) if n else None, "ci95": interval, "n": n}
        summaries.append(summary)
    return summaries


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.parent / f".tmp-{path.name}-{os.getpid()}"
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        text = (path / "manifest.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        raise InputError(f"{path / 'manifest.json'}: cannot be read as text") from None
    try:
        manifest = json.loads(text)
        options = list(manifest["cells"].values())
        alike = all(list(each) == list(options[0]) for each in options)
        if options and alike and "policy" in options[0] and isinstance(manifest.get("study", {}), dict):
            return dict(manifest)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{path / 'manifest.json'}: damaged, not a manifest of simsched")


def _read_parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        raise InputError(f"{path}: missing or damaged, expected a Parquet file") from None


def _literal(name: str, value: str | int | float | bool | None) -> pl.Expr:
    import polars as pl

    dtype = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}.get(type(value), pl.Null)
    return pl.lit(value, dtype=pl.Float64 if name == "request_rate" else dtype).alias(name)


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first place where two JSON values differ, in words; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            place = f"{where}.{key}" if where else key
            if difference := _difference(old.get(key), new.get(key), place):
                return difference
        return None
    return None if old == new else f"{where} is {_short(old)} there, {_short(new)} here"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
