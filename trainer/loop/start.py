"""Weights to start from: `--init` takes the whole network, `--init-backbone` what fits of its backbone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...cache.words import few
from ..backbones.originals.load import load_original
from ..run import Run, read_run

BACKBONE = "backbone."
COUNTER = "num_batches_tracked"
OF_A_NORM = ("weight", "bias", "running_mean", "running_var", COUNTER)
NAMED = 6  # groups of entries that a line names
WANTED = "wanted a run's folder, its model.safetensors, or an original .pt of CTR-GCN, CTRS-GCN or HD-GCN"


@dataclass(frozen=True)
class Start:
    """What a run starts from, as run.json records it.

    `loaded` of `entries` of the network (of its backbone, where that is all that is asked for) were taken; `left_out`
    says in groups which were not.
    """

    path: str
    digest: str
    backbone_only: bool
    loaded: int
    entries: int
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, and equal to what comes back out of a JSON file."""
        return {**asdict(self), "left_out": list(self.left_out)}


class Found(NamedTuple):
    """Weights as they were found at a path, the network that they are of, and the run, where these are known."""

    path: Path
    file: Path
    state: dict[str, Tensor]
    backbone: str | None
    run: Run | None


class Sizes(NamedTuple):
    """What a network's entries say of it; 0 where they do not."""

    classes: int
    features: int
    joints: int
    bodies: int


def read_start(path: Path, run: Run, backbone_only: bool) -> tuple[Start, dict[str, Tensor]]:
    """What is loaded of a run's folder, a model.safetensors or an original .pt, and its entries on the CPU.

    The entries go into `run.build()` with `load_state_dict(entries, strict=False)`; nothing is written. Raises
    FileNotFoundError, or ValueError with what is other there: anything, or with `backbone_only` half of the backbone.
    """
    found = _read(path)
    with torch.device("meta"):
        here = run.build().state_dict()
    if backbone_only:
        here = {name: value for name, value in here.items() if name.startswith(BACKBONE)}
    entries = _fitting(found, here, run)
    _refuse(found, here, run, backbone_only, entries)
    left_out = ("classifier", *_left_out(entries, here, _joints_note(found, here, run))) if backbone_only else ()
    with found.file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return Start(str(path.resolve()), digest, backbone_only, len(entries), len(here), left_out), entries


def start_line(start: Start) -> str:
    """What a run starts from, in one line for the console and the log."""
    if not start.backbone_only:
        return f"starts from {start.path}: all {start.entries} entries"
    left = few(start.left_out, NAMED)
    return f"starts from {start.path}: {start.loaded} of {start.entries} backbone entries; left out: {left}"


def _read(path: Path) -> Found:
    """The weights that a path means; ValueError where they are damaged, unfinished or not finite."""
    folder, file = (path, path / "model.safetensors") if path.is_dir() else (path.parent, path)
    beside = file.name == "model.safetensors" and (folder / "run.json").exists()
    run = read_run(folder) if path.is_dir() or beside else None
    if not file.exists():
        if path.is_dir():
            raise ValueError(f"{path}: its training has not finished; run the same `mmcl train` again, it resumes")
        raise FileNotFoundError(f"{path}: no such file; {WANTED}")
    backbone, state = _load(file)
    if bad := [name for name, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"{path}: holds numbers that are not finite ({few(bad, 1)}); start from another")
    return Found(path, file, state, run.config.backbone if run else backbone, run)


def _load(file: Path) -> tuple[str | None, dict[str, Tensor]]:
    """The network that a file names, where it does, and its entries."""
    try:
        return load_original(file) if file.suffix in (".pt", ".pth") else (None, load_file(file))
    except (SafetensorError, ValueError, RuntimeError, LookupError, AttributeError, TypeError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0].removeprefix(f"{file}: ")
        raise ValueError(f"{file}: no weights to start from ({said}); {WANTED}") from error


def _fitting(found: Found, here: Mapping[str, Tensor], run: Run) -> dict[str, Tensor]:
    """The entries that are here too in the same shape; those of joints only if joints are counted in the same order."""
    reordered = found.run is not None and found.run.layout.joints != run.layout.joints
    shapes = {name: value.shape for name, value in found.state.items() if not (reordered and _of_joints(name))}
    fits = {name for name, value in here.items() if shapes.get(name) == value.shape}
    counters = {name for name in fits if name.endswith(COUNTER)}  # a number fits always: it goes with its statistics
    fits -= {name for name in counters if name.replace(COUNTER, "running_mean") not in fits}
    return {name: found.state[name].to(value.dtype) for name, value in here.items() if name in fits}


