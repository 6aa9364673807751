"""A file of prompts becomes a trace with a ranker's columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simsched.errors import InputError
from simsched.predictors.data import CHARACTERS_PER_TOKEN, PromptFile
from simsched.predictors.model import Ranker
from simsched.text.table import counted

Fill = Callable[[str], Any]


def as_trace(
    ranker: Ranker, file: PromptFile, prompt_column: str = "prompt", length_column: str = "output_length"
) -> tuple[PromptFile, list[str]]:
    """The file's columns, the predictions, and what a trace needs; and a line for each thing made up.

    Columns that are there are kept; null cells of `timestamp` and `input_length` are filled like missing
    columns. Predictions of an earlier model are replaced.

    Raises:
        InputError: a length column is named that is not there.
    """
    prompts = file.columns[prompt_column]
    columns = dict(file.columns)
    warnings: list[str] = []
    tokens = f"1 token per {CHARACTERS_PER_TOKEN} characters of the prompt"
    fills: tuple[tuple[str, str, Fill], ...] = (
        ("timestamp", "0.0", lambda _: 0.0),
        ("input_length", f"an estimate, {tokens}", estimate_tokens),
    )
    for name, what, fill in fills:
        given = columns.get(name, [None] * len(prompts))
        missing = sum(value is None for value in given)
        if missing:
            columns[name] = [
                fill(prompt) if value is None else value for value, prompt in zip(given, prompts, strict=True)
            ]
            warnings.append(f"{name} is missing in {counted(missing, 'row')}: {what}")
    for name, source in (("output_length", length_column), ("prompt", prompt_column)):
        if source != name:
            if source not in columns:
                raise InputError(
                    f"--length-column {source}: {file.path} has the columns {', '.join(columns)}"
                )
            if name in columns:
                warnings.append(f"{name} is there, and replaced by {source}")
            columns[name] = columns[source]
    if None in columns.get("output_length", [None]):
        warnings.append("output_length is missing in some rows: the trace can be sent, not simulated")
    predicted = ranker.predict(prompts)
    columns.pop("length_quantiles", None)
    for name, values in predicted.items():
        columns[name] = values.tolist()
    return PromptFile(file.path, columns, file.dropped), warnings


def estimate_tokens(prompt: str) -> int:
    """At least 1."""
    return max(1, round(len(prompt) / CHARACTERS_PER_TOKEN))
