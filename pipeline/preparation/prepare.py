"""Raw skeleton files -> one skeleton cache, with every odd file named and nothing lost in silence.

Files are read in units by several processes, each unit into a part of its own: memory stays small however many there
are, and a command that was killed goes on where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.files import write_csv
from ...cache.lock import locked
from ...cache.skeletons import TEST, TRAIN, Ragged, Skeletons, Split, meta_of, read_skeletons, split_columns
from ...cache.table import concatenate, damaged_rows, read_table
from ...cache.words import few
from ..stop import Stop, Stopped
from .dataset import NOT_READ, Clip, Finding, RawDataset
from .dataset import Facts as Facts
from .dataset import RawClip as RawClip
from .dataset import SplitRule as SplitRule
from .dataset import by_column as by_column
from .reading import read_all
from .units import Record, Unit, read_record, units_of

LOCK = "prepare.lock"
NAMED = 5  # classes without a clip


@dataclass(frozen=True)
class Prepared:
    """What a data set came to; `counts` are of its readers, and `again` says that it was there already."""

    skeletons: Skeletons
    findings: list[Finding]
    warnings: list[str]
    counts: dict[str, int]
    again: bool = False

    @property
    def unread(self) -> int:
        """Files that the disk did not give; the same call looks at all of them again."""
        return sum(finding.done == NOT_READ for finding in self.findings)


def prepare(
    name: str,
    raw: RawDataset,
    out: Path,
    progress: Callable[[int, int], None],
    *,
    jobs: int | None = None,
    stop: Stop | None = None,
) -> Prepared:
    """Read every file, write out/skeletons.h5, and say what was odd and where the counts differ.

    `jobs` processes read; as many as there are cores if not said. Raises ValueError where not one file could be used;
    then nothing is written. Raises Stopped where `stop` was asked before the end; the same call goes on.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: a file; give --out a folder")
    refuse_other_dataset(name, out)
    stop = stop or Stop()
    job = Job(name, raw.facts, out, units_of(raw.files(), _basis(name, raw.facts)))
    if there := _there_already(raw, job):
        return there
    job.parts.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK, wait=False):
        _sweep(job)
        if not read_all(raw, job.units, job.parts, progress, jobs=jobs, stop=stop):
            raise Stopped("stopped; run the same command again, it goes on", 128 + (stop.signal or 0))
        found, findings, counts = _put_together(job)
        shutil.rmtree(job.parts)
    (out / LOCK).unlink(missing_ok=True)
    if not found:
        _remove_empty(out)
        raise ValueError(f"not one of {len(findings)} files could be used; the first: {_line(findings[0])}")
    skeletons = read_skeletons(job.table)
    return Prepared(skeletons, findings, _warnings(raw, skeletons, findings), counts)


@dataclass(frozen=True)
class Job:
    """A data set to be prepared: its name, what its clips share, where it goes, and its files in units."""

    name: str
    facts: Facts
    out: Path
    units: Sequence[Unit]

    @property
    def table(self) -> Path:
        return self.out / "skeletons.h5"

    @property
    def listing(self) -> Path:
        return self.out / "findings.csv"

    @property
    def parts(self) -> Path:
        return self.out / "skeletons.parts"

    @property
    def source(self) -> str:
        """24 hex digits that change with any file, and with what else rows depend on."""
        return hashlib.sha256("".join(unit.key for unit in self.units).encode()).hexdigest()[:24]


def refuse_other_dataset(name: str, out: Path) -> None:
    """ValueError where `out` holds the skeletons of another data set."""
    there = name
    with suppress(OSError, ValueError, LookupError, TypeError):  # what cannot be read is prepared again
        there = json.loads(str(read_table(out / "skeletons.h5", only=("meta",))[1]["meta"]))["dataset"]
    if there != name:
        raise ValueError(f"{out}: holds the skeletons of {there}; give {name} another --out")


def _basis(name: str, facts: Facts) -> str:
    """What rows depend on beside the files."""
    layout, splits = facts.layout, [(split, rule.body_rule, rule.classes) for split, rule in facts.splits.items()]
    transfers = [(transfer.dataset, dict(transfer.classes), transfer.joints) for transfer in facts.transfers]
    return repr((name, tuple(facts.classes), layout, splits, facts.coordinates, transfers, facts.decided))


def _source(path: Path) -> str:
    """What the skeleton cache there was made of; empty where there is none."""
    with suppress(OSError):
        return str(read_table(path, only=("source",))[1].get("source", ""))
    return ""


