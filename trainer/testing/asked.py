"""What the entries of `mmcl evaluate` mean: runs, all finished runs of a matrix, score files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cache.words import few
from ..config import STREAMS
from ..matrix.cells import ABLATIONS
from .compare_files import SUMMARY
from .others import SUFFIXES

WANTED = f"give a run, a folder of runs of `mmcl train` or `mmcl ablate`, or a score file ({', '.join(SUFFIXES)})"
SHOWN = 6


@dataclass(frozen=True)
class Asked:
    """Folders of runs and score files in their order, each once, and what is to be said of those left out."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]
    matrix: Path | None

    @property
    def runs(self) -> list[Path]:
        return [path for path in self.paths if path.is_dir()]

    @property
    def files(self) -> list[Path]:
        return [path for path in self.paths if not path.is_dir()]

    @property
    def titles(self) -> dict[Path, str]:
        """What each is called beside the others: its path from the nearest folder that holds all."""
        return {path: os.path.relpath(path, self._around()) for path in self.paths}

    def out(self) -> Path:
        """Where a comparison goes by itself: `evaluation` in the matrix's folder, or in what holds all entries.

        Never into a run's own folder. ValueError where only the root of all files holds them.
        """
        place = self.matrix or self._around()
        while (place / "run.json").exists() or place.name == "evaluation":
            place = place.parent
        if place == Path(place.anchor):
            raise ValueError("the entries have no folder in common; say with --out where the comparison goes")
        return place / "evaluation"

    def _around(self) -> Path:
        return Path(os.path.commonpath([path.absolute().parent for path in self.paths]))


def asked_for(entries: Sequence[Path]) -> Asked:
    """The runs and score files that some words mean; FileNotFoundError or ValueError for a word that means none."""
    paths, notes, matrices = list[Path](), list[str](), list[Path]()
    for entry in entries:
        if entry.is_file() or entry.suffix in SUFFIXES:
            paths.append(_score_file(entry))
        elif (entry / SUMMARY).exists():
            notes.append(f"left out: {entry}, which is a comparison that was written there")
        elif (entry / "run.json").exists() or not (cells := cells_of(entry) or runs_below(entry)):
            paths.append(_run(entry))
        else:
            done = [cell for cell in cells if (cell / "model.safetensors").exists()]
            paths += _some(entry, done, cells)
            notes += _left_out(entry, [cell for cell in cells if cell not in done])
            matrices.append(entry)
    if not paths:
        raise ValueError(f"{notes[0]}; {WANTED}")
    unique = tuple({path.resolve(): path for path in paths}.values())
    return Asked(unique, tuple(notes), matrices[0] if len(entries) == len(matrices) == 1 else None)


def cells_of(folder: Path) -> list[Path]:
    """The runs of a matrix's folder, begun or planned, in the order ablation, stream, seed; [] where it is none."""
    parents = [folder / ablation / stream for ablation in ("", *ABLATIONS) for stream in STREAMS]
    planned = [folder / name for name in _planned(folder / "matrix.json")]
    there = [run.parent for parent in parents for run in parent.glob("seed*/run.json")]
    known = {*there, *(cell for cell in planned if cell.parent in parents)}
    return sorted(known, key=lambda cell: _place(cell, parents))


def runs_below(folder: Path) -> list[Path]:
    """All runs in a folder that is no matrix, begun or finished, sorted by path."""
    return sorted(path.parent for path in folder.rglob("run.json"))


def _place(cell: Path, parents: Sequence[Path]) -> tuple[int, int, str]:
    seed = cell.name.removeprefix("seed")
    return parents.index(cell.parent), int(seed) if seed.isdecimal() else 0, cell.name


def _planned(path: Path) -> list[str]:
    """The folders of the cells that matrix.json names; [] where there is none that can be read."""
    try:
        return [str(cell["run"]) for cell in json.loads(path.read_text())["cells"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _some(folder: Path, done: list[Path], cells: Iterable[Path]) -> list[Path]:
    if done:
        return done
    names = few([str(cell.relative_to(folder)) for cell in cells], SHOWN)
    raise ValueError(f"{folder}: none of its runs has finished ({names}); run the command that began them again")


def _left_out(folder: Path, cells: list[Path]) -> list[str]:
    if not cells:
        return []
    names = few([str(cell.relative_to(folder)) for cell in cells], SHOWN)
    return [f"left out, as their training has not finished: {names}"]


def _score_file(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: no score file ({', '.join(SUFFIXES)}); {WANTED}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such score file")
    return path


def _run(folder: Path) -> Path:
    if not (folder / "run.json").exists():
        raise FileNotFoundError(f"{folder}: no run here (run.json is missing); {WANTED}")
    if not (folder / "model.safetensors").exists():
        raise ValueError(f"{folder}: training has not finished; run the same `mmcl train` again, it resumes")
    return folder
