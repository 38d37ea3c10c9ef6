"""How fast NTU RGB+D's files are prepared, in ratios of two sides measured beside each other.

    python -m benchmarks.prepare                  # all three parts, about four minutes, 5 GB of disk
    python -m benchmarks.prepare parse processes  # without the one that takes the disk

Run from the repository's root. The files are made, once, under --work: clips of about 90 frames, one of eight with two
people. `parse` reads them in this process, ours against a plain parse of all fields in Python. `processes` runs
`prepare` with one process and with more, when others leave the machine alone. `memory` runs it on 1,200 files and on
ten times as many.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from mmcl.pipeline.datasets.ntu import NTU60, Ntu60, read_clip
from mmcl.pipeline.datasets.ntu_file import parse_skeleton
from mmcl.pipeline.preparation.prepare import prepare
from mmcl.pipeline.preparation.raw import RawFile
from mmcl.tests.ntu_files import acted, write_skeleton

from .extraction_runs import CORES, Cost, Run, alone, costing, quiet

PARSED, TURNS = 96, 9  # files, and how often each side has its turn; medians count
FEW, SOME, MANY = 1_200, 6_000, 12_000  # files of `prepare`
KINDS = 64  # different recordings; a set repeats them under other names


def main() -> None:
    asked = arguments()
    measure: dict[str, Callable[[Path], None]] = {"parse": parse, "processes": processes, "memory": memory}
    asked.work.mkdir(parents=True, exist_ok=True)
    for part in asked.parts or measure:
        print(f"\n{part}", flush=True)
        measure[part](asked.work)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="parse, processes, memory; all if not given")
    parser.add_argument("--work", type=Path, default=Path("runs/prepare-benchmark"), help="where everything goes")
    return parser.parse_args()


def parse(work: Path) -> None:
    """One file after the other in this process: parsed alone, and all that `prepare` does before a clip is written."""
    files = [RawFile(path) for path in recordings(work, FEW)[:PARSED]]
    plain, parsed, read = alternating(
        [
            lambda: plainly(files),
            lambda: [parse_skeleton(file.read()) for file in files],
            lambda: [read_clip(file, NTU60) for file in files],
        ]
    )
    print(f"a plain parse: {PARSED / plain:.0f} files a second and core")
    print(f"ours: {PARSED / parsed:.0f}, ratio {plain / parsed:.2f}; at least 2")
    print(f"ours, and actors found: {PARSED / read:.0f}, ratio {plain / read:.2f}")


def plainly(files: Sequence[RawFile]) -> None:
    """All fields of all lines as Python numbers, and no more."""
    for file in files:
        text = StringIO(file.path.read_text())
        for _ in range(int(text.readline())):
            for _ in range(int(text.readline())):
                body, *_ = text.readline().split()
                joints = int(text.readline())
                found = [[float(field) for field in text.readline().split()] for _ in range(joints)]
                if not body or len(found) != joints:
                    raise ValueError(f"{file.place}: not as it was written")


def alternating(sides: Sequence[Callable[[], object]]) -> list[float]:
    """Median seconds of CPU of each side; they take turns, so that a disturbance meets all of them."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(TURNS):
        for side, times in zip(sides, seconds, strict=True):
            started = time.process_time()
            side()
            times.append(time.process_time() - started)
    return [statistics.median(times) for times in seconds]


def processes(work: Path) -> None:
    """The command from beginning to end, by the clock, with one process and with up to as many as there are cores."""
    recordings(work, SOME)
    commanded(work, SOME, 1)  # so that the files lie in memory for all
    runs: dict[int, list[Cost]] = {count: [] for count in sorted({1, min(2, CORES), CORES})}
    for _ in range(3):
        for count, costs in runs.items():
            costs.append(quiet(lambda: Run(commanded(work, SOME, count))).cost)  # noqa: B023
    wall = {count: statistics.median(cost.wall for cost in costs) for count, costs in runs.items()}
    for count, costs in runs.items():
        cpu = statistics.median(cost.cpu for cost in costs) / SOME
        speed = f"{SOME / wall[count]:.0f} files a second, {wall[1] / wall[count]:.2f} of one process's"
        others = f"others had at most {max(cost.others for cost in costs):.0%} of the machine"
        print(f"{count} processes: {speed}; {1000 * cpu:.1f} ms of CPU a file; {others}")


def memory(work: Path) -> None:
    """The peak of `prepare` in one process, on few files and on many."""
    peaks = []
    for count in (FEW, MANY):
        size = sum(path.stat().st_size for path in recordings(work, count)[:count])
        cost = alone(prepared, work, count, 1)
        peaks.append(cost)
        print(
            f"{count:6,} files of {size / 1e6:,.0f} MB: peak {cost.private:,.0f} MB, "
            f"{cost.peak:,.0f} MB with mapped files"
        )
    few, many = peaks
    print(f"ratio {many.private / few.private:.2f}, with mapped files {many.peak / few.peak:.2f}")


def commanded(work: Path, count: int, jobs: int) -> Cost:
    """The cost of the command on a set of so many files with so many processes."""
    raw, out = work / str(count), work / "out"
    shutil.rmtree(out, ignore_errors=True)
    words = [sys.executable, "-m", "mmcl.cli", "prepare", "ntu60", raw, "--out", out, "--jobs", str(jobs)]
    _, cost = costing(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))
    shutil.rmtree(out)
    return cost


def prepared(work: Path, count: int, jobs: int) -> Cost:
    """The cost of preparing a set of so many files with so many processes."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    _, cost = costing(lambda: prepare("ntu60", Ntu60(work / str(count)), out, lambda done, total: None, jobs=jobs))
    shutil.rmtree(out)
    return cost


def recordings(work: Path, count: int) -> list[Path]:
    """A set of so many files under work/COUNT, made unless it is there."""
    folder = work / str(count)
    if len(there := sorted(folder.glob("*.skeleton"))) == count:
        return there
    lengths = np.random.default_rng(0).normal(90, 30, KINDS).clip(20, 300).astype(int)
    first = [write_skeleton(work / "kinds", f"{kind}", acted(kind, frames)) for kind, frames in enumerate(lengths)]
    folder.mkdir(exist_ok=True)
    for path, name in zip(first * (count // KINDS + 1), names(count), strict=False):
        shutil.copyfile(path, folder / f"{name}.skeleton")
    return recordings(work, count)


def names(count: int) -> list[str]:
    """Samples as the data set has them: 180 of each session of a setup and a performer."""
    sessions = ((setup, subject) for setup in range(1, 18) for subject in range(1, 41))
    every = (
        f"S{setup:03}C{camera:03}P{subject:03}R001A{action:03}"
        for setup, subject in sessions
        for camera in (1, 2, 3)
        for action in range(1, 61)
    )
    return [name for name, _ in zip(every, range(count), strict=False)]


if __name__ == "__main__":
    main()
