"""The tour in docs/python.md and the notebook in docs/ run as they stand."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

from tests.notebook import run_notebook

pytestmark = pytest.mark.usefixtures("policies_restored")
DOCS = Path(__file__).parent.parent / "docs"


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    module = types.ModuleType("tour")
    monkeypatch.setitem(sys.modules, "tour", module)  # where its classes live
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), vars(module))
    for figure in ("cdf.png", "occupancy.png", "latency.png"):
        assert (tmp_path / figure).stat().st_size > 5000


def test_the_notebook_runs_and_shows_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    path = DOCS / "tour.ipynb"
    stored = json.loads(path.read_text(encoding="utf-8"))
    ran = run_notebook(path)
    shown = [output for cell in ran["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    # figures are drawn a hair differently by another matplotlib; what is said is the same
    assert _said(stored) == _said(ran), "store what it says now: python -m tests.notebook docs/tour.ipynb"


def _said(notebook: dict[str, list[dict[str, list[dict[str, object]]]]]) -> list[object]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return [output.get("text") for output in outputs]
