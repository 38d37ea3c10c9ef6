"""CTR-GCN's npz files of NTU RGB+D (Chen et al., ICCV 2021): NTU60_CS, NTU60_CV, NTU120_CSub, NTU120_CSet.

x_train and x_test are [N, 300, 150]: frames of 2 bodies of 25 joints of x, y, z in metres, zeros after the last frame;
y_train and y_test are one-hot, [N, classes]. One file holds one split, and no names. Rows are ordered by what the split
goes by (performer, camera or setup), and within it as the list of all names is. Clips are moved so that the middle
spine of the first body's first frame is the origin. A file has up to 20 GB: it is read row by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...cache.skeletons import TEST, TRAIN
from ..preparation.dataset import Clip, Facts, Finding, RawClip, SplitRule
from ..preparation.layouts import KINECT_V2
from ..preparation.npz import DAMAGED, NpzArray, open_npz
from ..preparation.raw import RawFile, stamp_of
from .ntu import CLASSES_60, SPLITS_60, SPLITS_120, Sample, read_name
from .ntu_classes import CLASSES

SIDES = {"train": TRAIN, "test": TEST}
BODIES, JOINTS = 2, 25
MOST_CLIPS, MOST_FRAMES, MOST_CLASSES = 1_000_000, 10_000, 10_000  # a header that says more is a mistake
BLOCK = 1 << 22  # bytes of labels read at a time
NAMES = "skes_available_name.txt"
MOST_NAMES = 1 << 26  # bytes of that file: NTU120's has 2.4 million
# how a file's name ends: the split, and what its rows are ordered by
SPLITS = {
    **dict.fromkeys(("cs", "csub", "xsub"), ("xsub", "subject")),
    **dict.fromkeys(("cv", "cview", "xview"), ("xview", "camera")),
    **dict.fromkeys(("cset", "xset"), ("xset", "setup")),
}
RELEASES = {CLASSES_60: SPLITS_60, len(CLASSES): SPLITS_120}  # by the number of classes
CUT = "frames of zeros at the end, cut"
ABSENT, REPEATED = "second bodies of zeros, not stored", "second bodies that repeat the first, not stored"
CENTRED = "clips are centred already, so the centring in training changes nothing"
UNNAMED = (
    "no names in it, so clips are train-000001 and so on, and videos can't be matched to them; put CTR-GCN's list"
    f" {NAMES} beside it and run again"
)
UNORDERED = f"the file's name ends in no split of NTU's ({', '.join(SPLITS)}), so {NAMES} can't be put in its order"

Labels = Mapping[str, np.ndarray]  # int64 [N] by side


class CtrGcn:
    """The clips of one npz file of CTR-GCN's; ValueError where it is none, FileNotFoundError where nothing is."""

    in_memory = True  # it is one stream: read in its order, in one process

    def __init__(self, raw: Path) -> None:
        self._path, self._arrays = raw, _open(raw)
        self._labels = {side: _labels(self._arrays[f"y_{side}"], f"{raw}: y_{side}") for side in SIDES}
        count = self._arrays["y_train"].shape[1]
        names, unnamed = _names(raw, count, self._labels)
        self._names = names or {side: _numbered(side, len(labels)) for side, labels in self._labels.items()}
        self._is_named = bool(names)
        self.facts = _facts(raw, count, self._names, unnamed)

    def files(self) -> list[RawFile]:
        """One a row, training rows first; the member is its side, its number from 0 and its clip's name."""
        stat = self._path.stat()
        return [
            RawFile(self._path, f"{side}/{row}/{name}", stat.st_size, stamp_of(stat))
            for side, names in self._names.items()
            for row, name in enumerate(names)
        ]

    def reader(self, file: RawFile) -> RawClip:
        side, row, name = file.member.split("/")
        joints, counts = bodies_of(self._arrays[f"x_{side}"].rows(int(row), 1)[0])
        columns = _columns(read_name(name)) if self._is_named else {}
        return RawClip(name, int(self._labels[side][int(row)]), joints, columns, counts=counts)

    def remarks(self, names: Sequence[str], findings: Sequence[Finding]) -> list[str]:
        """That nothing in a damaged file is sure."""
        damaged = any(finding.found.startswith(DAMAGED) for finding in findings)
        return [f"{self._path} is damaged, and other clips may be wrong, too: get it anew"] if damaged else []


