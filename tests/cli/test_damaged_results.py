"""Damaged results directories: one clear line from every command that reads them, and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from simsched.cli.compare import compare_command
from simsched.cli.plot import plot_command
from simsched.cli.report import report_command
from simsched.errors import InputError
from tests.fake_results import make_results


def edit(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def each_cell(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return edit("summary.json", lambda content: [change(cell) for cell in content["cells"]])  # type: ignore[arg-type, return-value]


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no cells": edit("summary.json", lambda content: content.update(cells=[])),
    "no column": each_cell(lambda cell: cell.pop("policy")),
    "text for a number": each_cell(lambda cell: cell.update(mean_ttft_ms="fast")),
    "text for a rate": each_cell(lambda cell: cell.update(request_rate="fast")),
    "truncated summary": lambda folder: (folder / "summary.json").write_text('{"cells": ['),
    "other table": lambda folder: pl.DataFrame({"a": [1]}).write_parquet(folder / "requests.parquet"),
    "binary": lambda folder: (folder / "requests.parquet").write_bytes(b"\x00\xff" * 99),
    "no options": edit("manifest.json", lambda content: content.update(cells={"x": {}})),
    "odd study": edit("manifest.json", lambda content: content.update(study=3)),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "unfinished": lambda folder: (folder / "requests.parquet").unlink(),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("sound") / "out", runs=1, n=50).path


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", [compare_command, plot_command, report_command])
def test_one_clear_line(sound: Path, tmp_path: Path, damage: str, command: Any) -> None:
    folder = tmp_path / "out"
    shutil.copytree(sound, folder)
    DAMAGE[damage](folder)
    before = sorted(tmp_path.rglob("*"))
    error = CliRunner().invoke(command, [str(folder)]).exception
    assert isinstance(error, InputError), error
    assert "\n" not in str(error)
    assert str(folder) in str(error)
    assert sorted(tmp_path.rglob("*")) == before
