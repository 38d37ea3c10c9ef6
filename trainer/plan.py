"""What a training is going to be, decided and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cache.cost import cost_of
from ..cache.skeletons import TEST, TRAIN, Skeletons, read_skeletons, read_whole
from ..cache.words import few
from .colearning.objective import build_heads
from .config import Config, make_config, named_config, shipped_config
from .data.features import Features, OnRows, Source, columns_of, load_features
from .data.samples import Split, choose_cache, choose_caches, split_rows
from .loop.start import read_start
from .processes import share
from .run import Run, read_run

# Beyond these a number is a slip of the hand: memory, a lifetime or float32 would not do.
LARGEST = {"width": 4096, "window": 100_000, "epochs": 1_000_000, "repeat": 100_000, "seed": 2**63 - 1}
LEAST_TEMPERATURE = 1e-4


@dataclass(frozen=True)
class Request:
    """What `mmcl train` was asked for, as it was typed; None is what was not said."""

    data: Path
    out: Path | None
    config: Path | None
    settings: Sequence[Mapping[str, Any]]
    rgb: str | None
    text: str | None
    prompts: Sequence[str] = ()
    start: Path | None = None
    backbone_only: bool = False


@dataclass(frozen=True)
class Job:
    """A training decided on: a data set's folder, where to write, the config and its file, the chosen caches.

    `text` is one cache a prompt. `start` holds weights to start from, all of them or, `backbone_only`, what fits.
    """

    data: Path
    out: Path
    config: Config
    rgb: Path | None
    text: tuple[Path, ...] = ()
    config_file: Path | None = None
    start: Path | None = None
    backbone_only: bool = False


@dataclass(frozen=True)
class Plan:
    """A job after everything that can be refused has been checked; nothing is written yet.

    `start` holds the entries of the network's state that are not drawn by the seed.
    """

    run: Run
    skeletons: Skeletons
    split: Split
    rgb: Features | None
    text: Features | None
    start: dict[str, Tensor] | None = None


def decide(request: Request) -> Job:
    """The config, the caches and the run's folder that a request means; ValueError where it could mean several."""
    skeletons = read_skeletons(request.data / "skeletons.h5")
    path = named_config(request.config) if request.config else shipped_config(skeletons.dataset, skeletons.coordinates)
    counts = {name: int((split.sides == TRAIN).sum()) for name, split in skeletons.splits.items()}
    config = make_config(path, request.settings, counts)
    rgb = choose_cache(request.data, "rgb", request.rgb)
    text = choose_caches(request.data, request.text, request.prompts)
    out = request.out or Path("runs") / f"{skeletons.dataset}-{config.split}-{config.stream}"
    return Job(request.data, out, config, rgb, text, path, request.start, request.backbone_only)


def plan(job: Job, progress: OnRows = lambda done, total: None) -> Plan:
    """Join everything by name and describe the run; raises ValueError for whatever could not end well.

    Every feature row that is trained on is read once, which for 100,000 of them takes a while: `progress` hears of it.
    """
    config = job.config
    _refuse_absurd(config)
    skeletons = read_whole(job.data / "skeletons.h5")
    split = split_rows(skeletons, config)
    _refuse_hopeless(skeletons, split, config)
    _refuse_empty_classes(skeletons, split, config)
    run, start = _describe(job, skeletons, split), None
    with torch.device("meta"):  # a width or a backbone that cannot be is refused here
        width = run.build().classifier.in_features
    if job.start is not None:
        run, start = _started(job, job.start, run)
    given = _load(job, skeletons, split, progress)
    rgb, text = given.get("rgb"), given.get("text")
    with torch.device("meta"):
        build_heads(rgb, text, feature_dim=width, classes=len(run.classes), config=config)
    return Plan(_taught(run, given, job), skeletons, split, rgb, text, start)


def _started(job: Job, path: Path, run: Run) -> tuple[Run, dict[str, Tensor] | None]:
    """The run with what it starts from; where it is under way already, the weights may be gone since."""
    if not path.exists() and (job.out / "state.pt").exists():
        known = read_run(job.out).start or {}
        if (known.get("path"), known.get("backbone_only")) == (str(path.resolve()), job.backbone_only):
            return replace(run, start=known), None
    read, start = read_start(path, run, job.backbone_only)
    return replace(run, start=read.as_dict()), start


def _load(job: Job, skeletons: Skeletons, split: Split, progress: OnRows) -> dict[str, Features]:
    """The features of each kind that is used."""
    folders = {"rgb": (job.rgb,) if job.rgb else (), "text": job.text}
    for kind in folders:
        columns_of(kind, job.config)  # what cannot be is said before the first row is read
    total, before, found = len(split.train) * sum(map(len, folders.values())), 0, dict[str, Features]()
    for kind, chosen in folders.items():
        if chosen:
            tick = lambda done, _, before=before: progress(before + done, total)  # noqa: E731
            found[kind] = load_features(chosen, kind, skeletons, split.train, config=job.config, progress=tick)
            before += len(split.train) * len(chosen)
    return found


