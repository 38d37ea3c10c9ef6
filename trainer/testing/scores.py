"""Scores of clips by name, and the file that keeps them: readable with numpy alone, without pickle."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zipfile import ZipFile

import numpy as np

from ...cache.files import write_bytes
from ...cache.words import few

SHOWN = 4  # names in a message
FILE = "scores.npz"
LARGEST = 1 << 30  # bytes of all arrays that are read; 120 classes of a million clips are half of it
MOST_CLASSES = 10_000  # a table of confusions of more is too large for memory, and no data set of skeletons has them
ON_TEST_SET = "ON THE TEST SET"  # how the words end that say what should not have been chosen on it
WANTED = "wanted names [n] and scores [n, classes], and labels [n] unless a run stands beside it"


@dataclass(frozen=True)
class Scores:
    """The scores of a split's clips: `values` float32 [n, K], before any softmax (S_M), and `labels` int64 [n].

    ValueError where lengths differ, a clip or a class is there twice, a score is not finite, or a label names no class.
    """

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_values(self.names, self.values)
        check_classes(self.classes)
        if self.values.shape[1] != len(self.classes):
            raise ValueError(f"scores of {self.values.shape[1]} classes, wanted {len(self.classes)}")
        if self.labels.shape != (len(self.names),) or self.labels.dtype.kind not in "iu":
            raise ValueError(f"labels {self.labels.dtype} {list(self.labels.shape)}; wanted an integer a clip")
        if ((self.labels < 0) | (self.labels >= len(self.classes))).any():
            span = f"{self.labels.min()}..{self.labels.max()}"
            raise ValueError(f"labels {span} for {len(self.classes)} classes; wanted 0..{len(self.classes) - 1}")


class About(NamedTuple):
    """What was scored by what: how its epoch was chosen, in words, and empty, or None, what is not known."""

    selection: str = ""
    dataset: str = ""
    split: str = ""
    backbone: str = ""
    stream: str = ""
    seed: int | None = None

    @property
    def on_test(self) -> bool:
        """Whether its epoch, its weights, or those of a member of it were chosen on the clips it is tested on."""
        return ON_TEST_SET in self.selection


NOTHING_KNOWN = About()
ARRAYS = ("names", "scores", "labels", "classes", *About._fields)  # of a score file; a stranger's others stay unread


@dataclass(frozen=True)
class ScoreFile:
    """What a score file holds: names, scores float32 [n, K], and what else it knows.

    `labels` int64 [n] are None and `classes` empty where it does not say them.
    """

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    about: About = NOTHING_KNOWN


def check_values(names: Sequence[str], values: np.ndarray) -> None:
    """ValueError where scores [n, K] are not one finite row a name, or a name is there twice."""
    if values.ndim != 2 or len(values) != len(names) or not values.size or values.dtype.kind not in "fiu":
        raise ValueError(f"scores {values.dtype} {list(values.shape)} for {len(names):,} names; wanted a row a clip")
    if values.shape[1] > MOST_CLASSES:
        raise ValueError(f"scores of {values.shape[1]:,} classes; wanted {MOST_CLASSES:,} at most")
    _refuse_twice("clips", names)
    if len(odd := np.flatnonzero(~np.isfinite(values).all(1)).tolist()):
        shown = few([names[row] for row in odd], SHOWN)
        raise ValueError(f"{len(odd):,} of {len(names):,} clips have scores that are no numbers (NaN or Inf): {shown}")


def check_classes(classes: Sequence[str]) -> None:
    """ValueError where two classes have one name: what is matched by name would be matched wrongly."""
    _refuse_twice("classes", classes)


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        unique, counts = np.unique(np.array(names), return_counts=True)
        twice = unique[counts > 1].tolist()
        raise ValueError(f"{len(twice):,} {what} are there more than once: {few(twice, SHOWN)}")


def aligned(scores: Scores, like: Scores) -> Scores:
    """The same scores with clips and classes in the order of `like`.

    ValueError, with some of the names and how many they are, where clips, classes or labels are not the same.
    """
    refuse_difference("classes", scores.classes, like.classes)
    refuse_difference("clips", scores.names, like.names)
    columns, rows = rows_of(scores.classes, like.classes), rows_of(scores.names, like.names)
    labels = np.argsort(columns)[scores.labels[rows]]
    if len(odd := np.flatnonzero(labels != like.labels).tolist()):
        shown = few([like.names[place] for place in odd], SHOWN)
        raise ValueError(f"{len(odd):,} clips have another label: {shown}; only scores of the same labels are compared")
    return replace(like, values=np.ascontiguousarray(scores.values[rows][:, columns]))


def refuse_difference(what: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    """ValueError with what is missing and what is unknown, where two lists don't hold the same names."""
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if said := [
        f"{len(names):,} of {len(among):,} {what} are {word} ({few(names, SHOWN)})"
        for names, among, word in ((missing, wanted, "missing"), (unknown, found, "unknown"))
        if names
    ]:
        raise ValueError(f"{', '.join(said)}; only scores of the same {what} can stand side by side")


