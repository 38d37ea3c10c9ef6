"""A skeleton file of any format that `mmcl prepare` reads -> its clips, as the skeleton cache would hold them.

The readers are those of the data sets. A file need not be called as theirs are, and needs no label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np

from ...cache.skeletons import Layout
from ..datasets import nw_ucla, pyskl
from ..datasets.ctrgcn import CtrGcn
from ..datasets.matlab import read_first
from ..datasets.ntu_bodies import find_actors
from ..datasets.ntu_file import parse_skeleton
from ..datasets.own.files import READERS, read_skeleton
from ..datasets.own.pose import Pose, metres, shares
from ..preparation import units
from ..preparation.dataset import Finding, RawClip
from ..preparation.layouts import KINECT_V1, KINECT_V1_UTD, KINECT_V2, LAYOUTS
from ..preparation.raw import TORN_ZIP, RawFile, find_raw
from .files import PICKLES, SUFFIXES, Unread, is_skeleton, suffix_of

MATLAB = {"d_skel": KINECT_V1_UTD, "SW": KINECT_V1}  # the arrays of UTD-MHAD and of SYSU
UNITS = {"metres": "3D joints in metres", "image": "2D poses"}
CTRGCN = {"x_train.npy", "x_test.npy"}  # in an npz file, that it is CTR-GCN's
KEPT = "kept"  # what a finding says was done where nothing was


@dataclass(frozen=True)
class Wanted:
    """What a network takes: a layout's joints, in metres or as coordinates of the image, and of how many bodies."""

    layout: Layout
    coordinates: str
    slots: int


@dataclass(frozen=True, eq=False)
class Read:
    """A clip: joints float32 [bodies, frames, V, 3], real bodies only. `notes` say what was odd and kept."""

    file: str
    clip: str
    joints: np.ndarray
    notes: tuple[str, ...] = ()


class Part(NamedTuple):
    """A clip in a file: where it lies, what it is called, and how it is read."""

    place: str
    name: str
    file: RawFile
    read: Callable[[RawFile], RawClip]


def read_file(file: RawFile, wanted: Wanted) -> Iterator[Read | Unread]:
    """The clips of a file one after the other, each bad one with its reason: one at least; nothing is raised."""
    try:
        part = None
        for part in _parts(file, wanted):
            yield _read(part, wanted)
        if part is None:
            raise ValueError("no clip in it")
    except Exception as error:  # whatever a stranger's file does to its reader is that file's reason
        said = (error.strerror if isinstance(error, OSError) else "") or units.said(error)
        yield Unread(file.place, "", said.removeprefix(f"{file.place}: "))


def _read(part: Part, wanted: Wanted) -> Read | Unread:
    findings: list[Finding] = []
    asked = units.Wanted(partial(_unlabelled, part.read), len(wanted.layout.joints), 1)
    clip = units.read_one(part.file, asked, findings)
    if clip is None:
        return Unread(part.place, part.name, findings[-1].found)
    if not clip.joints.any():  # of joints that are mended to zero nothing is left
        return Unread(part.place, part.name, "all joints are zero or without a number")
    if (bodies := len(clip.joints)) > wanted.slots:
        reason = f"{bodies} bodies; this run has room for {wanted.slots}: keep those that act"
        return Unread(part.place, part.name, reason)
    notes = [found.found if found.done == KEPT else f"{found.found}; {found.done}" for found in findings]
    return Read(part.place, part.name, clip.joints, tuple(notes))


def _unlabelled(read: Callable[[RawFile], RawClip], file: RawFile) -> RawClip:
    """A clip without what its data set says of it: another data set's classes are not this network's."""
    return replace(read(file), name="clip", label=0, columns={})


def _parts(file: RawFile, wanted: Wanted) -> Iterator[Part]:
    suffix = suffix_of(file.name)
    if not file.path.is_file():
        file.read()  # which says what is there instead
    if suffix == ".zip":
        yield from _zipped(file, wanted)
    elif suffix in PICKLES:
        yield from _pickled(file, wanted)
    elif suffix == ".npz" and _is_ctrgcn(file):
        yield from _ctrgcn(file, wanted)
    else:
        yield Part(file.place, file.stem, file, partial(_one, wanted=wanted))


def _zipped(file: RawFile, wanted: Wanted) -> Iterator[Part]:
    """The clips of a zip's skeleton files, in the order of their places; it is read as it is."""
    expected = f"skeleton file ({', '.join(SUFFIXES)})"
    members = [found for found in find_raw(file.path, "*", expected) if is_skeleton(found.name)]
    if not members:
        raise ValueError(f"holds no {expected}")
    for member in sorted(members, key=lambda found: found.place):
        yield Part(member.place, member.stem, member, partial(_one, wanted=wanted))