def _refuse_absurd(config: Config) -> None:
    for name, most in LARGEST.items():
        if getattr(config, name) > most:
            raise ValueError(f"{name} = {getattr(config, name)}: must be at most {most:,}")
    if config.temperature < LEAST_TEMPERATURE:
        raise ValueError(f"temperature = {config.temperature}: must be at least {LEAST_TEMPERATURE}; the paper has 0.4")


def _refuse_hopeless(skeletons: Skeletons, split: Split, config: Config) -> None:
    if len(skeletons.split_classes(config.split)) < 2:
        raise ValueError(f"{skeletons.dataset}: split {config.split} has one class; there is nothing to tell apart")
    clips = len(split.train) * config.repeat
    processes = share().world
    if config.batch < 2:
        raise ValueError(f"batch {config.batch}: batch norm and negatives need at least 2 clips; --set batch=2 or more")
    if config.batch < processes:
        raise ValueError(
            f"batch {config.batch}: not a clip for each of {processes} processes; --set batch={processes} or more, or "
            "start fewer"
        )
    if config.batch > clips:
        raise ValueError(f"batch {config.batch}: an epoch has {clips} training clips; --set batch={clips} or smaller")
    if skeletons.coordinates == "image" and (config.centre or any(config.rotation)):
        raise ValueError(
            f"{skeletons.dataset}: a 2D pose is neither centred nor turned; --set centre=false --set rotation=[0,0,0]"
        )
    if config.select_on_test and not len(skeletons.rows(config.split, TEST)):
        raise ValueError(f"select_on_test: split {config.split} of {skeletons.dataset} has no test clips")


def _refuse_empty_classes(skeletons: Skeletons, split: Split, config: Config) -> None:
    """A class that is never seen is never called: every one of its test clips would count as an error."""
    classes = skeletons.split_classes(config.split)
    counts = np.bincount(skeletons.split_labels(config.split)[split.train], minlength=len(classes))
    if empty := [classes[label] for label in np.flatnonzero(counts == 0)]:
        mend = f"hold out others than --validation {config.validation}" if config.validation else "choose another split"
        raise ValueError(
            f"{skeletons.dataset}: split {config.split} has no training clip of {len(empty)} of {len(classes)} classes "
            f"({few(empty, 8)}); {mend}, or prepare the data without them"
        )


def _describe(job: Job, skeletons: Skeletons, split: Split) -> Run:
    """The run as it is before anything teaches it."""
    return Run(
        config=job.config,
        dataset=skeletons.dataset,
        data=str(job.data.resolve()),
        skeletons=skeletons.digest,
        classes=skeletons.split_classes(job.config.split),
        layout=skeletons.layout,
        slots=int(skeletons.bodies.max()),
        body_rule=skeletons.splits[job.config.split].body_rule,
        train_clips=len(split.train),
        held_out_clips=len(split.held_out),
        held_out_subjects=_subjects(skeletons, split.held_out),
        rgb=None,
        text=(),
        missing={},
        versions={name: version(name) for name in ("mmcl", "torch", "numpy")},
        coordinates=skeletons.coordinates,
    )


def _subjects(skeletons: Skeletons, rows: np.ndarray) -> tuple[int, ...]:
    """Who acts in some clips; nobody where there are none."""
    return tuple(np.unique(skeletons.columns["subject"][rows]).tolist()) if len(rows) else ()


def _taught(run: Run, given: Mapping[str, Features], job: Job) -> Run:
    used = {kind: tuple(map(_used, features.parts)) for kind, features in given.items()}
    missing = {kind: list(features.missing) for kind, features in given.items()}
    folders = [*([job.rgb] if job.rgb else []), *job.text]
    caches = [cache for kind in ("rgb", "text") for cache in used.get(kind, ())]
    spent = {c["key"]: cost_of(folder, c["columns"])._asdict() for folder, c in zip(folders, caches, strict=True)}
    rgb, text = next(iter(used.get("rgb", ())), None), used.get("text", ())
    return replace(run, rgb=rgb, text=text, missing=missing, costs=spent)


def _used(part: Source) -> dict[str, Any]:
    """A cache as the run records it; `constant` of its `dim` numbers are the same for all clips."""
    about = {"columns": list(part.columns), "dim": part.dim, "constant": part.constant}
    return {"key": part.recipe.key, "rows": part.digest, **about, **part.recipe.as_dict()}
