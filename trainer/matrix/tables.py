"""A matrix as files and as one table: a line a cell, and mean and deviation over the seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from ...cache.files import write_bytes, write_csv
from ...cache.words import few
from ..report import plan_lines
from .cells import Planned
from .results import BROKEN, OPEN, TESTED, TRAINED, About, Found, Group, Result, Spread

COLUMNS = (
    *("ablation", "stream", "seed", "top1", "top5", "mean_class_accuracy"),
    *("status", "kept", "select_on_test", "run", "error"),
)
NOTHING = "-"
FILES = ("matrix.csv", "matrix.json", "matrix.png")
LISTED = 8


def write_csv_of(path: Path, found: Found) -> None:
    """A line a cell; accuracies are shares in [0, 1], empty where the cell was not tested."""
    write_csv(path, COLUMNS, (_row(result, found).values() for result in found.results))


def write_json_of(path: Path, found: Found) -> None:
    """The same, and mean and deviation of each group over its seeds."""
    cells = [_row(result, found) for result in found.results]
    content = {**asdict(found.about), "cells": cells, "groups": [_group(group) for group in found.groups]}
    write_bytes(path, json.dumps(content, indent=1).encode())


def matrix_lines(planned: Planned, device: torch.device) -> list[str]:
    """What is going to be trained: the cells, and of the one that most is taught all that `mmcl train` says."""
    matrix, cells = planned.matrix, planned.matrix.cells
    parts = {name: dict.fromkeys(str(getattr(cell, name)) for cell in cells) for name in ("ablation", "stream", "seed")}
    counted = " x ".join(f"{name}s {', '.join(values)}" for name, values in parts.items() if "".join(values))
    most = max(planned.plans.values(), key=lambda plan: (plan.rgb is not None) + (plan.text is not None))
    whole = [f"config: {matrix.job.config_file}", f"{matrix.job.out}: {len(cells)} trainings, {counted}"]
    return [*whole, *plan_lines(most, device)]


def matrix_table(groups: Sequence[Group], about: About) -> Table:
    """A line a group: how many seeds, top-1, top-5, mean class accuracy, and for ablations the difference to none."""
    ablated = any(group.ablation for group in groups)
    title = f"{escape(about.dataset)} {escape(about.split)}, test split, skeletons only; {about.kept}"
    table = Table(title=title, title_justify="left")
    for name in (*(("ablation",) if ablated else ()), "stream"):
        table.add_column(name)
    for name in ("seeds", "top-1", "top-5", "mean class accuracy", *(("top-1 minus none",) if ablated else ())):
        table.add_column(name, justify="right")
    for group in groups:
        named = (group.ablation, group.stream) if ablated else (group.stream,)
        accuracies = (percent(group.top1), percent(group.top5), percent(group.mean_class))
        versus = (points(group.versus_none),) if ablated else ()
        table.add_row(*named, _seeds(group), *accuracies, *versus)
    return table


def note_lines(found: Found) -> list[str]:
    """What a reader must know beside the table, what failed or is not done, and where all of it is."""
    notes = [f"kept: {found.about.kept}"]
    if found.about.select_on_test:
        notes.append("EPOCHS WERE CHOSEN ON THE TEST SET: these numbers are too good")
    if any(group.top1 and group.top1.deviation is not None for group in found.groups):
        notes.append("±: the sample deviation over seeds")
    if any(group.versus_none for group in found.groups):
        notes.append("minus none: the mean over seeds of the differences between runs of one seed, in points")
    if leaks := [result for result in found.results if result.leaked]:
        most = max(leaks, key=lambda result: result.leaked)
        notes.append(f"LEAK: {most.leaked:,} of {most.clips:,} test clips have the very joints of a training clip")
    if not found.about.test_clips:
        notes.append(f"split {found.about.split} has no test clips: the networks are trained, nothing was tested")
    notes += [f"failed: {result.cell.name}: {result.error}" for result in found.failed]
    if found.elsewhere:
        names = few([cell.name for cell in found.elsewhere], LISTED)
        notes.append(f"other processes are training {names}; whoever is last writes the whole table")
    if found.left_out:
        names = few(found.left_out, LISTED)
        notes.append(f"left out of the table, as they are no cells of this command: {names}")
    files = [name for name in FILES if (found.folder / name).exists()]
    return [*notes, f"written: {found.folder}: a folder a run, {', '.join(files)}"]


def percent(found: Spread | None) -> str:
    """Such as `91.01 ± 2.73`, in percent."""
    if found is None:
        return NOTHING
    return f"{100 * found.mean:.2f}" + ("" if found.deviation is None else f" ± {100 * found.deviation:.2f}")


def points(found: Spread | None) -> str:
    """A difference, such as `+0.4 ± 0.9 (3 seeds)`, in percentage points."""
    if found is None:
        return NOTHING
    deviation = "" if found.deviation is None else f" ± {100 * found.deviation:.1f}"
    return f"{100 * found.mean:+.1f}{deviation} ({found.n} {'seeds' if found.n > 1 else 'seed'})"


def _seeds(group: Group) -> str:
    """How many of the group's seeds are in its numbers, and what became of the others."""
    counts = {status: sum(r.status == status for r in group.results) for status in (TESTED, TRAINED, BROKEN, OPEN)}
    tested = counts.pop(TESTED)
    others = "".join(f", {count} {status}" for status, count in counts.items() if count)
    return f"{tested} of {len(group.results)}{others}" if others else str(tested)


def _row(result: Result, found: Found) -> dict[str, Any]:
    cell, about = result.cell, found.about
    values = (
        *(cell.ablation, cell.stream, cell.seed, result.top1, result.top5, result.mean_class),
        *(result.status, about.kept, about.select_on_test, result.folder.relative_to(found.folder), result.error),
    )
    return dict(zip(COLUMNS, (str(v) if isinstance(v, Path) else v for v in values), strict=True))


def _group(group: Group) -> dict[str, Any]:
    spreads = {"top1": group.top1, "top5": group.top5, "mean_class_accuracy": group.mean_class}
    spreads["top1_minus_none"] = group.versus_none
    named = {"ablation": group.ablation, "stream": group.stream}
    return named | {name: found and found._asdict() for name, found in spreads.items()}
