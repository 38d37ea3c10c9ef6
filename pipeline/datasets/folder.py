"""One's own data: samples.csv with a line a clip, or one folder a class; docs/own-data.md says what they may hold.

A clip's skeleton is a .npy, .npz, .json, .csv or .txt file. The layout is the one asked for, or follows from the number
of joints. Coordinates are metres, or a 2D pose's place in its picture.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

from ...cache.skeletons import Layout
from ...cache.words import did_you_mean
from ..preparation.dataset import Facts, Finding, RawClip
from ..preparation.layouts import LAYOUTS
from ..preparation.raw import RawFile
from ..preparation.units import UNUSABLE
from .own.files import read_skeleton
from .own.pose import TALL, Pose, Size, fitting, metres, shares
from .own.source import Source, open_source
from .own.splits import Asked, Codes, number_columns, split_rules
from .own.table import Entry

LOOKED_AT = 100  # files whose number of joints decides on the layout
BY_JOINTS = {20: "kinect-v1", 25: "kinect-v2"}  # where a number of joints means one layout
PLANE = "coco-17"  # the layout that has no third dimension: a third number is a score


@dataclass(frozen=True)
class ClipFile(RawFile):
    """A skeleton file with what is known of its clip; one with a `fault` is not read."""

    fault: str = ""
    clip: str = ""
    label: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    picture: Size | None = None


class Folder:
    """One's own data at `raw`: a folder, a zip, or the table itself. Raises ValueError where it can't be meant."""

    def __init__(
        self,
        raw: Path,
        *,
        layout: str | None = None,
        split_by: str | None = None,
        test: float | None = None,
        seed: int = 0,
    ) -> None:
        asked, wanted = Asked(split_by, test, seed), known_layout(layout) if layout else None
        source = open_source(raw)
        entries = _usable(source)
        classes = tuple(sorted({entry.label for entry in entries}))
        codes, said = number_columns(entries)
        self._said = [*said, *_alike(classes)]
        splits, warnings = split_rules(entries, classes, codes, asked)
        self._files = [_clip_file(entry, source, classes, codes) for entry in _in_order(source.entries)]
        found, image = _looked_at(self._files, wanted, source.place)
        self.reader: Callable[[RawFile], RawClip] = partial(read_clip, layout=found, image=image)
        self.facts = Facts(
            classes,
            found,
            splits,
            "image" if image else "metres",
            warnings=(*source.warnings, *warnings),
            decided=sha256(repr((asked, source.entries)).encode()).hexdigest(),
        )

    def files(self) -> list[RawFile]:
        return list(self._files)

    def remarks(self, names: Sequence[str], findings: Sequence[Finding]) -> list[str]:
        """What stands for texts, which classes are spelt alike, and whether lengths look like no metres."""
        tall = sum(finding.found.startswith(TALL) for finding in findings)
        unit = f"{tall:,} of {len(names):,} clips have {TALL}: millimetres (divide by 1000) or pixels, it seems"
        return [*self._said, *([unit] if tall else [])]


def read_clip(file: RawFile, *, layout: Layout, image: bool) -> RawClip:
    """The clip of a file that `Folder` listed; ValueError or OSError with why it is left out."""
    if not isinstance(file, ClipFile):
        raise TypeError(f"{file.place}: not a file of one's own data")
    if file.fault:
        raise ValueError(file.fault)
    pose = fitting(read_skeleton(file, layout), layout)
    if image:
        joints, points, notes = shares(pose, file.picture)
        return RawClip(file.clip, file.label, joints, file.columns, points, notes)
    joints, notes = metres(pose)
    return RawClip(file.clip, file.label, joints, file.columns, None, notes)


def known_layout(name: str) -> Layout:
    """The layout of a name; ValueError with the known ones for another."""
    if name not in LAYOUTS:
        hint = did_you_mean(name, LAYOUTS)
        raise ValueError(f"no layout {name!r}: {hint}known are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _usable(source: Source) -> list[Entry]:
    entries = [entry for entry in source.entries if not entry.fault]
    if not entries:
        first, count = source.entries[0], len(source.entries)
        raise ValueError(f"{source.place}: not one of {count} clips can be used; {first.where}: {first.fault}")
    return entries


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (bool(entry.fault), entry.name))


def _clip_file(entry: Entry, source: Source, classes: Sequence[str], codes: Codes) -> ClipFile:
    """The file of a clip, or where there is none what names it, with the reason."""
    if entry.fault:
        return _left_out(entry, source, entry.fault)
    try:
        file = source.find(entry.skeleton)
    except ValueError as error:
        return _left_out(entry, source, str(error))
    columns = {column: numbers[entry.cells[column]] for column, numbers in codes.items() if entry.cells[column]}
    return ClipFile(
        file.path,
        file.member,
        file.size,
        file.stamp,
        shown=entry.skeleton,
        clip=entry.name,
        label=classes.index(entry.label),
        columns=columns,
        picture=_picture(entry.cells),
    )


def _left_out(entry: Entry, source: Source, fault: str) -> ClipFile:
    """What stands for a clip that cannot be meant: its line of the table, or its path."""
    if (table := source.table) is None:
        return ClipFile(Path(entry.skeleton), shown=entry.where, fault=fault)
    shown = f"{table.name}, {entry.where}"
    return ClipFile(table.path, table.member, table.size, table.stamp, shown=shown, fault=fault)


def _alike(classes: Sequence[str]) -> list[str]:
    """A line on each group of classes that a reader may take for one."""
    groups = defaultdict[str, list[str]](list)
    for name in classes:
        groups[" ".join(unicodedata.normalize("NFC", name).casefold().split())].append(name)
    return [_differ(group) for group in groups.values() if len(group) > 1]


def _differ(names: Sequence[str]) -> str:
    """Names that look the same on a screen are written with the codes of their letters."""
    same = len({unicodedata.normalize("NFC", name) for name in names}) < len(names)
    listed = " and ".join(ascii(name) if same else repr(name) for name in names)
    return f"classes {listed} differ in case, spaces or the letters' codes only; each is a class of its own"


def _picture(cells: Mapping[str, str]) -> Size | None:
    """The video's width and height in pixels, where a line tells both."""
    width, height = cells.get("width"), cells.get("height")
    return (float(width), float(height)) if width and height else None