def bodies_of(frames: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The real bodies in a row [T, 150], float32 [1 or 2, frames, 25, 3], and counts of what was not stored.

    A second body of zeros is not stored. In NTU 120 a few rows have one, and so the rule "repeat" makes it the first
    again in training, where CTR-GCN trains on zeros (as ntu_bodies.py does, of the raw files).
    """
    seen = np.flatnonzero(frames.any(axis=1))
    if not len(seen):
        raise ValueError("no frames: all coordinates are zero")
    bodies = frames[: seen[-1] + 1].reshape(-1, BODIES, JOINTS, 3).swapaxes(0, 1)
    absent, repeated = not bodies[1].any(), np.array_equal(bodies[0], bodies[1], equal_nan=True)
    joints = np.array(bodies[:1] if absent or repeated else bodies, np.float32, order="C")
    return joints, {CUT: len(frames) - bodies.shape[1], ABSENT: int(absent), REPEATED: int(repeated)}


def _open(path: Path) -> dict[str, NpzArray]:
    """The four arrays; ValueError where one is absent, or of another shape."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder or file; give CTR-GCN's .npz file")
    if path.is_dir():
        raise ValueError(f"{path}: a folder holds no one split of CTR-GCN's; give the .npz file itself")
    arrays = open_npz(path, ("x_train", "y_train", "x_test", "y_test"))
    classes = arrays["y_train"].shape[-1]
    for side in SIDES:
        x, y = arrays[f"x_{side}"].shape, arrays[f"y_{side}"].shape
        if len(x) != 3 or x[0] > MOST_CLIPS or not 0 < x[1] <= MOST_FRAMES or x[2] != BODIES * JOINTS * 3:
            raise ValueError(f"{path}: x_{side} is {list(x)}; wanted [clips, 300 frames, 150 coordinates]")
        if y != (x[0], classes) or not 0 < classes <= MOST_CLASSES:
            raise ValueError(f"{path}: y_{side} is {list(y)}; wanted {[x[0], 'classes']}, one-hot, as y_train has them")
    return arrays


def _labels(array: NpzArray, place: str) -> np.ndarray:
    """int64 [N] of a one-hot y; ValueError with the first row that is none."""
    step = max(BLOCK // array.row_bytes, 1)
    labels = np.empty(array.shape[0], np.int64)
    for start in range(0, len(labels), step):
        block = array.rows(start, min(step, len(labels) - start))
        if len(wrong := np.flatnonzero((block != 0).sum(axis=1) != 1)):
            raise ValueError(f"{place}: row {start + wrong[0]} is not one-hot")
        labels[start : start + len(block)] = (block != 0).argmax(axis=1)
    return labels


def _facts(path: Path, classes: int, names: Mapping[str, Sequence[str]], unnamed: Sequence[str]) -> Facts:
    split = SPLITS.get(_ending(path), ("given", ""))[0]
    whole = RELEASES.get(classes, {})
    sides = {name: SIDES[side] for side, of_side in names.items() for name in of_side}
    body_rule = "repeat" if classes == len(CLASSES) else "zero"
    rule = SplitRule(lambda clip: sides[clip.name], whole[split].published if split in whole else None, body_rule)
    said = f"a file of CTR-GCN's holds one split: this one is {split}"
    counted = CLASSES[:classes] if classes in RELEASES else tuple(f"class {label}" for label in range(classes))
    decided = hashlib.sha256("\n".join(sides).encode()).hexdigest()
    return Facts(counted, KINECT_V2, {split: rule}, warnings=(said, CENTRED, *unnamed), decided=decided)


def _ending(path: Path) -> str:
    return path.stem.rpartition("_")[2].lower()


def _numbered(side: str, count: int) -> list[str]:
    return [f"{side}-{number:06}" for number in range(1, count + 1)]


def _names(path: Path, classes: int, labels: Labels) -> tuple[dict[str, list[str]], list[str]]:
    """The name of each row by side, from the list beside the file, and what is to be said where there is none.

    Raises ValueError where the list does not fit the rows: nothing is guessed.
    """
    beside = [place for place in (path.parent / NAMES, path.parent / "statistics" / NAMES) if place.is_file()]
    if not beside:
        return {}, [UNNAMED]
    split, column = SPLITS.get(_ending(path), ("", ""))
    if split not in RELEASES.get(classes, {}):
        return {}, [UNNAMED, UNORDERED]
    samples = {name: sample for name, sample in _read_names(beside[0]).items() if sample.action <= classes}
    side_of = RELEASES[classes][split].side
    sides = {name: side_of(Clip(name, sample.action - 1, _columns(sample))) for name, sample in samples.items()}
    names = {}
    for side, code in SIDES.items():
        of_side = [name for name in samples if sides[name] == code]
        names[side] = sorted(of_side, key=lambda name: getattr(samples[name], column))  # keeps the list's order
        _check_order(f"{beside[0]}: {split}", side, [samples[name] for name in names[side]], labels[side], names[side])
    return names, []


def _read_names(path: Path) -> dict[str, Sample]:
    """All names in their order; ValueError with the line that is none, or is there twice."""
    with path.open("rb") as file:
        lines = file.read(MOST_NAMES + 1).split()
    samples: dict[str, Sample] = {}
    for number, line in enumerate(lines, 1):
        name = line.decode("ascii", "replace")
        if name in samples:
            raise ValueError(f"{path}: name {number}, {name}, is there twice")
        try:
            samples[name] = read_name(name)
        except ValueError as error:
            raise ValueError(f"{path}: name {number}, {name:.40}: {error}") from error
    return samples


def _check_order(place: str, side: str, samples: Sequence[Sample], labels: np.ndarray, names: Sequence[str]) -> None:
    """ValueError where the rows of a side are not these samples, by number and by label."""
    if len(samples) != len(labels):
        raise ValueError(f"{place} has {len(samples):,} names that {side}, the npz file {len(labels):,}; another list?")
    actions = np.array([sample.action for sample in samples], np.int64)
    if len(differing := np.flatnonzero(actions - 1 != labels)):
        row = differing[0]
        found = f"x_{side} row {row} has label {labels[row] + 1}, by its order it is {names[row]}"
        raise ValueError(f"{place}: not the names of this file: {found}")


def _columns(sample: Sample) -> dict[str, int]:
    columns = asdict(sample)
    del columns["action"]
    return columns
