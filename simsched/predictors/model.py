"""A trained ranker: a folder with a card (JSON) and weights (npz or safetensors); nothing is unpickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from simsched.errors import InputError
from simsched.predictors.light import LightModel
from simsched.predictors.readout import Readout
from simsched.workload.trace import FloatArray

CARD = "card.json"
FORMAT = 1


class Backbone(Protocol):
    """What turns prompts into raw outputs."""

    def outputs(self, prompts: Sequence[str], batch_size: int = ...) -> FloatArray:
        """Shape (n, outputs)."""

    def save(self, folder: Path) -> None: ...


@dataclass
class Ranker:
    """Predicts from prompts alone."""

    backbone: Backbone
    readout: Readout
    card: dict[str, Any]
    """What it was trained on and how well it did; see docs/rankers.md."""

    def predict(self, prompts: Sequence[str]) -> dict[str, Any]:
        """`score` (lower = expected shorter), `predicted_class` (0 = shortest), `predicted_length` (tokens),
        arrays of shape (n,); from a model of quantiles `length_quantiles` too, shape (n, levels)."""
        return self.readout.columns(self.backbone.outputs(prompts))

    @property
    def seconds_per_prompt(self) -> float:
        """Measured when it was trained, in batches of 32, as an engine scores what has just arrived."""
        return float(self.card["seconds_per_prompt"]["32"])

    def save(self, folder: Path) -> None:
        """Write the folder whole or not at all; one that is there is replaced."""
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            temporary.mkdir(parents=True)
            self.backbone.save(temporary)
            text = json.dumps({**self.card, "readout": self.readout.to_json()}, indent=1)
            (temporary / CARD).write_text(text + "\n", encoding="utf-8")
            if folder.is_dir():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
        except OSError as error:
            raise InputError(f"--output {folder}: {error.strerror or error}") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_model(path: str | Path) -> bool:
    """Does the folder hold a ranker?"""
    return (Path(path) / CARD).is_file()


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a ranker's folder, with its readout.

    Raises:
        InputError: no ranker there, or one of another format.
    """
    folder = Path(path)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise InputError(f"{folder}: ranker of format {card['format']}; expected {FORMAT}")
        return dict(card)
    except OSError as error:
        raise InputError(
            f"{folder}: no ranker: {error.strerror or error}; expected a folder that `simsched train` wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / CARD}: not a ranker's card: {error}") from None


def seconds_per_prompt(path: str | Path) -> float:
    """`Ranker.seconds_per_prompt`, without loading the ranker."""
    return float(read_card(path)["seconds_per_prompt"]["32"])


def load_model(path: str | Path) -> Ranker:
    """The ranker that `simsched train` wrote to this folder.

    Raises:
        InputError: no ranker there, a broken one, one of another format, or torch is missing and needed.
    """
    folder = Path(path)
    card = read_card(folder)
    try:
        readout = Readout.from_json(card.pop("readout"))
        backbone: Backbone
        if card["backbone"] == "light":
            backbone = LightModel.load(folder)
        else:
            from simsched.predictors.backbone import TorchModel

            backbone = TorchModel.load(folder, card["num_outputs"], card["pooling"], card["max_tokens"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / CARD}: not a ranker's card: {error}") from None
    return Ranker(backbone, readout, card)
