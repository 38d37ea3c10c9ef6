"""Runs whose networks use all of their parts, on clips of all lengths, for the tests of what is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, Split, write_skeletons
from mmcl.cache.table import Ragged
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.tests.training import TINY, planned
from mmcl.trainer.backbones.norm import BatchNorm
from mmcl.trainer.config import Config
from mmcl.trainer.loop.checkpoint import save_weights, weights_of
from mmcl.trainer.model import SkeletonClassifier
from mmcl.trainer.run import write_run

FRAMES = (30, 12, 25, 1, 5, 40, 90, 17, 33, 18)  # the first three clips are trained on
LIVELY = replace(TINY, batch=3)


def crowd(folder: Path, rule: str = "zero", slots: int = 2) -> Path:
    """A prepared data set of ten clips, metres from the camera, some with two bodies, some away for a while."""
    rng = np.random.default_rng(0)
    bodies = np.array([1 + row % slots for row in range(len(FRAMES))])
    walks = [_walk(rng, m, t) for m, t in zip(bodies, FRAMES, strict=True)]
    skeletons = Skeletons(
        dataset="crowd",
        classes=("hug", "push", "wave"),
        layout=KINECT_V2,
        names=tuple(f"clip{row}" for row in range(len(FRAMES))),
        labels=np.arange(len(FRAMES)) % 3,
        bodies=bodies,
        joints=Ragged.of([walk.reshape(-1, 25, 3).astype(np.float32) for walk in walks]),
        splits={"xsub": Split(np.array([TRAIN] * 3 + [TEST] * 7, np.int8), rule)},
    )
    folder.mkdir()
    write_skeletons(folder / "skeletons.h5", skeletons)
    return folder


def _walk(rng: np.random.Generator, bodies: int, frames: int) -> np.ndarray:
    joints = rng.normal(size=(bodies, frames, 25, 3)).cumsum(1) * 0.05 + rng.normal((0, 1, 3), size=(1, 1, 25, 3))
    if frames > 20:
        joints[0, :3] = joints[-1, 7:12] = 0
    return joints


def lively_run(folder: Path, data: Path, config: Config = LIVELY) -> Path:
    """A finished run on prepared data, whose every weight counts; nothing was trained."""
    run = planned(data, config).run
    model = run.build()
    lively(model, torch.randn(4, 3, config.window, len(run.layout.joints), run.slots))
    folder.mkdir()
    write_run(folder, run)
    save_weights(folder, weights_of({"model": model, "heads": nn.ModuleDict()}))
    return folder


@torch.no_grad()
def lively(model: SkeletonClassifier, clips: torch.Tensor) -> None:
    """Weights of which none is zero or one, as a training starts with some, and statistics of some clips."""
    for name, weight in model.named_parameters():
        if name.endswith(("alpha", "topology")):
            weight.add_(torch.randn_like(weight) * 0.1)
        elif name.endswith("bias") or weight.ndim == 1:
            weight.normal_(1 if name.endswith("weight") else 0, 0.1)
    norms = [part for part in model.modules() if isinstance(part, BatchNorm)]
    hooks = [norm.register_forward_pre_hook(_settle) for norm in norms]
    model.eval()(clips)
    for hook in hooks:
        hook.remove()


def _settle(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    values = inputs[0].transpose(0, 1).flatten(1)
    norm.get_buffer("running_mean").copy_(values.mean(1))
    norm.get_buffer("running_var").copy_(values.var(1))
