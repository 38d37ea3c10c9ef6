"""Runs whose networks were never trained, for the tests of what is asked of a network, not of what it answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.layouts import KINECT_V1
from mmcl.tests.training import TINY, planned
from mmcl.trainer.loop.checkpoint import save_weights, weights_of
from mmcl.trainer.run import Run, write_run

CLASSES = ("hug", "push", "sit [down]", "wave", "\x1b[2Jclear", "walk")


def untrained(
    folder: Path, layout: Layout = KINECT_V1, *, slots: int = 1, coordinates: str = "metres", rule: str = "zero"
) -> Path:
    """A finished run of six classes, one of which would clear a terminal."""
    metres = coordinates == "metres"
    config = replace(TINY, centre=metres, rotation=TINY.rotation if metres else (0.0, 0.0, 0.0))
    run = Run(
        config=config,
        dataset="made",
        data="nowhere",
        skeletons="0" * 12,
        classes=CLASSES,
        layout=layout,
        slots=slots,
        body_rule=rule,
        train_clips=6,
        held_out_clips=0,
        rgb=None,
        text=(),
        missing={},
        versions={},
        coordinates=coordinates,
    )
    return written(folder, run)


def untrained_on(data: Path, folder: Path) -> Path:
    """A finished run on a prepared data set."""
    return written(folder, planned(data).run)


def written(folder: Path, run: Run) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    model = run.build()
    nn.init.normal_(model.classifier.weight, std=0.01)  # so that no class has all of the probability
    write_run(folder, run)
    save_weights(folder, weights_of({"model": model, "heads": nn.ModuleDict()}))
    return folder


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]
