"""A finished run on the test clips of its split: reads the skeleton cache and model.safetensors, nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cache.skeletons import TEST, Skeletons, read_skeletons
from ..cache.table import write_atomic
from .checkpoint import load_model
from .confusion import draw_confusion
from .metrics import Metrics, measure, per_class
from .run import Run, read_run
from .scoring import score
from .skeleton import body_of, pack


@dataclass(frozen=True)
class Evaluation:
    """The result of one run on one split, and the folder that holds it."""

    run: Run
    metrics: Metrics
    parameters: int
    folder: Path
    notes: list[str]


def evaluate(folder: Path, data: Path | None, progress: Callable[[int, int], None]) -> Evaluation:
    """Score the run's test clips and write FOLDER/evaluation.

    `data` replaces the data set's folder that the run remembers. Raises FileNotFoundError or ValueError where run or
    data are missing, unfinished, or do not fit each other.
    """
    run = read_run(folder)
    model = load_model(folder, run)
    skeletons = read_skeletons((data or Path(run.data)) / "skeletons.h5")
    _refuse_misfit(run, skeletons, folder, moved=data is not None)
    rows = skeletons.rows(run.config.split, TEST)
    if not len(rows):
        raise ValueError(f"{skeletons.dataset}: split {run.config.split} has no test clips")
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    body = body_of(run.layout, run.slots, run.body_rule)
    packed = pack(skeletons).to(device)
    scores = score(model.to(device), packed, rows, body=body, config=run.config, progress=progress).numpy()
    metrics = measure(scores, skeletons.labels[rows])
    result = Evaluation(run, metrics, sum(p.numel() for p in model.parameters()), folder / "evaluation", notes(run))
    _write(result, scores, skeletons, rows)
    return result


def notes(run: Run) -> list[str]:
    """What a reader must know beside the number."""
    found = [f"epoch: {run.selection}"]
    for kind, name in (("rgb", "FAM"), ("text", "FRM")):
        cache: Mapping[str, Any] | None = getattr(run, kind)
        if cache:
            asked = f", prompt {cache['settings']['prompt']}" if "prompt" in cache["settings"] else ""
            missing = len(run.missing[kind])
            gap = (
                f"; {missing} of {run.train_clips} training clips had no features and were masked out"
                if missing
                else ""
            )
            found.append(f"{name}: frozen {cache['settings'].get('model', '?')}{asked}, cache {cache['key']}{gap}")
        else:
            found.append(f"{name}: none")
    return found


def _refuse_misfit(run: Run, skeletons: Skeletons, folder: Path, *, moved: bool) -> None:
    if skeletons.classes != run.classes or skeletons.layout != run.layout:
        raise ValueError(
            f"{folder}: trained on {run.dataset} ({len(run.classes)} classes, {run.layout.name}), these skeletons are {skeletons.dataset} ({len(skeletons.classes)}, {skeletons.layout.name})"
        )
    if int(skeletons.bodies.max()) > run.slots:
        raise ValueError(
            f"{folder}: trained with room for {run.slots} bodies, these clips have {skeletons.bodies.max()}"
        )
    if skeletons.digest != run.skeletons and not moved:
        raise ValueError(
            f"{run.data}: prepared again since the training ({run.skeletons}, now {skeletons.digest}); pass --data to evaluate on it all the same"
        )


def _write(result: Evaluation, scores: np.ndarray, skeletons: Skeletons, rows: np.ndarray) -> None:
    folder, run, metrics = result.folder, result.run, result.metrics
    folder.mkdir(exist_ok=True)
    names = np.array([skeletons.names[row] for row in rows])
    write_atomic(folder / "scores.npz", lambda path: _save_scores(path, names, scores, skeletons.labels[rows]))
    summary = {
        "dataset": run.dataset,
        "split": run.config.split,
        "stream": run.config.stream,
        "seed": run.config.seed,
        "clips": metrics.clips,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "mean_class_accuracy": metrics.mean_class,
        "chance": metrics.chance,
        "parameters": result.parameters,
        "select_on_test": run.config.select_on_test,
        "notes": result.notes,
    }
    write_atomic(folder / "results.json", lambda path: _write_json(path, summary))
    with (folder / "per_class.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "clips", "accuracy", "mistaken_for", "mistakes"])
        writer.writerows(
            [c.name, c.clips, f"{c.accuracy:.4f}", c.mistaken_for, c.mistakes] for c in per_class(metrics, run.classes)
        )
    with (folder / "confusion.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ called", *run.classes])
        writer.writerows([name, *row] for name, row in zip(run.classes, metrics.confusion.tolist(), strict=True))
    title = f"{run.dataset} {run.config.split} {run.config.stream}: top-1 {metrics.top1:.1%} of {metrics.clips}, {run.selection}"
    draw_confusion(folder / "confusion.png", metrics.confusion, run.classes, title)


def _save_scores(path: Path, names: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, names=names, scores=scores, labels=labels)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))
