"""The training loop of the torch backbones: lists of prompts, any loss, checkpoints after each epoch.

An epoch draws everything it needs (order, dropout) from the seed and its own number, so a run that was
stopped and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.predictors.backbone import TorchModel, save_tensors
from simsched.predictors.data import Examples
from simsched.predictors.evaluation import tau_b
from simsched.predictors.readout import Readout
from simsched.predictors.targets import Objective

HEAD_RATE = 10.0  # the head starts from nothing, the backbone does not
WARM_UP = 0.1  # share of all steps
WEIGHT_DECAY = 0.01
MAX_GRADIENT = 1.0

Progress = Callable[[int, int, str], None]
"""(steps done, steps in all, a note)."""


@dataclass(frozen=True)
class Schedule:
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    """Epochs without a better validation tau after which it stops."""
    seed: int


@dataclass
class State:
    """What a checkpoint knows beside weights."""

    fingerprint: str
    """Hash of data and options; a resume with others is refused."""
    epoch: int = 0
    best_epoch: int = 0
    best_tau: float = -2.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def fine_tune(
    model: TorchModel,
    train: Examples,
    validation: Examples,
    objective: Objective,
    schedule: Schedule,
    checkpoint: Path,
    fingerprint: str,
    progress: Progress,
) -> State:
    """Train in place; the model ends with the weights of the epoch whose validation tau was best.

    `checkpoint` is a folder; where it holds a run of the same fingerprint, that run goes on.

    Raises:
        InputError: the checkpoint is of other data or options.
    """
    import torch
    from safetensors.torch import load_file

    torch.use_deterministic_algorithms(True)
    optimizer = _optimizer(model, schedule)
    state = _resume(model, optimizer, checkpoint, fingerprint)
    ids = model.tokens(train.prompts)
    targets = objective.targets(train.lengths)
    steps = max(1, len(ids) // schedule.batch_size)
    total = steps * schedule.epochs
    while state.epoch < schedule.epochs and state.epoch - state.best_epoch < schedule.patience:
        began = time.perf_counter()
        seeds = np.random.SeedSequence(schedule.seed, spawn_key=(state.epoch,)).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        order = np.random.default_rng(seeds[1]).permutation(len(ids))
        model.train(True)
        sum_loss = 0.0
        for step, rows in enumerate(np.array_split(order, steps)):
            done = state.epoch * steps + step
            _set_rate(optimizer, done, total)
            sum_loss += _step(model, optimizer, objective, [ids[i] for i in rows], targets[rows])
            progress(done + 1, total, f"epoch {state.epoch + 1}")
        outputs = model.outputs(validation.prompts)
        readout = Readout.fit(objective, train.lengths, outputs, validation.lengths)
        tau = tau_b(readout.columns(outputs)["score"], validation.lengths)
        state.epoch += 1
        state.seconds += time.perf_counter() - began
        state.history.append({"epoch": state.epoch, "loss": sum_loss / steps, "validation_tau": tau})
        if tau > state.best_tau:
            state.best_tau, state.best_epoch = tau, state.epoch
            save_tensors(model.state(), checkpoint / "best.safetensors")
        _save(model, optimizer, checkpoint, state)
        progress(state.epoch * steps, total, f"epoch {state.epoch}: validation tau {tau:.4f}")
    model.load_state(load_file(checkpoint / "best.safetensors"))
    return state


def _step(
    model: TorchModel, optimizer: Any, objective: Objective, ids: list[list[int]], targets: Any
) -> float:
    import torch

    outputs = model.forward(ids)
    given = outputs.detach().double().numpy()
    value, slope = objective.loss(given[:, 0] if objective.num_outputs == 1 else given, targets)
    optimizer.zero_grad()
    outputs.backward(torch.from_numpy(slope).to(outputs.dtype).reshape(outputs.shape))
    torch.nn.utils.clip_grad_norm_(
        [p for group in optimizer.param_groups for p in group["params"]], MAX_GRADIENT
    )
    optimizer.step()
    return value


def _optimizer(model: TorchModel, schedule: Schedule) -> Any:
    import torch

    rate = schedule.learning_rate
    learned = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    groups = [
        {"params": learned, "lr": rate, "peak": rate},
        {"params": list(model.head.parameters()), "lr": rate * HEAD_RATE, "peak": rate * HEAD_RATE},
    ]
    return torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, fused=True)


def _set_rate(optimizer: Any, step: int, total: int) -> None:
    """Linear rise over the first steps, then linear fall to zero."""
    rise = (step + 1) / (WARM_UP * total)
    fall = (total - step) / ((1 - WARM_UP) * total)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * min(1.0, rise, fall)


def _save(model: TorchModel, optimizer: Any, checkpoint: Path, state: State) -> None:
    """Weights first: a state file never speaks of weights that are not there."""
    moments = {
        f"{index}.{name}": tensor
        for index, entry in optimizer.state_dict()["state"].items()
        for name, tensor in entry.items()
    }
    save_tensors({**model.state(), **{f"optimizer.{k}": v for k, v in moments.items()}}, checkpoint / "new")
    (checkpoint / "new").replace(checkpoint / f"epoch-{state.epoch}.safetensors")
    text = json.dumps(state.__dict__, indent=1)
    (checkpoint / "state.new").write_text(text)
    (checkpoint / "state.new").replace(checkpoint / "state.json")
    (checkpoint / f"epoch-{state.epoch - 1}.safetensors").unlink(missing_ok=True)


def _resume(model: TorchModel, optimizer: Any, checkpoint: Path, fingerprint: str) -> State:
    from safetensors.torch import load_file

    path = checkpoint / "state.json"
    if not path.exists():
        return State(fingerprint)
    state = State(**json.loads(path.read_text()))
    if state.fingerprint != fingerprint:
        raise InputError(f"--resume: {checkpoint} holds a run with other data or options; expected the same")
    tensors = load_file(checkpoint / f"epoch-{state.epoch}.safetensors")
    moments: dict[int, dict[str, Any]] = {}
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        _, index, kind = name.split(".")
        moments.setdefault(int(index), {})[kind] = tensors.pop(name)
    model.load_state(tensors)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return state
