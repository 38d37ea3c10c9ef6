"""The skeleton cache: real bodies only, ragged in time, with labels, classes, layout and named splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .layout import JointMap, Layout
from .table import Column, Columns, Ragged, checksums, read_table, stored_checksums, write_table
from .words import few

__all__ = ["JointMap", "Layout", "Skeletons", "Split", "Transfer"]

BODY_RULES = ("zero", "repeat")
COORDINATES = ("metres", "image")
OUT, TRAIN, TEST = 0, 1, 2  # what a split says of a clip


@dataclass(frozen=True)
class Split:
    """Which clips train and test, int8 [n] of OUT, TRAIN, TEST, and what a network counts on them.

    `body_rule` says what stands in for an absent body: zeros, or the first body again. `classes` are the labels that
    compete, in the order in which the network counts them; none given, all of the data set's do.
    """

    sides: np.ndarray
    body_rule: str = "zero"
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.body_rule not in BODY_RULES:
            raise ValueError(f"body rule {self.body_rule}; allowed are {', '.join(BODY_RULES)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a split counts a class twice: {list(self.classes)}")


@dataclass(frozen=True)
class Transfer:
    """How a network that was trained on another data set is tested on this one.

    `layout` and `joints` make that data set's joints of one's own; `classes` are one's own class names with its names
    for them, chosen by `source`. Classes that are not named are not tested on.
    """

    dataset: str
    layout: Layout
    joints: JointMap
    classes: Mapping[str, str]
    source: str

    def __post_init__(self) -> None:
        if len(self.joints) != len(self.layout.joints) or not all(self.joints):
            raise ValueError(f"transfer from {self.dataset}: {len(self.joints)} joints made, wanted {self.layout.name}")

    def check_joints(self, count: int) -> None:
        """ValueError where it is made of a joint that a layout of `count` joints has not."""
        if not all(0 <= joint < count for made in self.joints for joint, _ in made):
            raise ValueError(f"transfer from {self.dataset}: made of a joint outside 0..{count - 1}")


@dataclass(frozen=True)
class Skeletons:
    """A prepared data set of n clips.

    `joints` row i holds clip i's bodies one after the other, each with its frames: [bodies * frames, V, 3]. In metres
    they are the camera's x, y, z. As coordinates of the image they are x and y of a 2D pose, -1 to 1 over the picture
    with y down, and how sure its detector was; all zero where a joint was not seen.
    `image_points`, where they are known, has rows of the same lengths: [bodies * frames, V, 2], float32, x and y of
    each joint in the colour video as shares of its width and height; NaN or 0, 0 where a joint's is not known.
    `columns` are whatever the data set knows of a clip: subject, view, trial ..., int64 [n], -1 where it does not.
    """

    dataset: str
    classes: tuple[str, ...]
    layout: Layout
    names: tuple[str, ...]
    labels: np.ndarray
    bodies: np.ndarray
    joints: Ragged
    splits: Mapping[str, Split]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    image_points: Ragged | None = None
    coordinates: str = "metres"
    transfers: tuple[Transfer, ...] = ()

    def __post_init__(self) -> None:
        sides = [split.sides for split in self.splits.values()]
        by_clip = (self.names, self.labels, self.bodies, self.joints, *sides, *self.columns.values())
        if len(sizes := {len(column) for column in by_clip}) != 1:
            raise ValueError(f"{self.dataset}: columns of different lengths {sorted(sizes)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{self.dataset}: two clips of one name")
        if self.coordinates not in COORDINATES:
            raise ValueError(f"{self.dataset}: coordinates {self.coordinates}; allowed are {', '.join(COORDINATES)}")
        for transfer in self.transfers:
            transfer.check_joints(len(self.layout.joints))
        self._check_clips()
        self._check_points()
        self._check_splits()

    def _check_clips(self) -> None:
        labels, rows = self.labels, np.diff(self.joints.offsets)
        numbers = (labels, self.bodies, *(split.sides for split in self.splits.values()), *self.columns.values())
        if kinds := {str(column.dtype) for column in numbers if column.dtype.kind not in "iu"}:
            raise ValueError(
                f"{self.dataset}: labels, bodies, splits or columns of {', '.join(kinds)}, wanted integers"
            )
        if ((labels < 0) | (labels >= len(self.classes))).any():
            raise ValueError(f"{self.dataset}: labels {labels.min()}..{labels.max()} for {len(self.classes)} classes")
        if (self.bodies < 1).any() or (rows < 1).any() or (rows % self.bodies).any():
            raise ValueError(f"{self.dataset}: a clip without a frame, or with bodies of different lengths")
        values, wanted = self.joints.values, [len(self.layout.joints), 3]
        if values.dtype != np.float32 or list(values.shape[1:]) != wanted:
            found = f"{values.dtype} of shape {list(values.shape[1:])}"
            raise ValueError(f"{self.dataset}: joints {found}, layout {self.layout.name} wants float32 {wanted}")

    def _check_points(self) -> None:
        if self.image_points is None:
            return
        if not np.array_equal(self.image_points.offsets, self.joints.offsets):
            raise ValueError(f"{self.dataset}: clips whose image points have other bodies or frames than their joints")
        values, wanted = self.image_points.values, [len(self.layout.joints), 2]
        if values.dtype != np.float32 or list(values.shape[1:]) != wanted:
            found = f"{values.dtype} of shape {list(values.shape[1:])}"
            raise ValueError(f"{self.dataset}: image points {found}, layout {self.layout.name} wants float32 {wanted}")

    def _check_splits(self) -> None:
        for name, split in self.splits.items():
            strangers = set(split.classes) - set(range(len(self.classes)))
            if strangers or (self.split_labels(name)[split.sides != OUT] < 0).any():
                raise ValueError(f"{self.dataset}: split {name} has clips or classes that it does not count")

    @property
    def frames(self) -> np.ndarray:
        """Frames of each clip, int64 [n]."""
        return np.diff(self.joints.offsets) // self.bodies

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that change with any clip, label or split."""
        described = json.dumps(_described(self)).encode()
        return hashlib.sha256(described + self.checksums.tobytes()).hexdigest()[:12]

    @cached_property
    def checksums(self) -> np.ndarray:
        """Of each clip as it is now, uint32 [n]: those that were written with it, unless it was damaged since."""
        return checksums(_columns(self))

    def rows(self, split: str, part: int) -> np.ndarray:
        """The rows of one part (TRAIN or TEST) of a split; ValueError with the choices for an unknown name."""
        if split not in self.splits:
            raise ValueError(f"{self.dataset} has no split {split!r}; it has {', '.join(self.splits)}")
        return np.flatnonzero(self.splits[split].sides == part)

    def split_classes(self, split: str) -> tuple[str, ...]:
        """The names of the classes that a network counts on a split."""
        return tuple(self.classes[label] for label in self.splits[split].classes) or self.classes

    def split_labels(self, split: str) -> np.ndarray:
        """Each clip's label as a network counts on a split, int64 [n]; -1 for a clip of another class."""
        if not (classes := self.splits[split].classes):
            return self.labels
        place = np.full(len(self.classes), -1)
        place[list(classes)] = np.arange(len(classes))
        return place[self.labels]


