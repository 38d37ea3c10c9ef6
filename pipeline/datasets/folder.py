"""One's own data: RAW/samples.csv with a line a clip.

Columns: name, label (the class's name), skeleton (a .npy file, [frames, V, 3] or [bodies, frames, V, 3], metres);
and any of subject (a number), split (train or test), video. Paths are relative to RAW. The layout follows from V:
20 joints are Kinect v1, 25 are Kinect v2. A `split` column gives the split `given`; subjects give `xsub`, in which
every second subject tests.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ...cache.skeletons import OUT, TEST, TRAIN, Layout
from ..layouts import KINECT_V1, KINECT_V2
from ..prepare import RawClip, SplitRule, by_column

_NEEDED = ("name", "label", "skeleton")
LOOKED_AT = 100  # files whose number of joints decides on the layout
_SIDES = {"train": TRAIN, "test": TEST, "": OUT}


class Folder:
    def __init__(self, raw: Path) -> None:
        if not raw.exists():
            raise FileNotFoundError(f"{raw}: no such folder; give the folder that holds samples.csv")
        if not (raw / "samples.csv").is_file():
            raise ValueError(
                f"{raw}: holds no samples.csv (columns {', '.join(_NEEDED)}, and any of subject, split, video)"
            )
        self._raw = raw
        self._rows = _read_rows(raw / "samples.csv")
        self.classes = tuple(sorted({row["label"] for row in self._rows.values()}))
        self.layout = _layout(self.files())
        self.splits = _splits(self._rows)

    def files(self) -> list[Path]:
        return list(self._rows)

    def read(self, path: Path) -> RawClip:
        row = self._rows[path]
        joints = _read_joints(path)
        label = self.classes.index(row["label"])
        columns = {"subject": int(row["subject"])} if row.get("subject") else {}
        return RawClip(row["name"], label, joints if joints.ndim == 4 else joints[None], columns)


def _read_rows(table: Path) -> dict[Path, Mapping[str, str]]:
    """The rows by their skeleton's path; ValueError with the line for a row that can't be meant."""
    with table.open(newline="", encoding="utf-8-sig") as file, _explained(table):
        reader = csv.DictReader(file, restval="")
        lines = dict((reader.line_num, row) for row in reader)  # noqa: C402 - the key is the reader's state
        found = list(reader.fieldnames or [])
    rows = {
        line: {k: (v or "").strip() for k, v in row.items() if k} for line, row in lines.items() if any(row.values())
    }
    if missing := [column for column in _NEEDED if column not in found]:
        raise ValueError(f"{table}: column {', '.join(missing)} missing; found {', '.join(found) or 'nothing'}")
    if not rows:
        raise ValueError(f"{table}: no rows")
    for line, row in rows.items():
        if fault := _fault(row):
            raise ValueError(f"{table}, line {line}: {fault}")
    for column in ("name", "skeleton"):
        seen: dict[Path, int] = {}
        for line, row in rows.items():
            if (first := seen.setdefault(Path(row[column]), line)) != line:
                raise ValueError(f"{table}, lines {first} and {line}: the same {column} {row[column]}")
    return {table.parent / row["skeleton"]: row for row in rows.values()}


@contextmanager
def _explained(table: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: not a CSV file in UTF-8 ({error}); save it as one") from error


def _fault(row: Mapping[str, str]) -> str:
    """What is wrong with a row of the table, or nothing."""
    if empty := [column for column in _NEEDED if not row[column]]:
        return f"no {', '.join(empty)}"
    if (split := row.get("split") or "") not in _SIDES:
        return f"split {split}; allowed are train, test or nothing"
    if (subject := row.get("subject") or "0") and not subject.isdecimal():
        return f"subject {subject}; wanted a whole number"
    path = Path(row["skeleton"])
    return f"skeleton {path} lies outside the folder" if path.is_absolute() or ".." in path.parts else ""


def _layout(files: list[Path]) -> Layout:
    """The layout with as many joints as most of the first files."""
    counts = Counter(islice(filter(None, map(_joints, files)), LOOKED_AT))
    if not counts:
        raise ValueError(f"{files[0].parent}: none of the {len(files)} skeleton files in samples.csv can be read")
    joints, _ = counts.most_common(1)[0]
    for layout in (KINECT_V1, KINECT_V2):
        if len(layout.joints) == joints:
            return layout
    raise ValueError(f"{files[0].parent}: clips of {joints} joints; known are 20 (Kinect v1) and 25 (Kinect v2)")


def _read_joints(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError("not a .npy file of numbers (pickles and archives are not opened)") from error


def _joints(path: Path) -> int:
    """V of a skeleton file; 0 where it can't be read."""
    with suppress(ValueError, OSError, EOFError, IndexError, AttributeError, BadZipFile):
        return np.load(path, allow_pickle=False, mmap_mode="r").shape[-2]
    return 0


def _splits(rows: Mapping[Path, Mapping[str, str]]) -> dict[str, SplitRule]:
    splits = {}
    given = {row["name"]: _SIDES[row.get("split") or ""] for row in rows.values()}
    if any(given.values()):
        splits["given"] = SplitRule(lambda clip: given[clip.name])
    subjects = sorted({int(row["subject"]) for row in rows.values() if row.get("subject")})
    if len(subjects) > 1:
        testing = set(subjects[1::2])
        splits["xsub"] = SplitRule(by_column("subject", lambda s: s not in testing, lambda s: s in testing))
    if not splits:
        raise ValueError("samples.csv names neither a split nor two subjects; fill the column split or subject")
    return splits
