"""What the cells of a matrix have come to, read from their folders: any process may look at any time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from ...cache.skeletons import TEST
from ..config import STREAMS
from ..plan import Plan
from .cells import ABLATIONS, Cell, Matrix

FAILED = "failed.txt"  # in a cell's folder: why it could not be trained or tested
TESTED, TRAINED, BROKEN, OPEN = "tested", "trained, not tested", "failed", "not finished"


@dataclass(frozen=True)
class Result:
    """A cell and where it stands; accuracies are shares in [0, 1], None where it was not tested."""

    cell: Cell
    folder: Path
    status: str
    top1: float | None = None
    top5: float | None = None
    mean_class: float | None = None
    clips: int = 0
    leaked: int = 0
    error: str = ""


class Spread(NamedTuple):
    """Mean and sample deviation of `n` values; the deviation is None where there are fewer than two."""

    n: int
    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Group:
    """The cells that differ in their seed alone.

    `versus_none` is the difference of top-1 to the ablation none on the same stream, seed by seed, over the seeds that
    both have; None for none itself and where no seed is shared.
    """

    ablation: str
    stream: str
    results: tuple[Result, ...]
    versus_none: Spread | None

    @property
    def name(self) -> str:
        return ", ".join(part for part in (self.ablation, self.stream) if part)

    @property
    def top1_by_seed(self) -> dict[int, float]:
        return {result.cell.seed: result.top1 for result in self.results if result.top1 is not None}

    @property
    def top1(self) -> Spread | None:
        return spread([result.top1 for result in self.results])

    @property
    def top5(self) -> Spread | None:
        return spread([result.top5 for result in self.results])

    @property
    def mean_class(self) -> Spread | None:
        return spread([result.mean_class for result in self.results])


@dataclass(frozen=True)
class About:
    """What all outputs of a matrix say of it: its data, its split and that one's test clips, how epochs are kept."""

    dataset: str
    split: str
    test_clips: int
    kept: str
    select_on_test: bool

    @classmethod
    def of(cls, plan: Plan) -> About:
        run, config = plan.run, plan.run.config
        clips = len(plan.skeletons.rows(config.split, TEST))
        return cls(run.dataset, config.split, clips, run.selection, config.select_on_test)


@dataclass(frozen=True)
class Found:
    """All that has come of a matrix and lies in its folder, whoever made it.

    `elsewhere` are cells that other processes are training, `stopped` whether this one was asked to end before it was
    through. `left_out` are the folders of cells that lie beside these, of other commands into the same folder.
    """

    folder: Path
    about: About
    results: list[Result]
    groups: list[Group]
    elsewhere: Sequence[Cell] = ()
    stopped: bool = False
    left_out: Sequence[str] = ()

    def of_status(self, status: str) -> list[Result]:
        return [result for result in self.results if result.status == status]

    @property
    def tested(self) -> list[Result]:
        return self.of_status(TESTED)

    @property
    def failed(self) -> list[Result]:
        return self.of_status(BROKEN)


def results_of(matrix: Matrix) -> list[Result]:
    """Where each cell of a matrix stands, in the order of the cells."""
    return [result_of(cell, matrix.folder(cell)) for cell in matrix.cells]


def result_of(cell: Cell, folder: Path) -> Result:
    """Where a cell stands; one whose results can't be read is not tested."""
    if (broken := _text(folder / FAILED)) is not None:
        return Result(cell, folder, BROKEN, error=broken.strip())
    if not (folder / "model.safetensors").exists():
        return Result(cell, folder, OPEN)
    try:
        found = json.loads(_text(folder / "evaluation" / "results.json") or "")
        top1, top5, mean_class = (float(found[name]) for name in ("top1", "top5", "mean_class_accuracy"))
        clips, leaked = int(found["clips"]), int(found.get("leaked_clips") or 0)
    except (ValueError, KeyError, TypeError):
        return Result(cell, folder, TRAINED)
    return Result(cell, folder, TESTED, top1, top5, mean_class, clips, leaked)


def left_out_of(matrix: Matrix) -> list[str]:
    """The folders of cells that a matrix's folder holds beside those of its cells, by name."""
    mine = {matrix.folder(cell) for cell in matrix.cells}
    parents = [matrix.job.out / ablation / stream for ablation in ("", *ABLATIONS) for stream in STREAMS]
    there = [run.parent for parent in parents for run in parent.glob("seed*/run.json")]
    return sorted(str(folder.relative_to(matrix.job.out)) for folder in there if folder not in mine)


def groups_of(results: Sequence[Result]) -> list[Group]:
    """Cells that differ in their seed alone, put together; streams in the order of the cells, then ablations."""
    cells = [result.cell for result in results]
    streams, ablations = (dict.fromkeys(getattr(cell, name) for cell in cells) for name in ("stream", "ablation"))
    alike = {
        (ablation, stream): tuple(r for r in results if (r.cell.ablation, r.cell.stream) == (ablation, stream))
        for stream in streams
        for ablation in ablations
    }
    return [
        Group(ablation, stream, some, _versus(some, alike.get(("none", stream), ()) if ablation != "none" else ()))
        for (ablation, stream), some in alike.items()
    ]


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and sample deviation of the values that are there; None where there is none."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    return Spread(len(there), fmean(there), stdev(there) if len(there) > 1 else None)


def _versus(some: Sequence[Result], none: Sequence[Result]) -> Spread | None:
    without = {result.cell.seed: result.top1 for result in none if result.top1 is not None}
    pairs = [(result.top1, without[result.cell.seed]) for result in some if result.cell.seed in without]
    return spread([with_it - bare for with_it, bare in pairs if with_it is not None])


def _text(path: Path) -> str | None:
    """What a file holds; None where there is none, as another process may take it away at any time."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