def write_skeletons(path: Path, skeletons: Skeletons) -> None:
    write_table(path, _columns(skeletons), {"meta": meta_of(skeletons)})


def read_skeletons(path: Path) -> Skeletons:
    """The cache that `mmcl prepare` wrote; FileNotFoundError or ValueError with the next step where it is none."""
    if path.parent.is_file():
        raise ValueError(f"{path.parent}: a file; give the data set's folder, which `mmcl prepare` made")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no skeleton cache here; make it with `mmcl prepare`")
    columns, attributes = read_table(path)
    if "meta" not in attributes:
        raise ValueError(f"{path}: an HDF5 file, but not a skeleton cache; make it with `mmcl prepare`")
    if not isinstance(joints := columns.get("joints"), Ragged):
        raise ValueError(f"{path}: no ragged column 'joints'; make it again with `mmcl prepare`")
    try:
        return _from_table(columns, joints, json.loads(str(attributes["meta"])))
    except KeyError as error:
        raise ValueError(f"{path}: a skeleton cache without {error}; make it again with `mmcl prepare`") from error
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); run the same `mmcl prepare` again") from error


def read_whole(path: Path) -> Skeletons:
    """The cache, every clip as it was written; ValueError with the names of those that are not."""
    skeletons = read_skeletons(path)
    try:
        changed = np.flatnonzero(skeletons.checksums != stored_checksums(path))
    except ValueError as error:  # a clip's offsets lead out of the values
        raise ValueError(f"{path}: damaged ({error}); run the same `mmcl prepare` again") from error
    if len(changed):
        shown = few([skeletons.names[row] for row in changed], 8)
        raise ValueError(f"{path}: {len(changed)} damaged clips ({shown}); run the same `mmcl prepare` again")
    return skeletons


