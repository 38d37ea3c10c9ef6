"""The cells of a matrix: streams x seeds x ablations, each a training of its own with a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...cache.store import find_caches
from ...cache.words import did_you_mean
from ..config import STREAMS
from ..plan import Job, Plan


@dataclass(frozen=True)
class Ablation:
    """What teaches the network: FAM (RGB features), FRM (text features), and whether the features are real."""

    rgb: bool
    text: bool
    features: str = "real"


CONTROLS = ("constant", "shuffled")
TAUGHT = {"FAM": (True, False), "FRM": (False, True), "both": (True, True)}
ABLATIONS = {
    "none": Ablation(rgb=False, text=False),
    **{name: Ablation(*taught) for name, taught in TAUGHT.items()},
    **{f"{name}-{control}": Ablation(*taught, control) for name, taught in TAUGHT.items() for control in CONTROLS},
}


@dataclass(frozen=True)
class Cell:
    """One training of a matrix; `ablation` is empty where none was asked for."""

    ablation: str
    stream: str
    seed: int

    @property
    def name(self) -> str:
        """Such as FAM-shuffled/joint/seed2: the cell's folder in that of the matrix."""
        return "/".join(part for part in (self.ablation, self.stream, f"seed{self.seed}") if part)


@dataclass(frozen=True)
class Matrix:
    """What is common to all cells, whose folder is the matrix's, and the cells in the order of their training."""

    job: Job
    cells: tuple[Cell, ...]

    def job_of(self, cell: Cell) -> Job:
        """The training of one cell."""
        config = replace(self.job.config, stream=cell.stream, seed=cell.seed)
        job = replace(self.job, out=self.folder(cell))
        if not cell.ablation:
            return replace(job, config=config)
        taught = ABLATIONS[cell.ablation]
        rgb, text = job.rgb if taught.rgb else None, job.text if taught.text else ()
        return replace(job, config=replace(config, features=taught.features), rgb=rgb, text=text)

    def folder(self, cell: Cell) -> Path:
        return self.job.out / cell.name


@dataclass(frozen=True)
class Planned:
    """A matrix, and the plan of every cell in the order of the cells."""

    matrix: Matrix
    plans: dict[Cell, Plan]


def matrix_of(job: Job, streams: Sequence[str], seeds: int, ablations: Sequence[str] = ("",)) -> Matrix:
    """Every ablation on every stream with `seeds` seeds from the config's on; all of one seed before the next.

    The stream is the config's where none is given.
    """
    first, streams = job.config.seed, streams or (job.config.stream,)
    cells = [Cell(a, stream, seed) for seed in range(first, first + seeds) for stream in streams for a in ablations]
    return Matrix(job, tuple(cells))


def into(job: Job, out: Path | None, name: str) -> Job:
    """The job with a matrix's folder, such as runs/DATASET-SPLIT-matrix, where `out` was not given."""
    return job if out else replace(job, out=job.out.with_name(job.out.name.removesuffix(job.config.stream) + name))


def or_none(data: Path, kind: str, asked: str | None) -> str | None:
    """What --rgb or --text says; "none" where it says nothing and there is no cache of the kind."""
    return asked if asked or find_caches(data, kind) else "none"


def streams_of(asked: str) -> tuple[str, ...]:
    """The streams that --stream names: one, several with commas, or all; ValueError for an unknown one."""
    names = STREAMS if asked == "all" else _parted(asked)
    for name in names:
        if name not in STREAMS:
            known = f"{', '.join(STREAMS)}, several with commas, or all"
            raise ValueError(f"--stream {name}: no such stream: {did_you_mean(name, STREAMS)}known are {known}")
    return names


def ablations_of(asked: str | None, job: Job) -> tuple[str, ...]:
    """The ablations that --only names, or those that make sense with the job's features.

    Raises ValueError for an unknown one, for one whose features are not there, and where no features are there.
    """
    rgb, text = job.rgb is not None, bool(job.text)
    if not (rgb or text):
        made = "make some with `mmcl extract-features`, or say which with --rgb or --text"
        raise ValueError(f"{job.data}: no features to compare trainings with; {made}")
    if job.config.features != "real":
        raise ValueError(f"features = {job.config.features}: an ablation makes the controls itself; leave it out")
    whole = "both" if rgb and text else "FAM" if rgb else "FRM"
    parts = ("FAM", "FRM") if rgb and text else ()
    names = _parted(asked) if asked else ("none", *parts, whole, *(f"{whole}-{control}" for control in CONTROLS))
    for name in names:
        _check(name, rgb=rgb, text=text)
    return names


def _check(name: str, *, rgb: bool, text: bool) -> None:
    if name not in ABLATIONS:
        known = ", ".join(ABLATIONS)
        raise ValueError(f"--only {name}: no such ablation: {did_you_mean(name, ABLATIONS)}known are {known}")
    wanted = ABLATIONS[name]
    needs = (("--rgb", wanted.rgb and not rgb), ("--text", wanted.text and not text))
    if lacking := [option for option, lacks in needs if lacks]:
        raise ValueError(f"--only {name}: needs the features of {' and '.join(lacking)}, and there are none")


def _parted(asked: str) -> tuple[str, ...]:
    """The names between commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in asked.split(",")))