def _there_already(raw: RawDataset, job: Job) -> Prepared | None:
    """What was prepared of the same files before; nothing where any of it is damaged."""
    if _source(job.table) != job.source:
        return None
    with suppress(OSError, ValueError, TypeError, LookupError, csv.Error):
        said = read_table(job.table, only=("counts", "findings"))[1]
        with job.listing.open(newline="", encoding="utf-8") as file:
            findings = [Finding(*line) for line in list(csv.reader(file))[1:]]
        counts = json.loads(str(said["counts"]))
        if said["findings"] == _hash(job.listing) and not damaged_rows(job.table):
            skeletons = read_skeletons(job.table)
            return Prepared(skeletons, findings, _warnings(raw, skeletons, findings), counts, again=True)
    return None


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sweep(job: Job) -> None:
    """Remove what a killed command wrote of the table; under the lock it is nobody else's."""
    for aside in job.out.glob(f"{job.table.name}.*.tmp"):
        aside.unlink()


def _put_together(job: Job) -> tuple[int, list[Finding], dict[str, int]]:
    """All units' rows as one table, unless there are none; their number, what was odd, and what was counted."""
    records = [read_record(unit, job.parts) for unit in job.units]
    findings = [finding for record in records for finding in record.findings]
    counts = Counter[str]()
    for record in records:
        counts.update(record.counts)
    keep = _keep(records, findings)
    clips = [record.clips[row] for record, rows in zip(records, keep, strict=True) for row in rows]
    if clips:
        write_csv(job.listing, ("file", "found", "done"), [(f.file, f.found, f.done) for f in findings])
        whole = all(finding.done != NOT_READ for finding in findings)
        said = {"source": job.source if whole else "", "counts": json.dumps(counts), "findings": _hash(job.listing)}
        _write(job, clips, keep, said)
    return len(clips), findings, dict(counts)


def _keep(records: Sequence[Record], findings: list[Finding]) -> list[np.ndarray]:
    """The rows of each part that stay: of two clips of one name the first, and the other is a finding."""
    seen, keep = set[str](), list[np.ndarray]()
    for record in records:
        rows = []
        for row, clip in enumerate(record.clips):
            if clip.name in seen:
                findings.append(Finding(clip.name, "second clip of the name", "left out"))
            else:
                seen.add(clip.name)
                rows.append(row)
        keep.append(np.array(rows, np.int64))
    return keep


def _write(job: Job, clips: Sequence[Clip], keep: Sequence[np.ndarray], said: Mapping[str, str]) -> None:
    """The kept rows of all parts, with what is known of all clips beside them."""
    splits = {
        split: Split(np.array(rule.sides(clips), np.int8), rule.body_rule, rule.classes)
        for split, rule in job.facts.splits.items()
    }
    known = sorted({column for clip in clips for column in clip.columns})
    columns = {f"column_{name}": np.array([clip.columns.get(name, -1) for clip in clips], np.int64) for name in known}
    attributes = {"meta": _meta(job.name, job.facts, splits, known), **said}
    filled = [(unit.part(job.parts), rows) for unit, rows in zip(job.units, keep, strict=True) if len(rows)]
    sources, rows = [path for path, _ in filled], [rows for _, rows in filled]
    concatenate(job.table, sources, rows, attributes, split_columns(splits) | columns)


def _meta(name: str, facts: Facts, splits: Mapping[str, Split], known: Sequence[str]) -> str:
    """The table's description, as the whole data set's is: that of one without a clip."""
    nothing = np.zeros(0, np.int64)
    no_joints = np.zeros((0, len(facts.layout.joints), 3), np.float32)
    empty = Skeletons(
        name,
        tuple(facts.classes),
        facts.layout,
        (),
        nothing,
        nothing,
        Ragged(no_joints, np.zeros(1, np.int64)),
        {split: Split(nothing, found.body_rule, found.classes) for split, found in splits.items()},
        dict.fromkeys(known, nothing),
        None,
        facts.coordinates,
        facts.transfers,
    )
    return meta_of(empty)


def _line(finding: Finding) -> str:
    return f"{finding.file}: {finding.found}"


def _remove_empty(out: Path) -> None:
    with suppress(OSError):  # it holds something else
        out.rmdir()


def _warnings(raw: RawDataset, skeletons: Skeletons, findings: list[Finding]) -> list[str]:
    warnings = [*raw.facts.warnings]
    if remarks := getattr(raw, "remarks", None):
        warnings += remarks(list(skeletons.names), findings)
    for split, rule in raw.facts.splits.items():
        sides = skeletons.splits[split].sides
        found = int((sides == TRAIN).sum()), int((sides == TEST).sum())
        if rule.published and found != rule.published:
            published = f"published are {rule.published[0]:,} / {rule.published[1]:,}"
            warnings.append(f"{split}: {found[0]:,} train / {found[1]:,} test, {published}")
        if not all(found):
            warnings.append(f"{split}: {found[0]} train / {found[1]} test; one side is empty")
        if (neither := len(sides) - sum(found)) and not rule.classes:
            warnings.append(f"{split}: {neither:,} clips neither train nor test")
    absent = sorted(set(range(len(raw.facts.classes))) - set(skeletons.labels.tolist()))
    if absent:
        named = few([raw.facts.classes[label] for label in absent], NAMED)
        many = f"{len(absent):,} classes:" if len(absent) > NAMED else "class"
        warnings.append(f"no clip of {many} {named}")
    return warnings