def _refuse(found: Found, here: Mapping[str, Tensor], run: Run, backbone_only: bool, entries: Collection[str]) -> None:
    """ValueError where what was found is not what was asked for; `entries` are those that fit."""
    path, others = found.path, _differences(found, here, run)
    why = "; ".join(others) or _first_other(found.state, here)
    backbone = [name for name in here if name.startswith(BACKBONE)]
    fit = sum(name in entries for name in backbone)
    usable = not _another_backbone(found, run) and fit >= len(backbone) / 2
    if backbone_only and not usable:
        raise ValueError(f"--init-backbone {path}: another network, {fit} of {len(here)} backbone entries fit ({why})")
    if not backbone_only and (others or len(entries) < len(here) or len(found.state) > len(here)):
        instead = f"--init-backbone {path} loads what fits" if usable else "start from another"
        raise ValueError(f"--init {path}: another network ({why}); {instead}")


def _differences(found: Found, here: Mapping[str, Tensor], run: Run) -> list[str]:
    """What is other there, in words; empty where nothing that has a word is."""
    there, ours, known = _sizes(found.state), _sizes(here), found.run
    said = []
    if _another_backbone(found, run):
        said.append(f"backbone {found.backbone} there, {run.config.backbone} here")
    elif known and known.config.width != run.config.width:
        said.append(f"width {known.config.width} there, {run.config.width} here")
    elif _other(there.features, ours.features):
        said.append(f"features {there.features} there, {ours.features} here")
    if note := _joints_note(found, here, run):
        said.append(note)
    if _other(there.bodies, ours.bodies):
        said.append(f"bodies {there.bodies} there, {ours.bodies} here")
    if _other(there.classes, ours.classes):
        said.append(f"classes {there.classes} there, {ours.classes} here")
    elif known and len(known.classes) == ours.classes and known.classes != run.classes:
        old, new = next((a, b) for a, b in zip(known.classes, run.classes, strict=True) if a != b)
        said.append(f"class {old!r} there, {new!r} here")
    return said


def _another_backbone(found: Found, run: Run) -> bool:
    """Whether the weights are known to be another network's; an original HD-GCN does not say its centre."""
    here = run.config.backbone
    same = (None, here) if found.run else (None, here, here.partition("-")[0])
    return found.backbone not in same


def _sizes(state: Mapping[str, Tensor]) -> Sizes:
    classifier, norm = state.get("classifier.weight"), state.get(f"{BACKBONE}data_bn.weight")
    classes, features = classifier.shape if classifier is not None and classifier.dim() == 2 else (0, 0)
    joints = next((value.shape[-1] for name, value in state.items() if name.endswith(".topology") and value.dim()), 0)
    bodies = norm.numel() // (3 * joints) if norm is not None and joints else 0
    return Sizes(classes, features, joints, bodies)


def _other(there: int, ours: int) -> bool:
    return bool(there and ours and there != ours)


def _joints_note(found: Found, here: Mapping[str, Tensor], run: Run) -> str:
    there, ours = _sizes(found.state).joints, _sizes(here).joints
    if _other(there, ours):
        name = f" ({found.run.layout.name})" if found.run else ""
        return f"joints {there} there{name}, {ours} here ({run.layout.name})"
    if found.run and found.run.layout.joints != run.layout.joints:
        return f"joints in the order of {found.run.layout.name} there, of {run.layout.name} here"
    return ""


def _of_joints(name: str) -> bool:
    """Whether an entry counts joints: the norm of the input, and what links joint to joint."""
    return name.startswith(f"{BACKBONE}data_bn.") or name.endswith(".topology")


def _first_other(found: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str:
    """An entry that one has and the other has not, or has in another shape."""
    for name in [*here, *found]:
        there, ours = (str(list(state[name].shape)) if name in state else "none" for state in (found, here))
        if there != ours:
            return f"{name}: {there} there, {ours} here"
    return "the same entries"


def _left_out(entries: Mapping[str, Tensor], here: Mapping[str, Tensor], note: str) -> Iterator[str]:
    """The entries that were not taken; those of one kind in all blocks are one group, the joints' has a note."""
    groups: dict[str, set[str]] = {}
    for name in here:
        if name not in entries:
            module, _, leaf = name.removeprefix(BACKBONE).rpartition(".")
            thing = module if leaf in OF_A_NORM else f"{module}.{leaf}"
            groups.setdefault(re.sub(r".*\d\.", "", thing), set()).add(thing)
    for group, things in groups.items():
        short = group.removeprefix("spatial.")
        many = f" of {len(things)} blocks" if len(things) > 1 else ""
        yield f"{short}{many}{f' ({note})' if note and short == 'topology' else ''}"
