"""A finished run on the test clips of its split: reads the skeleton cache and model.safetensors, nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...cache.files import write_atomic, write_bytes, write_csv
from ...cache.skeletons import TEST, Skeletons, read_whole
from ..data.samples import split_rows
from ..data.skeleton import body_of, pack
from ..loop.checkpoint import load_model
from ..loop.device import find_device
from ..run import Run, read_run
from .confusion import draw_confusion
from .leaks import leaked
from .metrics import Metrics, measure, per_class
from .notes import notes_of
from .scoring import score


@dataclass(frozen=True)
class Evaluation:
    """The result of one run on the test clips of `dataset`, and the folder that holds it.

    `leaked` test clips are training clips under another name, and `top1_unleaked` is that of all others; None where the
    data are not those that were trained on, or no others are left.
    """

    run: Run
    dataset: str
    metrics: Metrics
    leaked: int | None
    top1_unleaked: float | None
    parameters: int
    folder: Path
    notes: list[str]


def evaluate(
    folder: Path,
    data: Path | None,
    progress: Callable[[int, int], None],
    *,
    device: torch.device | None = None,
    skeletons: Skeletons | None = None,
) -> Evaluation:
    """Score the run's test clips and write FOLDER/evaluation, or FOLDER/evaluation-DATASET for another data set's.

    `data` replaces the data set's folder that the run remembers, and `skeletons` are what is in it where that has been
    read already. Raises FileNotFoundError or ValueError where run or data are missing, unfinished, or do not fit.
    """
    run = read_run(folder)
    model = load_model(folder, run)
    skeletons = skeletons or _read_data(run, data)
    _refuse_misfit(run, skeletons, folder, moved=data is not None)
    rows = skeletons.rows(run.config.split, TEST)
    if not len(rows):
        raise ValueError(f"{skeletons.dataset}: split {run.config.split} has no test clips")
    device = device or find_device()
    body = body_of(run.layout, run.slots, run.body_rule)
    packed = pack(skeletons).to(device)
    scores = score(model.to(device), packed, rows, body=body, config=run.config, progress=progress).numpy()
    result = _judge(run, skeletons, rows, scores, sum(p.numel() for p in model.parameters()), folder)
    result.folder.mkdir(exist_ok=True)
    labels = skeletons.split_labels(run.config.split)[rows]
    write_scores(result.folder, scores, labels, [skeletons.names[row] for row in rows], run.selection)
    _write_tables(result)
    _write_summary(result)  # last: where it is, the evaluation is whole
    return result


def _judge(
    run: Run, skeletons: Skeletons, rows: np.ndarray, scores: np.ndarray, parameters: int, folder: Path
) -> Evaluation:
    labels, known = skeletons.split_labels(run.config.split)[rows], _known(run, skeletons, rows)
    own = "evaluation" if skeletons.dataset == run.dataset else f"evaluation-{Path(skeletons.dataset).name}"
    result = Evaluation(
        run,
        skeletons.dataset,
        measure(scores, labels),
        None if known is None else int(known.sum()),
        None if known is None or known.all() else float((scores.argmax(1) == labels)[~known].mean()),
        parameters,
        folder / own,
        notes(run, skeletons),
    )
    result.notes.extend(_leak_note(result))
    return result


def _known(run: Run, skeletons: Skeletons, rows: np.ndarray) -> np.ndarray | None:
    """Which test clips were trained on under another name; None where that cannot be known."""
    if skeletons.digest != run.skeletons:
        return None
    return leaked(skeletons, split_rows(skeletons, run.config).train, rows)


def _leak_note(result: Evaluation) -> list[str]:
    if not result.leaked:
        return []
    of_all = f"{result.leaked:,} of {result.metrics.clips:,} test clips have the very joints of a training clip"
    others = "" if result.top1_unleaked is None else f"; top-1 on the others is {result.top1_unleaked:.2%}"
    return [f"LEAK: {of_all}{others} (`mmcl data check` names them)"]


def notes(run: Run, skeletons: Skeletons) -> list[str]:
    """What a reader must know beside the number."""
    found = notes_of(run)
    if skeletons.dataset != run.dataset:
        found.append(f"data: {skeletons.dataset}, another data set than {run.dataset}, which was trained on")
    elif skeletons.digest != run.skeletons:
        found.append(f"data: not what was trained on ({run.skeletons}), but {skeletons.digest}")
    return found


def _read_data(run: Run, data: Path | None) -> Skeletons:
    folder = data or Path(run.data)
    if data is None and not folder.exists():
        raise FileNotFoundError(f"{folder}: the data of this run is not there; pass --data with where it is now")
    return read_whole(folder / "skeletons.h5")


def _refuse_misfit(run: Run, skeletons: Skeletons, folder: Path, *, moved: bool) -> None:
    classes = skeletons.split_classes(run.config.split) if run.config.split in skeletons.splits else skeletons.classes
    if (classes, skeletons.layout, skeletons.coordinates) != (run.classes, run.layout, run.coordinates):
        trained = f"{run.dataset} ({len(run.classes)} classes, {run.layout.name} in {run.coordinates})"
        found = f"{skeletons.dataset} ({len(classes)} classes, {skeletons.layout.name} in {skeletons.coordinates})"
        raise ValueError(f"{folder}: trained on {trained}, these skeletons are {found}; {_remedy(skeletons)}")
    if (most := int(skeletons.bodies.max())) > run.slots:
        raise ValueError(f"{folder}: trained with room for {run.slots} bodies, these clips have {most}")
    if skeletons.digest != run.skeletons and not moved:
        raise ValueError(
            f"{run.data}: prepared again since the training (it was {run.skeletons}, now {skeletons.digest}); "
            "pass --data to evaluate on it all the same"
        )


def _remedy(skeletons: Skeletons) -> str:
    if skeletons.transfers:
        return "pass --data with its own, or test the transfer with --transfer"
    return "pass --data with its own"


def write_scores(folder: Path, scores: np.ndarray, labels: np.ndarray, names: Sequence[str], selection: str) -> None:
    """scores.npz: names, scores and labels of clips, and how the epoch was chosen; readable without pickle."""
    content = io.BytesIO()
    np.savez(content, names=np.array(names), scores=scores, labels=labels, selection=np.array(selection))
    write_bytes(folder / "scores.npz", content.getvalue())


def _write_summary(result: Evaluation) -> None:
    config, metrics = result.run.config, result.metrics
    summary = {
        "dataset": result.dataset,
        "trained_on": result.run.dataset,
        "split": config.split,
        "stream": config.stream,
        "seed": config.seed,
        "clips": metrics.clips,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "mean_class_accuracy": metrics.mean_class,
        "chance": metrics.chance,
        "leaked_clips": result.leaked,
        "top1_without_leaked": result.top1_unleaked,
        "parameters": result.parameters,
        "kept": result.run.selection,
        "select_on_test": config.select_on_test,
        "notes": result.notes,
    }
    text = json.dumps(summary, indent=1)
    write_bytes(result.folder / "results.json", text.encode())


def _write_tables(result: Evaluation) -> None:
    """per_class.csv, confusion.csv and confusion.png."""
    folder, run, metrics = result.folder, result.run, result.metrics
    lines = [
        (c.name, c.clips, f"{c.accuracy:.4f}", c.mistaken_for, c.mistakes, run.selection)
        for c in per_class(metrics, run.classes)
    ]
    write_csv(folder / "per_class.csv", ("class", "clips", "accuracy", "mistaken_for", "mistakes", "kept"), lines)
    counts = ((name, *row) for name, row in zip(run.classes, metrics.confusion.tolist(), strict=True))
    write_csv(folder / "confusion.csv", (f"true \\ called ({run.selection})", *run.classes), counts)
    on = f"{result.dataset} {run.config.split} {run.config.stream}"
    title = f"{on}: top-1 {metrics.top1:.1%} of {metrics.clips}, {run.selection}"
    write_atomic(folder / "confusion.png", lambda aside: draw_confusion(aside, metrics.confusion, run.classes, title))