def rows_of(names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Where each wanted name is among the same names, int64 [wanted]; lists that are equal stay as they are."""
    if tuple(names) == tuple(wanted):
        return np.arange(len(names))
    place = {name: row for row, name in enumerate(names)}
    return np.array([place[name] for name in wanted], np.int64)


def write_scores(folder: Path, scores: Scores, about: About) -> None:
    """FOLDER/scores.npz: names, scores and labels of the clips, the classes, what was scored and how it was chosen."""
    content, said = io.BytesIO(), about._asdict() | {"seed": -1 if about.seed is None else about.seed}
    arrays = {"names": scores.names, "scores": scores.values, "labels": scores.labels, "classes": scores.classes}
    np.savez(content, allow_pickle=False, **{name: np.array(value) for name, value in (arrays | said).items()})
    write_bytes(folder / FILE, content.getvalue())


def read_npz(path: Path) -> ScoreFile:
    """What an npz of names and scores holds; ValueError with the file where it is damaged, or holds something else."""
    try:
        found = _of_npz(path)
        check_values(found.names, found.values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def read_scores(folder: Path) -> Scores:
    """The scores that an evaluation has written into a folder; ValueError where they are damaged.

    Those of older versions name no classes: these are "class 0" and so on.
    """
    try:
        return scores_alone(read_npz(folder / FILE))
    except ValueError as error:
        raise ValueError(f"{error}; run `mmcl evaluate` again") from error


def scores_alone(found: ScoreFile) -> Scores:
    """The scores of a file that stands for itself; ValueError where it has no labels."""
    if found.labels is None:
        raise ValueError("has no labels: give a run of the same data set and split before it, or add `labels` to it")
    classes = found.classes or tuple(f"class {label}" for label in range(found.values.shape[1]))
    return Scores(found.names, found.values, found.labels, classes)


def _of_npz(path: Path) -> ScoreFile:
    with path.open("rb") as opened:
        try:
            arrays, there = _arrays(opened)
        except Exception as error:  # of damaged bytes zipfile, zlib and numpy raise a dozen kinds
            said = " ".join(str(error).split())[:160] or type(error).__name__
            raise ValueError(f"not an npz of plain arrays, or a damaged one ({said})") from error
    if lacking := [name for name in ("names", "scores") if name not in arrays]:
        raise ValueError(f"has no {' and no '.join(lacking)}, but {few(sorted(there), 8) or 'nothing'}; {WANTED}")
    names, labels = _text("names", arrays["names"]), arrays.get("labels")
    if labels is not None and (labels.shape != (len(names),) or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"labels {labels.dtype} {list(labels.shape)} for {len(names):,} names; wanted an integer a clip"
        )
    return ScoreFile(
        names,
        _numbers(arrays["scores"]),
        None if labels is None else labels.astype(np.int64),
        _text("classes", arrays["classes"]) if "classes" in arrays else (),
        _about(arrays),
    )


def _arrays(opened: BinaryIO) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of an npz that a score file means, and the names of all; no other is unfolded."""
    with ZipFile(opened) as archive, np.load(opened, allow_pickle=False) as file:
        read = [member for member in archive.infolist() if member.filename.removesuffix(".npy") in ARRAYS]
        if (size := sum(member.file_size for member in read)) > LARGEST:
            raise ValueError(f"it unfolds to {size:,} bytes; no score file is that large")
        arrays = {name: file[name] for name in file.files if name in ARRAYS}
        if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{few(odd, SHOWN)}: no array")
        return arrays, list(file.files)


def _about(arrays: dict[str, np.ndarray]) -> About:
    said = {name: str(arrays[name]) for name in About._fields[:-1] if name in arrays and arrays[name].shape == ()}
    seed = arrays.get("seed", np.array(-1))
    known = seed.shape == () and seed.dtype.kind in "iu" and seed >= 0
    return About(**said, seed=int(seed) if known else None)


def _text(what: str, array: np.ndarray) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise ValueError(f"{what} {array.dtype} {list(array.shape)}; wanted a list of text")
    return tuple((np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array).tolist())


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"scores {array.dtype} {list(array.shape)}; wanted numbers [n, classes]")
    return array.astype(np.float32)
