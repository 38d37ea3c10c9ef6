"""An evaluation as files: results, a table a class, the confusion matrix, scores by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ...cache.files import write_atomic, write_bytes, write_csv
from .confusion import draw_confusion
from .metrics import HOW, Metrics, per_class
from .scores import write_scores

if TYPE_CHECKING:
    from .evaluate import Evaluation


def write_evaluation(result: Evaluation) -> None:
    """All its files into its folder; results.json comes last: where it is, the evaluation is whole."""
    result.folder.mkdir(exist_ok=True)
    write_scores(result.folder, result.scores, result.about)
    _write_tables(result)
    _write_summary(result)


def counted(metrics: Metrics) -> dict[str, Any]:
    """Metrics as JSON has them: shares, each beside its interval [low, high]."""
    return {
        "clips": metrics.clips,
        "top1": metrics.top1,
        "top1_interval": list(metrics.top1_interval),
        "top5": metrics.top5,
        "top5_interval": list(metrics.top5_interval),
        "mean_class_accuracy": metrics.mean_class,
        "mean_class_interval": list(metrics.mean_class_interval),
        "chance": metrics.chance,
        "intervals": HOW,
    }


def _write_summary(result: Evaluation) -> None:
    config = result.run.config
    summary = {
        "dataset": result.dataset,
        "trained_on": result.run.dataset,
        "split": config.split,
        "stream": config.stream,
        "seed": config.seed,
        "inputs": result.inputs,
        **counted(result.metrics),
        "leaked_clips": result.leaked,
        "top1_without_leaked": result.top1_unleaked,
        "parameters": result.parameters,
        "kept": result.kept,
        "select_on_test": config.select_on_test,
        "notes": result.notes,
    }
    write_bytes(result.folder / "results.json", json.dumps(summary, indent=1).encode())


def _write_tables(result: Evaluation) -> None:
    """per_class.csv, confusion.csv and confusion.png."""
    folder, run, metrics = result.folder, result.run, result.metrics
    lines = [
        (c.name, c.clips, f"{c.accuracy:.4f}", c.mistaken_for, c.mistakes, result.kept)
        for c in per_class(metrics, run.classes)
    ]
    write_csv(folder / "per_class.csv", ("class", "clips", "accuracy", "mistaken_for", "mistakes", "kept"), lines)
    counts = ((name, *row) for name, row in zip(run.classes, metrics.confusion.tolist(), strict=True))
    write_csv(folder / "confusion.csv", (f"true \\ called ({result.kept})", *run.classes), counts)
    on = f"{result.dataset} {run.config.split} {run.config.stream}"
    title = f"{on}: top-1 {metrics.top1:.1%} of {metrics.clips}, {result.kept}"
    write_atomic(folder / "confusion.png", lambda aside: draw_confusion(aside, metrics.confusion, run.classes, title))
