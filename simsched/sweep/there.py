"""The cells that a results directory holds, found by their options in a larger grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simsched.results.layout import LOAD_OPTIONS
from simsched.sweep.study import Study


class There:
    """What a manifest says of its cells: their names by their options, and how long their loads last.

    Args:
        manifest: of the directory; None: there is none.
        study: the larger one. Of an axis that has no column in the directory its cells have the first value.
    """

    def __init__(self, manifest: Mapping[str, Any] | None, study: Study) -> None:
        self.manifest = manifest or {"cells": {}}
        self.study = study
        cells = self.manifest["cells"]
        self._columns = list(next(iter(cells.values()), {}))
        self._of_load = [name for name in self._columns if name in LOAD_OPTIONS]
        self._names = {tuple(options.values()): name for name, options in cells.items()}
        durations = self.manifest.get("duration", {})
        self._durations = {
            tuple(options[column] for column in self._of_load): durations.get(name)
            for name, options in cells.items()
        }

    def __len__(self) -> int:
        return len(self._names)

    def name(self, options: Mapping[str, Any]) -> str | None:
        """The cell with these options; None: it is new."""
        found = self._names.get(tuple(options.get(column) for column in self._columns))
        return found if found is not None and self._is_first(options, options) else None

    def duration(self, options: Mapping[str, Any]) -> float | None:
        """Seconds of arrivals of the load with these options; None: it is new, or has none."""
        if not self._is_first(options, LOAD_OPTIONS):
            return None
        return self._durations.get(tuple(options.get(column) for column in self._of_load))

    def capacity(self, name: str, estimate: float) -> float:
        """What the directory says of a cell, else this estimate."""
        return float(self.manifest.get("capacity", {}).get(name, estimate))

    def _is_first(self, options: Mapping[str, Any], names: Any) -> bool:
        for name in names:
            axis = getattr(self.study, name, ())
            if name not in self._columns and axis and options[name] not in (None, axis[0]):
                return False
        return True
