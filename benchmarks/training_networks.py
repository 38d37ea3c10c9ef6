"""The networks that are measured beside each other, with the same weights, and what they are measured on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V2
from mmcl.trainer.backbones.bodies import bodies_of
from mmcl.trainer.backbones.originals.ctrgcn import from_original
from mmcl.trainer.model import SkeletonClassifier, build_model

from .training_plain import Plain

Scores = Callable[[Tensor], Tensor]
GRAPHS = {25: "graph.ntu_rgb_d.Graph", 20: "graph.ucla.Graph"}  # in the original's checkout, by joints


@dataclass(frozen=True)
class Case:
    """A batch of clips: `two` of them have two bodies, of `slots`; the others' second is absent, all zero."""

    name: str
    layout: Layout
    slots: int
    classes: int
    clips: int
    frames: int
    two: int
    width: int = 64

    @property
    def counts(self) -> Tensor:
        """Real bodies of each clip, int64 [N]."""
        return torch.where(torch.arange(self.clips) < self.two, 2, 1)


TWO = Case("N16 T64 V25 M2, two bodies", KINECT_V2, 2, 120, 16, 64, two=16)
ONE = Case("N16 T64 V25 M2, one body in three clips of four", KINECT_V2, 2, 60, 16, 64, two=4)
UCLA = Case("NW-UCLA, N16 T52 V20 M1", KINECT_V1, 1, 10, 16, 52, two=0)


def plain(case: Case, seed: int = 0) -> Plain:
    """The unfused network; its weights are drawn so that every path counts, where training starts with some at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Plain(case.layout, case.slots, case.classes, case.width)
        for name, parameter in network.named_parameters():
            _draw(name, parameter)
    return network


@torch.no_grad()
def _draw(name: str, parameter: nn.Parameter) -> None:
    if name.endswith(".PA"):
        parameter.add_(torch.randn_like(parameter) * 0.05)
    elif name.endswith("alpha"):
        parameter.normal_(0.5, 0.1)
    elif parameter.ndim == 1:  # biases, and batch norm's scales
        parameter.normal_(1 if name.endswith("weight") else 0, 0.1)


def original(case: Case, checkout: Path) -> nn.Module:
    """The network of a checkout of the original release; its code runs as it is. ValueError where there is none."""
    if case.width != 64 or not (checkout / "model" / "ctrgcn.py").is_file():
        raise ValueError(f"--reference {checkout}: no model/ctrgcn.py; wanted a checkout of CTR-GCN's release")
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    build = import_module("model.ctrgcn").Model
    graph = {"graph": GRAPHS[len(case.layout.joints)], "graph_args": {"labeling_mode": "spatial"}}
    return build(num_class=case.classes, num_point=len(case.layout.joints), num_person=case.slots, **graph)


def unfused(case: Case, checkout: Path | None, seed: int = 0) -> nn.Module:
    """What we are measured against: the original where its checkout is given, else the plain network."""
    network = plain(case, seed)
    if checkout is None:
        return network
    theirs = original(case, checkout)
    theirs.load_state_dict(network.state_dict())
    return theirs


def ours(case: Case, other: nn.Module) -> SkeletonClassifier:
    """Our network with the weights of another."""
    width = {"bodies": case.slots, "width": case.width}
    network = build_model("ctrgcn", case.layout, classes=case.classes, **width)
    network.load_state_dict(from_original(other.state_dict()))
    return network


def scores_of(network: SkeletonClassifier, case: Case) -> Scores:
    """Skeletons to scores; which bodies are absent is found out anew in each call, as training does."""

    def scores(x: Tensor) -> Tensor:
        bodies = bodies_of(case.counts, case.slots, x.device) if case.slots > 1 else None
        return network(x, bodies).scores

    return scores


def batch_of(case: Case, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Skeletons [N, 3, T, V, M], smooth in time, zero where a body is absent; labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (case.clips, 3, case.frames, len(case.layout.joints), case.slots)
    x = torch.randn(shape, generator=generator).cumsum(2) * 0.05
    x += torch.randn((case.clips, 3, 1, *shape[3:]), generator=generator)
    there = torch.arange(case.slots) < case.counts[:, None]
    return x * there[:, None, None, None], torch.randint(case.classes, (case.clips,), generator=generator)


def training(network: nn.Module, scores: Scores, x: Tensor, labels: Tensor, *, fused: bool) -> Callable[[], None]:
    """A training step: gradients away, forward, cross-entropy, backward, SGD as both releases have it."""
    rates = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 4e-4}
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), fused=fused, **rates)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(scores(x), labels).backward()
        optimizer.step()

    return step


def evaluating(network: nn.Module, scores: Scores, x: Tensor) -> Callable[[], None]:
    network.eval()

    def step() -> None:
        with torch.inference_mode():
            scores(x)

    return step
