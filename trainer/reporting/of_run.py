"""What the report of a run shows, from its evaluation and what its folder holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from ...cache.skeletons import Skeletons
from ..config import as_dict
from ..run import Run
from ..testing.evaluate import SKELETONS_ONLY, Evaluation
from ..testing.metrics import HOW, TOP, Metrics, confused_pairs, per_class
from ..testing.speed import Speed
from .charts import charts_of, read_metrics
from .commands import base_config, commands_of
from .content import Chart, Fact, Facts, Headline, Link, RunContent
from .cost import cost_of
from .matrix import matrix_of
from .mistakes import mistakes_of
from .recipes import recipes_of, said, teacher_keys
from .teachers import open_teachers

BESIDE = (
    ("results.json", "these numbers, for a program"),
    ("per_class.csv", "the table by class"),
    ("confusion.csv", "the confusion matrix, counts"),
    ("confusion.png", "the same as a picture"),
    ("scores.npz", "the scores of every clip by name, for ensembles"),
    ("../run.json", "everything that decided the run"),
    ("../metrics.csv", "a line an epoch"),
    ("../log.txt", "what was said while it trained"),
    ("../model.safetensors", "the network"),
)
URGENT = ("LEAK", "CONTROL", "data:")  # notes that make the numbers other than they look


def run_content(
    evaluation: Evaluation, skeletons: Skeletons, folder: Path, speed: Speed | None, data: Path
) -> RunContent:
    """The report of one run; caches are looked for in `data`, the folder of the data set that was tested on."""
    run, metrics = evaluation.run, evaluation.metrics
    teachers = open_teachers(data, evaluation.dataset, teacher_keys(run))
    columns = read_metrics(folder / "metrics.csv")
    return RunContent(
        title=f"{evaluation.dataset} {run.config.split}, {run.config.stream}",
        subtitle=f"{run.config.backbone}, seed {run.config.seed}, weights of the {run.selection}",
        inputs=evaluation.inputs,
        skeletons_only=evaluation.inputs == SKELETONS_ONLY,
        warnings=tuple(_warnings(evaluation)),
        headlines=headlines_of(metrics),
        chance=metrics.chance,
        clips=metrics.clips,
        matrix=matrix_of(metrics.confusion, run.classes),
        pairs=tuple(confused_pairs(metrics, run.classes)),
        bars=tuple(sorted(per_class(metrics, run.classes), key=lambda line: (line.accuracy, -line.clips))),
        charts=_charts(run, columns),
        mistakes=mistakes_of(evaluation.scores, skeletons, teachers),
        teacher_gaps=teachers.missing,
        about=tuple(_about(evaluation, skeletons, data)),
        cost=cost_of(evaluation.parameters, folder, speed),
        limits=tuple(_limits(evaluation)),
        notes=tuple(evaluation.notes),
        recipes=recipes_of(run, data),
        commands=commands_of(run, folder, data, with_text=evaluation.inputs != SKELETONS_ONLY),
        links=tuple(Link(path, about) for path, about in BESIDE if (evaluation.folder / path).exists()),
        made_by=f"mmcl {version('mmcl')}",
    )


def headlines_of(metrics: Metrics) -> tuple[Headline, ...]:
    """Top-1, top-5 (where it says something) and mean class accuracy, with their intervals."""
    top5 = Headline("top-5", metrics.top5, *metrics.top5_interval)
    return (
        Headline("top-1", metrics.top1, *metrics.top1_interval),
        *((top5,) if len(metrics.confusion) > TOP else ()),
        Headline("mean class accuracy", metrics.mean_class, *metrics.mean_class_interval),
    )


def _warnings(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.run.config.select_on_test:
        yield "The epoch was CHOSEN ON THE TEST SET: this number is too good, and not to be compared with others."
    yield from (note for note in evaluation.notes if note.startswith(URGENT))


def _charts(run: Run, columns: dict[str, list[float]]) -> tuple[Chart, ...]:
    config, held = run.config, "held-out clips"
    if config.select_on_test:
        held = "TEST clips, which chose the epoch"
    return charts_of(columns, _kept(run, columns), held)


def _kept(run: Run, columns: dict[str, list[float]]) -> float | None:
    """The epoch whose weights were kept: the first best one on what chose it, else the last."""
    if not columns:
        return None
    epochs, chosen = columns["epoch"], columns["held_out_top1"]
    if not (run.config.validation or run.config.select_on_test):
        return epochs[-1]
    return epochs[max(range(len(epochs)), key=lambda at: -2 if math.isnan(chosen[at]) else chosen[at])]


def _about(evaluation: Evaluation, skeletons: Skeletons, data: Path) -> Iterator[Facts]:
    """Data, training, the settings that differ, versions."""
    run = evaluation.run
    held = f"{run.held_out_clips:,}" if run.held_out_clips else "none"
    if run.held_out_subjects:
        held += f" (subjects {', '.join(map(str, run.held_out_subjects))})"
    absent = "repeat the first body" if run.body_rule == "repeat" else "are zero"
    joints = f"{run.layout.name}, {len(run.layout.joints)} joints, {run.coordinates}"
    yield Facts(
        "Data",
        (
            Fact("data set", evaluation.dataset),
            *((Fact("trained on", run.dataset),) if run.dataset != evaluation.dataset else ()),
            Fact("split", run.config.split),
            Fact("training clips", f"{run.train_clips:,}"),
            Fact("held-out clips", held),
            Fact("test clips", f"{evaluation.metrics.clips:,}"),
            Fact("classes", f"{len(run.classes)}"),
            Fact("skeletons", joints),
            Fact("bodies", f"up to {run.slots}; absent ones {absent}"),
            Fact("digest of the skeletons", skeletons.digest),
            Fact("folder", str(data)),
        ),
    )
    yield Facts("Training", tuple(_training(run)))
    yield Facts("Versions", tuple(Fact(name, str(found)) for name, found in run.versions.items()))


def _training(run: Run) -> Iterator[Fact]:
    """How it was trained; every setting that is not as shipped for this data set."""
    config, usual = as_dict(run.config), as_dict(base_config(run))
    yield Fact("network", f"{run.config.backbone}, width {run.config.width}, {run.config.window} frames")
    yield Fact("stream", run.config.stream)
    yield Fact("seed", str(run.config.seed))
    yield Fact("schedule", f"{run.config.epochs} epochs, batch {run.config.batch}, lr {run.config.lr:g}")
    yield Fact("weights kept", run.selection)
    if run.start:
        yield Fact("started from", f"{run.start.get('path')} ({run.start.get('digest')})")
    told = {"stream", "seed", "split"}
    for name, value in config.items():
        if value != usual[name] and name not in told:
            yield Fact(name, f"{said(value)} (shipped for this data set: {said(usual[name])})")


def _limits(evaluation: Evaluation) -> Iterator[str]:
    """What the numbers do not say."""
    run, clips = evaluation.run, evaluation.metrics.clips
    fewest = min(line.clips for line in per_class(evaluation.metrics, run.classes))
    yield (
        f"{HOW}. They say how far the numbers would move with other clips of the same people, cameras and rooms. They "
        "do not cover another training: another seed of the same run moves top-1 as well (`--seeds 3` measures that)."
    )
    yield f"One clip is {1 / clips:.2%} of top-1, and {1 / fewest:.1%} of the smallest class, which has {fewest:,}."
    if evaluation.leaked is None:
        yield "Whether test clips were trained on under another name is not known: the training had other data."
    elif not evaluation.leaked:
        yield "No test clip has the very joints of a training clip. Clips that are nearly the same are not looked for."
    yield "Probabilities are a softmax of the scores, not calibrated: 99% does not mean right 99 times in 100."
    if run.rgb:
        yield "The RGB network was frozen and its features cached; the paper trains it along."
    if run.rgb or run.text:
        yield "Teachers were used while training only. What they add is not in this number: `mmcl ablate` measures it."
