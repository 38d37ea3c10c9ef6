"""A finished run on a data set that it was not trained on: what the MMCL paper calls zero-shot and domain-adaptive."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...cache.convert import convert
from ...cache.files import write_bytes, write_csv
from ...cache.skeletons import Skeletons, Transfer, read_whole
from ...cache.table import Ragged
from ..data.skeleton import body_of, pack
from ..loop.checkpoint import load_model
from ..loop.device import find_device
from ..run import Run, read_run
from .evaluate import SKELETONS_ONLY, WITH_TEXT
from .metrics import TOP, Metrics, measure, per_class
from .notes import notes_of, sure_note
from .scores import About, Scores, write_scores
from .scoring import score
from .with_text import refined_scores
from .written import counted

MEANING = (
    "the paper calls this zero-shot (no clip of this data set was trained on) and domain-adaptive; every class was "
    "seen in training, under other cameras, so the field's word is cross-dataset transfer"
)


@dataclass(frozen=True)
class TransferClass:
    """One class of the tested data set: what it is called in the run, its clips, and the shares of them called right.

    `top1` is where all the run's classes compete, `top1_mapped` where only the mapped ones do; `mistaken_for` is what
    it is most often called instead of itself where all compete.
    """

    name: str
    trained_as: str
    clips: int
    top1: float
    top1_mapped: float
    mistaken_for: str
    mistakes: int


@dataclass(frozen=True)
class TransferResult:
    """A run tested on the mapped classes of `dataset`, and the folder that holds the result.

    `metrics` count as the paper does: all the run's classes compete. In `mapped` only the classes do that one of the
    tested data set's stands for. `left_out` are mapped classes that the run does not know. `inputs` says in words what
    was scored.
    """

    run: Run
    dataset: str
    transfer: Transfer
    metrics: Metrics
    mapped: Metrics
    competing: int
    classes: list[TransferClass]
    left_out: tuple[str, ...]
    folder: Path
    notes: list[str]
    inputs: str = SKELETONS_ONLY

    @property
    def kept(self) -> str:
        """How the epoch was chosen, and whether more than skeletons was seen: in every output."""
        return self.run.selection if self.inputs == SKELETONS_ONLY else f"{self.run.selection}, {self.inputs}"


@dataclass(frozen=True)
class Match:
    """A run and a data set that a transfer joins.

    `rows` are the clips to test, `labels` what the run counts each of them as, int64 [rows]; `mapped` are all its
    labels that some class of the data set stands for, in order.
    """

    run: Run
    skeletons: Skeletons
    transfer: Transfer
    rows: np.ndarray
    labels: np.ndarray
    mapped: np.ndarray

    @property
    def lacking(self) -> tuple[str, ...]:
        """Mapped classes of the data set that the run does not know."""
        return tuple(own for own, trained in self.transfer.classes.items() if trained not in self.run.classes)


def evaluate_transfer(
    folder: Path, data: Path, progress: Callable[[int, int], None], *, with_text: bool = False
) -> TransferResult:
    """Score all clips of `data` whose class the run knows, of whatever split; write FOLDER/transfer-DATASET.

    Joints are converted to the run's layout; frames and bodies are treated as the run's were. `with_text` has the
    scores refined by what an LLM said of the clips (S_R), which is skeleton-only no more and goes to
    FOLDER/transfer-DATASET-with-text. Raises FileNotFoundError or ValueError where run or data are missing, unfinished,
    or no transfer leads from one to the other, and, with text, where heads or text cache are missing or don't fit.
    """
    run = read_run(folder)
    model = load_model(folder, run)
    match = match_run(run, folder, read_whole(data / "skeletons.h5"))
    device, body = find_device(), body_of(run.layout, run.slots, run.body_rule)
    packed = pack(_converted(match)).to(device)
    scores = score(model.to(device), packed, match.rows, body=body, config=run.config, progress=progress).numpy()
    result = _judge(match, scores, folder / f"transfer-{Path(match.skeletons.dataset).name}")
    if with_text:
        scores, notes = refined_scores(folder, run, scores, match.skeletons, match.rows, data)
        result = _refined(_judge(match, scores, result.folder), notes, alone=result)
    result.folder.mkdir(exist_ok=True)
    names = tuple(match.skeletons.names[row] for row in match.rows)
    write_scores(result.folder, Scores(names, scores, match.labels, run.classes), _about(result))
    _write_classes(result)
    _write_summary(result)  # last: where it is, the result is whole
    return result


def _refined(result: TransferResult, notes: Sequence[str], *, alone: TransferResult) -> TransferResult:
    """The result of S_R in a folder of its own, beside what skeletons `alone` gave."""
    competing = f"all {len(result.run.classes)} classes", f"only the {result.competing} mapped ones"
    without = [
        f"skeletons only, {how}: top-1 {found.top1:.2%}, top-5 {found.top5:.2%}"
        for how, found in zip(competing, (alone.metrics, alone.mapped), strict=True)
    ]
    return replace(
        result,
        folder=result.folder.with_name(f"{result.folder.name}-with-text"),
        notes=[WITH_TEXT, *result.notes, *notes, *without],
        inputs=WITH_TEXT,
    )


def _about(result: TransferResult) -> About:
    config = result.run.config
    return About(result.kept, result.dataset, "transfer", config.backbone, config.stream, config.seed)


def match_run(run: Run, folder: Path, skeletons: Skeletons) -> Match:
    """What of a data set the run can be tested on; ValueError, naming the run's folder, where there is nothing."""
    transfer = _choose(run, folder, skeletons)
    place = {name: label for label, name in enumerate(run.classes)}
    own = np.array([place.get(transfer.classes.get(name, ""), -1) for name in skeletons.classes])
    if (own < 0).all():
        wanted = ", ".join(transfer.classes.values())
        raise ValueError(f"{folder}: none of its {len(run.classes)} classes is among {wanted}; wanted one of those")
    labels = own[skeletons.labels]
    if (most := int(skeletons.bodies.max())) > run.slots:
        raise ValueError(f"{folder}: trained with room for {run.slots} bodies, these clips have {most}")
    if not len(rows := np.flatnonzero(labels >= 0)):
        raise ValueError(f"{skeletons.dataset}: has no clip of {', '.join(transfer.classes)}; prepare all of it")
    return Match(run, skeletons, transfer, rows, labels[rows], np.unique(own[own >= 0]))


