"""The state that a killed run goes on from, and the weights that a finished one leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...cache.files import write_atomic
from ..model import SkeletonClassifier
from ..run import Run

Weights = dict[str, dict[str, Tensor]]  # {"model": ..., "heads": ...}


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.csv. `held_out_top1` is that of whatever chooses the epoch; -1 where nothing does."""

    epoch: int
    lr: float
    loss: float
    classify: float
    align: float
    refine: float
    train_top1: float
    held_out_top1: float
    seconds: float


@dataclass
class State:
    """Where a run stands after whole epochs. `best` holds the weights of the chosen epoch where one is chosen."""

    epoch: int = 0
    history: list[EpochMetrics] = field(default_factory=list)
    best: Weights | None = None
    best_top1: float = -1.0
    best_epoch: int = 0


def save_state(folder: Path, state: State, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
    content = {**vars(state), "history": [asdict(line) for line in state.history], "weights": weights}
    content["optimizer"] = optimizer.state_dict()
    write_atomic(folder / "state.pt", lambda path: torch.save(content, path))


def load_state(folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> State:
    """The state in `folder` into the modules and the optimizer; a fresh State where there is none yet."""
    path = folder / "state.pt"
    if not path.exists():
        return State()
    with _explained(path, "move it away to train from the start"):
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(found["weights"][name])
        optimizer.load_state_dict(found["optimizer"])
        history = [EpochMetrics(**line) for line in found["history"]]
        return State(found["epoch"], history, found["best"], found["best_top1"], found["best_epoch"])


@contextmanager
def _explained(path: Path, mend: str) -> Iterator[None]:
    """ValueError with the file and the next step for whatever a damaged file makes its reader raise."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, UnpicklingError, LookupError, TypeError, EOFError) as error:
        raise ValueError(f"{path}: damaged ({(str(error) or type(error).__name__).splitlines()[0]}); {mend}") from error


def weights_of(modules: Mapping[str, nn.Module]) -> Weights:
    """A copy of all weights and statistics, on the CPU."""
    return {
        name: {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
        for name, module in modules.items()
    }


def save_weights(folder: Path, weights: Weights) -> None:
    """heads.safetensors where there are heads, and model.safetensors, skeletons only.

    The network comes last: where it is, the run is finished.
    """
    for name in ("heads", "model"):
        if entries := weights[name]:
            write_atomic(folder / f"{name}.safetensors", lambda path, entries=entries: save_file(entries, path))


def load_model(folder: Path, run: Run) -> SkeletonClassifier:
    """The trained network of a run; ValueError where it is unfinished."""
    path = folder / "model.safetensors"
    if not path.exists():
        raise ValueError(f"{folder}: training has not finished; run the same `mmcl train` again, it resumes")
    model = run.build()
    with _explained(path, "move it away and run the same `mmcl train` again, it makes it anew"):
        model.load_state_dict(load_file(path))
    return model