def _from_table(columns: Columns, joints: Ragged, meta: Mapping[str, Any]) -> Skeletons:
    points = columns.get("image_points")
    fixed = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    return Skeletons(
        meta["dataset"],
        tuple(meta["classes"]),
        Layout.from_dict(meta["layout"]),
        tuple(np.char.decode(fixed["name"], "utf-8").tolist()),
        fixed["label"],
        fixed["bodies"],
        joints,
        {
            name: Split(fixed[f"split_{name}"], rule, tuple(map(int, meta.get("split_classes", {}).get(name, ()))))
            for name, rule in meta["body_rules"].items()
        },
        {name: fixed[f"column_{name}"] for name in meta["columns"]},
        points if isinstance(points, Ragged) else None,
        meta.get("coordinates", "metres"),
        tuple(map(_transfer, meta.get("transfers", ()))),
    )


def _transfer(found: Mapping[str, Any]) -> Transfer:
    joints = tuple(tuple((int(joint), float(weight)) for joint, weight in made) for made in found["joints"])
    return Transfer(found["dataset"], Layout.from_dict(found["layout"]), joints, found["classes"], found["source"])


def meta_of(skeletons: Skeletons) -> str:
    """All that is not a column, as the table's attribute `meta`."""
    transfers = [asdict(transfer) for transfer in skeletons.transfers]
    return json.dumps(_described(skeletons) | ({"transfers": transfers} if transfers else {}))


def _described(skeletons: Skeletons) -> dict[str, Any]:
    """What the digest is made of, beside the columns. What is as usual is left out: digests of older caches hold."""
    counted = {name: split.classes for name, split in skeletons.splits.items() if split.classes}
    return {
        "dataset": skeletons.dataset,
        "classes": skeletons.classes,
        "layout": asdict(skeletons.layout),
        "body_rules": {name: split.body_rule for name, split in skeletons.splits.items()},
        "columns": list(skeletons.columns),
        **({"split_classes": counted} if counted else {}),
        **({"coordinates": skeletons.coordinates} if skeletons.coordinates != "metres" else {}),
    }


def _columns(skeletons: Skeletons) -> dict[str, Column]:
    return {
        "name": np.array([name.encode() for name in skeletons.names]),
        "label": skeletons.labels,
        "bodies": skeletons.bodies,
        "joints": skeletons.joints,
        **split_columns(skeletons.splits),
        **{f"column_{name}": values for name, values in skeletons.columns.items()},
        **({} if skeletons.image_points is None else {"image_points": skeletons.image_points}),
    }


def split_columns(splits: Mapping[str, Split]) -> dict[str, np.ndarray]:
    return {f"split_{name}": split.sides for name, split in splits.items()}
