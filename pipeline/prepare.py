"""Raw skeleton files -> one skeleton cache, with every odd file named and nothing lost in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np

from ..cache.files import write_csv
from ..cache.skeletons import OUT, TEST, TRAIN, Layout, Ragged, Skeletons, read_skeletons, write_skeletons

# what an odd file raises
UNUSABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    BadZipFile,
)


@dataclass(frozen=True)
class RawClip:
    """One clip as a file tells it: joints [bodies, frames, V, 3] and a label that counts from 0."""

    name: str
    label: int
    joints: np.ndarray
    columns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A file that is not as it should be, and what was done about it."""

    file: str
    found: str
    done: str


@dataclass(frozen=True)
class SplitRule:
    """A named split: which clips train and test, how many the publication counts, and the rule for absent bodies."""

    side: Callable[[RawClip], int]
    published: tuple[int, int] | None = None
    body_rule: str = "zero"


class RawDataset(Protocol):
    """A data set as it lies on disk: its files, and what each of them says."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def layout(self) -> Layout: ...

    @property
    def splits(self) -> Mapping[str, SplitRule]: ...

    def files(self) -> list[Path]: ...

    def read(self, path: Path) -> RawClip: ...


@dataclass(frozen=True)
class Prepared:
    skeletons: Skeletons
    findings: list[Finding]
    warnings: list[str]


def prepare(name: str, raw: RawDataset, out: Path, progress: Callable[[int, int], None]) -> Prepared:
    """Read every file, write out/skeletons.h5, and say what was odd and where the counts differ.

    Raises ValueError where not one file could be used; then nothing is written.
    """
    refuse_other_dataset(name, out)
    findings: list[Finding] = []
    clips = list(_read_all(raw, findings, progress))
    if not clips:
        raise ValueError(
            f"none of {len(findings)} files could be used; the first: {findings[0].file}: {findings[0].found}"
        )
    skeletons = _assemble(name, raw, sorted(clips, key=lambda clip: clip.name))
    out.mkdir(parents=True, exist_ok=True)
    lines = [(finding.file, finding.found, finding.done) for finding in findings]
    write_csv(out / "findings.csv", ("file", "found", "done"), lines)
    write_skeletons(out / "skeletons.h5", skeletons)
    return Prepared(skeletons, findings, _count_warnings(raw, skeletons))


def refuse_other_dataset(name: str, out: Path) -> None:
    """ValueError where `out` holds the skeletons of another data set."""
    path = out / "skeletons.h5"
    if path.exists() and (there := read_skeletons(path).dataset) != name:
        raise ValueError(f"{out}: holds the skeletons of {there}; give {name} another --out")


def files_of(raw: Path, pattern: str, expected: str) -> list[Path]:
    """The files under `raw` that match, by name; FileNotFoundError or ValueError with what was there instead."""
    if not raw.exists():
        raise FileNotFoundError(f"{raw}: no such folder; give the folder that holds {expected}")
    if not raw.is_dir():
        raise ValueError(f"{raw}: a file; give the folder that holds {expected}")
    found = sorted(raw.rglob(pattern))
    if not found:
        raise ValueError(f"{raw}: holds no {expected}; {_what_is_there(raw)}")
    return found


def _what_is_there(raw: Path) -> str:
    suffixes = Counter(path.suffix or "no suffix" for path in raw.rglob("*") if path.is_file())
    listing = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4))
    return f"found {listing}" if listing else "it is empty"


def _read_all(raw: RawDataset, findings: list[Finding], progress: Callable[[int, int], None]) -> Iterator[RawClip]:
    paths, seen = raw.files(), dict[str, Path]()
    for done, path in enumerate(paths, 1):
        clip = _read_one(raw, path, findings)
        if clip and clip.name in seen:
            findings.append(Finding(path.name, f"second file of the name, after {seen[clip.name]}", "left out"))
        elif clip:
            seen[clip.name] = path
            yield clip
        progress(done, len(paths))


def _read_one(raw: RawDataset, path: Path, findings: list[Finding]) -> RawClip | None:
    try:
        clip = raw.read(path)
        _check(clip, raw)
    except UNUSABLE as error:
        said = f"no {error} in it" if isinstance(error, KeyError) else str(error) or type(error).__name__
        findings.append(Finding(path.name, said, "left out"))
        return None
    clip, mended = _mend(clip)
    if mended:
        findings.append(Finding(path.name, mended, "last good value of the joint kept"))
    if clip.joints.shape[1] == 1:
        findings.append(Finding(path.name, "1 frame", "kept; it has no motion"))
    return clip


def _check(clip: RawClip, raw: RawDataset) -> None:
    wanted = len(raw.layout.joints)
    if clip.joints.ndim != 4 or clip.joints.shape[2:] != (wanted, 3):
        raise ValueError(f"joints of shape {list(clip.joints.shape)}, wanted [bodies, frames, {wanted}, 3]")
    if not clip.joints.size:
        raise ValueError("no frames")
    if not 0 <= clip.label < len(raw.classes):
        raise ValueError(f"label {clip.label + 1} out of range 1..{len(raw.classes)}")
    if not np.isfinite(clip.joints).any():
        raise ValueError("not one finite coordinate")
    if not clip.joints.any():
        raise ValueError("all coordinates are zero")


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
    return RawClip(
        clip.name, clip.label, joints, clip.columns
    ), f"NaN or Inf in {np.any(bad, axis=(0, 2)).sum()} frames"


def _assemble(name: str, raw: RawDataset, clips: list[RawClip]) -> Skeletons:
    flat = [clip.joints.reshape(-1, *clip.joints.shape[2:]).astype(np.float32) for clip in clips]
    known = sorted({column for clip in clips for column in clip.columns})
    return Skeletons(
        dataset=name,
        classes=tuple(raw.classes),
        layout=raw.layout,
        names=tuple(clip.name for clip in clips),
        labels=np.array([clip.label for clip in clips], np.int64),
        bodies=np.array([len(clip.joints) for clip in clips], np.int64),
        joints=Ragged.of(flat),
        splits={split: _sides(rule, clips) for split, rule in raw.splits.items()},
        body_rules={split: rule.body_rule for split, rule in raw.splits.items()},
        columns={column: np.array([clip.columns.get(column, -1) for clip in clips], np.int64) for column in known},
    )


def _sides(rule: SplitRule, clips: Sequence[RawClip]) -> np.ndarray:
    return np.array([rule.side(clip) for clip in clips], np.int8)


def _count_warnings(raw: RawDataset, skeletons: Skeletons) -> list[str]:
    warnings = []
    for split, rule in raw.splits.items():
        codes = skeletons.splits[split]
        found = int((codes == TRAIN).sum()), int((codes == TEST).sum())
        if rule.published and found != rule.published:
            published = f"published are {rule.published[0]:,} / {rule.published[1]:,}"
            warnings.append(f"{split}: {found[0]:,} train / {found[1]:,} test, {published}")
        if not all(found):
            warnings.append(f"{split}: {found[0]} train / {found[1]} test; one side is empty")
    absent = set(range(len(raw.classes))) - set(skeletons.labels.tolist())
    if absent:
        warnings.append(f"no clip of class {', '.join(raw.classes[label] for label in sorted(absent))}")
    return warnings


def by_column(column: str, train: Callable[[int], bool], test: Callable[[int], bool]) -> Callable[[RawClip], int]:
    """A split by subject, view or the like."""

    def side(clip: RawClip) -> int:
        value = clip.columns.get(column)
        if value is None:
            return OUT
        return TRAIN if train(value) else TEST if test(value) else OUT

    return side
