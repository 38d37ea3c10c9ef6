"""The state that a killed run goes on from, and the weights that a finished one leaves."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ...cache.files import write_atomic, write_bytes
from ..model import SkeletonClassifier
from ..run import Run
from .memory import is_short
from .together import from_main

Weights = dict[str, dict[str, Tensor]]  # {"model": ..., "heads": ...}


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.csv: means over the epoch's clips, and the rate of its first step.

    `held_out_top1` is that of whatever chooses the epoch; -1 where nothing does.
    """

    epoch: int
    lr: float
    loss: float
    classify: float
    align: float
    refine: float
    train_top1: float
    held_out_top1: float
    seconds: float


class Watcher(Protocol):
    """Whoever looks on while a run trains: told of every step, of all steps of the run, and of every epoch."""

    def step(self, done: int, total: int) -> None: ...
    def epoch(self, line: EpochMetrics) -> None: ...


@dataclass
class State:
    """Where a run stands: whole epochs, and the steps of the one after them with the sums of their metrics.

    `best` holds the weights of the chosen epoch where one is chosen. `finished` is False where a run was stopped;
    `kept` is what lies on the disk, whole epochs and steps.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    seconds: float = 0.0
    history: list[EpochMetrics] = field(default_factory=list)
    best: Weights | None = None
    best_top1: float = -1.0
    best_epoch: int = 0
    finished: bool = False
    kept: tuple[int, int] = (0, 0)

    @property
    def kept_in_words(self) -> str:
        """Such as "epoch 2", "step 17 of epoch 3"; empty where nothing is kept."""
        epoch, step = self.kept
        return f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}" if epoch else ""


SAID = 160  # letters of a library's error that are shown
ANEW = "move it away to train from the start"
ABOUT = "mmcl"  # the one entry of a weights file's metadata: several come in any order, and no two files were alike
TOGETHER = "copy both from one run's folder"
REMADE = "move it away and run the same `mmcl train` again, it makes it anew"
STORED = ("epoch", "step", "sums", "seconds", "best", "best_top1", "best_epoch")


def save_state(folder: Path, state: State, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
    content: dict[str, Any] = {name: getattr(state, name) for name in STORED}
    content |= {"history": [asdict(line) for line in state.history]}
    content |= {"weights": weights, "optimizer": optimizer.state_dict()}
    write_atomic(folder / "state.pt", lambda path: torch.save(content, path))


def load_state(folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> State:
    """The state in `folder` into the modules and the optimizer; a fresh State where there is none yet.

    The main process reads it for all. Raises ValueError where it is damaged.
    """
    path = folder / "state.pt"
    found = from_main(lambda: _read(path))
    if found is None:
        return State()
    with _explained(path, ANEW):
        for name, module in modules.items():
            module.load_state_dict(found["weights"][name])
        history = [EpochMetrics(**line) for line in found["history"]]
        stored = {name: found[name] for name in STORED}
        moments = found["optimizer"]
    optimizer.load_state_dict(moments)
    return State(**stored, history=history, kept=(found["epoch"], found["step"]))


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    with _explained(path, ANEW):
        with ZipFile(path) as archive:  # torch.load looks at no checksum
            if bad := archive.testzip():
                raise EOFError(f"{bad} is not what was written")
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _explained(path: Path, mend: str) -> Iterator[None]:
    """ValueError with the file and the next step for whatever a damaged file makes its reader raise.

    A disk that fails, a file that may not be read and memory that is short are no damage.
    """
    try:
        yield
    except UnpicklingError as error:
        raise ValueError(f"{path}: damaged (not a file of arrays); {mend}") from error
    except (OSError, RuntimeError, SafetensorError, LookupError, TypeError, EOFError, BadZipFile) as error:
        if is_short(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        said = " ".join((str(error) or type(error).__name__).split())[:SAID]
        raise ValueError(f"{path}: damaged ({said}); {mend}") from error


def weights_of(modules: Mapping[str, nn.Module]) -> Weights:
    """A copy of all weights and statistics, on the CPU."""
    return {
        name: {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
        for name, module in modules.items()
    }


def save_weights(folder: Path, weights: Weights, network: str = "") -> None:
    """heads.safetensors where there are heads, and model.safetensors, skeletons only.

    `network` says whose they are, as `network_of` does. The network comes last: where it is, the run is finished.
    """
    for name in ("heads", "model"):
        if entries := weights[name]:
            about = json.dumps({"crc32": _checksum(entries), "network": network})
            write_bytes(folder / f"{name}.safetensors", save(entries, {ABOUT: about}))


def network_of(run: Run) -> str:
    """What tells a run's weights from those of another in the same matrix."""
    config = run.config
    return f"{run.dataset} {config.split}, {config.backbone} {config.stream}, seed {config.seed}"


def _checksum(entries: Mapping[str, Tensor]) -> str:
    """Eight hex digits that change with any value; safetensors has none of its own."""
    crc = 0
    for name in sorted(entries):
        crc = zlib.crc32(entries[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), crc)
    return f"{crc:08x}"


def load_model(folder: Path, run: Run) -> SkeletonClassifier:
    """The trained network of a run; ValueError where it is unfinished."""
    path = folder / "model.safetensors"
    if not path.exists():
        raise ValueError(f"{folder}: training has not finished; run the same `mmcl train` again, it resumes")
    entries, model = read_weights(path, REMADE), run.build()
    there = _written(path).get("network")
    if there not in (None, "", network_of(run)):
        raise ValueError(f"{path}: weights of {there}, but run.json is of {network_of(run)}; {TOGETHER}")
    shapes = {name: tensor.shape for name, tensor in entries.items()}
    if shapes != {name: tensor.shape for name, tensor in model.state_dict().items()}:
        raise ValueError(f"{path}: weights of another network than run.json says; {TOGETHER}")
    model.load_state_dict(entries)
    return model


def read_weights(path: Path, mend: str) -> Mapping[str, Tensor]:
    """The entries of a file of `save_weights`; ValueError, with the next step, where they are not what was written."""
    with _explained(path, mend):
        entries = load_file(path)
        if _written(path).get("crc32") not in (None, _checksum(entries)):
            raise EOFError("its numbers are not those that were written")
    return entries


def _written(path: Path) -> Mapping[str, Any]:
    """What was written about the entries: their checksum, in newer files whose they are; of files of others nothing."""
    with safe_open(path, "pt") as file:
        found = file.metadata() or {}
    try:
        about = json.loads(found.get(ABOUT, "{}"))
    except ValueError as error:
        raise EOFError(f"its {ABOUT} is not what was written") from error
    older = {"crc32": found["crc32"]} if "crc32" in found else {}
    return about if isinstance(about, dict) and about else older
