"""Made-up scores, entries and score files, for tests of what is done with scores."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmcl.trainer.testing.entries import Entry
from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.scores import About, Scores

CLASSES = tuple("abcdefg")


def scores_of(
    seed: int = 0, names: tuple[str, ...] = (), classes: tuple[str, ...] = CLASSES, skill: float = 1
) -> Scores:
    """Scores of 40 clips, or of those named, the same labels for every seed; with more skill more are right."""
    names = names or tuple(f"clip{row:02}" for row in range(40))
    labels = np.arange(len(names)) % (len(classes) - 1)  # the last class has no clip
    values = np.random.default_rng(seed).normal(size=(len(names), len(classes))).astype(np.float32)
    values[np.arange(len(names)), labels] += np.float32(skill)
    return Scores(names, values, labels, classes)


def entry_of(stream: str, seed: int | None = 1, backbone: str = "ctrgcn") -> Entry:
    """An entry of a score file that says what it is of; its scores are drawn by that."""
    scores = scores_of(sum(map(ord, f"{backbone}{stream}{seed}")))
    about = About("last epoch", "made-up", "xsub", backbone, stream, seed)
    title = f"{backbone}/{stream}/seed{seed}"
    return Entry(title, about, None, Path(title), scores, measure(scores.values, scores.labels), ())


def write_pickle(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, allow_pickle=True, **{name: np.array(value) for name, value in arrays.items()})
    return path
