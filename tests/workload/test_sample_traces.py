"""Every sample in traces/ has a card whose command makes it again."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from simsched.cli import cli
from simsched.workload.formats import load_trace

FOLDER = Path(__file__).resolve().parents[2] / "traces"
SAMPLES = sorted(FOLDER.glob("*.jsonl"))


def test_there_are_samples_and_every_one_has_a_card() -> None:
    assert SAMPLES
    assert {path.with_suffix(".md") for path in SAMPLES} == set(FOLDER.glob("*.md"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_cards_command_makes_the_sample(sample: Path, tmp_path: Path) -> None:
    card = sample.with_suffix(".md").read_text()
    [line] = [line.strip() for line in card.splitlines() if line.strip().startswith("simsched trace ")]
    arguments = shlex.split(line)[1:]
    assert arguments[-1] == f"traces/{sample.name}"
    result = CliRunner().invoke(cli, [*arguments[:-1], str(tmp_path / "again.jsonl")])
    assert result.exit_code == 0, result.output
    before, after = load_trace(sample)[0], load_trace(tmp_path / "again.jsonl")[0]
    for name in ("num_prompt_tokens", "num_output_tokens", "predicted_class"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("arrival_time", "score", "predicted_length"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-9)
