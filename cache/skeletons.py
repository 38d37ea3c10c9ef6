"""The skeleton cache: real bodies only, ragged in time, with labels, classes, layout and named splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from .table import Ragged, checksums, read_table, write_table

BODY_RULES = ("zero", "repeat")
OUT, TRAIN, TEST = 0, 1, 2  # what a split says of a clip


@dataclass(frozen=True)
class Layout:
    """Joints and how they hang together; indices count from 0.

    `edges` are (child, parent); the joint that is nobody's child is the root. `centre` is the joint that clips are
    moved by (the middle spine). `pairs` are (left, right).
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    centre: int
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.joints)
        if not _is_tree(self.edges, count):
            raise ValueError(f"layout {self.name}: {len(self.edges)} edges do not join {count} joints to a tree")
        named = [self.centre, *(joint for pair in self.pairs for joint in pair)]
        if not all(0 <= joint < count for joint in named):
            raise ValueError(f"layout {self.name}: centre or pairs name a joint outside 0..{count - 1}")

    @property
    def parents(self) -> list[int]:
        """The parent of each joint; the root is its own."""
        parent = dict(self.edges)
        return [parent.get(joint, joint) for joint in range(len(self.joints))]

    @staticmethod
    def from_dict(found: Mapping[str, object]) -> Layout:
        def pairs(name: str) -> tuple[tuple[int, int], ...]:
            return tuple((int(a), int(b)) for a, b in found[name])  # type: ignore[attr-defined]

        joints = tuple(str(joint) for joint in found["joints"])  # type: ignore[attr-defined]
        return Layout(str(found["name"]), joints, pairs("edges"), int(str(found["centre"])), pairs("pairs"))


