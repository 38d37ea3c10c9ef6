"""PYSKL's pickles (Duan et al., ACM MM 2022), and MMAction's: one file of 3D or 2D skeletons with its splits.

{split: {name: [frame_dir]}, annotations: [{frame_dir, label from 0, total_frames, img_shape (height, width), keypoint
[M, T, V, C], keypoint_score [M, T, V]}]}. 25 joints of 3 numbers are Kinect v2's in metres, 17 of 2 are COCO's in
pixels. The older form is a list of annotations for each side: NAME_train.pkl and NAME_val.pkl. Bodies that are all zero
fill up; they are not stored.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.skeletons import OUT, TEST, TRAIN, Layout
from ...cache.unpickle import load_arrays
from ..preparation.dataset import Facts, RawClip, SplitRule
from ..preparation.layouts import COCO_17, KINECT_V2
from ..preparation.raw import RawFile, stamp_of
from .ntu import CLASSES_60, SPLITS_60, SPLITS_120, Sample, read_name
from .ntu_classes import CLASSES

MOST_CLASSES = 10_000  # a label beyond is a mistake
POSES = {(25, 3): KINECT_V2, (17, 2): COCO_17}  # by joints, and numbers of each
BODIES, EMPTY = "bodies in the file", "bodies that are all zero, not stored"
NOT_INTERCHANGEABLE = (
    "PYSKL drops and orders bodies by rules of its own and keeps half precision: numbers on it are not interchangeable"
    " with those on ntu60 and ntu120"
)
ZEROS_120 = "an absent second body is zeros here, as in PYSKL, where ntu120 repeats the first"
_SIDE = re.compile(r"(?:([A-Za-z0-9_.-]+)_)?(train|val|test)([0-9]*)")
_NAMED_SPLIT = re.compile(r"(?:.*_)?(xsub|xview|xset)")

Annotation = Mapping[str, Any]  # a stranger's: each field is checked where it is used
Names = Mapping[Any, Any]  # in a stranger's file: lists of names by side of a split


class Pyskl:
    """The clips of a PYSKL pickle, read as a whole; ValueError where it is none, FileNotFoundError where nothing is."""

    in_memory = True

    def __init__(self, raw: Path) -> None:
        self._annotations, names = _load(raw)
        self._layout = layout_of(raw, [annotation for _, annotation in self._annotations])
        clips = [(_name(annotation), _label(annotation)) for _, annotation in self._annotations]
        classes, warnings = _classes(clips)
        splits, remarks = _splits(raw, names, {name for name, _ in clips})
        is_ntu = self._layout is KINECT_V2 and classes == CLASSES[: len(classes)]
        if is_ntu:
            warnings += [NOT_INTERCHANGEABLE, *([ZEROS_120] if len(classes) == len(CLASSES) else [])]
        self.facts = Facts(
            classes,
            self._layout,
            {split: _rule(split, sides, len(classes) if is_ntu else 0) for split, sides in splits.items()},
            "metres" if self._layout is KINECT_V2 else "image",
            warnings=(*warnings, *remarks),
            decided=sha256(repr(sorted(splits.items())).encode(errors="backslashreplace")).hexdigest(),
        )

    def files(self) -> list[RawFile]:
        """One an annotation, in the file's order; the member is its number and its clip's name."""
        stats = {path: path.stat() for path in {path for path, _ in self._annotations}}
        return [
            RawFile(
                path,
                f"{number}/{_name(annotation)}",
                stats[path].st_size,
                stamp_of(stats[path]),
                shown=_name(annotation),
            )
            for number, (path, annotation) in enumerate(self._annotations)
        ]

    def reader(self, file: RawFile) -> RawClip:
        _, annotation = self._annotations[int(file.member.partition("/")[0])]
        return read_clip(annotation, self._layout)


def read_clip(annotation: Annotation, layout: Layout) -> RawClip:
    """One annotation's clip; ValueError or KeyError with what is wrong or absent."""
    clip, label = skeleton_of(annotation, layout), _label(annotation)
    if not clip.name or label < 0:
        raise ValueError(
            f"frame_dir {annotation['frame_dir']!r:.60}, label {annotation['label']!r:.60}; wanted a name and a number"
        )
    return replace(clip, label=label, columns=_columns(clip.name))


def skeleton_of(annotation: Annotation, layout: Layout) -> RawClip:
    """What an annotation says of a clip beside its label, which is 0; its name may be empty."""
    keypoints = _keypoints(annotation, layout)
    real = np.any(keypoints.reshape(len(keypoints), -1), axis=1)
    real[0] = True  # a clip has a body; one that is all zero is said where clips are checked
    notes = ()
    if (total := annotation.get("total_frames")) != keypoints.shape[1]:
        notes = (f"total_frames says {total!s:.20}, there are {keypoints.shape[1]}",)
    if layout is KINECT_V2:
        joints, points = keypoints[real].astype(np.float32), None
    else:
        joints, points = _image_joints(annotation, keypoints, real)
    counts = {BODIES: len(real), EMPTY: int((~real).sum())}
    return RawClip(_name(annotation), 0, joints, {}, points, notes, counts)


