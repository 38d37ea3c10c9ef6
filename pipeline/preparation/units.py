"""Raw files read a unit at a time, each unit into a part of its own: what a killed `mmcl prepare` goes on from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ...cache.files import write_bytes
from ...cache.table import Ragged, damaged_rows, stored_checksums, write_table
from .dataset import LEFT_OUT, NOT_READ, Clip, Finding, RawClip
from .raw import RawFile

RULE = 2  # raised when the same files give other rows
LARGEST, SMALLEST = 256, 16  # files of a unit
TOLD = 1000  # characters of what is wrong with a file: it may be the file's own words
LONGEST = 200  # bytes of a clip's name: files are called by it

# what an odd file makes of those who look at it beforehand
UNUSABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    OSError,
    EOFError,
    BadZipFile,
)


@dataclass(frozen=True)
class Wanted:
    """What every clip must fit, and who reads it."""

    reader: Callable[[RawFile], RawClip]
    joints: int
    classes: int


@dataclass(frozen=True)
class Unit:
    """Some files that are read together; `key` changes with any of them."""

    files: Sequence[RawFile]
    key: str

    def part(self, folder: Path) -> Path:
        return folder / f"{self.key}.h5"

    def record(self, folder: Path) -> Path:
        """Written after the part: where it is, the unit is done."""
        return folder / f"{self.key}.json"


@dataclass(frozen=True)
class Record:
    """What a unit came to; the clips lie in its part in this order."""

    clips: list[Clip]
    findings: list[Finding]
    counts: Counter[str]


def units_of(files: Sequence[RawFile], basis: str) -> list[Unit]:
    """The files in units; `basis` is whatever else their rows depend on."""
    size = min(max(len(files) // 64, SMALLEST), LARGEST)
    groups = [files[start : start + size] for start in range(0, len(files), size)]
    return [Unit(group, _key(group, f"{RULE} {number} {basis}")) for number, group in enumerate(groups)]


def _key(files: Sequence[RawFile], basis: str) -> str:
    listed = [(file.below or file.member or file.name, file.size, file.stamp) for file in files]
    return hashlib.sha256(json.dumps([basis, listed]).encode()).hexdigest()[:24]


def read_unit(unit: Unit, folder: Path, wanted: Wanted) -> None:
    """Read a unit's files and write its part and its record."""
    findings: list[Finding] = []
    clips = [clip for file in unit.files if (clip := read_one(file, wanted, findings))]
    if clips:
        write_table(unit.part(folder), _columns(clips), {})
    counts = Counter[str]()
    for clip in clips:
        counts.update(clip.counts)  # which keeps what was looked for and never found
    content = {
        "clips": [(clip.name, clip.label, dict(clip.columns)) for clip in clips],
        "findings": [(finding.file, finding.found, finding.done) for finding in findings],
        "counts": counts,
    }
    write_bytes(unit.record(folder), json.dumps(content).encode())