def _looked_at(files: Sequence[ClipFile], wanted: Layout | None, place: str) -> tuple[Layout, bool]:
    """The layout, and whether clips are 2D, as most of the first files have it.

    Raises ValueError where none can be read, none fits the layout wanted, or their joints mean no layout.
    """
    odd: list[str] = []
    poses = list(islice(_poses(files, wanted, odd), LOOKED_AT))
    if not poses:
        raise ValueError(f"{place}: none of the {len(odd)} skeleton files can be read; the first: {odd[0]}")
    joints = Counter(pose.points.shape[2] for pose in poses)
    layout = wanted or _layout(joints.most_common(1)[0][0], place)
    if len(layout.joints) not in joints:
        found = " and ".join(map(str, joints))
        raise ValueError(f"{place}: clips of {found} joints, layout {layout.name} has {len(layout.joints)}")
    flat = Counter(pose.scored or pose.points.shape[-1] == 2 for pose in poses)
    return layout, layout.name == PLANE or flat[True] > flat[False]


def _poses(files: Sequence[ClipFile], wanted: Layout | None, odd: list[str]) -> Iterator[Pose]:
    for file in files:
        try:
            if file.fault:
                raise ValueError(file.fault)
            yield read_skeleton(file, wanted)
        except UNUSABLE as error:
            odd.append(f"{file.called}: {error}")


def _layout(joints: int, place: str) -> Layout:
    if joints in BY_JOINTS:
        return LAYOUTS[BY_JOINTS[joints]]
    fit = [name for name, layout in LAYOUTS.items() if len(layout.joints) == joints]
    if fit:
        raise ValueError(f"{place}: clips of {joints} joints may be {' or '.join(fit)}; say which with --layout")
    known = ", ".join(f"{len(layout.joints)} ({name})" for name, layout in LAYOUTS.items())
    raise ValueError(f"{place}: clips of {joints} joints; known are {known}")