@dataclass(frozen=True)
class Skeletons:
    """A prepared data set of n clips.

    `joints` row i holds clip i's bodies one after the other, each with its frames: [bodies * frames, V, 3], metres.
    `pixels`, where they are known, has rows of the same lengths: [bodies * frames, V, 2], x and y of each joint in the
    colour video, float32; NaN or 0, 0 where a joint's is not known.
    `splits[name]` is int8 [n] of OUT, TRAIN, TEST; `body_rules[name]` says what stands in for an absent body.
    `columns` are whatever the data set knows of a clip: subject, view, trial ..., int64 [n].
    """

    dataset: str
    classes: tuple[str, ...]
    layout: Layout
    names: tuple[str, ...]
    labels: np.ndarray
    bodies: np.ndarray
    joints: Ragged
    splits: Mapping[str, np.ndarray]
    body_rules: Mapping[str, str]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    pixels: Ragged | None = None

    def __post_init__(self) -> None:
        by_clip = (self.names, self.labels, self.bodies, self.joints, *self.splits.values(), *self.columns.values())
        if len(sizes := {len(column) for column in by_clip}) != 1:
            raise ValueError(f"{self.dataset}: columns of different lengths {sorted(sizes)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{self.dataset}: two clips of one name")
        if wrong := set(self.body_rules.values()) - set(BODY_RULES):
            raise ValueError(f"{self.dataset}: body rule {wrong}; allowed are {', '.join(BODY_RULES)}")
        if set(self.splits) != set(self.body_rules):
            raise ValueError(f"{self.dataset}: splits {list(self.splits)}, but body rules for {list(self.body_rules)}")
        self._check_clips()
        self._check_pixels()

    def _check_clips(self) -> None:
        labels, rows = self.labels, np.diff(self.joints.offsets)
        if ((labels < 0) | (labels >= len(self.classes))).any():
            raise ValueError(f"{self.dataset}: labels {labels.min()}..{labels.max()} for {len(self.classes)} classes")
        if (self.bodies < 1).any() or (rows < 1).any() or (rows % self.bodies).any():
            raise ValueError(f"{self.dataset}: a clip without a frame, or with bodies of different lengths")
        if self.joints.values.shape[1:] != (len(self.layout.joints), 3):
            found, wanted = list(self.joints.values.shape[1:]), [len(self.layout.joints), 3]
            raise ValueError(f"{self.dataset}: joints of shape {found}, layout {self.layout.name} wants {wanted}")

    def _check_pixels(self) -> None:
        if self.pixels is None:
            return
        if not np.array_equal(self.pixels.offsets, self.joints.offsets):
            raise ValueError(f"{self.dataset}: clips whose pixels have other bodies or frames than their joints")
        values, wanted = self.pixels.values, [len(self.layout.joints), 2]
        if values.dtype != np.float32 or list(values.shape[1:]) != wanted:
            found = f"{values.dtype} of shape {list(values.shape[1:])}"
            raise ValueError(f"{self.dataset}: pixels {found}, layout {self.layout.name} wants float32 of {wanted}")

    @property
    def frames(self) -> np.ndarray:
        """Frames of each clip, int64 [n]."""
        return np.diff(self.joints.offsets) // self.bodies

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that change with any clip, label or split."""
        contents = checksums(_columns(self)).tobytes()
        return hashlib.sha256(_meta(self).encode() + contents).hexdigest()[:12]

    def rows(self, split: str, part: int) -> np.ndarray:
        """The rows of one part (TRAIN or TEST) of a split; ValueError with the choices for an unknown name."""
        if split not in self.splits:
            raise ValueError(f"{self.dataset} has no split {split!r}; it has {', '.join(self.splits)}")
        return np.flatnonzero(self.splits[split] == part)


def write_skeletons(path: Path, skeletons: Skeletons) -> None:
    write_table(path, _columns(skeletons), {"meta": _meta(skeletons)})


def read_skeletons(path: Path) -> Skeletons:
    """The cache that `mmcl prepare` wrote; FileNotFoundError or ValueError with the next step where it is none."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no skeleton cache here; make it with `mmcl prepare`")
    columns, attributes = read_table(path)
    if "meta" not in attributes:
        raise ValueError(f"{path}: an HDF5 file, but not a skeleton cache; make it with `mmcl prepare`")
    meta = json.loads(str(attributes["meta"]))
    fixed = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    joints, pixels = columns.get("joints"), columns.get("pixels")
    if not isinstance(joints, Ragged):
        raise ValueError(f"{path}: no ragged column 'joints'; make it again with `mmcl prepare`")
    return Skeletons(
        meta["dataset"],
        tuple(meta["classes"]),
        Layout.from_dict(meta["layout"]),
        tuple(np.char.decode(fixed["name"], "utf-8").tolist()),
        fixed["label"],
        fixed["bodies"],
        joints,
        {name: fixed[f"split_{name}"] for name in meta["body_rules"]},
        meta["body_rules"],
        {name: fixed[f"column_{name}"] for name in meta["columns"]},
        pixels if isinstance(pixels, Ragged) else None,
    )


def _is_tree(edges: tuple[tuple[int, int], ...], joints: int) -> bool:
    """Every joint but one has one parent, and following parents ends at that one."""
    parent = dict(edges)
    if len(parent) != len(edges) or len(edges) != joints - 1 or {j for e in edges for j in e} - set(range(joints)):
        return False
    reached = set(range(joints)) - set(parent)
    for _ in edges:
        reached |= {child for child, above in edges if above in reached}
    return len(reached) == joints


def _meta(skeletons: Skeletons) -> str:
    return json.dumps(
        {
            "dataset": skeletons.dataset,
            "classes": skeletons.classes,
            "layout": asdict(skeletons.layout),
            "body_rules": dict(skeletons.body_rules),
            "columns": list(skeletons.columns),
        }
    )


def _columns(skeletons: Skeletons) -> dict[str, np.ndarray | Ragged]:
    return {
        "name": np.array([name.encode() for name in skeletons.names]),
        "label": skeletons.labels,
        "bodies": skeletons.bodies,
        "joints": skeletons.joints,
        **{f"split_{name}": codes for name, codes in skeletons.splits.items()},
        **{f"column_{name}": values for name, values in skeletons.columns.items()},
        **({} if skeletons.pixels is None else {"pixels": skeletons.pixels}),
    }