def _pickled(file: RawFile, wanted: Wanted) -> Iterator[Part]:
    annotations = pyskl.annotations_in(file.path)
    layout = pyskl.layout_of(file.path, annotations)
    _refuse_other(layout, "metres" if layout is KINECT_V2 else "image", wanted)
    for number, annotation in enumerate(annotations, 1):
        name = annotation.get("frame_dir")
        read = partial(_annotated, annotation=annotation, layout=layout)
        yield Part(file.place, name if isinstance(name, str) and name else f"clip {number}", file, read)


def _annotated(file: RawFile, annotation: pyskl.Annotation, layout: Layout) -> RawClip:
    return pyskl.skeleton_of(annotation, layout)


def _is_ctrgcn(file: RawFile) -> bool:
    with suppress(OSError, ValueError, *TORN_ZIP), ZipFile(file.path) as archive:
        return not file.member and bool(CTRGCN & set(archive.namelist()))
    return False


def _ctrgcn(file: RawFile, wanted: Wanted) -> Iterator[Part]:
    _refuse_other(KINECT_V2, "metres", wanted)
    dataset = CtrGcn(file.path)
    for row in dataset.files():
        yield Part(file.place, row.member.rpartition("/")[2], row, dataset.reader)


def _one(file: RawFile, wanted: Wanted) -> RawClip:
    """The clip of a file that holds one; ValueError or OSError with what is wrong with it."""
    suffix = suffix_of(file.name)
    if suffix == ".skeleton":
        return _ntu(file, wanted)
    if suffix == ".mat":
        return _matlab(file, wanted)
    if suffix in READERS:
        return _own(file, wanted)
    if suffix in SUFFIXES:
        raise ValueError(f"a {suffix} in a zip, and of many clips; unpack it")
    raise ValueError(f"a {suffix or 'file without suffix'}; skeletons are {', '.join(SUFFIXES)}")


def _ntu(file: RawFile, wanted: Wanted) -> RawClip:
    """The one or two who act, by the preprocessing behind every published number (ntu_bodies.py)."""
    _refuse_other(KINECT_V2, "metres", wanted)
    actors = find_actors(parse_skeleton(file.read()))
    return RawClip("", 0, actors.joints, notes=actors.notes)


def _matlab(file: RawFile, wanted: Wanted) -> RawClip:
    variable, joints = read_first(file, tuple(MATLAB))
    _refuse_other(MATLAB[variable], "metres", wanted)
    return RawClip("", 0, joints)


def _own(file: RawFile, wanted: Wanted) -> RawClip:
    """One's own file, whose joints are taken to be the network's where they are as many."""
    if suffix_of(file.name) == ".json" and nw_ucla.NAME.fullmatch(file.stem):
        _refuse_other(KINECT_V1, "metres", wanted)
    pose = _pose(file, wanted.layout)
    if wanted.coordinates == "image":
        joints, _, notes = shares(pose, None)
    elif pose.scored or pose.points.shape[-1] == 2:
        raise ValueError(f"a 2D pose; this run wants {UNITS['metres']}")
    else:
        joints, notes = metres(pose)
    return RawClip("", 0, joints, notes=notes)


def _pose(file: RawFile, layout: Layout) -> Pose:
    try:
        pose = read_skeleton(file, layout)
    except ValueError:  # a row of numbers that the layout does not have: another layout's?
        if joints := _joints_in(file):
            _refuse_count(joints, layout)
        raise
    _refuse_count(pose.points.shape[2], layout)
    return pose


def _joints_in(file: RawFile) -> int:
    """How many joints a file has of whatever layout; 0 where it can't be read at all."""
    with suppress(ValueError):
        return read_skeleton(file, None).points.shape[2]
    return 0


def _refuse_other(layout: Layout, coordinates: str, wanted: Wanted) -> None:
    """ValueError where a file's joints are others than the network's, or measured otherwise."""
    if layout.joints != wanted.layout.joints:
        raise ValueError(_misfit(len(layout.joints), layout.name, wanted.layout))
    if coordinates != wanted.coordinates:
        raise ValueError(f"{UNITS[coordinates]}; this run wants {UNITS[wanted.coordinates]}")


def _refuse_count(joints: int, layout: Layout) -> None:
    if joints != len(layout.joints):
        known = " or ".join(name for name, known in LAYOUTS.items() if len(known.joints) == joints)
        raise ValueError(_misfit(joints, known, layout))


def _misfit(joints: int, name: str, wanted: Layout) -> str:
    found = f"{joints} joints ({name})" if name else f"{joints} joints"
    return f"{found}; this run wants {len(wanted.joints)} ({wanted.name})"
