"""The table of tested versions: kept, shown and claimed in one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simsched.errors import InputError
from simsched.vllm_versions import DEFAULT, NEWEST, OLDEST, TESTED, TRY, parse_version, supported
from validate import release
from validate.release import GROUPS, found_of, record, to_table

ROOT = Path(__file__).resolve().parents[2]
NAMED = ("0.24.0", "0.25.1", "0.26.0", "0.28.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0")


def test_no_supported_version_has_a_divergent_step() -> None:
    assert set(NAMED) <= set(TESTED)
    for version, found in TESTED.items():
        assert found["divergent_steps"] == 0, version
        assert all(found["steps"][group] > 50_000 for group in GROUPS), version


def test_the_documents_say_what_the_table_says() -> None:
    assert to_table(TESTED) in (ROOT / "docs" / "fidelity.md").read_text()
    for page in ("README.md", "CHANGELOG.md", "docs/fidelity.md"):
        ranges = re.findall(r"vLLM (0\.\d+(?:\.\d+)?) to (0\.\d+(?:\.\d+)?)", (ROOT / page).read_text())
        assert ranges, page
        assert {f"{first} to {last}" for first, last in ranges} == {supported()}, page
    total = sum(sum(found["steps"].values()) for found in TESTED.values())
    for page in ("README.md", "CHANGELOG.md"):
        assert f"{total:,} steps, none different" in (ROOT / page).read_text(), page
    assert f"vllm>=0.{OLDEST[1]},<0.{NEWEST[1] + 1}\n" in (ROOT / "setup.cfg").read_text()


def test_recording_widens_the_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In copies of the files."""
    for name in ("TESTED_FILE", "PAGE", "SETUP"):
        path = getattr(release, name)
        monkeypatch.setattr(release, name, tmp_path / path.name)
        (tmp_path / path.name).write_text(path.read_text())
    found = {"date": "2027-01-02", "steps": dict.fromkeys(GROUPS, 12_345), "divergent_steps": 0}
    record({**TESTED, "0.34.0": found})
    page = (tmp_path / "fidelity.md").read_text()
    assert "| 0.34.0 | 2027-01-02 | 12,345 | 12,345 | 12,345 | 12,345 | 0 |\n" in page
    assert page.count("| vLLM | date |") == 1
    assert '"0.34.0"' in (tmp_path / "vllm_tested.json").read_text()
    assert "vllm>=0.24,<0.35\n" in (tmp_path / "setup.cfg").read_text()


def test_a_version_is_tried_only_where_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRY, "0.99.0")
    assert parse_version("0.99.0") == (0, 99)
    assert parse_version(DEFAULT) == NEWEST
    with pytest.raises(InputError, match="not supported"):
        parse_version("0.98.0")


def test_what_is_kept_of_a_comparison() -> None:
    cases = [{"group": group, "steps": steps} for group, steps in (("cases", 3), ("random", 4), ("cases", 5))]
    found = found_of({"cases": cases, "divergent_steps": 0})
    assert found["steps"] == {"cases": 8, "random": 4, "priority": 0, "shared": 0}
