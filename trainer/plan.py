"""What a training is going to be, decided and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..cache.skeletons import TEST, TRAIN, Skeletons, read_skeletons, read_whole
from .config import Config, make_config, named_config, shipped_config
from .data.samples import Features, Split, choose_cache, load_features, split_rows
from .run import Run


@dataclass(frozen=True)
class Request:
    """What `mmcl train` was asked for, as it was typed; None is what was not said."""

    data: Path
    out: Path | None
    config: Path | None
    settings: Sequence[Mapping[str, Any]]
    rgb: str | None
    text: str | None
    prompt: str | None


@dataclass(frozen=True)
class Job:
    """A training decided on: a data set's folder, where to write, the config and its file, the chosen caches."""

    data: Path
    out: Path
    config: Config
    rgb: Path | None
    text: Path | None
    config_file: Path | None = None


@dataclass(frozen=True)
class Plan:
    """A job after everything that can be refused has been checked; nothing is written yet."""

    run: Run
    skeletons: Skeletons
    split: Split
    rgb: Features | None
    text: Features | None


def decide(request: Request) -> Job:
    """The config, the caches and the run's folder that a request means; ValueError where it could mean several."""
    skeletons = read_skeletons(request.data / "skeletons.h5")
    path = named_config(request.config) if request.config else shipped_config(skeletons.dataset, skeletons.coordinates)
    counts = {name: int((split.sides == TRAIN).sum()) for name, split in skeletons.splits.items()}
    config = make_config(path, request.settings, counts)
    if request.prompt and request.text == "none":
        raise ValueError(f"--prompt {request.prompt}: chooses among text features, and --text none says to use none")
    rgb = choose_cache(request.data, "rgb", request.rgb)
    text = choose_cache(request.data, "text", request.text, request.prompt)
    out = request.out or Path("runs") / f"{skeletons.dataset}-{config.split}-{config.stream}"
    return Job(request.data, out, config, rgb, text, path)


def plan(job: Job) -> Plan:
    """Join everything by name and describe the run; raises ValueError for whatever could not end well."""
    skeletons = read_whole(job.data / "skeletons.h5")
    split = split_rows(skeletons, job.config)
    _refuse_hopeless(skeletons, split, job.config)
    allow = job.config.allow_missing
    rgb = load_features(job.rgb, "rgb", skeletons, split.train, allow_missing=allow) if job.rgb else None
    text = load_features(job.text, "text", skeletons, split.train, allow_missing=allow) if job.text else None
    run = _describe(job, skeletons, split, rgb, text)
    with torch.device("meta"):
        run.build()  # a width or a backbone that cannot be is refused here
    return Plan(run, skeletons, split, rgb, text)


def _refuse_hopeless(skeletons: Skeletons, split: Split, config: Config) -> None:
    if len(skeletons.split_classes(config.split)) < 2:
        raise ValueError(f"{skeletons.dataset}: split {config.split} has one class; there is nothing to tell apart")
    clips = len(split.train) * config.repeat
    if config.batch > clips:
        raise ValueError(f"batch {config.batch}: an epoch has {clips} training clips; --set batch={clips} or smaller")
    if skeletons.coordinates == "image" and (config.centre or any(config.rotation)):
        raise ValueError(
            f"{skeletons.dataset}: a 2D pose is neither centred nor turned; --set centre=false --set rotation=[0,0,0]"
        )
    if config.select_on_test and not len(skeletons.rows(config.split, TEST)):
        raise ValueError(f"select_on_test: split {config.split} of {skeletons.dataset} has no test clips")


def _describe(job: Job, skeletons: Skeletons, split: Split, rgb: Features | None, text: Features | None) -> Run:
    given = {"rgb": rgb, "text": text}
    used = {kind: _used(features) if features else None for kind, features in given.items()}
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
        rgb=used["rgb"],
        text=used["text"],
        missing={kind: list(features.missing) for kind, features in given.items() if features},
        versions={name: version(name) for name in ("mmcl", "torch", "numpy")},
        coordinates=skeletons.coordinates,
    )


def _used(features: Features) -> dict[str, Any]:
    """A cache as the run records it."""
    return {"key": features.recipe.key, "rows": features.digest, **features.recipe.as_dict()}
