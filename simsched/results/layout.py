"""What a results directory holds, and whether one may be written where something is already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.files import TEMPORARY

Options = dict[str, str | int | float | bool | None]
"""A cell's values of the swept options: policy, workload, request_rate (req/s; None: as traced), preset,
run, seed, then whatever else was swept."""

FILES = ("requests.parquet", "summary.csv", "summary.json", "run.log", "report.html")
FOLDERS = ("cells", "steps")
FAILED = "failed.json"
"""In the folder of a cell whose run could not go on: the reason."""
FIGURES = ("*.png", "*.svg", "*.pdf")
RUN_OPTIONS = ("run", "seed")
"""Options that tell runs of one setting apart."""
LOAD_OPTIONS = ("workload", "request_rate", "arrivals")
"""Options that happen to a server: a load. All others are chosen by whoever runs it: an arm."""


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
        empty = not path.exists() or all(entry.name.startswith(TEMPORARY) for entry in path.iterdir())
    except NotADirectoryError:
        raise InputError(f"{path}: exists and is not a directory") from None
    except OSError as error:
        raise InputError(f"{str(path)[:200]}: cannot be a results directory: {error.strerror}") from None
    if empty:
        return False
    try:
        old = read_manifest(path)
    except InputError as error:
        raise InputError(f"{error}; remove the directory, or choose another with -o") from None
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
        raise InputError(
            f"{path}: --resume with another configuration: {difference}; "
            "a resume only finishes what was begun; another study needs another directory (-o)"
        )
    return True


def check_extension(path: Path, manifest: Mapping[str, Any]) -> bool:
    """May the results in `path` grow to these? True if they are these already. Writes nothing.

    Raises:
        InputError: they were made by other inputs or another version, or lack cells of theirs.
    """
    old, new = read_manifest(path), json.loads(json.dumps(manifest))
    if old is None:
        raise InputError(f"{path}: --extend: no simsched results here; run without it first")
    if old == new:
        return True
    same = ("simsched", "versions", "seed", "window")
    contents = new["sha256"].values()
    hashes = {
        name: digest if digest in contents else new["sha256"].get(name)  # a file may be called otherwise now
        for name, digest in old["sha256"].items()
    }
    cells = {name: new["cells"].get(name, {}) for name in old["cells"]}
    options = {name: {each: cells[name].get(each) for each in of} for name, of in old["cells"].items()}
    difference = _difference(
        {**{name: old.get(name) for name in same}, "sha256": old["sha256"], "cells": old["cells"]},
        {**{name: new.get(name) for name in same}, "sha256": hashes, "cells": options},
    )
    if difference:
        raise InputError(
            f"{path}: --extend with other inputs: {difference}; another study needs another directory (-o)"
        )
    return False


def read_manifest(path: Path) -> dict[str, Any] | None:
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


def _difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first place where two JSON values differ, in words; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            place = f"{where}.{key}" if where else key
            if difference := _difference(old.get(key), new.get(key), place):
                return difference
        return None
    if where.startswith("sha256.") and old is not None and new is not None and old != new:
        return f"{where.removeprefix('sha256.')} has changed since"
    return None if old == new else f"{where} is {_short(old)} there, {_short(new)} here"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"