def _keypoints(annotation: Annotation, layout: Layout) -> np.ndarray:
    """float [M, T, V, C], not empty."""
    found = annotation["keypoint"]
    joints, numbers = len(layout.joints), 3 if layout is KINECT_V2 else 2
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise ValueError(f"keypoint is {type(found).__name__}; wanted an array of numbers")
    if found.ndim != 4 or found.shape[2:] != (joints, numbers):
        raise ValueError(f"keypoint of shape {list(found.shape)}, wanted [bodies, frames, {joints}, {numbers}]")
    if not found.size:
        raise ValueError("no frames")
    return found


def _image_joints(annotation: Annotation, keypoints: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints [bodies, T, V, 3] (x and y in -1..1, score; zero where there is none) and their shares of the picture."""
    scores = annotation.get("keypoint_score")
    if scores is None:
        scores = np.ones(keypoints.shape[:3], np.float32)
    elif not isinstance(scores, np.ndarray) or scores.shape != keypoints.shape[:3] or scores.dtype.kind not in "fiu":
        raise ValueError(f"keypoint_score is no array of shape {list(keypoints.shape[:3])}")
    pixels = keypoints[real].astype(np.float32)
    shares = pixels / np.array(_size(annotation), np.float32)
    joints = np.concatenate([2 * shares - 1, scores[real, ..., None]], axis=-1, dtype=np.float32)
    return np.where(pixels.any(-1, keepdims=True), joints, np.float32(0)), shares


def _size(annotation: Annotation) -> tuple[float, float]:
    """Width and height of the picture."""
    match annotation["img_shape"]:
        case (int() | float() | np.number() as height, int() | float() | np.number() as width, *_):
            if 0 < height < math.inf and 0 < width < math.inf:
                return float(width), float(height)
    raise ValueError("img_shape is no height and width")


def _name(annotation: Annotation) -> str:
    """Empty where there is none."""
    name = annotation.get("frame_dir")
    return str(name) if isinstance(name, str) else ""


def _label(annotation: Annotation) -> int:
    """-1 where there is none."""
    label = annotation.get("label")
    return int(label) if isinstance(label, int | np.integer) and not isinstance(label, bool) else -1


def _columns(name: str) -> dict[str, int]:
    sample = _sample(name)
    return {column: getattr(sample, column) for column in ("setup", "camera", "subject", "trial")} if sample else {}


def _sample(name: str) -> Sample | None:
    """What a name of NTU's says; None for any other."""
    with suppress(ValueError):
        return read_name(name)
    return None


def _load(path: Path) -> tuple[list[tuple[Path, Annotation]], Names]:
    """All annotations with the file of each, and the names in each part of each split."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder or file; give PYSKL's .pkl file")
    if path.is_dir():
        raise ValueError(f"{path}: a folder holds no one data set of PYSKL's; give the .pkl file itself")
    match load_arrays(path):
        case {"split": dict() as names, "annotations": list() as annotations}:
            return _of_dicts(path, annotations), names
        case list() as annotations:
            return _with_other_sides(path, annotations)
        case other:
            raise ValueError(_another(path, other, "split and annotations"))


def annotations_in(path: Path) -> list[Annotation]:
    """The annotations of this file alone, whatever it says of splits; ValueError where there are none."""
    match load_arrays(path):
        case {"annotations": list() as annotations} | (list() as annotations):
            return [annotation for _, annotation in _of_dicts(path, annotations)]
        case other:
            raise ValueError(_another(path, other, "annotations"))


def _another(path: Path, other: Any, wanted: str) -> str:
    keys = sorted(str(key)[:40] for key in list(other)[:5]) if isinstance(other, dict) else []
    found = f"a dict with {', '.join(keys)}" if isinstance(other, dict) else type(other).__name__
    return f"{path}: a pickle, but not PYSKL's: {found}; wanted a dict with {wanted}"


def _of_dicts(path: Path, annotations: Sequence[Any]) -> list[tuple[Path, Annotation]]:
    if not annotations:
        raise ValueError(f"{path}: not one annotation in it")
    if wrong := {type(found).__name__ for found in annotations if type(found) is not dict}:
        raise ValueError(f"{path}: not PYSKL's: its annotations are {', '.join(sorted(wrong))}, wanted dicts")
    return [(path, annotation) for annotation in annotations]


def _with_other_sides(path: Path, annotations: list[Any]) -> tuple[list[tuple[Path, Annotation]], Names]:
    """The older form: this file's clips, and those of the files of the other sides beside it."""
    name, _, side = path.stem.rpartition("_")
    others = [path.with_name(f"{name}_{other}{path.suffix}") for other in ("train", "val", "test") if other != side]
    beside = [other for other in others if other.exists()]
    if side not in ("train", "val", "test") or not beside:
        wanted = "NAME_train.pkl and NAME_val.pkl, or NAME_test.pkl"
        raise ValueError(f"{path}: a list of annotations, which is one side of a split; wanted beside it: {wanted}")
    split = found[1] if (found := _NAMED_SPLIT.fullmatch(name)) else "given"
    sides = {path: _of_dicts(path, annotations)}
    for other in beside:
        content = load_arrays(other)
        sides[other] = _of_dicts(other, content if isinstance(content, list) else [content])
    names = {f"{split}_{file.stem.rpartition('_')[2]}": [_name(a) for _, a in found] for file, found in sides.items()}
    return [annotation for found in sides.values() for annotation in found], names


def layout_of(path: Path, annotations: Sequence[Annotation]) -> Layout:
    """The layout of most clips."""
    keypoints = [annotation.get("keypoint") for annotation in annotations]
    shapes = Counter(found.shape[2:] for found in keypoints if isinstance(found, np.ndarray) and found.ndim == 4)
    if not shapes:
        kinetics = any("raw_file" in annotation for annotation in annotations)
        where = "they lie in files of their own (Kinetics400), which are not read" if kinetics else "no field keypoint"
        raise ValueError(f"{path}: no poses in it; {where}")
    (shape, _), *_ = shapes.most_common(1)
    if shape not in POSES:
        found = f"{shape[0]} joints of {shape[1]} numbers"
        raise ValueError(f"{path}: {found}; known are 25 of 3 (Kinect v2, metres) and 17 of 2 (COCO, pixels)")
    return POSES[shape]


def _classes(clips: Sequence[tuple[str, int]]) -> tuple[tuple[str, ...], list[str]]:
    """NTU's class names where all names and labels are NTU's, numbers elsewhere; and what is to be said of it."""
    actions = [sample.action for name, _ in clips if (sample := _sample(name))]
    all_ntu = len(actions) == len(clips)
    differing = [clip for clip, action in zip(clips, actions, strict=True) if clip[1] != action - 1] if all_ntu else []
    if all_ntu and not differing:
        return CLASSES[: CLASSES_60 if max(actions) <= CLASSES_60 else None], []
    known = [label for _, label in clips if label < MOST_CLASSES]
    classes = tuple(f"class {label}" for label in range(max(known, default=0) + 1))
    if not differing:
        return classes, []
    name, label = differing[0]
    return classes, [
        f"names are NTU's, but {len(differing):,} labels are not ({name} has {label}); classes are numbers"
    ]


def _splits(path: Path, names: Names, clips: set[str]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """The side of each name in each split, and what is to be said; ValueError where a clip is on both sides."""
    groups: dict[str, dict[str, str]] = {}
    for key in names:
        if matched := _SIDE.fullmatch(str(key)):
            groups.setdefault(f"{matched[1] or 'given'}{matched[3]}", {}).setdefault(matched[2], str(key))
    splits, used, remarks = dict[str, dict[str, int]](), set[str](), list[str]()
    for split, keys in groups.items():
        test = keys.get("test") or keys.get("val")
        if "train" in keys and test:
            splits[split] = _sides(path, split, names[keys["train"]], names[test])
            used |= {keys["train"], test}
            if missing := sorted(splits[split].keys() - clips):
                remarks.append(
                    f"split {split} names {len(missing):,} clips without an annotation, such as {missing[0]}"
                )
    if not splits:
        raise ValueError(f"{path}: no split with train and val or test; it has {', '.join(map(str, names)) or 'none'}")
    unused = [str(key) for key in names if key not in used]
    return splits, remarks + [f"list {key} of the file belongs to no pair of sides; not used" for key in unused]


def _sides(path: Path, split: str, train: Any, test: Any) -> dict[str, int]:
    for side in (train, test):
        if not isinstance(side, list | tuple) or not all(isinstance(name, str) for name in side):
            raise ValueError(f"{path}: split {split} is no list of names; it is not PYSKL's")
    if both := sorted({*train} & {*test}):
        raise ValueError(f"{path}: split {split} has {len(both):,} clips on both sides, such as {both[0]}; correct it")
    return dict.fromkeys(train, TRAIN) | dict.fromkeys(test, TEST)


def _rule(split: str, sides: Mapping[str, int], ntu_classes: int) -> SplitRule:
    """`ntu_classes` are as many as NTU's release has of which this is the whole; 0 where it is another data set."""
    whole = {0: {}, CLASSES_60: SPLITS_60}.get(ntu_classes, SPLITS_120)
    return SplitRule(lambda clip: sides.get(clip.name, OUT), whole[split].published if split in whole else None)
