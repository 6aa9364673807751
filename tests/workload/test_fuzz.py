"""Whatever a file looks like, it is read right, or refused in one line: never other numbers unsaid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings

from simsched.errors import InputError
from simsched.workload.formats import load_trace
from tests.workload.fuzzing import File, files

QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def read_right_or_refused(folder: Path, file: File) -> None:
    path = folder / file.name
    path.write_bytes(file.data)
    try:
        trace, counts = load_trace(path, **file.options)
    except InputError as error:
        event(f"{file.about}: refused")
        message = str(error)
        assert "\n" not in message
        assert str(path) in message or message.startswith("--")
        assert file.broken is not None or not file.clear, message
        assert (file.broken or "") in message
        return
    finally:
        path.unlink()
    event(f"{file.about}: read")
    model = file.model
    assert file.broken is None, "it was read, and should not have been"
    assert not counts
    assert trace.num_prompt_tokens.tolist() == model.prompts
    assert trace.num_output_tokens.tolist() == model.outputs
    times = np.array([time - model.nanoseconds[0] for time in model.nanoseconds]) / 1e9
    if not np.allclose(trace.arrival_time - trace.arrival_time[0], times, atol=1e-6, rtol=1e-9):
        assert file.said, "other times were read"
        assert any(file.said in note for note in trace.notes), "other times were read, and it was not said"
    if model.hash_ids is None:
        assert trace.hash_ids is None
    else:
        assert trace.hash_ids == [tuple(ids) for ids in model.hash_ids]
        guessed = any("a hash id is taken for" in note for note in trace.notes)
        assert trace.hash_block_size == model.block or guessed


@given(file=files())
@settings(QUIET, max_examples=500)
def test_500_files(tmp_path_factory: pytest.TempPathFactory, file: File) -> None:
    read_right_or_refused(tmp_path_factory.getbasetemp(), file)


@pytest.mark.slow
@given(file=files())
@settings(QUIET, max_examples=20_000)
def test_20_000_files(tmp_path_factory: pytest.TempPathFactory, file: File) -> None:
    read_right_or_refused(tmp_path_factory.getbasetemp(), file)
