"""Whether an exported file gives PyTorch's numbers, on real clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from ...cache.skeletons import Skeletons
from ..data.skeleton import body_of, pack
from ..model import SkeletonClassifier
from ..run import Run
from ..testing.scoring import score
from .predictor import open_session, softmax

OUTPUTS = ("scores", "probabilities")
MOST = 256  # clips that are compared
BATCHES = (1, 16, 5, 2)  # clips that go in together, in turns
TOLERANCE = 1e-4  # of the largest score; what float rounding leaves after ten blocks is about a hundredth of that
# HD-GCN takes a joint's nearest in feature space: where two are equally near rounding chooses, in PyTorch too, where
# the same clip in a batch of another size may differ by as much. Such clips are few, and their scores hardly change.
FLIPPED, FLIP = 0.02, 0.05  # share of the clips, but one may be; and by how much of the largest score


@dataclass(frozen=True)
class Agreement:
    """An exported file beside PyTorch: how many clips, and the largest differences of scores and probabilities.

    `scale` is the largest score, `far` how many clips differ by more than the tolerance of it, `same_top1` the share of
    clips that both give the same class. `left_out` clips have a last body that is in no frame: padded joints can't
    tell it from an absent one.
    """

    clips: int
    left_out: int
    scores: float
    probabilities: float
    scale: float
    far: int
    same_top1: float


def agreement(
    path: Path,
    run: Run,
    model: SkeletonClassifier,
    skeletons: Skeletons,
    rows: np.ndarray,
    progress: Callable[[int, int], None],
) -> Agreement:
    """An exported file in ONNX Runtime beside the path that `mmcl evaluate` takes, on up to 256 of the clips in `rows`.

    The clips go in by batches of several sizes, each filled up with NaN behind its clips' ends.
    """
    usable = [row for row in spread(rows) if _last_body_seen(skeletons, row)]
    if not usable:
        raise ValueError(f"{skeletons.dataset}: no test clip whose last body is in any frame; nothing to compare with")
    wanted = score(
        model,
        pack(skeletons),
        np.array(usable, np.int64),
        body=body_of(run.layout, run.slots, run.body_rule),
        config=run.config,
    ).numpy()
    session, found = open_session(path), list[list[np.ndarray]]()
    for batch in _batches(usable):
        found.append([np.asarray(side) for side in session.run(OUTPUTS, filled(skeletons, batch, run.slots))])
        progress(sum(len(scores) for scores, _ in found), len(usable))
    scores, probabilities = (np.concatenate(side) for side in zip(*found, strict=True))
    return _compared(wanted, scores, probabilities, left_out=min(len(rows), MOST) - len(usable))


def refuse_far(found: Agreement, run: Run, path: Path) -> None:
    """RuntimeError where an exported file and PyTorch differ by more than float rounding explains."""
    flips = run.config.backbone.startswith("hdgcn")
    few, most = (max(1, FLIPPED * found.clips), FLIP) if flips else (0, TOLERANCE)
    if found.far <= few and found.scores <= most * found.scale:
        return
    allowed = f"{TOLERANCE * found.scale:.2g} ({TOLERANCE:.2%} of the largest)"
    raise RuntimeError(
        f"{path}: not written, ONNX Runtime and PyTorch disagree: scores differ by up to {found.scores:.2g}, and by "
        f"more than {allowed} in {found.far} of {found.clips} clips; try other versions of torch and onnxruntime"
    )


def spread(rows: np.ndarray) -> np.ndarray:
    """Up to 256 of some rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(np.int64)]


def filled(skeletons: Skeletons, rows: Sequence[int], slots: int) -> dict[str, np.ndarray]:
    """Some clips as an exported graph takes them; what it has to ignore is NaN."""
    lengths = skeletons.frames[rows]
    shape = len(rows), slots, int(lengths.max()) + 1, *skeletons.joints.values.shape[1:]
    joints = np.zeros(shape, np.float32)
    for into, row, frames in zip(joints, rows, lengths, strict=True):
        into[:, frames:] = np.nan
        into[: skeletons.bodies[row], :frames] = _bodies(skeletons, row)
    return {"joints": joints, "lengths": lengths.astype(np.int64)}


def _bodies(skeletons: Skeletons, row: int) -> np.ndarray:
    joints = skeletons.joints[row]
    return joints.reshape(skeletons.bodies[row], -1, *joints.shape[1:])


def _last_body_seen(skeletons: Skeletons, row: int) -> bool:
    return skeletons.bodies[row] == 1 or bool(_bodies(skeletons, row)[-1].any())


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    start = 0
    for size in cycle(BATCHES):
        if start >= len(rows):
            return
        yield rows[start : start + size]
        start += size


def _compared(wanted: np.ndarray, scores: np.ndarray, probabilities: np.ndarray, left_out: int) -> Agreement:
    apart = np.abs(scores - wanted).max(axis=1)
    scale = float(np.abs(wanted).max())
    return Agreement(
        clips=len(wanted),
        left_out=left_out,
        scores=float(apart.max()),
        probabilities=float(np.abs(probabilities - softmax(wanted)).max()),
        scale=scale,
        far=int((~(apart <= TOLERANCE * scale)).sum()),
        same_top1=float((scores.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
    )
