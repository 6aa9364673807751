"""Imports point downwards only, and vLLM is imported in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "simsched"
FILES = sorted(ROOT.rglob("*.py"))

# what each part may import of the others, beside itself and what is for EVERYWHERE
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "request": set(),
    "histogram": set(),
    "streams": set(),
    "files": set(),
    "text": set(),
    "workload": {"request", "streams", "text", "files"},
    "plugins": {"text"},
    "policies": {"request", "workload", "text", "plugins"},
    "vllm_versions": set(),
    "routers": {"text", "plugins", "workload", "vllm_versions"},
    "cost_model": {"request"},
    "predictors": {"request", "workload", "policies", "streams", "text", "files"},
    "record": {"histogram", "workload"},
    "engine": {
        *("request", "text", "histogram", "workload", "policies", "routers", "vllm_versions"),
        *("cost_model", "record", "streams"),
    },
    "request_table": {"record", "workload"},
    "steady": {"workload"},
    "slo": {"metrics"},
    "session_metrics": {"workload"},
    "balance": {"workload"},
    "rank_metrics": {"record"},
    "metrics": {"histogram", "record", "workload", "session_metrics", "balance", "rank_metrics"},
    "alone": {"workload", "cost_model", "engine", "session_metrics"},
    "results": {
        "metrics",
        "request_table",
        "session_metrics",
        "balance",
        "rank_metrics",
        "steady",
        "files",
        "text",
        "workload",
        "histogram",
        "record",
    },
    "bounds": {"workload", "cost_model", "engine"},
    "vllm": {"request", "policies", "cost_model", "engine", "vllm_versions"},
}
_SIMULATION = {
    "workload",
    "policies",
    "routers",
    "predictors",
    "cost_model",
    "engine",
    "metrics",
    "request_table",
    "alone",
    "files",
    "text",
}
BELOW |= {
    "sweep": _SIMULATION | {"record", "results", "rank_metrics"},
    "capacity": {"text", "engine", "policies", "workload", "metrics", "steady", "slo", "results", "sweep"},
    "calibration": _SIMULATION | {"sweep", "results"},
    "timeline": set(),
    "compare": {"text", "metrics", "request_table", "slo", "results", "bounds", "sweep"},
    "plotting": {
        "timeline",
        "metrics",
        "steady",
        "text",
        "files",
        "workload",
        "cost_model",
        "results",
        "compare",
    },
    "simulation": {"engine", "results", "plotting"},
    "report": {"text", "files", "slo", "workload", "results", "sweep", "compare", "plotting"},
    "reproduce": _SIMULATION | {"sweep", "results", "bounds", "compare", "plotting", "report"},
}
TOP = {"cli", "__main__", "__init__", "api", "testing"}
EVERYWHERE = ("errors", "_version")


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
    below = BELOW.get(str(relative), BELOW.get(own, set()))
    for module in imports(path):
        if module == "vllm" or module.startswith("vllm."):
            assert own == "vllm", f"{relative} imports {module}"
        assert module.split(".")[0] != "validate", f"{relative} imports {module}"
        if not module.startswith("simsched.") or part(module) in (own, *EVERYWHERE):
            continue
        if own not in TOP:
            assert part(module) in below, f"{relative} imports {module}"


def test_every_part_has_its_place() -> None:
    parts = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    assert parts - TOP - {"__pycache__"} == {name for name in BELOW if "/" not in name}


def test_the_layers_have_no_circle() -> None:
    below = {name: set(parts) for name, parts in BELOW.items() if "/" not in name}
    while below:
        lowest = {name for name, parts in below.items() if not parts & set(below)}
        assert lowest, f"a circle among {sorted(below)}"
        below = {name: parts for name, parts in below.items() if name not in lowest}


def modules() -> dict[str, Path]:
    """All modules of the repository that are imported by name."""
    found = {}
    for top in ("simsched", "validate"):
        for path in (ROOT.parent / top).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that one imports, wherever in its text: for its types alone, and inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found & known.keys()


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The modules from which one can get back to themselves."""
    left = {name: set(below) - {name} for name, below in graph.items()}
    while lowest := {name for name, below in left.items() if not below & left.keys()}:
        left = {name: below for name, below in left.items() if name not in lowest}
    # what only leads to a circle is in none
    while highest := left.keys() - {name for below in left.values() for name in below}:
        left = {name: below for name, below in left.items() if name not in highest}
    return set(left)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set(), "e": {"d"}}) == {"b", "c"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


def test_modules_import_each_other_in_no_circle() -> None:
    known = modules()
    assert circles({name: imported(path, known) for name, path in known.items()}) == set()