def is_done(unit: Unit, folder: Path) -> bool:
    """Whether a unit's record and part are there and whole, with all its files; else what there is of it is removed."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        record = read_record(unit, folder)
        read = all(finding.done != NOT_READ for finding in record.findings)
        if read and (not record.clips or _is_whole(unit.part(folder), len(record.clips))):
            return True
    for path in (unit.record(folder), unit.part(folder)):
        path.unlink(missing_ok=True)
    return False


def _is_whole(part: Path, rows: int) -> bool:
    return len(stored_checksums(part)) == rows and not damaged_rows(part)


def read_record(unit: Unit, folder: Path) -> Record:
    found = json.loads(unit.record(folder).read_bytes())
    clips = [Clip(name, label, columns) for name, label, columns in found["clips"]]
    return Record(clips, [Finding(*finding) for finding in found["findings"]], Counter(found["counts"]))


def _columns(clips: Sequence[RawClip]) -> dict[str, np.ndarray | Ragged]:
    columns: dict[str, np.ndarray | Ragged] = {
        "name": np.array([clip.name.encode() for clip in clips]),
        "label": np.array([clip.label for clip in clips], np.int64),
        "bodies": np.array([len(clip.joints) for clip in clips], np.int64),
        "joints": Ragged.of([_flat(clip.joints) for clip in clips]),
    }
    if any(clip.image_points is not None for clip in clips):
        columns["image_points"] = Ragged.of([_flat(_points(clip)) for clip in clips])
    return columns


def _flat(bodies: np.ndarray) -> np.ndarray:
    return bodies.reshape(-1, *bodies.shape[2:]).astype(np.float32)


def _points(clip: RawClip) -> np.ndarray:
    return np.full((*clip.joints.shape[:3], 2), np.nan) if clip.image_points is None else clip.image_points


def read_one(file: RawFile, wanted: Wanted, findings: list[Finding]) -> RawClip | None:
    """A file's clip, checked and mended; None where it is none. What was odd is added to `findings`."""
    try:
        clip = _in_float32(wanted.reader(file))
        _check(clip, wanted)
    except OSError as error:  # the disk's fault, not the file's: another day it can be read
        findings.append(Finding(file.called, error.strerror or said(error), NOT_READ))
        return None
    except Exception as error:  # whatever a file does to its reader costs that file, and never the night
        findings.append(Finding(file.called, said(error), LEFT_OUT))
        return None
    clip, mended = _mend(clip)
    if mended:
        findings.append(Finding(file.called, mended, "last good value of the joint kept"))
    if clip.joints.shape[1] == 1:
        findings.append(Finding(file.called, "1 frame", "kept; it has no motion"))
    findings += [Finding(file.called, note, "kept") for note in clip.notes]
    return clip


def said(error: Exception) -> str:
    """What is wrong with a file, in one line."""
    if isinstance(error, KeyError):
        return f"no {error} in it"[:TOLD]
    if isinstance(error, MemoryError):
        return "not enough memory to read it"
    if isinstance(error, UNUSABLE) and str(error):
        return str(error)[:TOLD]
    return f"{type(error).__name__} {error}".strip()[:TOLD]


def _in_float32(clip: RawClip) -> RawClip:
    with np.errstate(over="ignore"):  # what is too large becomes Inf, and is mended
        return replace(clip, joints=np.asarray(clip.joints, np.float32))


def _check(clip: RawClip, wanted: Wanted) -> None:
    if clip.joints.ndim != 4 or clip.joints.shape[2:] != (wanted.joints, 3):
        raise ValueError(f"joints of shape {list(clip.joints.shape)}, wanted [bodies, frames, {wanted.joints}, 3]")
    if not clip.joints.size:
        raise ValueError("no frames")
    if not 0 <= clip.label < wanted.classes:
        raise ValueError(f"label {clip.label + 1} out of range 1..{wanted.classes}")
    if not np.isfinite(clip.joints).any():
        raise ValueError("not one finite coordinate")
    if not clip.joints.any():
        raise ValueError("all coordinates are zero")
    if wrong := [name for name, value in clip.columns.items() if not -(1 << 63) <= value < 1 << 63]:
        raise ValueError(f"{', '.join(wrong)}: {clip.columns[wrong[0]]}, a number of more than 64 bits")
    _check_name(clip.name)


def _check_name(name: str) -> None:
    """A clip's name is that of files that are made of it, and lies in a table."""
    parts = name.split("/")
    if not name.isprintable() or len(name.encode()) > LONGEST or any(part.strip() in ("", ".", "..") for part in parts):
        shown = f"{name[:60]!r}..." if len(name) > 60 else repr(name)
        raise ValueError(f"{shown} is no name for a clip")


def _mend(clip: RawClip) -> tuple[RawClip, str]:
    """NaN and Inf replaced by the joint's last good value (its first good one before that)."""
    bad = np.logical_not(np.all(np.isfinite(clip.joints), axis=-1))
    if not bad.any():
        return clip, ""
    joints = clip.joints.copy()
    for body, joint in zip(*np.nonzero(np.any(bad, axis=1)), strict=True):
        track, wrong = joints[body, :, joint], bad[body, :, joint]
        good = np.flatnonzero(~wrong)
        nearest = np.maximum(np.searchsorted(good, np.arange(len(track)), side="right") - 1, 0)
        joints[body, :, joint] = track[good[nearest]] if len(good) else 0
    return replace(clip, joints=joints), f"NaN or Inf in {np.any(bad, axis=(0, 2)).sum()} frames"
