"""`simsched list`: on a narrow terminal every word is still there."""

from __future__ import annotations

import pytest

from simsched.cli._table import show_entries
from simsched.cli.list import KINDS


@pytest.mark.parametrize("kind", ["policies", "routers", "workloads", "profiles", "predictors"])
def test_no_word_is_lost_at_80_columns(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    headers, rows = KINDS[kind]()
    show_entries(headers, rows, width=80)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    joined = "".join(text.split())
    for row in rows:
        for words in row:
            assert "".join((words or "").split()) in joined


def test_what_fits_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_entries(("name", ""), [("a", "first"), ("b", None)], width=80)
    assert "─" in capsys.readouterr().out


def test_routers_of_one_file_are_told_apart() -> None:
    about = {row[0]: row[2:] for row in KINDS["routers"]()[1]}
    assert about["oracle-work"][0] == "true lengths"
    assert about["oracle-work"][1] != about["least-predicted-work"][1]
