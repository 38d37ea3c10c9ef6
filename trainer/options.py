"""The options that `mmcl train` and `mmcl ablate` share, as the command line shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

DataDir = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, made by `mmcl prepare`.")]
Out = Annotated[
    Path | None, typer.Option(help="The folder of the run, or of all runs; runs/DATASET-SPLIT-... if not given.")
]
Split = Annotated[str | None, typer.Option(help="A split that the data names, such as xsub.")]
Streams = Annotated[
    str | None, typer.Option(help="joint, bone, joint-motion or bone-motion; several with commas, or all of them.")
]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="So many trainings, each with a seed of its own, from the config's seed on.")
]
Rgb = Annotated[str | None, typer.Option(help="RGB features: a model, a cache key, or none.")]
Text = Annotated[str | None, typer.Option(help="Text features: a model, a cache key, or none.")]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help="Which prompt's text features; repeated: those of all of them.")
]
ConfigFile = Annotated[Path | None, typer.Option(help="A TOML file; the one shipped for the data set if not given.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the config; may be repeated.")
]
Validation = Annotated[
    str | None,
    typer.Option(
        metavar="SUBJECTS|FRACTION", help="Training subjects (3,7) or a share of them (0.2) to choose the epoch on."
    ),
]
SelectOnTest = Annotated[
    bool, typer.Option("--select-on-test", help="Choose the epoch on the test split; labelled in every output.")
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Clips whose features failed train on the classification loss only.")
]
Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda:1; the accelerator if not given.")]
Init = Annotated[
    Path | None,
    typer.Option(help="Start from these weights: a run's folder, model.safetensors, or an original .pt."),
]
InitBackbone = Annotated[
    Path | None, typer.Option(help="The same for what fits of the backbone: other classes, other joints.")
]
Track = Annotated[
    list[str] | None, typer.Option(metavar="TRACKER", help="tensorboard or wandb, beside the CSV; may be repeated.")
]


def keys(settings: Sequence[str] | None, **given: str | bool | None) -> list[dict[str, Any]]:
    """What --set says, and on top of it the options that stand for keys of the config."""
    from .config import parse_setting

    return [*map(parse_setting, settings or ()), {name: value for name, value in given.items() if value}]


def start(init: Path | None, init_backbone: Path | None) -> tuple[Path | None, bool]:
    """The weights to start from, and whether only what fits of the backbone is taken."""
    if init and init_backbone:
        raise ValueError("--init and --init-backbone: give one; --init takes all, --init-backbone what fits")
    return init or init_backbone, init_backbone is not None
