"""Imports point downwards only, and vLLM is imported in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "simsched"
FILES = sorted(ROOT.rglob("*.py"))

# what each part may import of the others, beside itself, `errors` and the package's version
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "request": set(),
    "histogram": set(),
    "streams": set(),
    "files": set(),
    "text": set(),
    "workload": {"request", "streams", "text", "files"},
    "policies": {"request", "workload", "text"},
    "cost_model": {"request"},
    "predictors": {"request", "workload", "policies", "streams", "text", "files"},
    "record": {"histogram", "workload"},
    "engine": {"request", "histogram", "workload", "policies", "cost_model", "record", "streams"},
    # fits a profile by simulating; nothing below the command line imports it
    "cost_model/fit_summary.py": {"request", "workload", "policies", "engine", "metrics", "predictors"},
}
HIGH = {"cli", "sweep", "compare", "report", "plotting", "results", "metrics", "reproduce"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    relative = path.relative_to(ROOT)
    own = relative.parts[0].removesuffix(".py")
    below = BELOW.get(str(relative), BELOW.get(own))
    for module in imports(path):
        if module == "vllm" or module.startswith("vllm."):
            assert own == "vllm", f"{relative} imports {module}"
        assert module.split(".")[0] != "validate", f"{relative} imports {module}"
        if not module.startswith("simsched.") or part(module) in (own, "errors"):
            continue
        if below is not None:
            assert part(module) in below, f"{relative} imports {module}"
        elif own != "cli" and own != "__main__":
            assert part(module) != "cli", f"{relative} imports {module}"


def test_the_low_parts_know_no_high_ones() -> None:
    parts = {name: below for name, below in BELOW.items() if "/" not in name}
    assert not HIGH & set().union(*parts.values())
    assert {path.name.removesuffix(".py") for path in ROOT.iterdir()} >= set(parts) | HIGH
