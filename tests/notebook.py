"""Runs a notebook without Jupyter: its code cells in turn, in one namespace, as `__main__`.

    python -m tests.notebook docs/tour.ipynb      # runs it and stores what the cells show

Our notebooks use no magics, so executing their cells needs neither a kernel nor a hundred more packages. What
a cell's last expression is stands beneath it: a figure as a PNG, anything else as text.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

OURS = "__main__"


def run_notebook(path: Path) -> dict[str, Any]:
    """The notebook with the outputs of its cells; what a cell raises is raised here."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    module = types.ModuleType(OURS)
    before = sys.modules[OURS]
    sys.modules[OURS] = module  # where a notebook's classes live
    try:
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(code, start=1):
            cell["execution_count"] = number
            cell["outputs"] = _run(f"{path.name}[{number}]", "".join(cell["source"]), vars(module), number)
    finally:
        sys.modules[OURS] = before
    return notebook


def _run(name: str, source: str, namespace: dict[str, Any], number: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    shown: Any = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), namespace)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if shown is not None:
        data: dict[str, Any] = {"text/plain": _lines(repr(shown))}
        if hasattr(shown, "savefig"):
            buffer = io.BytesIO()
            shown.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
            data = {"text/plain": ["a figure"], "image/png": base64.b64encode(buffer.getvalue()).decode()}
        outputs.append(
            {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
        )
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    file = Path(sys.argv[1]).resolve()
    os.environ.setdefault("MPLBACKEND", "Agg")
    file.write_text(json.dumps(run_notebook(file), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