def _choose(run: Run, folder: Path, skeletons: Skeletons) -> Transfer:
    """The transfer from the run's data set, or from another of its layout."""
    if not skeletons.transfers:
        raise ValueError(
            f"{skeletons.dataset}: knows no transfer; utd-mhad and sysu do, as `mmcl prepare` makes them now"
        )
    fits = [transfer for transfer in skeletons.transfers if transfer.layout == run.layout]
    if not fits or run.coordinates != skeletons.coordinates:
        there = [(transfer.dataset, transfer.layout.name) for transfer in skeletons.transfers]
        known = ", ".join(f"{dataset} ({layout} in {skeletons.coordinates})" for dataset, layout in there)
        trained = f"trained on {run.dataset} ({run.layout.name} in {run.coordinates})"
        raise ValueError(f"{folder}: {trained}; {skeletons.dataset} tests runs of {known}, so train one of those")
    return next((transfer for transfer in fits if transfer.dataset == run.dataset), fits[0])


def _converted(match: Match) -> Skeletons:
    """The same clips with the joints that the run was trained on."""
    skeletons, transfer = match.skeletons, match.transfer
    joints = Ragged(convert(skeletons.joints.values, transfer.joints), skeletons.joints.offsets)
    return replace(skeletons, layout=transfer.layout, joints=joints, image_points=None)


def _judge(match: Match, scores: np.ndarray, folder: Path) -> TransferResult:
    (few, few_labels), metrics = _restricted(match, scores), measure(scores, match.labels)
    return TransferResult(
        run=match.run,
        dataset=match.skeletons.dataset,
        transfer=match.transfer,
        metrics=metrics,
        mapped=measure(few, few_labels),
        competing=len(match.mapped),
        classes=_by_class(match, scores),
        left_out=match.lacking,
        folder=folder,
        notes=[*_notes(match), *sure_note(metrics)],
    )


