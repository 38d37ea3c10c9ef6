"""A finished run on the test clips of its split: reads the skeleton cache and model.safetensors, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...cache.skeletons import TEST, Skeletons, read_whole
from ..data.samples import split_rows
from ..data.skeleton import body_of, pack
from ..loop.checkpoint import load_model
from ..loop.device import find_device
from ..run import Run, read_run
from .leaks import leaked
from .metrics import Metrics, measure
from .notes import notes_of, sure_note
from .scores import About, Scores
from .scoring import score
from .written import write_evaluation

SKELETONS_ONLY = "skeletons only"
WITH_TEXT = "with the LLM at test time: NOT skeleton-only"


@dataclass(frozen=True)
class Evaluation:
    """The result of one run on the test clips of `dataset`, and the folder that holds it.

    `leaked` test clips are training clips under another name, and `top1_unleaked` is that of all others; None where the
    data are not those that were trained on, or no others are left. `inputs` says in words what was scored.
    """

    run: Run
    dataset: str
    metrics: Metrics
    leaked: int | None
    top1_unleaked: float | None
    parameters: int
    folder: Path
    notes: list[str]
    scores: Scores
    inputs: str = SKELETONS_ONLY

    @property
    def kept(self) -> str:
        """How the epoch was chosen, and whether more than skeletons was seen: in every output."""
        return self.run.selection if self.inputs == SKELETONS_ONLY else f"{self.run.selection}, {self.inputs}"

    @property
    def about(self) -> About:
        config = self.run.config
        return About(self.kept, self.dataset, config.split, config.backbone, config.stream, config.seed)


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
    skeletons = skeletons or read_data(run, data)
    rows = test_rows(run, skeletons, folder, moved=data is not None)
    device = device or find_device()
    body = body_of(run.layout, run.slots, run.body_rule)
    packed = pack(skeletons).to(device)
    values = score(model.to(device), packed, rows, body=body, config=run.config, progress=progress).numpy()
    parameters = sum(p.numel() for p in model.parameters())
    result = _judge(run, skeletons, rows, scores_of(run, skeletons, rows, values), parameters, folder)
    write_evaluation(result)
    return result


def evaluate_with_text(folder: Path, skeletons: Skeletons, only: Evaluation, data: Path) -> Evaluation:
    """The clips of `only`, refined by what an LLM said of them (S_R): FOLDER/evaluation-with-text.

    `data` is the folder of the tested data set, which holds the text cache. No result of a skeleton-only network: every
    output says so. Raises FileNotFoundError or ValueError where heads or text cache are missing or don't fit.
    """
    from .with_text import refined_scores

    run = only.run
    rows = skeletons.rows(run.config.split, TEST)
    values, notes = refined_scores(folder, run, only.scores.values, skeletons, rows, data)
    scores = replace(only.scores, values=np.asarray(values, np.float32))
    result = _judge(run, skeletons, rows, scores, only.parameters, folder)
    result = replace(
        result,
        folder=only.folder.with_name(f"{only.folder.name}-with-text"),
        notes=[WITH_TEXT, *result.notes, *notes],
        inputs=WITH_TEXT,
    )
    write_evaluation(result)
    return result


def scores_of(run: Run, skeletons: Skeletons, rows: np.ndarray, values: np.ndarray) -> Scores:
    """A network's scores [rows, K] with the names, labels and classes of the clips on the run's split."""
    labels = skeletons.split_labels(run.config.split)[rows]
    return Scores(tuple(skeletons.names[row] for row in rows), values, labels, run.classes)


def _judge(
    run: Run, skeletons: Skeletons, rows: np.ndarray, scores: Scores, parameters: int, folder: Path
) -> Evaluation:
    known, right = _known(run, skeletons, rows), scores.values.argmax(1) == scores.labels
    own = "evaluation" if skeletons.dataset == run.dataset else f"evaluation-{Path(skeletons.dataset).name}"
    result = Evaluation(
        run,
        skeletons.dataset,
        measure(scores.values, scores.labels),
        None if known is None else int(known.sum()),
        None if known is None or known.all() else float(right[~known].mean()),
        parameters,
        folder / own,
        notes(run, skeletons),
        scores,
    )
    result.notes.extend([*_leak_note(result), *sure_note(result.metrics)])
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


def read_data(run: Run, data: Path | None) -> Skeletons:
    """The data set that a run is tested on; FileNotFoundError where it is gone and `data` says no other place."""
    folder = data or Path(run.data)
    if data is None and not folder.exists():
        raise FileNotFoundError(f"{folder}: the data of this run is not there; pass --data with where it is now")
    return read_whole(folder / "skeletons.h5")


def test_rows(run: Run, skeletons: Skeletons, folder: Path, *, moved: bool) -> np.ndarray:
    """The run's test clips, int64; ValueError where there are none, or the data set does not fit the run.

    `moved` says that the data set was pointed at: then it may have been prepared again.
    """
    _refuse_misfit(run, skeletons, folder, moved=moved)
    if not len(rows := skeletons.rows(run.config.split, TEST)):
        raise ValueError(f"{skeletons.dataset}: split {run.config.split} has no test clips")
    return rows


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
