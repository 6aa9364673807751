"""A finished results directory, read when asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError
from simsched.metrics import GROWTH, METRICS, SUMMARY
from simsched.request_table import REQUEST_NUMBERS
from simsched.results.layout import FILES, Options, read_manifest
from simsched.text.arm_names import resolved, study_labels

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Results:
    """A finished results directory, read when asked."""

    path: Path
    manifest: dict[str, Any]
    measured: dict[str, Any] | None = None
    """The content of summary.json, computed anew (`simsched.results.remeasure`); None: as it is."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What whoever reads them calls arms: name -> the options that it stands for."""

    @classmethod
    def open(cls, path: str | Path) -> Results:
        """Read a results directory.

        Raises:
            InputError: not a results directory, damaged, or not finished.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if manifest is None:
            raise InputError(f"{path}: not a simsched results directory (no manifest.json)")
        missing = [name for name in FILES[:3] if not (path / name).is_file()]
        if missing:
            done = sum((path / "cells" / cell).is_dir() for cell in manifest["cells"])
            raise InputError(
                f"{path}: unfinished ({done} of {len(manifest['cells'])} cells, no {missing[0]}); "
                "finish it with the same command and --resume"
            )
        given = (manifest.get("study") or {}).get("label")
        if not given:
            return cls(path, manifest)
        options = list(manifest["cells"].values())
        labels = study_labels(given, list(options[0]))
        known = {name: label for name, label in labels.items() if label.keys() <= options[0].keys()}
        return cls(path, manifest, labels=resolved(known, options))

    @property
    def cells(self) -> dict[str, Options]:
        """Cell name -> its options, in the order of the grid; without those that have failed."""
        cells: dict[str, Options] = self.manifest["cells"]
        return {cell: options for cell, options in cells.items() if cell not in self.failed}

    @property
    def failed(self) -> dict[str, str]:
        """The cells whose run could not go on -> why."""
        if not (self.path / "summary.json").is_file():
            return {}  # older replays, and such as were cut to their requests, have none
        failed: dict[str, str] = self._summary["failed"]
        return failed

    @cached_property
    def summary(self) -> pl.DataFrame:
        """A row per cell: `cell`, the options, then `simsched.metrics.SUMMARY` (null where undefined)."""
        import polars as pl

        try:
            frame = pl.DataFrame(self._summary["cells"], infer_schema_length=None)
        except (TypeError, pl.exceptions.PolarsError):
            raise InputError(f"{self.path / 'summary.json'}: damaged, expected a list of cells") from None
        rates = [name for name in self._options if name == "request_rate"]
        self._check(frame, "summary.json", ["cell", *self._options, *SUMMARY], [*rates, *METRICS, *GROWTH])
        return frame

    @property
    def over_runs(self) -> list[dict[str, Any]]:
        """A dict per setting: the options without run and seed, then `over_runs` of each metric."""
        settings: list[dict[str, Any]] = self._summary["over_runs"]
        return settings

    @property
    def beyond_fit(self) -> dict[str, float]:
        """Cell -> share of its steps with more decodes than the cost profile's fit has seen."""
        shares: dict[str, float] = self._summary["beyond_fit"]
        return shares

    @cached_property
    def _summary(self) -> dict[str, Any]:
        if self.measured is not None:
            return self.measured
        path = self.path / "summary.json"
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            known = {key: summary[key] for key in ("cells", "over_runs")}
            return {**known, "beyond_fit": summary.get("beyond_fit", {}), "failed": summary.get("failed", {})}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: damaged, expected a summary of simsched") from None

    @cached_property
    def requests(self) -> pl.DataFrame:
        """A row per request: the options, then the columns of `simsched.request_table`."""
        frame = read_parquet(self.path / "requests.parquet")
        self._check(frame, "requests.parquet", [*self._options, "request_id"], REQUEST_NUMBERS)
        return frame

    @property
    def _options(self) -> list[str]:
        return list(next(iter(self.manifest["cells"].values())))

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
        cells = self.manifest["cells"]
        if cell not in cells:
            raise InputError(f"{self.path}: no cell {cell}; it has {', '.join(list(cells)[:5])}, …")
        if not path.is_file():
            raise InputError(f"{path}: no such step log; run with --log-steps")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except ValueError:
                    raise InputError(f"{path}:{number}: not JSON: {line[:60]!r}") from None


def read_parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        raise InputError(f"{path}: missing or damaged, expected a Parquet file") from None