def _restricted(match: Match, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels where only the mapped classes compete."""
    return scores[:, match.mapped], np.searchsorted(match.mapped, match.labels)


def _by_class(match: Match, scores: np.ndarray) -> list[TransferClass]:
    few, few_labels = _restricted(match, scores)
    own, lines = match.skeletons.labels[match.rows], []
    for label in np.unique(own):
        mine, name = own == label, match.skeletons.classes[label]
        [line] = per_class(measure(scores[mine], match.labels[mine]), match.run.classes)
        shares = line.accuracy, measure(few[mine], few_labels[mine]).top1
        trained_as = match.transfer.classes[name]
        lines.append(TransferClass(name, trained_as, line.clips, *shares, line.mistaken_for, line.mistakes))
    return lines


def _notes(match: Match) -> list[str]:
    """What a reader must know beside the number."""
    run, skeletons, transfer, competing = match.run, match.skeletons, match.transfer, len(match.mapped)
    used = [f"{own} = {trained}" for own, trained in transfer.classes.items() if own not in match.lacking]
    said = [MEANING, *notes_of(run), f"classes: {'; '.join(used)}", f"classes chosen by: {transfer.source}"]
    if match.lacking:
        said.append(f"left out, as the run has no such class: {', '.join(match.lacking)}")
    if run.dataset != transfer.dataset:
        said.append(f"the classes were chosen for runs of {transfer.dataset}; this one was trained on {run.dataset}")
    if competing <= TOP:
        said.append(f"top-5 says nothing where {competing} classes compete")
    absent = "repeat the first" if run.body_rule == "repeat" else "are zero"
    layouts = f"{skeletons.layout.name} to {transfer.layout.name}"
    return [*said, f"joints, {layouts}: {joints_text(match)}", f"bodies: {run.slots}; absent ones {absent}"]


def joints_text(match: Match) -> str:
    """What the run's joints are made of, where they are not simply the data set's joints of the same name."""
    own, made = match.skeletons.layout.joints, zip(match.transfer.layout.joints, match.transfer.joints, strict=True)
    sums = {joint: _sum_text([(weight, own[part]) for part, weight in parts]) for joint, parts in made}
    return ", ".join(f"{joint} = {total}" for joint, total in sums.items() if joint != total)


def _sum_text(parts: list[tuple[float, str]]) -> str:
    """Such as `1.5 left hand - 0.5 left wrist`."""
    heaviest_first = sorted(parts, key=lambda part: -part[0])
    total = " + ".join(f"{weight:g} {joint}" for weight, joint in heaviest_first)
    return total.removeprefix("1 ").replace("+ -", "- ")


def _write_summary(result: TransferResult) -> None:
    run, transfer = result.run, result.transfer
    summary = {
        "dataset": result.dataset,
        "trained_on": run.dataset,
        "split": run.config.split,
        "stream": run.config.stream,
        "seed": run.config.seed,
        "inputs": result.inputs,
        "clips": result.metrics.clips,
        "all_classes": {"competing": len(run.classes), **counted(result.metrics)},
        "mapped_classes": {"competing": result.competing, **counted(result.mapped)},
        "classes": {line.name: line.trained_as for line in result.classes},
        "left_out": list(result.left_out),
        "classes_chosen_by": transfer.source,
        "kept": result.kept,
        "select_on_test": run.config.select_on_test,
        "notes": result.notes,
    }
    write_bytes(result.folder / "results.json", json.dumps(summary, indent=1).encode())


def _write_classes(result: TransferResult) -> None:
    heads = ("class", "trained_as", "clips", "top1_all", "top1_mapped", "mistaken_for", "mistakes", "kept")
    lines = [
        (c.name, c.trained_as, c.clips, f"{c.top1:.4f}", f"{c.top1_mapped:.4f}", c.mistaken_for, c.mistakes)
        for c in result.classes
    ]
    write_csv(result.folder / "per_class.csv", heads, [(*line, result.kept) for line in lines])
