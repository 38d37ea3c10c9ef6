"""That what is deployed is a skeleton network and nothing else, said of a run's files and checked on them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ...cache.words import few
from ..run import Run

HEADS = ("align.", "refine.")  # what the entries of FAM and FRM begin with
MEND = "train again: a run of `mmcl train` has none"


def skeleton_only(folder: Path, run: Run) -> str:
    """A sentence that says what the run's network is made of; ValueError where it holds anything else.

    The entries of model.safetensors are exactly those of the network that the run's config builds; only the file's
    header is read. Those of FAM and FRM lie in heads.safetensors, which need not be there.
    """
    with torch.device("meta"):
        wanted = run.build().state_dict().keys()
    path = folder / "model.safetensors"
    found = entries_of(path)
    if teachers := sorted(name for name in found - wanted if name.startswith(HEADS)):
        raise ValueError(f"{path}: {len(teachers)} entries of the teachers' heads ({few(teachers, 4)}); {MEND}")
    if found != wanted:
        other = sorted(found ^ wanted)
        raise ValueError(
            f"{path}: {len(other)} entries differ from those of {run.config.backbone} ({few(other, 4)}); {MEND}"
        )
    beside = "FAM and FRM lie in heads.safetensors" if run.rgb or run.text else "it was trained without teachers"
    return (
        f"skeleton-only: model.safetensors holds the {len(found)} entries of the {run.config.backbone} network and no "
        f"other; {beside}; evaluation reads run.json, model.safetensors and skeletons.h5"
    )


def entries_of(path: Path) -> Collection[str]:
    """The names of a safetensors file's entries, by its header; ValueError where it is no such file."""
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); {MEND}") from error
