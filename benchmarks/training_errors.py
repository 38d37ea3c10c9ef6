"""How far our network is from an fp64 run of the plain equations, in units of the plain fp32 network's own error."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcl.trainer.backbones.originals.ctrgcn import from_original

from .training_networks import Case, Scores, batch_of, ours, plain, scores_of
from .training_rows import Row, measured

ZERO = 1e-9  # of the largest gradient: biases in front of a training batch norm have none, but for rounding
TIMES = 2.0  # our error may be so many times the plain network's


class Found(NamedTuple):
    """What a training step computes: scores; gradients and running statistics by our names."""

    scores: Tensor
    gradients: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]


class Errors(NamedTuple):
    """Relative errors: the largest of the scores, the median over gradients, the largest over statistics."""

    scores: float
    gradients: float
    statistics: float


def errors(case: Case, seeds: int) -> list[Row]:
    """Ours over the plain network's own, with several weights and batches."""
    both = [compared(case, seed) for seed in range(seeds)]
    rows = []
    for kind in Errors._fields:
        of_ours, of_plain = ([getattr(pair[side], kind) for pair in both] for side in (0, 1))
        times = [a / b for a, b in zip(of_ours, of_plain, strict=True)]
        what = f"{case.name}: error of {kind} against fp64, over the plain network's ({_least(of_plain)})"
        rows.append(measured(what, times, most=TIMES))
    return rows


def compared(case: Case, seed: int) -> tuple[Errors, Errors]:
    """Errors of our network and of the plain one against the plain one in fp64."""
    network = plain(case, seed)
    exact, model = deepcopy(network).double(), ours(case, network)
    x, labels = batch_of(case, seed)
    truth = found_by_plain(exact, x.double(), labels)
    of_ours = found_by_ours(model, scores_of(model, case), x, labels)
    return against(truth, of_ours), against(truth, found_by_plain(network, x, labels))


def found_by_ours(network: nn.Module, scores: Scores, x: Tensor, labels: Tensor) -> Found:
    out = _backward(network, scores, x, labels)
    gradients = {name: _gradient(parameter) for name, parameter in network.named_parameters()}
    return Found(out, gradients, _running(network.state_dict()))


def found_by_plain(network: nn.Module, x: Tensor, labels: Tensor) -> Found:
    out = _backward(network, network, x, labels)
    gradients = dict(network.state_dict()) | {n: _gradient(p) for n, p in network.named_parameters()}
    parameters = {name for name in from_original(gradients) if not _is_buffer(name)}
    by_name = {name: value for name, value in from_original(gradients).items() if name in parameters}
    return Found(out, by_name, _running(from_original(network.state_dict())))


def against(truth: Found, found: Found) -> Errors:
    norms = {name: value.norm() for name, value in truth.gradients.items()}
    least = ZERO * max(norms.values())
    gradients = [
        float((found.gradients[name] - truth.gradients[name]).norm() / norm)
        for name, norm in norms.items()
        if norm > least
    ]
    running = [_largest(found.statistics[name], value) for name, value in truth.statistics.items()]
    return Errors(_largest(found.scores, truth.scores), statistics.median(gradients), max(running))


def _backward(network: nn.Module, scores: Scores, x: Tensor, labels: Tensor) -> Tensor:
    network.train()
    out = scores(x)
    F.cross_entropy(out, labels).backward()
    return out.detach()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _running(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if "running_" in name}


def _is_buffer(name: str) -> bool:
    return "running_" in name or name.endswith("num_batches_tracked")


def _largest(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).abs().max() / truth.abs().max())


def _least(values: list[float]) -> str:
    return f"{statistics.median(values):.1e}"
