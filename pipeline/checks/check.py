"""`mmcl data check`: everything that can be wrong with a prepared data set, looked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ...cache.files import write_csv
from ...cache.skeletons import Skeletons, read_skeletons
from .balance import (
    absent_classes,
    alike_classes,
    alike_names,
    empty_sides,
    one_class,
    one_sided_classes,
    shared_people,
    small_classes,
    uneven_classes,
    unused_clips,
)
from .coverage import caches
from .finding import LEVELS, Finding, Inspected
from .intact import damaged, gaps, identical, lengths, motionless, nobody, not_finite
from .measures import measure
from .plausible import bones, heights, joint_order, lopsided, units, upside_down

CHECKS: list[Callable[[Inspected], list[Finding]]] = [
    *(one_class, absent_classes, alike_classes, small_classes, uneven_classes, empty_sides, one_sided_classes),
    *(unused_clips, shared_people, alike_names, damaged, not_finite, nobody, motionless, gaps, lengths, identical),
    *(joint_order, bones, lopsided, upside_down, units, heights),
    caches,
]


@dataclass(frozen=True)
class Checked:
    """A data set and what was found in it, the worst first."""

    skeletons: Skeletons
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each level."""
        found = Counter(finding.level for finding in self.findings)
        return {level: found[level] for level in LEVELS}


def check(data: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Checked:
    """Look at all clips and feature caches of a data set's folder; FileNotFoundError or ValueError where it is none."""
    skeletons = read_skeletons(data / "skeletons.h5")
    inspected = Inspected(data, skeletons, measure(skeletons, progress))
    findings = [finding for look in CHECKS for finding in look(inspected)]
    return Checked(skeletons, tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level))))


def write_findings(path: Path, checked: Checked) -> None:
    """All findings as a CSV file, a line a clip, with a clip that it is the same as, where that is what was found.

    A line without a clip where a finding is not of clips.
    """
    lines = [
        (finding.level, finding.check, finding.what, clip, twin)
        for finding in checked.findings
        for clip, twin in zip_longest(finding.clips or ("",), finding.twins, fillvalue="")
    ]
    write_csv(path, ("level", "check", "found", "clip", "same as"), lines)
