"""Comments in the engine name its rules; docs/engine.md says what each of them is, and where things are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "simsched" / "engine"
TEXT = (ROOT / "docs" / "engine.md").read_text()
pytestmark = pytest.mark.skipif(not ENGINE.is_dir(), reason="the sources are not beside the tests")
NAME = re.compile(r"(?<![\w*`])\*([A-Za-z][a-z -]+)\*(?![\w*])")


IN_PLACE = {"contended", "decoding request", "irregular", "formed", "line", "streak"}
"""Words that a docstring explains where it stresses them."""


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_rules_that_are_named_are_described() -> None:
    described = {name.lower() for name in NAME.findall(one_line(TEXT))}
    named = {
        (path.name, name.lower())
        for path in ENGINE.rglob("*.py")
        for name in NAME.findall(one_line(path.read_text()))
    }
    # `victims` for `victim`
    unknown = {
        (file, name) for file, name in named if not {name, name.removesuffix("s")} & (described | IN_PLACE)
    }
    assert len(named) >= 15
    assert not unknown


def test_no_rule_is_a_number() -> None:
    numbered = [path for path in ENGINE.rglob("*.py") if re.search(r"\brules? \d", path.read_text())]
    assert not numbered


def test_the_map_has_every_module() -> None:
    table = TEXT[TEXT.index("## Where things are") :]
    for path in ENGINE.rglob("*.py"):
        if path.name != "__init__.py" and path.parent.name != "vllm_ltr":
            assert path.name in TEXT, path
    for name in re.findall(r"`([a-z_0-9/]+\.py)`", table):
        places = (ENGINE / name, ENGINE / "vllm_v1" / name, ENGINE / "vllm_ltr" / name, ROOT / name)
        assert any(place.is_file() for place in places), name
